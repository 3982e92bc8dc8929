#include <trapline/io/happy_eyeballs.hpp>

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <netinet/tcp.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <trapline/io/resolve.hpp>
#include <trapline/kernel/kernel.hpp>
#include <trapline/traps/cancel.hpp>
#include <trapline/traps/event.hpp>
#include <trapline/traps/task.hpp>

#include "../kernel/manual_engine.hpp"
#include "../support/engines.hpp"
#include "../support/leaks.hpp"
#include "../support/sockets.hpp"

using namespace trapline;
using namespace std::chrono_literals;
using test::LeakGuard;
using State = ConnectAttempt::State;

namespace {

using Addresses = std::vector<SocketAddress>;
using Texts = std::vector<std::string>;

/// Runs a test body, a callable, and checks that it leaves nothing open.
template <class F>
void check(F body) {
    const LeakGuard guard;
    run(std::move(body));
}

Texts texts_of(const Addresses& addresses) {
    Texts texts;
    for (const SocketAddress& address : addresses)
        texts.push_back(address.to_string());
    return texts;
}

/// What a connect to an address comes to in a made-up world: 0 or an errno, after a while.
struct Fate {
    Duration after;
    int error = 0;
};

/// Virtual time, and a network that is a table. Whom it does not know never answers.
class FatefulEngine : public ManualEngine {
public:
    explicit FatefulEngine(std::map<std::string, Fate> fates) : fates_(std::move(fates)) {}

    Started start(Operation& operation) noexcept override {
        if (std::holds_alternative<traps::Socket>(*operation.request)) {
            operation.result = ::dup(0);
            return Started::done;
        }
        const auto* connect = std::get_if<traps::Connect>(operation.request);
        if (!connect)
            return ManualEngine::start(operation);
        const SocketAddress to = SocketAddress::from(connect->address, connect->length);
        const auto fate = fates_.find(to.to_string());
        operation.result = fate == fates_.end() ? 0 : -fate->second.error;
        const TimePoint at = fate == fates_.end() ? never : later(time, fate->second.after);
        connects_.push_back({at, &operation});
        return Started::in_flight;
    }

    void cancel(Operation& operation) noexcept override {
        for (Connecting& connecting : connects_) {
            if (connecting.operation != &operation)
                continue;
            // What completes at this very moment completes.
            if (connecting.at > time) {
                operation.result = -ECANCELED;
                connecting.at = time;
            }
            return;
        }
        ManualEngine::cancel(operation);
    }

    void wait(TimePoint deadline, OperationList& completed) noexcept override {
        const auto first = std::ranges::min_element(connects_, {}, &Connecting::at);
        if (first == connects_.end() || first->at > deadline || first->at == never)
            return ManualEngine::wait(deadline, completed);
        time = std::max(time, first->at);
        for (const Connecting& connecting : connects_)
            if (connecting.at <= time)
                completed.push(*connecting.operation);
        std::erase_if(connects_, [this](const Connecting& c) { return c.at <= time; });
    }

private:
    struct Connecting {
        TimePoint at;
        Operation* operation;
    };
    std::map<std::string, Fate> fates_;
    std::vector<Connecting> connects_;
};

using Fates = std::map<std::string, Fate>;

/// Runs a body in such a world.
void in_world(const Fates& fates, const std::function<Coro<void>()>& body) {
    const LeakGuard guard;
    run(body, {.make_engine = [&] { return std::make_unique<FatefulEngine>(fates); }});
}

const char* name_of(State state) {
    switch (state) {
    case State::begun: return "begun";
    case State::failed: return "failed";
    case State::connected: return "connected";
    case State::given_up: return "given up";
    }
    return "?";
}

/// Keeps what is told, as in "250 127.0.0.1:80 begun", in milliseconds.
ConnectReport kept_in(Texts& log) {
    return [&log](const ConnectAttempt& attempt) {
        const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(attempt.since_start);
        log.push_back(std::to_string(ms.count()) + " " + attempt.address.to_string() + " " +
                      name_of(attempt.state) +
                      (attempt.error ? ": " + attempt.error.message() : ""));
    };
}

Addresses parsed(std::initializer_list<const char*> texts) {
    Addresses addresses;
    for (const char* text : texts)
        addresses.push_back(SocketAddress::parse(text));
    return addresses;
}

struct Complaint {
    std::error_code code;
    std::string text;
};

template <class A>
Coro<Complaint> complaint_of(A call) {
    try {
        (void)co_await std::move(call);
    } catch (const std::system_error& e) {
        co_return Complaint{e.code(), e.what()};
    }
    co_return Complaint{};
}

SocketAddress address_of(const Descriptor& listener) {
    return SocketAddress::ipv4("127.0.0.1", test::port_of(listener.get()));
}

/// Where nobody listens: a port that is bound, so that nobody else takes it.
struct Refusing {
    Descriptor socket{test::must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")};
    SocketAddress address;

    Refusing() {
        const sockaddr_in at = test::loopback(0);
        test::must(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at), "bind");
        address = address_of(socket);
    }
};

/// A listener whose backlog is full, so that connects to it wait.
struct Silent {
    Descriptor listener = test::tcp_listener(0);
    SocketAddress address = address_of(listener);
    std::vector<Descriptor> filling;

