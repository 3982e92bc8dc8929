// TCP: TcpListener and TcpStream.
//
//     Coro<void> echo(TcpStream client) {
//         std::array<std::byte, 4096> buffer;
//         while (std::size_t n = co_await client.recv(buffer))
//             co_await client.send_all(std::span(buffer).first(n));
//     }
//
// What both share with other sockets, receiving, sending and accepting above all, is in
// stream_socket.hpp and listener.hpp.
// Errors are std::system_error and name the operation and the address.
#pragma once

#include <chrono>
#include <optional>

#include "listener.hpp"
#include "stream_socket.hpp"

namespace trapline {

/// When an idle connection is taken for dead: after `idle` of silence Linux asks the peer every
/// `interval`, and gives up after `probes` without an answer. Seconds, at least one.
struct KeepAlive {
    std::chrono::seconds idle{60};
    std::chrono::seconds interval{10};
    int probes = 3;
};

struct ConnectOptions {
    SocketAddress local{};                 ///< where to connect from; unspecified: Linux chooses
    bool no_delay = false;                 ///< see TcpStream::set_no_delay
    bool fast_open = false;                ///< the first send goes with the handshake where it can
    std::optional<KeepAlive> keep_alive{}; ///< none: Linux's own default, which is off
};

class TcpStream : public StreamSocket {
public:
    using StreamSocket::StreamSocket;

    /// Connects to `peer`. Blocks. Cancelled half way, the socket is closed.
    static Coro<TcpStream> connect(SocketAddress peer, ConnectOptions options = {});

    /// Looks the host up, see io/resolve.hpp, and connects to the first of its addresses that
    /// answers, see io/happy_eyeballs.hpp. The options are those of each attempt: with a local
    /// address attempts at another family fail. Throws as these do. Blocks. Cancelled half way,
    /// all sockets are closed.
    static Coro<TcpStream> connect(std::string host, std::uint16_t port,
                                   ConnectOptions options = {});

    // Options. None of them blocks.

    /// Sends small pieces at once instead of waiting for the acknowledgement of those before
    /// (TCP_NODELAY).
    Coro<void> set_no_delay(bool on = true);

    /// Asks silent peers whether they are still there.
    Coro<void> set_keep_alive(KeepAlive options);
    Coro<void> set_keep_alive_off();

    /// How long sent data may stay unacknowledged before the connection counts as broken; 0: as
    /// long as Linux thinks. In milliseconds, rounded up.
    Coro<void> set_user_timeout(Duration limit);
};

struct ListenOptions {
    int backlog = SOMAXCONN;   ///< connections that Linux holds ready for accept
    bool reuse_address = true; ///< take over a port whose last connections linger
    bool reuse_port = false;   ///< share the port with listeners that also say so

    /// An IPv6 listener takes IPv4 connections, too, from addresses like [::ffff:1.2.3.4]. Unset:
    /// as the system is configured (/proc/sys/net/ipv6/bindv6only), which usually means yes.
    std::optional<bool> dual_stack{};

    int fast_open = 0; ///< handshakes with data that are kept for accept; 0: none

    // Accepted connections inherit these from the listener.
    bool no_delay = false;
    std::optional<KeepAlive> keep_alive{};
};

class TcpListener : public Listener<TcpStream> {
public:
    using Listener::Listener;

    /// Listens at `address`; port 0 takes a free one, see local_address(). Throws
    /// std::system_error, "bind to 127.0.0.1:80: Permission denied". Does not block.
    static Coro<TcpListener> bind(SocketAddress address, ListenOptions options = {});
};

} // namespace trapline
