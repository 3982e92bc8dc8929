#include "tcp.hpp"

#include <algorithm>
#include <cerrno>
#include <limits>

#include <netinet/tcp.h>

#include "need.hpp"

namespace trapline {

using detail::need;

namespace {

/// Sets one option of a socket that is being made; errors are those of `what`.
template <class T>
Coro<void> set(int fd, int level, int name, T value, const std::string& what) {
    need(co_await traps::set_option(fd, level, name, value), what);
}

Coro<void> keep_alive(int fd, KeepAlive options, std::string what) {
    co_await set(fd, SOL_SOCKET, SO_KEEPALIVE, 1, what);
    co_await set(fd, IPPROTO_TCP, TCP_KEEPIDLE, static_cast<int>(options.idle.count()), what);
    co_await set(fd, IPPROTO_TCP, TCP_KEEPINTVL, static_cast<int>(options.interval.count()), what);
    co_await set(fd, IPPROTO_TCP, TCP_KEEPCNT, options.probes, what);
}

} // namespace

// --- TcpStream -----------------------------------------------------------------------------

Coro<TcpStream> TcpStream::connect(SocketAddress peer, ConnectOptions options) {
    const std::string what = "connect to " + peer.to_string();
    Descriptor socket{need(co_await traps::socket(peer.family(), SOCK_STREAM), what)};
    const int fd = socket.get();
    if (options.no_delay)
        co_await set(fd, IPPROTO_TCP, TCP_NODELAY, 1, what);
    if (options.keep_alive)
        co_await keep_alive(fd, *options.keep_alive, what);
    if (options.fast_open)
        co_await set(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1, what);
    if (options.local.family() != AF_UNSPEC)
        need(co_await traps::bind(fd, options.local.data(), options.local.size()),
             what + " from " + options.local.to_string());
    need(co_await traps::connect(fd, peer.data(), peer.size()), what);
    co_return TcpStream{std::move(socket), peer};
}

Coro<void> TcpStream::set_no_delay(bool on) {
    return set_option(IPPROTO_TCP, TCP_NODELAY, on ? 1 : 0, "no delay");
}

Coro<void> TcpStream::set_keep_alive(KeepAlive options) {
    return keep_alive(fd(), options, "keep alive of stream to " + peer_address().to_string());
}

Coro<void> TcpStream::set_keep_alive_off() {
    return set_option(SOL_SOCKET, SO_KEEPALIVE, 0, "keep alive");
}

Coro<void> TcpStream::set_user_timeout(Duration limit) {
    const auto limit_ms = std::chrono::ceil<std::chrono::milliseconds>(limit).count();
    const auto held = std::clamp<std::int64_t>(limit_ms, 0, std::numeric_limits<int>::max());
    return set_option(IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<unsigned>(held), "user timeout");
}

// --- TcpListener ---------------------------------------------------------------------------

Coro<TcpListener> TcpListener::bind(SocketAddress address, ListenOptions options) {
    const std::string what = "bind to " + address.to_string();
    Descriptor socket{need(co_await traps::socket(address.family(), SOCK_STREAM), what)};
    const int fd = socket.get();
    if (address.family() != AF_UNIX) {
        if (options.reuse_address)
            co_await set(fd, SOL_SOCKET, SO_REUSEADDR, 1, what);
        if (options.reuse_port)
            co_await set(fd, SOL_SOCKET, SO_REUSEPORT, 1, what);
        if (options.no_delay)
            co_await set(fd, IPPROTO_TCP, TCP_NODELAY, 1, what);
        if (options.keep_alive)
            co_await keep_alive(fd, *options.keep_alive, what);
        if (options.fast_open > 0)
            co_await set(fd, IPPROTO_TCP, TCP_FASTOPEN, options.fast_open, what);
    }
    if (options.dual_stack && address.family() == AF_INET6)
        co_await set(fd, IPPROTO_IPV6, IPV6_V6ONLY, *options.dual_stack ? 0 : 1, what);
    need(co_await traps::bind(fd, address.data(), address.size()), what);
    need(co_await traps::listen(fd, options.backlog), "listen at " + address.to_string());
    SocketAddress bound;
    need(co_await traps::socket_name(fd, bound.fill(), bound.fill_size()), what);
    co_return TcpListener{std::move(socket), bound};
}

} // namespace trapline
