// The examples that the headers of io/ and kernel/ show in their first comments, compiled and
// run. Who changes one there changes it here.
#include <array>
#include <csignal>
#include <thread>

#include <doctest/doctest.h>

#include <trapline/trapline.hpp>

using namespace trapline;
using namespace std::chrono_literals;

namespace {

// tcp.hpp
Coro<void> echo(TcpStream client) {
    std::array<std::byte, 4096> buffer;
    while (std::size_t n = co_await client.recv(buffer))
        co_await client.send_all(std::span(buffer).first(n));
}

Coro<int> answer_everybody() {
    co_await yield_now();
    co_return 0;
}

Coro<void> set_up() { co_await yield_now(); }
Coro<void> serve() { co_await yield_now(); }

} // namespace

TEST_CASE("address.hpp: parse and make") {
    CHECK(SocketAddress::parse("127.0.0.1:8080").port() == 8080);
    CHECK(SocketAddress::parse("[::1]:0").family() == AF_INET6);
    CHECK(SocketAddress::parse("unix:/run/app.sock").family() == AF_UNIX);
    CHECK(SocketAddress::ipv4("0.0.0.0", 80).to_string() == "0.0.0.0:80");
}

TEST_CASE("tcp.hpp: an echo") {
    const auto body = []() -> Coro<std::size_t> {
        TcpListener listener = co_await TcpListener::bind(SocketAddress::parse("127.0.0.1:0"));
        TcpStream stream = co_await TcpStream::connect(listener.local_address());
        Task<> echoing = co_await spawn(echo(co_await listener.accept()));
        std::array<std::byte, 5> buffer;
        co_await stream.send_all("hello");
        const std::size_t n = co_await stream.recv_exactly(buffer);
        co_await stream.close();
        co_await echoing.join();
        co_return n;
    };
    CHECK(run(body()) == 5);
}

TEST_CASE("signals.hpp: wait for one") {
    const auto body = []() -> Coro<int> {
        SignalSet stop{SIGUSR1, SIGTERM};
        raise(SIGUSR1);
        int signal = co_await stop.next();
        co_return signal;
    };
    CHECK(run(body()) == SIGUSR1);
}

TEST_CASE("kernel.hpp: run, or keep tasks over several calls") {
    CHECK(run(answer_everybody()) == 0);

    Kernel kernel;
    kernel.run(set_up());
    kernel.run(serve());
    kernel.shutdown();
}

TEST_CASE("cancel.hpp: time limits and masking") {
    const auto body = []() -> Coro<bool> {
        TcpListener listener = co_await TcpListener::bind(SocketAddress::parse("127.0.0.1:0"));
        TcpStream stream = co_await TcpStream::connect(listener.local_address());
        TcpStream client = co_await listener.accept();
        co_await stream.send_all("x");
        std::array<std::byte, 8> buffer;
        Task<> task = co_await spawn(serve());

        auto n = co_await timeout_after(5s, client.recv(buffer));
        bool in_time = co_await ignore_after(1s, task.join());
        co_await disable_cancellation([&] { return set_up(); });
        co_return n == 1 && in_time;
    };
    CHECK(run(body()));
}

TEST_CASE("thread.hpp: wait for another thread") {
    const auto work = [] { return std::int64_t{42}; };
    const auto body = [&]() -> Coro<std::int64_t> {
        ThreadCompletion done;
        std::jthread worker{[&] { done.complete(work()); }};
        std::int64_t value = (co_await traps::AwaitThread{&done}).value();
        co_return value;
    };
    CHECK(run(body()) == 42);
}
