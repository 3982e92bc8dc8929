#include <trapline/io/server.hpp>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <sys/resource.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <trapline/io/buffered_reader.hpp>
#include <trapline/traps/event.hpp>

#include "../support/sockets.hpp"
#include "../support/streams.hpp"

using namespace trapline;
using namespace trapline::test;

namespace {

const SocketAddress any_port = SocketAddress::ipv4("127.0.0.1", 0);

Coro<void> echo(TcpStream client) {
    std::array<std::byte, 4096> buffer;
    while (std::size_t n = co_await client.recv(buffer))
        co_await client.send_all(std::span(buffer).first(n));
}

std::string answer_to(const std::string& request) { return "you said " + request + "\n"; }

Coro<void> talk(TcpStream client, Connection& connection) {
    BufferedReader reader{client};
    while (auto line = co_await connection.idle(reader.read_line())) {
        if (!*line)
            break; // the end of the stream
        co_await client.send_all(answer_to(**line));
    }
}

/// A server that runs beside the test, at a free port.
template <class F>
class Running {
public:
    Running(F handler, ServerOptions options = {}) : handler_(handler), options_(options) {}

    Coro<void> start() {
        options_.on_listening = [this](const SocketAddress& at) {
            at_ = at;
            listens_.set();
        };
        if (!options_.log)
            options_.log = [this](std::string_view line) { log.emplace_back(line); };
        task =
            co_await spawn([](Running& r) { return tcp_server(any_port, r.handler_, r.options_); },
                           std::ref(*this));
        co_await listens_.wait();
    }
    Coro<TcpStream> connect() { return TcpStream::connect(at_); }
    const SocketAddress& address() const { return at_; }

    Task<> task;
    std::vector<std::string> log;

private:
    F handler_;
    ServerOptions options_;
    SocketAddress at_;
    Event listens_;
};

Coro<std::string> ask(TcpStream& stream, std::string_view text) {
    co_await stream.send_all(text);
    BufferedReader reader{stream};
    co_return (co_await reader.read_line()).value_or("the end");
}

/// Lets the others run until `done()`; false if that never comes.
template <class F>
Coro<bool> until(F done) {
    for (int i = 0; i < 20'000; ++i) {
        if (done())
            co_return true;
        co_await sleep(100us);
    }
    co_return false;
}

} // namespace

TEST_CASE("a server in one call, until its time limit") {
    const LeakGuard guard;
    const auto body = []() -> Coro<void> {
        co_await tcp_server(SocketAddress::parse("127.0.0.1:0"), talk, {.connections_max = 100});
    };
    CHECK_FALSE(run([&]() -> Coro<bool> { co_return co_await ignore_after(1ms, body); }));
}

TEST_CASE("a server in one call, until it is cancelled") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        SocketAddress at;
        const auto serves = [&]() -> Coro<void> {
            co_await tcp_server(
                any_port, echo,
                {.connections_max = 100, .on_listening = [&](const SocketAddress& a) { at = a; }});
        };
        Task<> serving = co_await spawn(serves);
        CHECK(co_await until([&] { return at.port() != 0; }));
        TcpStream client = co_await TcpStream::connect(at);
        CHECK((co_await ask(client, "hello\n")) == "hello");
        co_await client.close();
        co_await serving.cancel();
    });
}

TEST_CASE("what a handler throws is logged, and hurts nobody else") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Running server{[](TcpStream client) -> Coro<void> {
            BufferedReader reader{client};
            while (auto line = co_await reader.read_line()) {
                if (*line == "crash")
                    throw std::runtime_error("no\nsuch\x1bthing");
                co_await client.send_all(*line + "\n");
            }
        }};
        co_await server.start();
        TcpStream calm = co_await server.connect();
        CHECK((co_await ask(calm, "one\n")) == "one");
        TcpStream wild = co_await server.connect();
        CHECK((co_await ask(wild, "crash\n")) == "the end");
        CHECK((co_await ask(calm, "two\n")) == "two");
        REQUIRE(server.log.size() == 1);
        CHECK(server.log[0] == "server at " + server.address().to_string() + ": connection from " +
                                   wild.local_address().to_string() + ": no?such?thing");
        co_await calm.close();
        co_await server.task.cancel();
    });
}

