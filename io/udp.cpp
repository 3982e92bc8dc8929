#include "udp.hpp"

#include <cerrno>

#include "errors.hpp"
#include "need.hpp"

namespace trapline {

using detail::need;

Coro<UdpSocket> UdpSocket::bind(SocketAddress address, UdpOptions options) {
    const std::string what = "bind to " + address.to_string();
    Descriptor socket{need(co_await traps::socket(address.family(), SOCK_DGRAM), what)};
    const int fd = socket.get();
    const int on = 1;
    if (options.reuse_address)
        need(co_await traps::set_option(fd, SOL_SOCKET, SO_REUSEADDR, on), what);
    if (options.reuse_port)
        need(co_await traps::set_option(fd, SOL_SOCKET, SO_REUSEPORT, on), what);
    if (options.broadcast)
        need(co_await traps::set_option(fd, SOL_SOCKET, SO_BROADCAST, on), what);
    if (options.dual_stack && address.family() == AF_INET6) {
        const int v6_only = *options.dual_stack ? 0 : 1;
        need(co_await traps::set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, v6_only), what);
    }
    need(co_await traps::bind(fd, address.data(), address.size()), what);
    SocketAddress bound;
    need(co_await traps::socket_name(fd, bound.fill(), bound.fill_size()), what);
    co_return UdpSocket{std::move(socket), {}, bound};
}

Coro<UdpSocket> UdpSocket::connect(SocketAddress peer, SocketAddress local) {
    const std::string what = "connect of a datagram socket to " + peer.to_string();
    Descriptor socket{need(co_await traps::socket(peer.family(), SOCK_DGRAM), what)};
    if (local.family() != AF_UNSPEC)
        need(co_await traps::bind(socket.get(), local.data(), local.size()),
             what + " from " + local.to_string());
    need(co_await traps::connect(socket.get(), peer.data(), peer.size()), what);
    SocketAddress bound;
    need(co_await traps::socket_name(socket.get(), bound.fill(), bound.fill_size()), what);
    co_return UdpSocket{std::move(socket), peer, bound};
}

int UdpSocket::family() const { return local_address().family(); }

Coro<void> UdpSocket::set(int level, int name, int value, const char* what) {
    const auto answer = co_await traps::set_option(fd(), level, name, value);
    if (!answer)
        raise(answer.error().value(), what);
}

namespace {

/// Joins or leaves.
Coro<void> change_group(int fd, int name, SocketAddress group, unsigned interface,
                        std::string what) {
    group_req request{};
    request.gr_interface = interface;
    const auto bytes = std::as_bytes(std::span(reinterpret_cast<const char*>(group.data()),
                                               static_cast<std::size_t>(group.size())));
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<std::byte*>(&request.gr_group));
    const int level = group.family() == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP;
    need(co_await traps::set_option(fd, level, name, request), what + group.to_string());
}

} // namespace

Coro<void> UdpSocket::join_group(SocketAddress group, unsigned interface) {
    return change_group(fd(), MCAST_JOIN_GROUP, group, interface, "join of the group ");
}

Coro<void> UdpSocket::leave_group(SocketAddress group, unsigned interface) {
    return change_group(fd(), MCAST_LEAVE_GROUP, group, interface, "leave of the group ");
}

Coro<void> UdpSocket::set_multicast_hops(int hops) {
    const bool v6 = family() == AF_INET6;
    return set(v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_MULTICAST_HOPS : IP_MULTICAST_TTL, hops,
               "multicast hops");
}

Coro<void> UdpSocket::set_multicast_loop(bool on) {
    const bool v6 = family() == AF_INET6;
    return set(v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_MULTICAST_LOOP : IP_MULTICAST_LOOP,
               on ? 1 : 0, "multicast loop");
}

Coro<void> UdpSocket::set_multicast_interface(unsigned interface) {
    if (family() == AF_INET6) {
        co_await set(IPPROTO_IPV6, IPV6_MULTICAST_IF, static_cast<int>(interface),
                     "multicast interface");
    } else {
        ip_mreqn request{};
        request.imr_ifindex = static_cast<int>(interface);
        const auto answer = co_await traps::set_option(fd(), IPPROTO_IP, IP_MULTICAST_IF, request);
        if (!answer)
            raise(answer.error().value(), "multicast interface");
    }
}

} // namespace trapline
