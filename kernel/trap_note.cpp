#include "trap_note.hpp"

#include <cstddef>
#include <cstdio>
#include <numeric>

#include <arpa/inet.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "../traps/task_record.hpp"

namespace trapline {

static_assert(sizeof(struct ::statx) == 256);

namespace {

using Kind = TrapNote::Kind;
using Text = TrapNote::Text;
using Shape = TrapNote::Shape;

// By the index of the trap or request. A change here is another version of the format.
constexpr std::array<Shape, 16> trap_shapes{{
    /* Yield */ {{}, 0, Text::none},
    /* Sleep */ {{{{"for", Kind::duration}}}, 1, Text::none},
    /* SleepUntil */ {{{{"until", Kind::time}}}, 1, Text::none},
    /* Clock */ {{}, 0, Text::none},
    /* Self */ {{}, 0, Text::none},
    /* Spawn */ {{}, 0, Text::none},
    /* Join */ {{{{"task", Kind::task}}}, 1, Text::none},
    /* Cancel */ {{{{"task", Kind::task}, {"reason", Kind::number}}}, 2, Text::none},
    /* SetTimeout */ {{{{"after", Kind::duration}, {"at", Kind::time}}}, 2, Text::none},
    /* UnsetTimeout */ {{{{"previous", Kind::time}}}, 1, Text::none},
    /* Mask */ {{{{"on", Kind::number}}}, 1, Text::none},
    /* Park */ {{}, 0, Text::none},
    /* AwaitThread */ {{}, 0, Text::none},
    /* ReadWait */ {{{{"fd", Kind::descriptor}}}, 1, Text::none},
    /* WriteWait */ {{{{"fd", Kind::descriptor}}}, 1, Text::none},
    /* IoRelease */ {{{{"fd", Kind::descriptor}}}, 1, Text::none},
}};
static_assert(trap_shapes.size() == trap_index<traps::Io>);

constexpr TrapNote::Argument fd{"fd", Kind::descriptor};
constexpr TrapNote::Argument flags{"flags", Kind::flags};
constexpr TrapNote::Argument size{"size", Kind::number};
constexpr TrapNote::Argument directory{"directory", Kind::descriptor};

constexpr std::array<Shape, std::variant_size_v<traps::IoRequest>> request_shapes{{
    /* nop */ {{}, 0, Text::none},
    /* poll */ {{{fd, {"events", Kind::flags}, {"side", Kind::number}}}, 3, Text::none},
    /* socket */
    {{{{"domain", Kind::number}, {"type", Kind::flags}, {"protocol", Kind::number}}},
     3,
     Text::none},
    /* bind */ {{{fd}}, 1, Text::address},
    /* listen */ {{{fd, {"backlog", Kind::number}}}, 2, Text::none},
    /* getsockname */ {{{fd, {"peer", Kind::number}}}, 2, Text::none},
    /* setsockopt */
    {{{fd, {"level", Kind::number}, {"name", Kind::number}, size}}, 4, Text::bytes},
    /* accept */ {{{fd, flags}}, 2, Text::none},
    /* connect */ {{{fd}}, 1, Text::address},
    /* recv */ {{{fd, flags, size}}, 3, Text::none},
    /* receive */ {{{fd, flags}}, 2, Text::none},
    /* send */ {{{fd, flags, size}}, 3, Text::none},
    /* recvmsg */
    {{{fd, flags, size, {"address", Kind::number}, {"control", Kind::number}}}, 5, Text::none},
    /* sendmsg */ {{{fd, flags, size, {"control", Kind::number}}}, 4, Text::address},
    /* read */ {{{fd, size, {"offset", Kind::number}}}, 3, Text::none},
    /* write */ {{{fd, size, {"offset", Kind::number}}}, 3, Text::none},
    /* openat */ {{{directory, flags, {"mode", Kind::flags}}}, 3, Text::path},
    /* openat2 */
    {{{directory, flags, {"mode", Kind::flags}, {"resolve", Kind::flags}}}, 4, Text::path},
    /* close */ {{{fd}}, 1, Text::none},
    /* fsync */ {{{fd, {"data_only", Kind::number}}}, 2, Text::none},
    /* statx */ {{{directory, flags, {"mask", Kind::flags}}}, 3, Text::path},
    /* shutdown */ {{{fd, {"how", Kind::number}}}, 2, Text::none},
    /* splice */
    {{{{"from", Kind::descriptor},
       {"to", Kind::descriptor},
       {"from_offset", Kind::number},
       {"to_offset", Kind::number},
       size,
       flags}},
     6,
     Text::none},
}};

std::string_view text_at(const char* path) noexcept {
    return path ? std::string_view(path) : std::string_view();
}
std::string_view text_at(const void* data, std::size_t bytes) noexcept {
    return {static_cast<const char*>(data), data ? bytes : 0};
}

/// Options that are longer may hold pointers.
constexpr socklen_t option_max = 8;

std::int64_t number(auto value) noexcept { return static_cast<std::int64_t>(value); }
std::int64_t ticks(TimePoint time) noexcept { return time.time_since_epoch().count(); }

struct Noting {
    TrapNote& note;

