#include "io_request.hpp"

#include <array>

namespace trapline::traps {

namespace {

template <class... Cases>
struct Overloaded : Cases... {
    using Cases::operator()...;
};

/// A read or write at an offset waits for nobody and may run beside others.
constexpr Side side_unless_at(std::int64_t offset, Side side) noexcept {
    return offset == -1 ? side : Side::none;
}

/// A path begins at a directory, which is not to become another one meanwhile; or, AT_FDCWD, at no
/// descriptor. With AT_EMPTY_PATH the "directory" is what is asked about.
constexpr DescriptorUses path_from(int directory) noexcept {
    return directory < 0 ? DescriptorUses{} : DescriptorUses{{directory, Side::none}, {}};
}

} // namespace

DescriptorUses descriptors_of(const IoRequest& request) noexcept {
    using Uses = DescriptorUses;
    return std::visit(
        Overloaded{
            [](const Nop&) { return Uses{}; },
            [](const Socket&) { return Uses{}; },
            [](const OpenAt& r) { return path_from(r.directory); },
            [](const OpenAt2& r) { return path_from(r.directory); },
            [](const Statx& r) { return path_from(r.directory); },
            [](const Poll& r) { return Uses{{r.fd, r.side}, {}}; },
            [](const Accept& r) { return Uses{{r.fd, Side::read}, {}}; },
            [](const Recv& r) { return Uses{{r.fd, Side::read}, {}}; },
            [](const Receive& r) { return Uses{{r.fd, Side::read}, {}}; },
            [](const RecvMsg& r) { return Uses{{r.fd, Side::read}, {}}; },
            [](const Connect& r) { return Uses{{r.fd, Side::write}, {}}; },
            [](const Send& r) { return Uses{{r.fd, Side::write}, {}}; },
            [](const SendMsg& r) { return Uses{{r.fd, Side::write}, {}}; },
            [](const Read& r) { return Uses{{r.fd, side_unless_at(r.offset, Side::read)}, {}}; },
            [](const Write& r) { return Uses{{r.fd, side_unless_at(r.offset, Side::write)}, {}}; },
            [](const Splice& r) {
                return Uses{{r.from, side_unless_at(r.from_offset, Side::read)},
                            {r.to, side_unless_at(r.to_offset, Side::write)}};
            },
            [](const auto& r) { return Uses{{r.fd, Side::none}, {}}; },
        },
        request);
}

bool interruptible(const IoRequest& request) noexcept {
    return std::visit([]<class R>(const R&) { return R::interruptible; }, request);
}

const char* name_of_request(std::size_t index) noexcept {
    static constexpr std::array<const char*, std::variant_size_v<IoRequest>> names{
        "nop",     "poll",    "socket",  "bind",  "listen",  "getsockname", "setsockopt", "accept",
        "connect", "recv",    "receive", "send",  "recvmsg", "sendmsg",     "read",       "write",
        "openat",  "openat2", "close",   "fsync", "statx",   "shutdown",    "splice"};
    return names[index];
}

const char* name_of(const IoRequest& request) noexcept { return name_of_request(request.index()); }

} // namespace trapline::traps
