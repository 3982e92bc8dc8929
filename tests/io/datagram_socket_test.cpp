#include <trapline/io/datagram_socket.hpp>

#include <array>
#include <string>
#include <vector>

#include <poll.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <trapline/io/udp.hpp>
#include <trapline/io/unix.hpp>

#include "../support/sockets.hpp"
#include "../support/streams.hpp"

using namespace trapline;
using namespace trapline::test;

namespace {

Coro<void> echo(DatagramSocket& socket) {
    std::array<std::byte, 65536> buffer;
    for (;;) {
        Datagram message = co_await socket.recv_from(buffer);
        co_await socket.send_to(message.data, message.from);
    }
}

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Sends without a turn of the loop.
void write_now(const DatagramSocket& socket, std::string_view text, const SocketAddress& to) {
    must(::sendto(socket.fd(), text.data(), text.size(), MSG_DONTWAIT, to.data(), to.size()),
         "sendto");
}

/// Waits until a socket takes no more.
Coro<bool> fills_up(const DatagramSocket& socket) {
    for (int turn = 0; turn < 20'000; ++turn) {
        pollfd at{socket.fd(), POLLOUT, 0};
        if (must(::poll(&at, 1, 0), "poll") == 0)
            co_return true;
        co_await yield_now();
    }
    co_return false;
}

const SocketAddress any_port = SocketAddress::ipv4("127.0.0.1", 0);

} // namespace

TEST_CASE("messages come back from an echo, each as it was, empty ones too") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        UdpSocket server = co_await UdpSocket::bind(any_port);
        Task<> echoes = co_await spawn(echo, std::ref<DatagramSocket>(server));
        UdpSocket client = co_await UdpSocket::bind(any_port);
        std::array<std::byte, 65536> buffer;
        for (const std::size_t size : {0, 1, 1400, 60'000}) {
            const std::string text = pattern(size);
            co_await client.send_to(text, server.local_address());
            const Datagram answer = co_await client.recv_from(buffer);
            CHECK((text_of(answer.data) == text));
            CHECK(answer.from == server.local_address());
            CHECK_FALSE(answer.truncated);
        }
        co_await echoes.cancel();
    });
}

TEST_CASE("a message that is larger than the buffer says that it was cut") {
    run([]() -> Coro<void> {
        UdpSocket a = co_await UdpSocket::bind(any_port);
        UdpSocket b = co_await UdpSocket::bind(any_port);
        co_await a.send_to("0123456789", b.local_address());
        std::array<std::byte, 4> buffer;
        const Datagram cut = co_await b.recv_from(buffer);
        CHECK(text_of(cut.data) == "0123");
        CHECK(cut.truncated);
    });
}

TEST_CASE("many messages go and come with one call") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        UdpSocket a = co_await UdpSocket::bind(any_port);
        UdpSocket b = co_await UdpSocket::bind(any_port);
        std::vector<std::string> texts;
        std::vector<Datagram> out;
        for (int n = 0; n < 100; ++n)
            texts.push_back("message " + std::to_string(n));
        for (std::string& text : texts)
            out.push_back({std::as_writable_bytes(std::span(text)), b.local_address()});
        CHECK((co_await a.send_many(out)) == 100);
        std::vector<std::array<std::byte, 64>> buffers(40);
        std::vector<std::string> got;
        while (got.size() < 100) {
            std::vector<Datagram> in;
            for (auto& buffer : buffers)
                in.push_back({buffer, {}});
            const std::size_t count = co_await b.recv_many(in);
            CHECK(count > 0);
            for (const Datagram& message : std::span(in).first(count)) {
                got.push_back(text_of(message.data));
                CHECK(message.from == a.local_address());
            }
        }
        CHECK(got == texts);
        CHECK((co_await b.recv_many({})) == 0);
        CHECK((co_await b.send_many({})) == 0);
    });
}