    void put(auto... values) const noexcept {
        std::size_t at = 0;
        ((note.values[at++] = number(values)), ...);
    }

    void operator()(const traps::Nop&) const noexcept {}
    void operator()(const traps::Poll& r) const noexcept { put(r.fd, r.events, r.side); }
    void operator()(const traps::Socket& r) const noexcept { put(r.domain, r.type, r.protocol); }
    void operator()(const traps::Bind& r) const noexcept {
        put(r.fd);
        note.text = text_at(r.address, r.length);
    }
    void operator()(const traps::Listen& r) const noexcept { put(r.fd, r.backlog); }
    void operator()(const traps::SocketName& r) const noexcept { put(r.fd, r.peer); }
    void operator()(const traps::SetOption& r) const noexcept {
        put(r.fd, r.level, r.name, r.length);
        note.text = text_at(r.value, r.length <= option_max ? r.length : 0);
    }
    void operator()(const traps::Accept& r) const noexcept { put(r.fd, r.flags); }
    void operator()(const traps::Connect& r) const noexcept {
        put(r.fd);
        note.text = text_at(r.address, r.length);
    }
    void operator()(const traps::Recv& r) const noexcept { put(r.fd, r.flags, r.size); }
    void operator()(const traps::Receive& r) const noexcept { put(r.fd, r.flags); }
    void operator()(const traps::Send& r) const noexcept { put(r.fd, r.flags, r.size); }
    void operator()(const traps::RecvMsg& r) const noexcept {
        const msghdr& m = *r.message;
        put(r.fd, r.flags, bytes_in(m), m.msg_name ? m.msg_namelen : 0, m.msg_controllen);
    }
    void operator()(const traps::SendMsg& r) const noexcept {
        const msghdr& m = *r.message;
        put(r.fd, r.flags, bytes_in(m), m.msg_controllen);
        note.text = text_at(m.msg_name, m.msg_namelen);
    }
    void operator()(const traps::Read& r) const noexcept { put(r.fd, r.size, r.offset); }
    void operator()(const traps::Write& r) const noexcept { put(r.fd, r.size, r.offset); }
    void operator()(const traps::OpenAt& r) const noexcept {
        put(r.directory, r.flags, r.mode);
        note.text = text_at(r.path);
    }
    void operator()(const traps::OpenAt2& r) const noexcept {
        put(r.directory, r.how->flags, r.how->mode, r.how->resolve);
        note.text = text_at(r.path);
    }
    void operator()(const traps::Close& r) const noexcept { put(r.fd); }
    void operator()(const traps::Fsync& r) const noexcept { put(r.fd, r.data_only); }
    void operator()(const traps::Statx& r) const noexcept {
        put(r.directory, r.flags, r.mask);
        note.text = text_at(r.path);
    }
    void operator()(const traps::Shutdown& r) const noexcept { put(r.fd, r.how); }
    void operator()(const traps::Splice& r) const noexcept {
        put(r.from, r.to, r.from_offset, r.to_offset, r.size, r.flags);
    }

