#include "../../examples/http/connection.hpp"

#include <array>
#include <stdexcept>
#include <string>
#include <vector>

#include <fcntl.h>

#include <doctest/doctest.h>

#include <trapline/io/memory_stream.hpp>
#include <trapline/kernel/kernel.hpp>
#include <trapline/traps/event.hpp>

#include "../support/sockets.hpp"
#include "../traps/on_kernel.hpp"

using namespace trapline;
using namespace trapline::http;
using namespace std::chrono_literals;
using test::Counted;
using test::on_kernel;
using test::settle;

namespace {

/// A stream that tells how often it was asked to send.
class Watched {
public:
    Watched(MemoryStream stream, int& sends) : stream_(std::move(stream)), sends_(&sends) {}

    Coro<std::size_t> recv(std::span<std::byte> buffer) { return stream_.recv(buffer); }
    Coro<void> send_all(std::span<const std::byte> data) {
        ++*sends_;
        return stream_.send_all(data);
    }
    Coro<void> shutdown() { return stream_.shutdown(); }
    Coro<void> close() { return stream_.close(); }

private:
    MemoryStream stream_;
    int* sends_;
};

Router routes() {
    Router router;
    router.add("GET", "/", [](Request&) -> Coro<Response> { co_return text_response("root"); });
    router.add("GET", "/slow", [](Request&) -> Coro<Response> {
        const Counted frame;
        co_await sleep(5s);
        co_return text_response("slow");
    });
    router.add("GET", "/big", [](Request&) -> Coro<Response> {
        co_return text_response(std::string(200'000, 'b'));
    });
    router.add("GET", "/nothing", [](Request&) -> Coro<Response> { co_return Response{204}; });
    router.add("GET", "/last", [](Request&) -> Coro<Response> {
        Response answer = text_response("last");
        answer.set_close();
        co_return answer;
    });
    router.add("GET", "/throw", [](Request&) -> Coro<Response> {
        throw std::runtime_error("no\nsense");
        co_return Response{};
    });
    router.add("POST", "/echo",
               [](Request& request) -> Coro<Response> { co_return text_response(request.body); });
    return router;
}

/// A server behind one end of a stream, and the client's end.
struct Conversation {
    explicit Conversation(ConnectionOptions options = {}, std::size_t stream_bytes = 64 * 1024)
        : service(routes(), log_to(options, log)), ends(memory_stream_pair(stream_bytes)) {}

    static ConnectionOptions log_to(ConnectionOptions options, std::string& log) {
        options.log = [&log](std::string_view line) { log += line; };
        return options;
    }

    Coro<void> start() {
        task = co_await spawn(serve_all(Watched{std::move(ends.a), sends}, service));
    }

    static Coro<void> serve_all(Watched stream, Service& service) {
        const Counted frame;
        co_await serve_connection(stream, service);
    }

    /// All that comes until the end of the stream, without dates.
    Coro<std::string> rest() {
        std::string all;
        std::array<std::byte, 1000> buffer;
        while (const std::size_t n = co_await ends.b.recv(buffer))
            all.append(reinterpret_cast<const char*>(buffer.data()), n);
        for (std::size_t at; (at = all.find("Date: ")) != all.npos;)
            all.erase(at, all.find("\r\n", at) + 2 - at);
        co_return all;
    }

    /// What has come by now, without waiting for more.
    Coro<std::string> waiting() {
        std::string all;
        std::array<std::byte, 1000> buffer;
        for (;;) {
            const auto n = co_await ignore_after(1ns, ends.b.recv(buffer));
            if (!n || *n == 0)
                break;
            all.append(reinterpret_cast<const char*>(buffer.data()), *n);
        }
        co_return all;
    }

    std::string log;
    Service service;
    MemoryStreamPair ends;
    int sends = 0;
    Task<> task;
};

std::string get(std::string_view path, std::string_view headers = {}) {
    return "GET " + std::string(path) + " HTTP/1.1\r\nHost: a\r\n" + std::string(headers) + "\r\n";
}

std::string ok(std::string_view body, std::string_view headers = {}) {
    return "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: " +
           std::to_string(body.size()) + "\r\n" + std::string(headers) + "\r\n" + std::string(body);
}

/// What a server answers to all that a client says.
std::string answers(std::string said, ConnectionOptions options = {}) {
    std::string heard;
    on_kernel([&]() -> Coro<void> {
        Conversation talk{options};
        co_await talk.start();
        co_await talk.ends.b.send_all(said);
        co_await talk.ends.b.shutdown();
        heard = co_await talk.rest();
        co_await talk.task.join();
    });
    return heard;
}

/// How long the server waits for what does not come, and what it says then.
struct Patience {
    Duration time{};
    std::string heard{};
};
Patience patience_for(std::string said, ConnectionOptions options = {}) {
    Patience patience;
    on_kernel([&]() -> Coro<void> {
        Conversation talk{options};
        co_await talk.start();
        const TimePoint began = co_await now();
        co_await talk.ends.b.send_all(said);
        patience.heard = co_await talk.rest();
        patience.time = co_await now() - began;
        co_await talk.ends.b.close();
        co_await talk.task.join();
    });
    return patience;
}

template <Stream S>
Coro<void> serve_over(S& stream, Service& service) {
    co_await serve_connection(stream, service);
}

} // namespace

TEST_CASE("a connection is served until its end") {
    on_kernel([]() -> Coro<void> {
        MemoryStreamPair ends = memory_stream_pair();
        MemoryStream& stream = ends.a;
        co_await ends.b.send_all(get("/a"));
        co_await ends.b.shutdown();
        Service service{[](Request& request) -> Coro<Response> {
            co_return text_response("you asked for " + std::string(request.path) + "\n");
        }};
        co_await serve_connection(stream, service);
        std::array<std::byte, 1000> buffer;
        const std::size_t n = co_await ends.b.recv(buffer);
        const std::string_view heard(reinterpret_cast<const char*>(buffer.data()), n);
        CHECK(heard.ends_with("you asked for /a\n"));
        CHECK(heard.contains("\r\nDate: "));
    });
}

TEST_CASE("requests on one connection are answered in order, those that came together at once") {
    on_kernel([]() -> Coro<void> {
        Conversation talk;
        co_await talk.start();
        std::string said;
        std::string expected;
        for (int i = 0; i < 20; ++i) {
            const std::string body = "body " + std::to_string(i);
            said +=
                "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(body.size()) +
                "\r\n\r\n" + body + get("/");
            expected += ok(body) + ok("root");
        }
        co_await talk.ends.b.send_all(said);
        co_await settle();
        CHECK(talk.sends == 1);
        co_await talk.ends.b.send_all(get("/slow") + get("/"));
        co_await talk.ends.b.shutdown();
        const std::string heard = co_await talk.rest();
        CHECK(heard == expected + ok("slow") + ok("root"));
        CHECK(talk.sends == 2);
        co_await talk.task.join();
    });
}

TEST_CASE("an answer has what belongs to its request and status, and no more") {
    CHECK(answers(get("/")) == ok("root"));
    const std::string head = ok("root");
    CHECK(answers("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n") == head.substr(0, head.size() - 4));
    CHECK(answers(get("/nothing")) == "HTTP/1.1 204 No Content\r\n\r\n");
    CHECK(answers(get("/big")) == ok(std::string(200'000, 'b')));
    CHECK(answers(get("/big") + get("/")) == ok(std::string(200'000, 'b')) + ok("root"));
    CHECK(answers("\r\n" + get("/")) == ok("root"));
    CHECK(answers("") == "");
}

TEST_CASE("a connection goes on or ends as its client wants") {
    const std::string closing = ok("root", "Connection: close\r\n");
    CHECK(answers("GET / HTTP/1.0\r\n\r\n" + get("/")) == closing);
    CHECK(answers("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + get("/")) ==
          ok("root", "Connection: keep-alive\r\n") + ok("root"));
    CHECK(answers(get("/", "Connection: close\r\n") + get("/")) == closing);
    CHECK(answers(get("/last") + get("/")) == ok("last", "Connection: close\r\n"));
    // Another protocol is not spoken here, which need not be said.
    CHECK(answers(get("/", "Connection: upgrade\r\nUpgrade: h2c\r\n") + get("/")) ==
          ok("root") + ok("root"));
}

TEST_CASE("an error is told, and is the last answer") {
    const std::string heard = answers(get("/") + "GET / HTTP/1.1\r\n\r\n" + get("/"));
    CHECK(heard == ok("root") + "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; "
                                "charset=utf-8\r\nContent-Length: 47\r\nConnection: close\r\n\r\n"
                                "400 Bad Request: there must be one Host header\n");
    CHECK(answers("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n")
              .starts_with("HTTP/1.1 413 "));
    CHECK(answers("GET / HT").starts_with("HTTP/1.1 400 "));
    CHECK(answers("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
              .starts_with("HTTP/1.1 400 "));
}

TEST_CASE("what a handler throws is 500 to the client, and a line in the log") {
    on_kernel([]() -> Coro<void> {
        Conversation talk;
        co_await talk.start();
        co_await talk.ends.b.send_all(get("/throw") + get("/"));
        co_await talk.ends.b.shutdown();
        const std::string heard = co_await talk.rest();
        CHECK(heard.starts_with("HTTP/1.1 500 "));
        CHECK(heard.ends_with(ok("root")));
        CHECK(talk.log == "answer to GET /throw: no?sense");
        co_await talk.task.join();
    });
}

TEST_CASE("a client that asks whether to send its body is told so, once, and in its turn") {
    on_kernel([]() -> Coro<void> {
        Conversation talk;
        co_await talk.start();
        co_await talk.ends.b.send_all(get("/") +
                                      "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
                                      "Expect: 100-continue\r\n\r\n");
        const std::string first = co_await talk.waiting();
        CHECK(first.starts_with("HTTP/1.1 200 OK\r\n"));
        CHECK(first.ends_with("root"
                              "HTTP/1.1 100 Continue\r\n\r\n"));
        co_await talk.ends.b.send_all("bo");
        const std::string second = co_await talk.waiting();
        CHECK(second == "");
        co_await talk.ends.b.send_all("dy");
        co_await talk.ends.b.shutdown();
        const std::string third = co_await talk.rest();
        CHECK(third == ok("body"));
        co_await talk.task.join();
    });
    // Who does not wait need not be told.
    CHECK(answers("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
                  "Expect: 100-continue\r\n\r\nbody") == ok("body"));
    // Nor who sends too much anyway.
    CHECK(answers("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n"
                  "Expect: 100-continue\r\n\r\n")
              .starts_with("HTTP/1.1 413 "));
}

TEST_CASE("who does not keep its time limits is told, and cut off") {
    const Patience idle = patience_for("");
    CHECK(idle.time == 60s);
    CHECK(idle.heard == "");
    const Patience after_one = patience_for(get("/"));
    CHECK(after_one.time >= 60s);
    CHECK(after_one.time < 61s);
    CHECK(after_one.heard == ok("root"));

    const Patience head = patience_for("GET / HTTP/1.1\r\nHo");
    CHECK(head.time >= 10s);
    CHECK(head.time < 13s); // with the moment in which its rest is dropped
    CHECK(head.heard.starts_with("HTTP/1.1 408 "));

    const Patience body =
        patience_for("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
    CHECK(body.time >= 10s);
    CHECK(body.time < 13s);
    CHECK(body.heard.starts_with("HTTP/1.1 408 "));
}

TEST_CASE("a head has ten seconds in all, however lively it comes") {
    on_kernel([]() -> Coro<void> {
        Conversation talk;
        co_await talk.start();
        const TimePoint began = co_await now();
        co_await talk.ends.b.send_all("GET / HTTP/1.1\r\nHost: a\r\nX: ");
        const Task<> dripping = co_await spawn(
            [](MemoryStream& stream) -> Coro<void> {
                for (;;) {
                    co_await sleep(500ms);
                    co_await stream.send_all("x");
                }
            },
            std::ref(talk.ends.b));
        const std::string heard = co_await talk.rest();
        const TimePoint ended = co_await now();
        CHECK(heard.starts_with("HTTP/1.1 408 "));
        CHECK(ended - began >= 10s);
        CHECK(ended - began < 10001ms);
        co_await dripping.cancel();
        co_await talk.ends.b.close();
        co_await talk.task.join();
    });
}

TEST_CASE("a body may take its time, but not all the time there is") {
    const auto send_body = [](Duration pause, std::string_view piece) {
        std::string heard;
        on_kernel([&]() -> Coro<void> {
            Conversation talk;
            co_await talk.start();
            co_await talk.ends.b.send_all(
                "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n");
            const Task<> sending = co_await spawn(
                [](MemoryStream& stream, Duration wait, std::string_view text) -> Coro<void> {
                    for (std::size_t sent = 0; sent < 60000; sent += text.size()) {
                        co_await sleep(wait);
                        co_await stream.send_all(text);
                    }
                    co_await stream.shutdown();
                },
                std::ref(talk.ends.b), pause, piece);
            heard = co_await talk.rest();
            co_await sending.cancel();
            co_await talk.ends.b.close();
            co_await talk.task.join();
        });
        return heard;
    };
    const std::string piece(600, 'p');
    CHECK(send_body(1s, piece).ends_with(piece)); // 600 B/s
    CHECK(send_body(1s, piece).size() > 60000);
    CHECK(send_body(1500ms, piece).starts_with("HTTP/1.1 408 ")); // 400 B/s
}

TEST_CASE("a body that came fast and stops is not waited for") {
    on_kernel([]() -> Coro<void> {
        Conversation talk;
        co_await talk.start();
        const TimePoint began = co_await now();
        co_await talk.ends.b.send_all(
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n");
        co_await settle();
        co_await talk.ends.b.send_all(std::string(50'000, 'p'));
        const std::string heard = co_await talk.rest();
        const TimePoint ended = co_await now();
        CHECK(heard.starts_with("HTTP/1.1 408 "));
        CHECK(ended - began >= 20s);
        CHECK(ended - began < 21s);
        co_await talk.ends.b.close();
        co_await talk.task.join();
    });
}

TEST_CASE("a client that takes nothing is cut off, one that takes little is not") {
    on_kernel([]() -> Coro<void> {
        Conversation talk{{}, 1000};
        co_await talk.start();
        const TimePoint began = co_await now();
        co_await talk.ends.b.send_all(get("/big"));
        co_await talk.task.join();
        const TimePoint ended = co_await now();
        CHECK(ended - began == 60s); // in the first half its buffer took some
    });
    on_kernel([]() -> Coro<void> {
        Conversation talk{{}, 10'000};
        co_await talk.start();
        co_await talk.ends.b.send_all(get("/big", "Connection: close\r\n"));
        std::size_t received = 0;
        std::array<std::byte, 10'000> buffer;
        for (;;) {
            co_await sleep(20s); // 500 B/s, and 30 seconds for 10,000 bytes would not do
            const std::size_t n = co_await talk.ends.b.recv(buffer);
            if (n == 0)
                break;
            received += n;
        }
        CHECK(received > 200'000);
        co_await talk.ends.b.close();
        co_await talk.task.join();
    });
}

TEST_CASE("a client that goes away while it is answered harms nobody") {
    on_kernel([]() -> Coro<void> {
        Conversation talk;
        co_await talk.start();
        co_await talk.ends.b.send_all(get("/slow"));
        co_await settle();
        co_await talk.ends.b.close();
        co_await talk.task.join(); // and throws nothing
        CHECK(talk.log == "");
    });
    on_kernel([]() -> Coro<void> {
        Conversation talk{{}, 1000};
        co_await talk.start();
        co_await talk.ends.b.send_all(get("/big"));
        co_await settle();
        co_await talk.ends.b.close();
        co_await talk.task.join();
    });
}

TEST_CASE("cancelled, it ends wherever it is") {
    const std::string body = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
    for (const std::string& said : {std::string{}, std::string("GET /"), body, get("/slow"),
                                    get("/big"), std::string("nonsense\r\n")}) {
        CAPTURE(said);
        on_kernel([&]() -> Coro<void> {
            Conversation talk{{}, 1000};
            co_await talk.start();
            co_await talk.ends.b.send_all(said);
            co_await settle();
            const bool cancelled = co_await talk.task.cancel();
            CHECK(cancelled);
        });
    }
}

TEST_CASE("after an error what the client still sends is read, within bounds") {
    on_kernel([]() -> Coro<void> {
        Conversation talk{{.drain_max = 10'000}, 1000};
        co_await talk.start();
        // More than anybody holds: without reading it the client would not come to its end.
        co_await talk.ends.b.send_all("nonsense\r\n" + std::string(8'000, 'x'));
        co_await talk.ends.b.shutdown();
        const std::string heard = co_await talk.rest();
        CHECK(heard.starts_with("HTTP/1.1 400 "));
        co_await talk.task.join();
    });
    on_kernel([]() -> Coro<void> {
        Conversation talk{{.drain_max = 10'000}, 1000};
        co_await talk.start();
        bool broken = false;
        try {
            co_await talk.ends.b.send_all("nonsense\r\n" + std::string(100'000, 'x'));
        } catch (const std::system_error& failure) {
            broken = failure.code() == StreamError::broken;
        }
        CHECK(broken);
        co_await talk.task.join();
    });
}

TEST_CASE("when the server stops, idle clients are let go and the others are answered") {
    const test::LeakGuard guard;
    run([]() -> Coro<void> {
        WaitQueue arrived;
        Event go;
        int started = 0;
        Service service{[&](Request& request) -> Coro<Response> {
            ++started;
            if (request.path == "/wait")
                co_await go.wait();
            co_return text_response("done");
        }};
        TcpListener listener = co_await TcpListener::bind(SocketAddress::ipv4("127.0.0.1", 0));
        const SocketAddress at = listener.local_address();
        const auto handler = [&service](TcpStream client, trapline::Connection& connection) {
            return
                [](TcpStream stream, trapline::Connection& server, Service& shared) -> Coro<void> {
                    co_await serve_connection(stream, shared, &server);
                }(std::move(client), connection, service);
        };
        const Task<> server = co_await spawn(serve<TcpStream>(std::move(listener), handler));
        TcpStream idle = co_await TcpStream::connect(at);
        TcpStream busy = co_await TcpStream::connect(at);
        co_await idle.send_all(get("/"));
        std::array<std::byte, 1000> buffer;
        (void)co_await idle.recv(buffer);
        co_await busy.send_all(get("/wait") + get("/wait"));
        while (started < 2)
            co_await sleep(100us);
        co_await traps::Cancel{server.record()};
        const std::size_t at_the_end = co_await idle.recv(buffer);
        CHECK(at_the_end == 0);
        go.set();
        std::string heard;
        while (const std::size_t n = co_await busy.recv(buffer))
            heard.append(reinterpret_cast<const char*>(buffer.data()), n);
        const std::size_t second = heard.find("done") + 4;
        CHECK(heard.substr(0, second).contains("HTTP/1.1 200 OK\r\n"));
        CHECK_FALSE(heard.substr(0, second).contains("Connection: close"));
        CHECK(heard.substr(second).starts_with("HTTP/1.1 200 OK\r\n"));
        CHECK(heard.substr(second).contains("Connection: close\r\n"));
        CHECK(heard.ends_with("done"));
        co_await busy.close();
        co_await idle.close();
        co_await server.wait();
    });
}

TEST_CASE("a part of a file is a body, over sockets and other streams") {
    const test::LeakGuard guard;
    char name[] = "/tmp/trapline-http-XXXXXX";
    const Descriptor file{test::must(::mkstemp(name), "mkstemp")};
    ::unlink(name);
    std::string text(300'000, '\0');
    for (std::size_t i = 0; i < text.size(); ++i)
        text[i] = static_cast<char>('a' + i % 23);
    REQUIRE(::pwrite(file.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
    const auto serving = [&](std::uint64_t size) {
        return [&file, size](Request&) -> Coro<Response> {
            Response answer{200, "application/octet-stream"};
            answer.set_file({Descriptor{::dup(file.get())}, 1000, size});
            co_return answer;
        };
    };
    const auto asked = [](auto& server, auto& client, Service& service) -> Coro<std::string> {
        co_await client.send_all(get("/", "Connection: close\r\n"));
        const Task<> task = co_await spawn(serve_over(server, service));
        std::string heard;
        std::array<std::byte, 8192> buffer;
        try {
            while (const std::size_t n = co_await client.recv(buffer))
                heard.append(reinterpret_cast<const char*>(buffer.data()), n);
        } catch (const std::system_error&) {
            heard += " and a reset";
        }
        co_await client.close();
        co_await task.join();
        co_return heard;
    };
    run([&]() -> Coro<void> {
        Service service{serving(250'000)};
        Service too_much{serving(400'000)};
        for (Service* shared : {&service, &too_much}) {
            MemoryStreamPair memory = memory_stream_pair(10'000);
            const std::string over_memory = co_await asked(memory.a, memory.b, *shared);
            test::Ends ends = test::tcp_pair();
            TcpStream server{std::move(ends.a), {}};
            TcpStream client{std::move(ends.b), {}};
            const std::string over_tcp = co_await asked(server, client, *shared);
            if (shared == &service) {
                CHECK(over_memory.ends_with("\r\n\r\n" + text.substr(1000, 250'000)));
                CHECK(over_tcp.ends_with("\r\n\r\n" + text.substr(1000, 250'000)));
            } else { // what was announced cannot be had: the client must notice
                CHECK(over_memory.ends_with(text.substr(299'000)));
                CHECK(over_tcp.ends_with(" and a reset"));
            }
        }
    });
}

TEST_CASE("a client that is slow, but reads, gets a large file whole") {
    const test::LeakGuard guard;
    char name[] = "/tmp/trapline-http-XXXXXX";
    const Descriptor file{test::must(::mkstemp(name), "mkstemp")};
    ::unlink(name);
    std::string text(4'000'000, '\0');
    for (std::size_t i = 0; i < text.size(); ++i)
        text[i] = static_cast<char>('a' + i % 23);
    REQUIRE(::pwrite(file.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
    const auto serving = [&](Request&) -> Coro<Response> {
        Response answer{200, "application/octet-stream"};
        answer.set_file({Descriptor{::dup(file.get())}, 0, text.size()});
        co_return answer;
    };
    // The limit runs out in the middle, again and again. On a busy machine it may do so without a
    // byte in between; then the next one is tried.
    std::string heard;
    for (const Duration limit : {2ms, 10ms, 50ms, 250ms, 1250ms}) {
        heard.clear();
        run([&]() -> Coro<void> {
            Service service{serving, {.stall_limit = limit}};
            test::Ends ends = test::tcp_pair();
            TcpStream server{std::move(ends.a), {}};
            TcpStream client{std::move(ends.b), {}};
            co_await client.send_all(get("/", "Connection: close\r\n"));
            const Task<> task = co_await spawn(serve_over(server, service));
            std::vector<std::byte> buffer(100'000);
            try {
                while (const std::size_t n = co_await client.recv(buffer)) {
                    heard.append(reinterpret_cast<const char*>(buffer.data()), n);
                    co_await sleep(limit / 4);
                }
            } catch (const std::system_error&) {
                // It was reset.
            }
            co_await client.close();
            co_await task.join();
        });
        const std::size_t head = heard.find("\r\n\r\n") + 4;
        heard.erase(0, head);
        REQUIRE(text.starts_with(heard)); // never wrong bytes
        if (heard == text)
            break;
    }
    CHECK(heard.size() == text.size());
}