TEST_CASE("of many messages each says whence it came, if from anywhere, and whether it was cut") {
    run([]() -> Coro<void> {
        UdpSocket v6 = co_await UdpSocket::bind(SocketAddress::ipv6("::1", 0));
        UdpSocket to = co_await UdpSocket::bind(SocketAddress::ipv6("::1", 0));
        std::array<std::array<std::byte, 4>, 3> buffers;
        std::array<Datagram, 3> in;
        for (std::size_t at = 0; at < in.size(); ++at)
            in[at] = {buffers[at], any_port};
        co_await v6.send_to("cut off", to.local_address());
        co_await v6.send_to("all", to.local_address());
        CHECK((co_await to.recv_many(in)) == 2);
        CHECK(text_of(in[0].data) == "cut ");
        CHECK(in[0].truncated);
        CHECK(text_of(in[1].data) == "all");
        CHECK_FALSE(in[1].truncated);
        CHECK(in[1].from == v6.local_address());
        CHECK(in[2].from == any_port); // what did not come is left alone

        int ends[2];
        must(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), "socketpair");
        DatagramSocket nameless{Descriptor{ends[0]}};
        DatagramSocket peer{Descriptor{ends[1]}};
        co_await nameless.send("who");
        CHECK((co_await peer.recv_many(std::span(in).last(1))) == 1);
        CHECK(text_of(in[2].data) == "who");
        CHECK(in[2].from.family() == AF_UNSPEC);
    });
}

TEST_CASE("recv_many waits for the first message, and an interrupted one has taken none") {
    run([]() -> Coro<void> {
        UdpSocket a = co_await UdpSocket::bind(any_port);
        UdpSocket b = co_await UdpSocket::bind(any_port);
        std::array<std::byte, 64> buffer;
        std::array<Datagram, 1> in{Datagram{buffer, {}}};
        CHECK_FALSE((co_await ignore_after(1ms, [&] { return b.recv_many(in); })).has_value());
        co_await a.send_to("late", b.local_address());
        CHECK((co_await b.recv_many(in)) == 1);
        CHECK(text_of(in[0].data) == "late");
    });
}

TEST_CASE("who receives has that side for itself, though many could be received at once") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        UdpSocket a = co_await UdpSocket::bind(any_port);
        UdpSocket b = co_await UdpSocket::bind(any_port);
        std::array<std::byte, 64> first;
        std::array<std::byte, 64> second;
        std::array<Datagram, 1> in{Datagram{second, {}}};
        Task<std::size_t> receiving =
            co_await spawn([](UdpSocket& s, std::span<std::byte> to) { return s.recv(to); },
                           std::ref(b), std::span<std::byte>(first));
        co_await yield_now();
        co_await yield_now();
        write_now(a, "one", b.local_address()); // it is there, and its receiver has not run yet
        CHECK((co_await complaint_of([&] { return b.recv_many(in); })) == busy);
        CHECK((co_await receiving.join()) == 3);
        write_now(a, "two", b.local_address());
        CHECK((co_await b.recv_many(in)) == 1);
        CHECK(text_of(in[0].data) == "two");
    });
}

TEST_CASE("who sends has that side for itself, and an interrupt says how many messages went") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        UnixDatagramPair pair = co_await UnixDatagram::pair();
        std::string text = "message";
        std::vector<Datagram> out(5000, {std::as_writable_bytes(std::span(text)), {}});
        std::size_t progress = 0;
        Task<> sending = co_await spawn([&]() -> Coro<void> {
            try {
                (void)co_await pair.a.send_many(out);
            } catch (const Cancelled& interrupt) {
                progress = interrupt.progress();
                throw;
            }
        });
        CHECK(co_await fills_up(pair.a));
        // There is room again, and who waits for it has not run yet.
        std::array<std::byte, 64> buffer;
        REQUIRE(::recv(pair.b.fd(), buffer.data(), buffer.size(), MSG_DONTWAIT) == 7);
        CHECK((co_await complaint_of([&] { return pair.a.send_many(std::span(out).first(1)); })) ==
              busy);
        CHECK(co_await fills_up(pair.a));
        CHECK(co_await sending.cancel());
        std::size_t arrived = 1;
        while (::recv(pair.b.fd(), buffer.data(), buffer.size(), MSG_DONTWAIT) == 7)
            ++arrived;
        CHECK(progress == arrived);
        CHECK(arrived > 1);
        CHECK(arrived < out.size());
    });
}