    Silent() {
        for (int i = 0; i < 4; ++i) {
            Descriptor socket{test::must(
                ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "socket")};
            (void)::connect(socket.get(), address.data(), address.size());
            filling.push_back(std::move(socket));
        }
    }
};

} // namespace

TEST_CASE("it connects and tells of what fails, as the example shows") {
    check([]() -> Coro<void> {
        const Descriptor listener = test::tcp_listener();
        const std::uint16_t port = test::port_of(listener.get());
        std::string log;
        std::vector<SocketAddress> addresses = co_await resolve("localhost", port);
        TcpStream stream = co_await happy_eyeballs(
            addresses, {.host = "localhost"}, [&](const ConnectAttempt& attempt) {
                if (attempt.state == ConnectAttempt::State::failed)
                    log += attempt.address.to_string() + ": " + attempt.error.message();
            });
        CHECK(stream.peer_address() == SocketAddress::ipv4("127.0.0.1", port));
        const std::string no_ipv6 = "[::1]:" + std::to_string(port);
        CHECK((log.empty() || log.starts_with(no_ipv6)));
    });
}

// --- order ---------------------------------------------------------------------------------

TEST_CASE("families take turns, beginning with that of the first address") {
    CHECK(texts_of(interleave_families(
              parsed({"[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"}))) ==
          Texts{"[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"});
    CHECK(texts_of(interleave_families(parsed({"1.0.0.1:1", "1.0.0.2:1", "[::1]:1"}))) ==
          Texts{"1.0.0.1:1", "[::1]:1", "1.0.0.2:1"});
    CHECK(texts_of(interleave_families(parsed({"1.0.0.2:1", "1.0.0.1:1", "1.0.0.2:1"}))) ==
          Texts{"1.0.0.2:1", "1.0.0.1:1", "1.0.0.2:1"});
    CHECK(texts_of(interleave_families(parsed({"/a", "[::1]:1", "1.0.0.1:1", "/b"}))) ==
          Texts{"unix:/a", "[::1]:1", "1.0.0.1:1", "unix:/b"});
    CHECK(interleave_families({}).empty());
}

// --- time, in a world of its own -----------------------------------------------------------

TEST_CASE("attempts that take long get company every 250 ms, and the first connection wins") {
    const Fates fates{{"[::2]:1", {1s}}, {"1.0.0.1:1", {400ms}}};
    in_world(fates, []() -> Coro<void> {
        Texts log;
        const TimePoint start = co_await now();
        const TcpStream stream = co_await happy_eyeballs(
            parsed({"[::1]:1", "[::2]:1", "1.0.0.1:1", "1.0.0.2:1"}), {}, kept_in(log));
        const TimePoint end = co_await now();
        CHECK(stream.peer_address().to_string() == "1.0.0.1:1");
        CHECK(end - start == 650ms);
        CHECK(log == Texts{"0 [::1]:1 begun", "250 1.0.0.1:1 begun", "500 [::2]:1 begun",
                           "650 1.0.0.1:1 connected", "650 [::1]:1 given up",
                           "650 [::2]:1 given up"});
    });
}

TEST_CASE("one that fails makes room for the next at once, and the wait begins anew") {
    const Fates fates{
        {"1.0.0.1:1", {0s, ECONNREFUSED}}, {"1.0.0.2:1", {100ms, ETIMEDOUT}}, {"1.0.0.4:1", {0s}}};
    in_world(fates, []() -> Coro<void> {
        Texts log;
        const TcpStream stream = co_await happy_eyeballs(
            parsed({"1.0.0.1:1", "1.0.0.2:1", "1.0.0.3:1", "1.0.0.4:1"}), {}, kept_in(log));
        CHECK(stream.peer_address().to_string() == "1.0.0.4:1");
        CHECK(log == Texts{"0 1.0.0.1:1 begun", "0 1.0.0.1:1 failed: Connection refused",
                           "0 1.0.0.2:1 begun", "100 1.0.0.2:1 failed: Connection timed out",
                           "100 1.0.0.3:1 begun", "350 1.0.0.4:1 begun", "350 1.0.0.4:1 connected",
                           "350 1.0.0.3:1 given up"});
    });
}

