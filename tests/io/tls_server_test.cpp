#include <trapline/io/tls_server.hpp>

#include <algorithm>
#include <array>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/io/buffered_reader.hpp>
#include <trapline/kernel/kernel.hpp>
#include <trapline/traps/event.hpp>

#include "../support/certificates.hpp"
#include "../support/streams.hpp"

using namespace trapline;
using namespace trapline::test;

namespace {

const Authority& authority() {
    static const Authority made;
    return made;
}

const TlsServerContext& server_context() {
    static const TlsServerContext made = [] {
        const Certificate certificate =
            authority().issue({.subject = "example.org", .names = "DNS:example.org"});
        TlsServerSettings settings;
        settings.identities = {TlsIdentity::pem(certificate.chain, certificate.key)};
        return TlsServerContext{settings};
    }();
    return made;
}

const TlsClientContext& client_context() {
    static const TlsClientContext made{{.trust = TlsTrust::pem(authority().pem())}};
    return made;
}

Coro<void> greet(TlsStream client) {
    co_await client.send_all("hello " + client.server_name() + "\n");
    co_await client.close();
}

Coro<void> talk(TlsStream client, Connection& connection) {
    BufferedReader reader{client};
    while (auto line = co_await connection.idle(reader.read_line())) {
        if (!*line)
            break;
        co_await client.send_all("you said " + **line + "\n");
    }
    co_await client.close();
}

/// A server that runs beside the test, at a free port.
template <class F>
class Running {
public:
    Running(F handler, ServerOptions options = {}, TlsHandshakeLimits limits = {})
        : handler_(handler), options_(options), limits_(limits) {}

    Coro<void> start() {
        options_.on_listening = [this](const SocketAddress& at) {
            at_ = at;
            listens_.set();
        };
        options_.log = [this](std::string_view line) { log.emplace_back(line); };
        task = co_await spawn(
            [](Running& r) {
                return tls_server(SocketAddress::ipv4("127.0.0.1", 0), server_context(), r.handler_,
                                  r.options_, r.limits_);
            },
            std::ref(*this));
        co_await listens_.wait();
    }
    Coro<TcpStream> connect_plain() { return TcpStream::connect(at_); }
    Coro<TlsStream> connect() {
        TcpStream tcp = co_await connect_plain();
        const TlsClientOptions options{.host = "example.org", .context = &client_context()};
        co_return co_await TlsStream::connect(std::move(tcp), options);
    }

    /// What is logged about that client.
    std::string line_about(const SocketAddress& client, std::string_view rest) const {
        return "server at " + at_.to_string() + ": connection from " + client.to_string() +
               std::string(rest);
    }