    void operator()(const traps::Yield&) const noexcept {}
    void operator()(const traps::Sleep& t) const noexcept { put(t.duration.count()); }
    void operator()(const traps::SleepUntil& t) const noexcept { put(ticks(t.time)); }
    void operator()(const traps::Clock&) const noexcept {}
    void operator()(const traps::Self&) const noexcept {}
    void operator()(const traps::Spawn&) const noexcept {} // it has no number yet
    void operator()(const traps::Join& t) const noexcept { put(t.task->id); }
    void operator()(const traps::Cancel& t) const noexcept { put(t.task->id, t.reason); }
    void operator()(const traps::SetTimeout& t) const noexcept {
        if (const auto* after = std::get_if<Duration>(&t.limit))
            put(after->count(), -1);
        else
            put(-1, ticks(*std::get_if<TimePoint>(&t.limit)));
    }
    void operator()(const traps::UnsetTimeout& t) const noexcept { put(ticks(t.previous)); }
    void operator()(const traps::Mask& t) const noexcept { put(t.on); }
    void operator()(const traps::Park&) const noexcept {}
    void operator()(const traps::AwaitThread&) const noexcept {}
    void operator()(const traps::ReadWait& t) const noexcept { put(t.fd); }
    void operator()(const traps::WriteWait& t) const noexcept { put(t.fd); }
    void operator()(const traps::IoRelease& t) const noexcept { put(t.fd); }
    void operator()(const traps::Io& t) const noexcept {
        note.kind = static_cast<std::uint8_t>(TrapNote::requests + t.request.index());
        std::visit(*this, t.request);
    }
};

std::string describe_address(std::string_view bytes) {
    char text[INET6_ADDRSTRLEN] = "";
    sockaddr_storage address{};
    if (!bytes.empty()) // else there may be no pointer
        std::memcpy(&address, bytes.data(), std::min(bytes.size(), sizeof address));
    if (bytes.size() >= sizeof(sockaddr_in) && address.ss_family == AF_INET) {
        const auto& in = reinterpret_cast<const sockaddr_in&>(address);
        ::inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
        return std::string(text) + ":" + std::to_string(ntohs(in.sin_port));
    }
    if (bytes.size() >= sizeof(sockaddr_in6) && address.ss_family == AF_INET6) {
        const auto& in6 = reinterpret_cast<const sockaddr_in6&>(address);
        ::inet_ntop(AF_INET6, &in6.sin6_addr, text, sizeof text);
        return "[" + std::string(text) + "]:" + std::to_string(ntohs(in6.sin6_port));
    }
    constexpr std::size_t path_at = offsetof(sockaddr_un, sun_path);
    if (bytes.size() > path_at && address.ss_family == AF_UNIX) {
        std::string path{bytes.substr(path_at)};
        if (path.front() == '\0')
            path.front() = '@';
        return path.substr(0, path.find('\0'));
    }
    return bytes.empty() ? "none" : "of family " + std::to_string(address.ss_family);
}

std::string in_hex(std::uint64_t number) {
    char text[24];
    std::snprintf(text, sizeof text, number == 0 ? "0" : "0x%llx",
                  static_cast<unsigned long long>(number));
    return text;
}

std::string describe(Kind kind, std::int64_t value) {
    switch (kind) {
    case Kind::flags: return in_hex(static_cast<std::uint64_t>(value));
    case Kind::duration: return std::to_string(value) + " ns";
    case Kind::time: return value == ticks(never) ? "never" : std::to_string(value) + " ns";
    case Kind::number:
    case Kind::descriptor:
    case Kind::task: break;
    }
    return std::to_string(value);
}

std::string describe(Text kind, std::string_view text) {
    switch (kind) {
    case Text::none: return "";
    case Text::path: return "'" + std::string(text) + "'";
    case Text::address: return "address " + describe_address(text);
    case Text::bytes: break;
    }
    std::string hex = "value";
    for (const char byte : text) {
        char digits[4];
        std::snprintf(digits, sizeof digits, " %02x", static_cast<unsigned char>(byte));
        hex += digits;
    }
    return hex;
}

} // namespace

const Shape* TrapNote::shape_of(std::uint8_t kind) noexcept {
    if (kind < trap_shapes.size())
        return &trap_shapes[kind];
    const std::size_t request = std::size_t{kind} - requests;
    return kind >= requests && request < request_shapes.size() ? &request_shapes[request] : nullptr;
}

TrapNote note_of(const Trap& trap) noexcept {
    TrapNote note{.kind = static_cast<std::uint8_t>(trap.index()), .values = {}, .text = {}};
    std::visit(Noting{note}, trap);
    return note;
}

std::string describe(const TrapNote& note) {
    const Shape& shape = note.shape();
    std::string all;
    const auto add = [&](const std::string& argument) {
        if (!argument.empty())
            all += (all.empty() ? "" : ", ") + argument;
    };
    for (std::size_t i = 0; i < shape.count; ++i) {
        const bool unused = note.kind == trap_index<traps::SetTimeout> && note.values[i] == -1;
        if (!unused)
            add(shape.arguments[i].name + std::string(" ") +
                describe(shape.arguments[i].kind, note.values[i]));
    }
    add(describe(shape.text, note.text));
    const char* name = nullptr;
    if (note.kind < TrapNote::requests)
        name = traps::name_of(std::size_t{note.kind});
    else
        name = traps::name_of_request(std::size_t{note.kind} - TrapNote::requests);
    return name + ("(" + all + ")");
}

std::string name_of_wait(const Trap& trap) {
    const auto* io = std::get_if<traps::Io>(&trap);
    return io ? traps::name_of(io->request) : traps::name_of(trap);
}

std::size_t bytes_in(const msghdr& message) noexcept {
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < message.msg_iovlen; ++i)
        bytes += message.msg_iov[i].iov_len;
    return bytes;
}

socklen_t address_room(const Trap& trap) noexcept {
    const auto* io = std::get_if<traps::Io>(&trap);
    if (!io)
        return 0;
    if (const auto* accept = std::get_if<traps::Accept>(&io->request))
        return accept->length ? *accept->length : 0;
    if (const auto* name = std::get_if<traps::SocketName>(&io->request))
        return name->length ? *name->length : 0;
    if (const auto* message = std::get_if<traps::RecvMsg>(&io->request))
        return message->message->msg_name ? message->message->msg_namelen : 0;
    return 0;
}

} // namespace trapline