TEST_CASE("an older attempt may still win, or fail, while a newer one is waited for") {
    const Fates fates{{"1.0.0.1:1", {300ms, EHOSTUNREACH}}, {"1.0.0.2:1", {350ms}}};
    in_world(fates, []() -> Coro<void> {
        Texts log;
        const TcpStream stream = co_await happy_eyeballs(
            parsed({"1.0.0.1:1", "1.0.0.2:1", "1.0.0.3:1"}), {}, kept_in(log));
        CHECK(stream.peer_address().to_string() == "1.0.0.2:1");
        CHECK(log == Texts{"0 1.0.0.1:1 begun", "250 1.0.0.2:1 begun",
                           "300 1.0.0.1:1 failed: No route to host", "300 1.0.0.3:1 begun",
                           "600 1.0.0.2:1 connected", "600 1.0.0.3:1 given up"});
    });
}

TEST_CASE("the stagger is an option: none at all, or for ever") {
    const Fates fates{{"1.0.0.1:1", {9s, ECONNREFUSED}}, {"1.0.0.2:1", {2s}}};
    in_world(fates, []() -> Coro<void> {
        const Addresses addresses = parsed({"1.0.0.1:1", "1.0.0.2:1"});
        Texts together;
        const TcpStream first =
            co_await happy_eyeballs(addresses, {.stagger = 0s}, kept_in(together));
        CHECK(together == Texts{"0 1.0.0.1:1 begun", "0 1.0.0.2:1 begun",
                                "2000 1.0.0.2:1 connected", "2000 1.0.0.1:1 given up"});
        Texts in_turn;
        const TcpStream second =
            co_await happy_eyeballs(addresses, {.stagger = Duration::max()}, kept_in(in_turn));
        CHECK(in_turn == Texts{"0 1.0.0.1:1 begun", "9000 1.0.0.1:1 failed: Connection refused",
                               "9000 1.0.0.2:1 begun", "11000 1.0.0.2:1 connected"});
    });
}

TEST_CASE("of two that connect at the same moment one wins, and the other is closed") {
    const Fates fates{{"1.0.0.1:1", {300ms}}, {"1.0.0.2:1", {50ms}}};
    in_world(fates, []() -> Coro<void> {
        Texts log;
        const TcpStream stream =
            co_await happy_eyeballs(parsed({"1.0.0.1:1", "1.0.0.2:1"}), {}, kept_in(log));
        CHECK(std::ranges::count_if(
                  log, [](const std::string& line) { return line.ends_with("connected"); }) == 1);
        CHECK(log.size() == 4);
        CHECK(log.back().ends_with("given up"));
    });
}

TEST_CASE("it may be cancelled in every phase, and nothing stays open") {
    const Fates fates{{"1.0.0.1:1", {300ms, ECONNREFUSED}},
                      {"1.0.0.3:1", {700ms, ECONNREFUSED}},
                      {"1.0.0.4:1", {500ms}}};
    for (Duration at = 0ms; at <= 1200ms; at += 50ms) {
        CAPTURE(at);
        in_world(fates, [at]() -> Coro<void> {
            Texts log;
            Task<TcpStream> task = co_await spawn(happy_eyeballs(
                parsed({"1.0.0.1:1", "1.0.0.2:1", "1.0.0.3:1", "1.0.0.4:1"}), {}, kept_in(log)));
            co_await sleep(at);
            const bool cancelled = co_await task.cancel();
            // 1.0.0.4 begins when 1.0.0.1 has failed and the third has waited: at 550 ms.
            CHECK(cancelled == (at < 1050ms));
            const auto ended = std::ranges::count_if(
                log, [](const std::string& line) { return !line.ends_with("begun"); });
            CHECK(static_cast<std::size_t>(ended) * 2 == log.size());
        });
    }
}

TEST_CASE("a connection that is there before the time limit runs out is answered") {
    const Fates fates{{"1.0.0.2:1", {50ms}}};
    in_world(fates, []() -> Coro<void> {
        const Addresses addresses = parsed({"1.0.0.1:1", "1.0.0.2:1"});
        const auto in_time = co_await ignore_after(301ms, happy_eyeballs(addresses));
        const auto too_late = co_await ignore_after(299ms, happy_eyeballs(addresses));
        CHECK(in_time.has_value());
        CHECK_FALSE(too_late.has_value());
    });
}

