// UdpSocket: datagrams over IPv4 and IPv6.
//
//     UdpSocket server = co_await UdpSocket::bind(SocketAddress::parse("127.0.0.1:0"));
//     UdpSocket client = co_await UdpSocket::connect(server.local_address());
//     co_await client.send("ping");
//     std::array<std::byte, 1500> buffer;
//     Datagram ping = co_await server.recv_from(buffer);
//     co_await server.send_to("pong", ping.from);
//
// What it shares with other sockets for messages is in datagram_socket.hpp.
#pragma once

#include <optional>

#include "datagram_socket.hpp"

namespace trapline {

struct UdpOptions {
    bool reuse_address = false; ///< several sockets at one multicast address and port
    bool reuse_port = false;    ///< share the port with sockets that also say so
    bool broadcast = false;     ///< may send to broadcast addresses

    /// An IPv6 socket takes IPv4 messages, too. Unset: as the system is configured.
    std::optional<bool> dual_stack{};
};

class UdpSocket : public DatagramSocket {
public:
    using DatagramSocket::DatagramSocket;

    /// Receives at `address`; port 0 takes a free one, see local_address(). Throws
    /// std::system_error, as all of these do. None of them blocks.
    static Coro<UdpSocket> bind(SocketAddress address, UdpOptions options = {});

    /// Sends to `peer` and receives from it alone; an error that the peer's machine reports
    /// (connection_refused) is that of the next call.
    static Coro<UdpSocket> connect(SocketAddress peer, SocketAddress local = {});

    /// Receives, besides, what is sent to the multicast address `group`, its port ignored.
    /// @param interface by its index (if_nametoindex); 0: the system chooses
    Coro<void> join_group(SocketAddress group, unsigned interface = 0);
    Coro<void> leave_group(SocketAddress group, unsigned interface = 0);

    /// How many routers what is sent to multicast addresses passes; 1 by default: none.
    Coro<void> set_multicast_hops(int hops);
    /// Whether what is sent to multicast addresses also comes back to this machine; on by default.
    Coro<void> set_multicast_loop(bool on);
    /// Where what is sent to multicast addresses goes out.
    Coro<void> set_multicast_interface(unsigned interface);

private:
    Coro<void> set(int level, int name, int value, const char* what);
    int family() const;
};

} // namespace trapline
