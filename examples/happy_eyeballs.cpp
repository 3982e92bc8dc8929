// How a connection is found among several addresses. With a host and a port it looks the host up
// and connects; without, it shows itself on three addresses of this machine: one that refuses, one
// that does not answer, and one that works. Every step is printed with its time.
//
//     happy_eyeballs www.example.com 443
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <trapline/io/happy_eyeballs.hpp>
#include <trapline/io/resolve.hpp>
#include <trapline/trapline.hpp>

using namespace trapline;
using namespace std::chrono_literals;

void print(const ConnectAttempt& attempt) {
    using State = ConnectAttempt::State;
    std::string what;
    switch (attempt.state) {
    case State::begun: what = "..."; break;
    case State::failed: what = attempt.error.message(); break;
    case State::connected: what = "connected"; break;
    case State::given_up: what = "given up"; break;
    }
    const std::chrono::duration<double, std::milli> ms = attempt.since_start;
    std::printf("%8.1f ms  %-30s %s\n", ms.count(), attempt.address.to_string().c_str(),
                what.c_str());
}

Coro<void> connect_to(std::string host, std::string port) {
    const TimePoint start = co_await now();
    std::vector<SocketAddress> addresses = co_await resolve(host, port);
    const TimePoint end = co_await now();
    const std::chrono::duration<double, std::milli> ms = end - start;
    std::printf("addresses of %s: %zu, by %s in %.1f ms\n", host.c_str(), addresses.size(),
                resolve_backend().c_str(), ms.count());
    TcpStream stream = co_await happy_eyeballs(std::move(addresses), {.host = host}, print);
    co_await stream.close();
}

/// A listener that answers nobody: what it has room for is taken.
struct Deaf {
    TcpListener listener;
    std::vector<TcpStream> taken;
};

Coro<Deaf> deaf_listener() {
    Deaf deaf;
    deaf.listener = co_await TcpListener::bind(SocketAddress::ipv4("127.0.0.2", 0), {.backlog = 0});
    for (;;) {
        const SocketAddress at = deaf.listener.local_address();
        auto stream = co_await ignore_after(20ms, TcpStream::connect(at));
        if (!stream)
            co_return deaf;
        deaf.taken.push_back(std::move(*stream));
    }
}

Coro<void> show() {
    TcpListener closed = co_await TcpListener::bind(SocketAddress::ipv4("127.0.0.1", 0));
    const SocketAddress refuses = closed.local_address();
    co_await closed.close();
    const Deaf deaf = co_await deaf_listener();
    TcpListener works = co_await TcpListener::bind(SocketAddress::ipv4("127.0.0.3", 0));

    std::vector<SocketAddress> addresses{refuses, deaf.listener.local_address(),
                                         works.local_address()};
    TcpStream stream = co_await happy_eyeballs(std::move(addresses), {}, print);
    co_await stream.close();
}

int main(int count, char** arguments) {
    try {
        if (count == 1)
            run(show());
        else if (count == 3)
            run(connect_to(arguments[1], arguments[2]));
        else
            return std::puts("usage: happy_eyeballs [HOST PORT]"), 2;
    } catch (const std::exception& error) {
        return std::fprintf(stderr, "%s\n", error.what()), 1;
    }
}
