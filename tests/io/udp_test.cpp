#include <trapline/io/udp.hpp>

#include <array>
#include <string>

#include <net/if.h>

#include <doctest/doctest.h>

#include "../support/sockets.hpp"
#include "../support/streams.hpp"

// What it shares with other sockets for messages is in datagram_socket_test.cpp.

using namespace trapline;
using namespace trapline::test;

TEST_CASE("ping and pong") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        UdpSocket server = co_await UdpSocket::bind(SocketAddress::parse("127.0.0.1:0"));
        UdpSocket client = co_await UdpSocket::connect(server.local_address());
        co_await client.send("ping");
        std::array<std::byte, 1500> buffer;
        Datagram ping = co_await server.recv_from(buffer);
        co_await server.send_to("pong", ping.from);
        CHECK(ping.from == client.local_address());
        CHECK((co_await client.recv(buffer)) == 4);
        CHECK(client.peer_address() == server.local_address());
    });
}

TEST_CASE("a connected socket hears that nobody listens, and names the peer") {
    run([]() -> Coro<void> {
        SocketAddress nobody;
        {
            UdpSocket gone = co_await UdpSocket::bind(SocketAddress::parse("127.0.0.1:0"));
            nobody = gone.local_address();
        }
        UdpSocket client = co_await UdpSocket::connect(nobody);
        co_await client.send("anybody there?");
        std::array<std::byte, 16> buffer;
        std::string text;
        try {
            (void)co_await client.recv(buffer);
        } catch (const std::system_error& failure) {
            text = failure.what();
        }
        CHECK(text == "recv of a datagram from " + nobody.to_string() + ": Connection refused");
    });
}

TEST_CASE("a port in use is an error that names it, unless both say that they share it") {
    run([]() -> Coro<void> {
        const SocketAddress any = SocketAddress::parse("127.0.0.1:0");
        UdpSocket first = co_await UdpSocket::bind(any, {.reuse_port = true});
        std::string text;
        try {
            (void)co_await UdpSocket::bind(first.local_address());
        } catch (const std::system_error& failure) {
            text = failure.what();
        }
        CHECK(text == "bind to " + first.local_address().to_string() + ": Address already in use");
        const UdpSocket second =
            co_await UdpSocket::bind(first.local_address(), {.reuse_port = true});
        CHECK(second.local_address() == first.local_address());
    });
}

TEST_CASE("an IPv6 socket takes IPv4 messages if it says so") {
    run([]() -> Coro<void> {
        UdpSocket server =
            co_await UdpSocket::bind(SocketAddress::parse("[::]:0"), {.dual_stack = true});
        const SocketAddress at = SocketAddress::ipv4("127.0.0.1", server.local_address().port());
        UdpSocket client = co_await UdpSocket::connect(at);
        co_await client.send("four");
        std::array<std::byte, 16> buffer;
        const Datagram message = co_await server.recv_from(buffer);
        CHECK(message.from.to_string().starts_with("[::ffff:127.0.0.1]:"));
        co_await server.send_to("six", message.from);
        CHECK((co_await client.recv(buffer)) == 3);
    });
}

TEST_CASE("who joined a group gets what is sent to it, until he leaves") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        const unsigned loopback_index = ::if_nametoindex("lo");
        const SocketAddress group = SocketAddress::ipv4("239.255.17.3", 0);
        UdpSocket member = co_await UdpSocket::bind(SocketAddress::parse("0.0.0.0:0"));
        co_await member.join_group(group, loopback_index);
        UdpSocket sender = co_await UdpSocket::bind(SocketAddress::parse("127.0.0.1:0"));
        co_await sender.set_multicast_interface(loopback_index);
        co_await sender.set_multicast_loop(true);
        co_await sender.set_multicast_hops(1);
        const SocketAddress to = SocketAddress::ipv4("239.255.17.3", member.local_address().port());
        co_await sender.send_to("to all", to);
        std::array<std::byte, 16> buffer;
        CHECK((co_await member.recv(buffer)) == 6);
        co_await member.leave_group(group, loopback_index);
        co_await sender.send_to("again", to);
        CHECK_FALSE((co_await ignore_after(5ms, [&] { return member.recv(buffer); })).has_value());
    });
}

TEST_CASE("the same options for IPv6") {
    run([]() -> Coro<void> {
        const unsigned loopback_index = ::if_nametoindex("lo");
        UdpSocket member = co_await UdpSocket::bind(SocketAddress::parse("[::]:0"));
        co_await member.join_group(SocketAddress::parse("[ff01::1234]:0"), loopback_index);
        UdpSocket sender = co_await UdpSocket::bind(SocketAddress::parse("[::1]:0"));
        co_await sender.set_multicast_interface(loopback_index);
        co_await sender.set_multicast_hops(1);
        co_await sender.set_multicast_loop(true);
        // Not every machine has a route for it: that is not ours to test.
        co_await member.leave_group(SocketAddress::parse("[ff01::1234]:0"), loopback_index);
    });
}

TEST_CASE("an address that is no group is refused, and named") {
    run([]() -> Coro<void> {
        UdpSocket socket = co_await UdpSocket::bind(SocketAddress::parse("127.0.0.1:0"));
        std::string text;
        try {
            co_await socket.join_group(SocketAddress::parse("127.0.0.1:0"));
        } catch (const std::system_error& failure) {
            text = failure.what();
        }
        CHECK(text == "join of the group 127.0.0.1:0: Invalid argument");
    });
}