// --- failure -------------------------------------------------------------------------------

TEST_CASE("if all fail the error names the host, and each address with its reason") {
    const Fates fates{{"[2001:db8::1]:80", {0s, ENETUNREACH}},
                      {"192.0.2.1:80", {700ms, ECONNREFUSED}},
                      {"192.0.2.2:80", {0s, EHOSTUNREACH}}};
    in_world(fates, []() -> Coro<void> {
        const Addresses addresses = parsed({"[2001:db8::1]:80", "192.0.2.1:80", "192.0.2.2:80"});
        const Complaint named =
            co_await complaint_of(happy_eyeballs(addresses, {.host = "www.example.com"}));
        CHECK(named.text == "connect to www.example.com: [2001:db8::1]:80: Network is unreachable; "
                            "192.0.2.1:80: Connection refused; 192.0.2.2:80: No route to host");
        CHECK(named.code == std::errc::host_unreachable);
        const Complaint one = co_await complaint_of(happy_eyeballs(parsed({"192.0.2.2:80"})));
        CHECK(one.text == "connect to 192.0.2.2:80: No route to host");
        CHECK(one.code == std::errc::host_unreachable);
    });
}

TEST_CASE("without an address there is nothing to connect to") {
    check([]() -> Coro<void> {
        const Complaint named = co_await complaint_of(happy_eyeballs({}, {.host = "nobody"}));
        const Complaint plain = co_await complaint_of(happy_eyeballs({}));
        CHECK(named.text == "connect to nobody: Destination address required");
        CHECK(plain.text == "connect to no address: Destination address required");
        CHECK(plain.code == std::errc::destination_address_required);
    });
}

TEST_CASE("an IPv6 address without a route costs no time") {
    check([]() -> Coro<void> {
        const Descriptor listener = test::tcp_listener();
        Texts log;
        Addresses addresses = parsed({"[2001:db8::1]:9"}); // reserved for books
        addresses.push_back(address_of(listener));
        // Where it has a route all the same, the other one has its turn after the stagger.
        const TcpStream stream =
            co_await happy_eyeballs(addresses, {.stagger = 20ms}, kept_in(log));
        CHECK(stream.peer_address() == address_of(listener));
    });
}

TEST_CASE("only IPv6 addresses and no route is a failure that says so") {
    const Fates fates{{"[2001:db8::1]:80", {0s, ENETUNREACH}},
                      {"[2001:db8::2]:80", {0s, ENETUNREACH}}};
    in_world(fates, []() -> Coro<void> {
        const TimePoint start = co_await now();
        const Complaint c = co_await complaint_of(
            happy_eyeballs(parsed({"[2001:db8::1]:80", "[2001:db8::2]:80"}), {.host = "six"}));
        const TimePoint end = co_await now();
        CHECK(c.code == std::errc::network_unreachable);
        CHECK(end == start);
    });
}

// --- on real sockets -----------------------------------------------------------------------

TEST_CASE(
    "one refuses, one is silent, one answers: it is the last one, and the others are closed") {
    for (const test::EngineChoice& engine : test::engines()) {
        INFO("engine: " << engine.name);
        const LeakGuard guard;
        run(
            []() -> Coro<void> {
                const Refusing refusing;
                const Silent silent;
                const Descriptor listener = test::tcp_listener();
                Texts log;
                const std::size_t before = test::open_descriptors().size();
                const Addresses addresses{refusing.address, silent.address, address_of(listener)};
                TcpStream stream =
                    co_await happy_eyeballs(addresses, {.stagger = 5ms}, kept_in(log));
                CHECK(test::open_descriptors().size() == before + 1);
                CHECK(stream.peer_address() == address_of(listener));
                CHECK(log.size() == 6);
                CHECK(log[1].ends_with("failed: Connection refused"));
                CHECK(log[4].ends_with(address_of(listener).to_string() + " connected"));
                CHECK(log[5].ends_with(silent.address.to_string() + " given up"));
                // It is a stream like any other.
                const Descriptor peer{test::must(
                    ::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC), "accept")};
                co_await stream.send_all("hello");
                co_await stream.close();
                CHECK(test::read_all(peer.get()) == "hello");
            },
            engine.options);
    }
}

