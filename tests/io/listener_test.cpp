#include <trapline/io/listener.hpp>

#include <string>

#include <doctest/doctest.h>

#include <trapline/io/tcp.hpp>
#include <trapline/io/unix.hpp>

#include "../support/sockets.hpp"
#include "../support/streams.hpp"

// More of it is in tcp_test.cpp and unix_test.cpp.

using namespace trapline;
using namespace trapline::test;

namespace {

template <class S>
Coro<void> echo(S client) {
    std::array<std::byte, 4096> buffer;
    while (std::size_t n = co_await client.recv(buffer))
        co_await client.send_all(std::span(buffer).first(n));
}

template <class S>
Coro<void> serve(Listener<S>& listener) {
    for (;;)
        co_await spawn(echo<S>, co_await listener.accept());
}

std::string refusal(Descriptor socket) {
    try {
        const TcpListener listener{std::move(socket)};
    } catch (const std::system_error& failure) {
        return failure.what();
    }
    return "";
}

} // namespace

TEST_CASE("one text serves every kind of listener") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        TcpListener tcp = co_await TcpListener::bind(SocketAddress::ipv4("127.0.0.1", 0));
        UnixListener local =
            co_await UnixListener::bind(SocketAddress::unix_abstract("trapline-listener-test"));
        const SocketAddress at_tcp = tcp.local_address();
        const SocketAddress at_local = local.local_address();
        Task<> on_tcp = co_await spawn(serve<TcpStream>, std::ref<Listener<TcpStream>>(tcp));
        Task<> on_local = co_await spawn(serve<UnixStream>, std::ref<Listener<UnixStream>>(local));
        std::array<std::byte, 4> answer;
        TcpStream one = co_await TcpStream::connect(at_tcp);
        co_await one.send_all("ping");
        CHECK((co_await one.recv_exactly(answer)) == 4);
        UnixStream other = co_await UnixStream::connect(at_local);
        co_await other.send_all("ping");
        CHECK((co_await other.recv_exactly(answer)) == 4);
        co_await on_tcp.cancel();
        co_await on_local.cancel();
    });
}

TEST_CASE("a listening socket of another process is taken over as it is") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Descriptor socket = tcp_listener();
        const std::uint16_t port = port_of(socket.get());
        const Descriptor waiting = tcp_connect(port); // before the take-over
        TcpListener listener{std::move(socket)};
        CHECK(listener.local_address().port() == port);
        const TcpStream client = co_await listener.accept();
        CHECK(static_cast<bool>(client));
    });
}

TEST_CASE("what is no listening socket is refused") {
    Ends ends = tcp_pair();
    CHECK(refusal(std::move(ends.a)).contains("where nothing listens: Invalid argument"));
    CHECK(refusal(Descriptor{}) == "take-over of a listener: Bad file descriptor");
}