    Task<> task;
    std::vector<std::string> log;

private:
    F handler_;
    ServerOptions options_;
    TlsHandshakeLimits limits_;
    SocketAddress at_;
    Event listens_;
};

template <class S>
Coro<std::string> ask(S& stream, std::string_view text) {
    co_await stream.send_all(text);
    BufferedReader reader{stream};
    std::optional<std::string> line = co_await reader.read_line();
    co_return line.value_or("the end");
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

/// Runs a test body, and checks that it leaves nothing behind. Contexts are made before.
template <class F>
void check(F body) {
    (void)server_context();
    (void)client_context();
    const LeakGuard guard;
    run(std::move(body));
}

} // namespace

TEST_CASE("a TLS server in one call, until its time limit") {
    check([]() -> Coro<void> {
        const TlsServerContext context = server_context();
        const auto body = [&]() -> Coro<void> {
            co_await tls_server(SocketAddress::parse("127.0.0.1:0"), context, greet);
        };
        CHECK_FALSE(co_await ignore_after(1ms, body));
    });
}

TEST_CASE("each client is greeted by the name that it asked for, and the stream ends in order") {
    check([]() -> Coro<void> {
        Running server{greet};
        co_await server.start();
        for (int n = 0; n < 3; ++n) {
            TlsStream client = co_await server.connect();
            CHECK((co_await receive_to_end(client)) == "hello example.org\n");
            co_await client.close();
        }
        co_await server.task.cancel();
        CHECK(server.log.empty());
    });
}

TEST_CASE("a handshake that fails is one line in the log, and hurts nobody else") {
    check([]() -> Coro<void> {
        int handled = 0;
        Running server{[&](TlsStream client, Connection& connection) -> Coro<void> {
            ++handled;
            co_await talk(std::move(client), connection);
        }};
        co_await server.start();
        TlsStream calm = co_await server.connect();
        CHECK((co_await ask(calm, "one\n")) == "you said one");

        TcpStream plain = co_await server.connect_plain(); // knows nothing of TLS
        co_await plain.send_all("GET / HTTP/1.0\r\n\r\n");
        (void)co_await receive_to_end(plain); // the alert
        TcpStream gone = co_await server.connect_plain();
        co_await gone.send_all("\x16\x03\x01\x02"); // the beginning of a ClientHello
        co_await gone.shutdown();
        (void)co_await receive_to_end(gone);
        CHECK(co_await until([&] { return server.log.size() >= 2; }));

        CHECK((co_await ask(calm, "two\n")) == "you said two");
        co_await calm.close();
        co_await server.task.cancel();
        CHECK(handled == 1);
        REQUIRE(server.log.size() == 2);
        for (std::size_t n = 0; n < 2; ++n) {
            const SocketAddress client = (n == 0 ? plain : gone).local_address();
            CHECK(server.log[n].starts_with(
                server.line_about(client, ": TLS handshake with " + client.to_string() + ": ")));
        }
    });
}

TEST_CASE("a handshake has a time limit and one of bytes") {
    check([]() -> Coro<void> {
        Running server{greet, {}, {.time = 10ms}};
        co_await server.start();
        TcpStream silent = co_await server.connect_plain();
        CHECK((co_await receive_to_end(silent)) == "");
        const SocketAddress client = silent.local_address();
        CHECK(server.log ==
              std::vector{server.line_about(client, ": TLS handshake with " + client.to_string() +
                                                        ": Connection timed out")});
        co_await server.task.cancel();

        Running strict{greet, {}, {.bytes_max = 10}};
        co_await strict.start();
        std::string complaint;
        try {
            TlsStream stream = co_await strict.connect();
            (void)co_await receive_to_end(stream);
        } catch (const std::system_error& failure) {
            complaint = failure.what();
        }
        CHECK(complaint != "");
        CHECK(co_await until([&] { return strict.log.size() == 1; }));
        co_await strict.task.cancel();
    });
}

TEST_CASE("clients that have not shaken hands count as connections") {
    check([]() -> Coro<void> {
        Running server{greet, {.connections_max = 1}};
        co_await server.start();
        TcpStream silent = co_await server.connect_plain();
        Task<std::string> waiting = co_await spawn([&]() -> Coro<std::string> {
            TlsStream client = co_await server.connect();
            co_return co_await receive_to_end(client);
        });
        co_await sleep(5ms);
        CHECK_FALSE(waiting.terminated());
        co_await silent.close();
        CHECK((co_await waiting.join()) == "hello example.org\n");
        co_await server.task.cancel();
        CHECK(server.log.size() == 1); // of the one that has gone
    });
}

TEST_CASE("a server's time limits count the bytes beneath") {
    check([]() -> Coro<void> {
        Running server{talk, {.first_byte_limit = 16ms, .idle_limit = 200ms}};
        co_await server.start();
        TcpStream silent = co_await server.connect_plain();
        TlsStream talks = co_await server.connect(); // nothing but the handshake
        CHECK((co_await receive_to_end(silent)) == "");
        CHECK(server.log ==
              std::vector{server.line_about(silent.local_address(),
                                            " has sent nothing within its time limit")});
        CHECK((co_await ask(talks, "hello\n")) == "you said hello");
        // Idle from here on.
        CHECK(co_await until([&] { return server.log.size() == 2; }));
        CHECK(server.log.back().ends_with("was idle for too long"));
        co_await talks.close();
        co_await server.task.cancel();
    });
}

TEST_CASE("a TLS server that stops ends handshakes and idle clients at once, others finish") {
    check([]() -> Coro<void> {
        Event may_finish;
        Running server{[&](TlsStream client, Connection& connection) -> Coro<void> {
            BufferedReader reader{client};
            const auto line = co_await connection.idle(reader.read_line());
            if (line && *line) {
                co_await may_finish.wait();
                co_await client.send_all("late answer to " + **line + "\n");
            }
            co_await client.close();
        }};
        co_await server.start();
        TcpStream silent = co_await server.connect_plain();
        TlsStream idle = co_await server.connect();
        TlsStream asks = co_await server.connect();
        co_await asks.send_all("question\n");
        co_await sleep(5ms);
        co_await traps::Cancel{server.task.record()};
        CHECK((co_await receive_to_end(silent)) == "");
        CHECK((co_await receive_to_end(idle)) == "");
        CHECK_FALSE(server.task.terminated());
        may_finish.set();
        CHECK((co_await receive_to_end(asks)) == "late answer to question\n");
        co_await server.task.wait();
        CHECK(server.task.cancelled());
        CHECK(server.log.empty());
    });
}

TEST_CASE("handlers and handshakes that take too long are cancelled when a TLS server stops") {
    check([]() -> Coro<void> {
        int cancelled = 0;
        Running server{[&](TlsStream) -> Coro<void> {
                           try {
                               co_await sleep(1h);
                           } catch (const TaskCancelled&) {
                               ++cancelled;
                               throw;
                           }
                       },
                       {.stop_limit = 5ms}};
        co_await server.start();
        TlsStream one = co_await server.connect();
        TlsStream two = co_await server.connect();
        TcpStream silent = co_await server.connect_plain();
        CHECK(co_await until([&] { return cancelled == 0; }));
        co_await sleep(2ms);
        co_await server.task.cancel();
        CHECK(cancelled == 2);
        REQUIRE(server.log.size() == 1);
        CHECK(server.log[0].contains("cancels 2 connections"));
    });
}

TEST_CASE("what a handler throws is logged, and its client sees that it was cut off") {
    check([]() -> Coro<void> {
        Running server{[](TlsStream client) -> Coro<void> {
            std::array<std::byte, 64> buffer;
            (void)co_await client.recv(buffer);
            throw std::runtime_error("no such thing");
        }};
        co_await server.start();
        TlsStream client = co_await server.connect();
        std::error_code code;
        try {
            (void)co_await ask(client, "crash\n");
        } catch (const std::system_error& failure) {
            code = failure.code();
        }
        CHECK(code == TlsFault::cut_off);
        REQUIRE(server.log.size() == 1);
        CHECK(server.log[0].ends_with(": no such thing"));
        co_await server.task.cancel();
    });
}

TEST_CASE("a listener that is there already is served over TLS, too") {
    check([]() -> Coro<void> {
        TcpListener listener = co_await TcpListener::bind(SocketAddress::ipv4("127.0.0.1", 0));
        const SocketAddress at = listener.local_address();
        using Handler = Coro<void> (*)(TlsStream);
        Task<> server = co_await spawn(serve_tls<Handler>, std::move(listener), server_context(),
                                       Handler{greet}, ServerOptions{}, TlsHandshakeLimits{});
        TcpStream tcp = co_await TcpStream::connect(at);
        const TlsClientOptions options{.host = "example.org", .context = &client_context()};
        TlsStream client = co_await TlsStream::connect(std::move(tcp), options);
        CHECK((co_await receive_to_end(client)) == "hello example.org\n");
        co_await server.cancel();
    });
}

TEST_CASE("many clients shake hands at once, never more than there is room for") {
    check([]() -> Coro<void> {
        constexpr std::size_t limit = 5;
        std::size_t at_once = 0;
        std::size_t most = 0;
        Running server{[&](TlsStream client) -> Coro<void> {
                           most = std::max(most, ++at_once);
                           co_await yield_now();
                           --at_once;
                           co_await greet(std::move(client));
                       },
                       {.connections_max = limit}};
        co_await server.start();
        std::vector<Task<std::string>> clients;
        for (int n = 0; n < 40; ++n)
            clients.push_back(co_await spawn([&]() -> Coro<std::string> {
                TlsStream client = co_await server.connect();
                co_return co_await receive_to_end(client);
            }));
        for (Task<std::string>& client : clients)
            CHECK((co_await client.join()) == "hello example.org\n");
        CHECK(most <= limit);
        co_await server.task.cancel();
        CHECK(server.log.empty());
    });
}