TEST_CASE("at its limit a server accepts no more, and refuses nobody") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        constexpr std::size_t limit = 10;
        std::size_t at_once = 0;
        std::size_t most = 0;
        Running server{[&](TcpStream client) -> Coro<void> {
                           most = std::max(most, ++at_once);
                           std::array<std::byte, 1> byte;
                           const std::size_t n = co_await client.recv(byte);
                           --at_once;
                           co_await client.send_all(std::span(byte).first(n));
                       },
                       {.connections_max = limit}};
        co_await server.start();
        std::vector<TcpStream> clients;
        for (int n = 0; n < 200; ++n)
            clients.push_back(co_await server.connect());
        for (int turn = 0; turn < 20; ++turn)
            co_await yield_now();
        CHECK(at_once == limit);
        std::array<std::byte, 1> answer;
        for (TcpStream& client : clients)
            co_await client.send_all("x");
        for (TcpStream& client : clients)
            CHECK((co_await client.recv(answer)) == 1);
        CHECK(most == limit);
        co_await server.task.cancel();
    });
}

TEST_CASE("a server that stops lets handlers finish") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Event may_finish;
        Running server{[&](TcpStream client) -> Coro<void> {
            BufferedReader reader{client};
            const auto line = co_await reader.read_line();
            co_await may_finish.wait();
            co_await client.send_all("late answer to " + line.value_or("") + "\n");
        }};
        co_await server.start();
        TcpStream client = co_await server.connect();
        co_await client.send_all("question\n");
        co_await sleep(2ms);
        co_await traps::Cancel{server.task.record()};
        co_await sleep(2ms);
        CHECK_FALSE(server.task.terminated());
        std::error_code refused; // nobody listens any more
        try {
            (void)co_await server.connect();
        } catch (const std::system_error& failure) {
            refused = failure.code();
        }
        CHECK(refused == std::errc::connection_refused);
        may_finish.set();
        BufferedReader reader{client};
        CHECK((co_await reader.read_line()) == "late answer to question");
        co_await server.task.wait();
        CHECK(server.task.cancelled());
        CHECK(server.log.empty());
    });
}

TEST_CASE("connections that are idle end at once when the server stops, others are answered") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Running server{talk};
        co_await server.start();
        TcpStream idle = co_await server.connect();
        CHECK((co_await ask(idle, "hello\n")) == "you said hello");
        TcpStream asking = co_await server.connect();
        CHECK((co_await ask(asking, "a\n")) == "you said a");
        co_await asking.send_all("b\n"); // is there when the server is told to stop
        co_await server.task.cancel();
        CHECK((co_await ask(idle, "")) == "the end");
        const std::string rest = co_await receive_to_end(asking);
        CHECK((rest == "you said b\n" || rest.empty()));
        CHECK(server.log.empty());
    });
}

TEST_CASE("a request that came with the stop is answered: the interrupt is not for it") {
    const LeakGuard guard;
    for (const bool request_first : {true, false}) {
        run([request_first]() -> Coro<void> {
            Event request;
            bool answered = false;
            bool interrupted = false;
            Running server{[&](TcpStream, Connection& connection) -> Coro<void> {
                if (!co_await connection.idle(request.wait())) {
                    interrupted = true;
                    co_return;
                }
                for (int step = 0; step < 5; ++step)
                    co_await yield_now();
                answered = true;
            }};
            co_await server.start();
            TcpStream client = co_await server.connect();
            co_await sleep(2ms);
            if (request_first)
                request.set();
            co_await traps::Cancel{server.task.record()};
            if (!request_first)
                request.set();
            co_await server.task.wait();
            CHECK(answered != interrupted);
        });
    }
}

TEST_CASE("handlers that take too long are cancelled when the server stops") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        int cancelled = 0;
        Running server{[&](TcpStream) -> Coro<void> {
                           try {
                               co_await sleep(1h);
                           } catch (const TaskCancelled&) {
                               ++cancelled;
                               throw;
                           }
                       },
                       {.stop_limit = 5ms}};
        co_await server.start();
        std::vector<TcpStream> clients;
        for (int n = 0; n < 3; ++n)
            clients.push_back(co_await server.connect());
        co_await sleep(2ms);
        co_await server.task.cancel();
        CHECK(cancelled == 3);
        REQUIRE(server.log.size() == 1);
        CHECK(server.log[0].contains("cancels 3 connections"));
    });
}