TEST_CASE("cancelled while real connects are on their way, all sockets are closed") {
    for (const test::EngineChoice& engine : test::engines()) {
        INFO("engine: " << engine.name);
        const LeakGuard guard;
        run(
            []() -> Coro<void> {
                const Refusing refusing;
                const Silent silent;
                const Descriptor listener = test::tcp_listener();
                const Addresses waiting{silent.address, refusing.address, silent.address};
                const Addresses answered{silent.address, address_of(listener)};
                const std::vector<int> before = test::open_descriptors();
                for (int turns = 0; turns < 40; ++turns) {
                    for (const Addresses& addresses : {waiting, answered}) {
                        Task<TcpStream> task =
                            co_await spawn(happy_eyeballs(addresses, {.stagger = 0s}));
                        for (int i = 0; i < turns; ++i)
                            co_await yield_now();
                        co_await task.cancel();
                        task = {};
                        CHECK(test::open_descriptors() == before);
                    }
                }
            },
            engine.options);
    }
}

int option_of(const StreamSocket& stream, int level, int name) {
    int value = 0;
    socklen_t size = sizeof value;
    test::must(::getsockopt(stream.fd(), level, name, &value, &size), "getsockopt");
    return value;
}

// --- by name -------------------------------------------------------------------------------

TEST_CASE("a stream is connected by a host's name and a port") {
    check([]() -> Coro<void> {
        const Descriptor listener = test::tcp_listener();
        const std::uint16_t port = test::port_of(listener.get());
        const TcpStream by_name = co_await TcpStream::connect("localhost", port);
        const TcpStream by_number = co_await TcpStream::connect("127.0.0.1", port);
        CHECK(by_name.peer_address() == SocketAddress::ipv4("127.0.0.1", port));
        CHECK(by_number.peer_address() == SocketAddress::ipv4("127.0.0.1", port));
    });
}

TEST_CASE("the options for connecting by name are those of each attempt") {
    check([]() -> Coro<void> {
        const Refusing refusing;
        const Descriptor listener = test::tcp_listener();
        const std::uint16_t port = test::port_of(listener.get());
        const ConnectOptions options{.local = SocketAddress::ipv4("127.0.0.7", 0),
                                     .no_delay = true,
                                     .keep_alive = KeepAlive{.idle = 77s}};
        const TcpStream by_name = co_await TcpStream::connect("localhost", port, options);
        const Addresses addresses{refusing.address, address_of(listener)};
        const TcpStream second = co_await happy_eyeballs(addresses, {.connect = options});
        for (const TcpStream* stream : {&by_name, &second}) {
            CHECK(stream->local_address().to_string().starts_with("127.0.0.7:"));
            CHECK(option_of(*stream, IPPROTO_TCP, TCP_NODELAY) == 1);
            CHECK(option_of(*stream, SOL_SOCKET, SO_KEEPALIVE) == 1);
            CHECK(option_of(*stream, IPPROTO_TCP, TCP_KEEPIDLE) == 77);
        }
        const TcpStream plain = co_await TcpStream::connect("localhost", port);
        CHECK(option_of(plain, IPPROTO_TCP, TCP_NODELAY) == 0);
        CHECK(option_of(plain, SOL_SOCKET, SO_KEEPALIVE) == 0);
    });
}

TEST_CASE("a local address of another family fails that attempt, and the next one begins") {
    check([]() -> Coro<void> {
        const Descriptor listener = test::tcp_listener();
        const ConnectOptions options{.local = SocketAddress::ipv4("127.0.0.1", 0)};
        const Addresses six{SocketAddress::parse("[::1]:80")};
        const Addresses both{six[0], address_of(listener)};
        const TcpStream stream = co_await happy_eyeballs(both, {.connect = options});
        CHECK(stream.peer_address() == address_of(listener));
        const Complaint none =
            co_await complaint_of(happy_eyeballs(six, {.host = "six", .connect = options}));
        CHECK(none.code);
        CHECK(none.text.starts_with("connect to six: [::1]:80: "));
    });
}

TEST_CASE("connecting by name fails as looking up does, and as connecting does") {
    check([]() -> Coro<void> {
        const Refusing refusing;
        const std::uint16_t port = refusing.address.port();
        const Complaint bad = co_await complaint_of(TcpStream::connect("not a name", port));
        const Complaint refused = co_await complaint_of(TcpStream::connect("127.0.0.1", port));
        CHECK(bad.code == ResolveErrc::invalid_name);
        CHECK(refused.text ==
              "connect to 127.0.0.1: " + refusing.address.to_string() + ": Connection refused");
    });
}