TEST_CASE("send_many waits for a full receiver that it is not connected to") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        UnixDatagram to = co_await UnixDatagram::bind(
            SocketAddress::unix_abstract("trapline-full-receiver-" + std::to_string(::getpid())));
        UnixDatagram from = co_await UnixDatagram::bind(
            SocketAddress::unix_abstract("trapline-full-sender-" + std::to_string(::getpid())));
        std::string text = "message";
        std::vector<Datagram> out(500,
                                  {std::as_writable_bytes(std::span(text)), to.local_address()});
        Task<std::size_t> sending = co_await spawn(
            [](UnixDatagram& s, std::span<const Datagram> all) { return s.send_many(all); },
            std::ref(from), std::span<const Datagram>(out));
        std::array<std::byte, 64> buffer;
        for (std::size_t got = 0; got < out.size(); ++got)
            CHECK((co_await to.recv(buffer)) == text.size());
        CHECK((co_await sending.join()) == out.size());
    });
}

TEST_CASE("who always finds something to receive lets others run, and can be cancelled") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        UdpSocket echo_of_itself = co_await UdpSocket::bind(any_port);
        write_now(echo_of_itself, "again", echo_of_itself.local_address());
        std::size_t rounds = 0;
        Task<> receiving = co_await spawn([&]() -> Coro<void> {
            std::array<std::byte, 64> buffer;
            for (;; ++rounds) {
                std::array<Datagram, 1> in{Datagram{buffer, {}}};
                const std::size_t count = co_await echo_of_itself.recv_many(in);
                write_now(echo_of_itself, text_of(in[0].data), in[0].from);
                CHECK(count == 1);
            }
        });
        for (int turn = 0; turn < 20; ++turn)
            co_await yield_now();
        CHECK(co_await receiving.cancel());
        CHECK(rounds > 0);
    });
}

TEST_CASE("close ends what other tasks do, and a closed socket says so") {
    run([]() -> Coro<void> {
        UdpSocket socket = co_await UdpSocket::bind(any_port);
        std::array<std::byte, 64> buffer;
        Task<int> receiving = co_await spawn(
            [](UdpSocket& s, std::span<std::byte> b) {
                return complaint_of([&s, b] { return s.recv(b); });
            },
            std::ref(socket), std::span<std::byte>(buffer));
        co_await yield_now();
        co_await yield_now();
        CHECK((co_await complaint_of([&] { return socket.recv(buffer); })) == busy);
        co_await socket.close();
        CHECK((co_await receiving.join()) == closed);
        std::string text;
        try {
            (void)co_await socket.recv_from(buffer);
        } catch (const std::system_error& failure) {
            text = failure.what();
        }
        CHECK(text == "recv of a datagram, a socket that was closed here: Bad file descriptor");
        co_await socket.close();
    });
}

TEST_CASE("a message that is too large is an error that names where it was to go") {
    run([]() -> Coro<void> {
        UdpSocket socket = co_await UdpSocket::bind(any_port);
        const std::string text(70'000, 'x');
        std::string complaint;
        try {
            co_await socket.send_to(text, SocketAddress::ipv4("127.0.0.1", 9));
        } catch (const std::system_error& failure) {
            complaint = failure.what();
        }
        CHECK(complaint == "send of a datagram to 127.0.0.1:9: Message too long");
    });
}

TEST_CASE("Unix-domain messages carry the sender's address, if it has one") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        UnixDatagram server =
            co_await UnixDatagram::bind(SocketAddress::unix_abstract("trapline-datagram-test"));
        UnixDatagram named = co_await UnixDatagram::connect(
            server.local_address(), SocketAddress::unix_abstract("trapline-datagram-client"));
        co_await named.send("with a name");
        std::array<std::byte, 64> buffer;
        const Datagram message = co_await server.recv_from(buffer);
        CHECK(message.from.to_string() == "unix:@trapline-datagram-client");
        co_await server.send_to("back", message.from);
        CHECK((co_await named.recv(buffer)) == 4);

        UnixDatagramPair pair = co_await UnixDatagram::pair();
        co_await pair.a.send("without");
        CHECK(text_of((co_await pair.b.recv_from(buffer)).data) == "without");
    });
}