TEST_CASE("a handler that is idle for too long is cut off, and so is what it waits for") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        int ended = 0;
        Running server{[&](TcpStream client, Connection& connection) -> Coro<void> {
                           BufferedReader reader{client};
                           try {
                               (void)co_await connection.idle(reader.read_line());
                           } catch (const TaskCancelled&) {
                               ++ended;
                               throw;
                           }
                       },
                       {.idle_limit = 8ms}};
        co_await server.start();
        TcpStream client = co_await server.connect();
        CHECK((co_await ask(client, "")) == "the end");
        CHECK(ended == 1);
        co_await server.task.cancel();
    });
}

TEST_CASE("what an idle connection waits for may fail, or have a time limit of its own") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        std::vector<std::string> seen;
        Running server{[&](TcpStream client, Connection& connection) -> Coro<void> {
            BufferedReader reader{client};
            try {
                (void)co_await connection.idle(timeout_after(2ms, reader.read_line()));
            } catch (const TaskTimeout&) {
                seen.push_back("limit");
            }
            try {
                (void)co_await timeout_after(2ms, connection.idle(reader.read_line()));
            } catch (const TaskTimeout&) {
                seen.push_back("outer limit");
            }
            co_await client.send_all("go\n");
            try {
                (void)co_await connection.idle(reader.read_until("\n"));
            } catch (const EndOfStream&) {
                seen.push_back("end");
            }
        }};
        co_await server.start();
        TcpStream client = co_await server.connect();
        CHECK((co_await ask(client, "")) == "go");
        co_await client.send_all("half a line");
        co_await client.close();
        CHECK(co_await until([&] { return seen.size() == 3; }));
        CHECK(seen == std::vector<std::string>{"limit", "outer limit", "end"});
        co_await server.task.cancel();
    });
}

TEST_CASE("a time limit on a server stops it gracefully, too") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        SocketAddress at;
        int handled = 0;
        const auto serves = [&] {
            return tcp_server(any_port,
                              [&](TcpStream client) -> Coro<void> {
                                  std::array<std::byte, 8> buffer;
                                  (void)co_await client.recv(buffer);
                                  co_await sleep(20ms);
                                  ++handled;
                              },
                              {.on_listening = [&](const SocketAddress& a) { at = a; }});
        };
        const auto limited = [&]() -> Coro<bool> { co_return co_await ignore_after(10ms, serves); };
        Task<bool> serving = co_await spawn(limited);
        CHECK(co_await until([&] { return at.port() != 0; }));
        TcpStream client = co_await TcpStream::connect(at);
        co_await client.send_all("x");
        CHECK_FALSE(co_await serving.join());
        CHECK(handled == 1);
    });
}

TEST_CASE("a client that sends nothing is cut off, one that talks is not") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Running server{echo, {.first_byte_limit = 16ms}};
        co_await server.start();
        TcpStream silent = co_await server.connect();
        TcpStream talks = co_await server.connect();
        CHECK((co_await ask(talks, "hello\n")) == "hello");
        CHECK((co_await ask(silent, "")) == "the end");
        CHECK((co_await ask(talks, "still here\n")) == "still here");
        REQUIRE(server.log.size() == 1);
        CHECK(server.log[0].ends_with("has sent nothing within its time limit"));
        co_await talks.close();
        co_await server.task.cancel();
    });
}

TEST_CASE("a client that goes silent is cut off, and so is one that never reads") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Running server{[](TcpStream client) -> Coro<void> {
                           std::array<std::byte, 8> buffer;
                           const std::size_t n = co_await client.recv(buffer);
                           const std::string flood = pattern(32 * 1024 * 1024);
                           if (n == 5) // "flood"
                               co_await client.send_all(flood);
                           (void)co_await client.recv(buffer);
                       },
                       {.idle_limit = 40ms}};
        co_await server.start();
        TcpStream silent = co_await server.connect();
        co_await silent.send_all("x");
        TcpStream deaf = co_await server.connect();
        co_await deaf.send_all("flood");
        CHECK(co_await until([&] { return server.log.size() == 2; }));
        for (const std::string& line : server.log)
            CHECK(line.ends_with("was idle for too long"));
        co_await silent.close();
        co_await deaf.close();
        co_await server.task.cancel();
    });
}

