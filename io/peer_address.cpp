#include "peer_address.hpp"

#include <cstring>

namespace trapline::detail {

namespace {
constexpr std::size_t head = 2; // size and family
static_assert(head == sizeof(sa_family_t) && offsetof(sockaddr, sa_data) == head);
} // namespace

PeerAddress::PeerAddress(const SocketAddress& address) {
    const std::size_t size = address.size();
    const int family = address.family();
    if (size < head)
        return;
    if (size <= bytes_.size() && family <= 0xff) [[likely]] {
        bytes_[0] = static_cast<std::uint8_t>(size);
        bytes_[1] = static_cast<std::uint8_t>(family);
        std::memcpy(&bytes_[head], address.data()->sa_data, size - head);
    } else {
        const auto* copy = new SocketAddress{address};
        bytes_[0] = far_mark;
        std::memcpy(&bytes_[head], &copy, sizeof copy);
    }
}

const SocketAddress* PeerAddress::allocated() const noexcept {
    const SocketAddress* address = nullptr;
    std::memcpy(&address, &bytes_[head], sizeof address);
    return address;
}

SocketAddress PeerAddress::get() const noexcept {
    if (far())
        return *allocated();
    const std::size_t size = bytes_[0];
    if (size < head)
        return {};
    sockaddr_in6 room{}; // aligned, and long enough for all of them
    static_assert(sizeof room == sizeof bytes_);
    const sa_family_t family = bytes_[1];
    std::memcpy(&room, &family, head);
    std::memcpy(reinterpret_cast<std::byte*>(&room) + head, &bytes_[head], size - head);
    return SocketAddress::from(reinterpret_cast<const sockaddr*>(&room),
                               static_cast<socklen_t>(size));
}

} // namespace trapline::detail