TEST_CASE("a client that is served all the time is not idle, however long an operation takes") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Running server{[](TcpStream client) -> Coro<void> {
                           const std::string flood = pattern(large_bytes);
                           // Small buffers: what has left this end has nearly come to the other.
                           co_await client.set_option(SOL_SOCKET, SO_SNDBUF, 65536);
                           co_await client.send_all(flood);
                           std::string back(flood.size(), '\0');
                           co_await client.recv_exactly(std::as_writable_bytes(std::span(back)));
                           CHECK((back == flood));
                       },
                       {.first_byte_limit = 2s, .idle_limit = 60ms}};
        co_await server.start();
        TcpStream client = co_await server.connect();
        co_await client.set_option(SOL_SOCKET, SO_RCVBUF, 65536);
        std::string all(large_bytes, '\0');
        const auto room = std::as_writable_bytes(std::span(all));
        constexpr std::size_t step = 256 * 1024;
        for (std::size_t at = 0; at < room.size(); at += step) {
            co_await client.recv_exactly(room.subspan(at, step));
            co_await sleep(8ms);
        }
        for (std::size_t at = 0; at < room.size(); at += step) {
            co_await client.send_all(std::span<const std::byte>(room.subspan(at, step)));
            co_await sleep(8ms);
        }
        co_await client.close();
        co_await server.task.cancel();
        CHECK(server.log == std::vector<std::string>{});
    });
}

TEST_CASE("what is no cancellation is logged, peers that go are not, and a log may throw") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        std::vector<std::string> lines;
        Running server{[](TcpStream client) -> Coro<void> {
                           std::array<std::byte, 8> buffer;
                           const std::size_t n = co_await client.recv(buffer);
                           if (n == 1)
                               co_await timeout_after(1ms, sleep(1h));
                       },
                       {.idle_limit = 40ms, .log = [&](std::string_view line) {
                            lines.emplace_back(line);
                            throw std::runtime_error("no room for it");
                        }}};
        co_await server.start();
        TcpStream slow = co_await server.connect();
        CHECK((co_await ask(slow, "x")) == "the end");
        TcpStream gone = co_await server.connect();
        co_await gone.abort();
        TcpStream idle = co_await server.connect();
        CHECK((co_await ask(idle, "")) == "the end");
        REQUIRE(lines.size() == 2);
        CHECK(lines[0].ends_with("time limit exceeded"));
        CHECK(lines[1].ends_with("was idle for too long"));
        co_await server.task.cancel();
    });
}

TEST_CASE("an outer time limit that comes while a server stops is not lost") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        SocketAddress at;
        std::string inner;
        const auto serves = [&] {
            return tcp_server(any_port, [](TcpStream) -> Coro<void> { co_await sleep(1h); },
                              {.on_listening = [&](const SocketAddress& a) { at = a; },
                               .log = [](std::string_view) {}});
        };
        const auto limited = [&]() -> Coro<void> {
            try {
                co_await timeout_after(10ms, serves);
            } catch (const TimeoutCancellation&) {
                inner = "the outer one";
                throw;
            }
        };
        const auto both = [&]() -> Coro<bool> { co_return co_await ignore_after(30ms, limited); };
        Task<bool> serving = co_await spawn(both);
        CHECK(co_await until([&] { return at.port() != 0; }));
        const TcpStream client = co_await TcpStream::connect(at);
        CHECK_FALSE(co_await serving.join());
        CHECK(inner == "the outer one");
    });
}

TEST_CASE("two tasks of one connection may be idle at once") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Event first;
        Event second;
        std::vector<std::string> seen;
        Running server{[&](TcpStream, Connection& connection) -> Coro<void> {
            const auto waits = [&](Event& event, const char* name) -> Coro<void> {
                if (co_await connection.idle(event.wait()))
                    seen.push_back(name);
            };
            co_await gather(waits(first, "first"), waits(second, "second"));
        }};
        co_await server.start();
        const TcpStream client = co_await server.connect();
        co_await sleep(2ms);
        first.set();
        co_await sleep(2ms);
        CHECK(seen == std::vector<std::string>{"first"});
        second.set();
        CHECK(co_await until([&] { return seen.size() == 2; }));
        co_await server.task.cancel();
    });
}

TEST_CASE("a server at a Unix-domain address, where a socket was left behind") {
    const LeakGuard guard;
    char directory[] = "/tmp/trapline-server-XXXXXX";
    must(::mkdtemp(directory) ? 0 : -1, "mkdtemp");
    const std::string path = std::string(directory) + "/socket";
    for (int round = 0; round < 2; ++round) {
        run([&]() -> Coro<void> {
            Event listens;
            Task<> server = co_await spawn([&]() -> Coro<void> {
                co_await unix_server(
                    SocketAddress::unix_path(path),
                    [](UnixStream client) -> Coro<void> { co_await client.send_all("welcome\n"); },
                    {.on_listening = [&](const SocketAddress&) { listens.set(); }});
            });
            co_await listens.wait();
            UnixStream client = co_await UnixStream::connect(SocketAddress::unix_path(path));
            CHECK((co_await receive_to_end(client)) == "welcome\n");
            co_await server.cancel();
        });
    }
    ::unlink(path.c_str());
    ::rmdir(directory);
}

TEST_CASE("out of descriptors a server waits, and serves on when there are some again") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Running server{echo, {.connections_max = 1000}};
        co_await server.start();
        TcpStream first = co_await server.connect();
        CHECK((co_await ask(first, "one\n")) == "one");
        TcpStream waiting = co_await server.connect();
        CHECK((co_await ask(waiting, "two\n")) == "two");
        const Descriptor late = [&] { return tcp_connect(server.address().port()); }();
        std::vector<Descriptor> all; // nothing is left for the accept, which has not run yet
        for (int fd = ::dup(0); fd >= 0; fd = ::dup(0))
            all.emplace_back(fd);
        write_all(late.get(), "three\n");
        co_await sleep(5ms);
        CHECK((co_await ask(first, "four\n")) == "four");
        all.clear();
        char answer[6] = {};
        set_non_blocking(late.get());
        CHECK(co_await until([&] { return ::recv(late.get(), answer, 6, MSG_PEEK) == 6; }));
        co_await first.close();
        co_await waiting.close();
        must(::shutdown(late.get(), SHUT_RDWR), "shutdown");
        co_await server.task.cancel();
    });
}

TEST_CASE("a listening socket goes to a successor, and no connection is lost") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        const auto named = [](std::string name) {
            return [name](TcpStream client) -> Coro<void> { co_await client.send_all(name); };
        };
        UnixStreamPair link = co_await UnixStream::pair(); // between the two processes
        TcpListener listener = co_await TcpListener::bind(any_port);
        const SocketAddress at = listener.local_address();
        co_await link.a.send_descriptors("listener", std::array{listener.fd()});
        Task<> old = co_await spawn(serve<TcpStream, decltype(named(""))>, std::move(listener),
                                    named("old"), ServerOptions{});
        TcpStream one = co_await TcpStream::connect(at);
        CHECK((co_await receive_to_end(one)) == "old");
        co_await old.cancel();
        TcpStream between = co_await TcpStream::connect(at); // nobody accepts: Linux keeps it

        std::array<std::byte, 64> buffer;
        DescriptorMessage message = co_await link.b.recv_descriptors(buffer);
        Task<> successor = co_await spawn(serve<TcpStream, decltype(named(""))>,
                                          TcpListener{std::move(message.descriptors.at(0))},
                                          named("new"), ServerOptions{});
        CHECK((co_await receive_to_end(between)) == "new");
        co_await successor.cancel();
    });
}

TEST_CASE("a port in use is the error of the call") {
    run([]() -> Coro<void> {
        TcpListener taken = co_await TcpListener::bind(any_port);
        std::string text;
        try {
            co_await tcp_server(taken.local_address(), echo);
        } catch (const std::system_error& failure) {
            text = failure.what();
        }
        CHECK(text == "bind to " + taken.local_address().to_string() + ": Address already in use");
    });
}
