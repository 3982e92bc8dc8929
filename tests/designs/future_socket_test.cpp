#include "../../bench/designs/future/socket.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <csignal>
#include <doctest/doctest.h>

#include <trapline/kernel/engines/uring.hpp>

#include "../../bench/designs/future/signals.hpp"
#include "../../bench/designs/future/waiting.hpp"
#include "../support/leaks.hpp"
#include "../support/sockets.hpp"
#include "world.hpp"

// asyncio's calls on sockets, and what becomes of an operation whose future is cancelled.

using namespace future_design;
using namespace std::chrono_literals;
using trapline::Descriptor;
using trapline::test::LeakGuard;

namespace {

std::unique_ptr<Engine> uring() { return trapline::make_uring_engine({}); }

Bytes bytes(std::string_view text) { return Bytes::copy_of(std::as_bytes(std::span(text))); }

/// One end for the loop, the other for plain calls.
struct Pair {
    explicit Pair(Loop& loop) : Pair(loop, trapline::test::socket_pair()) {}
    Pair(Loop& loop, trapline::test::Ends ends)
        : socket(loop, ends.a.release()), peer(std::move(ends.b)) {}
    Socket socket;
    Descriptor peer;
};

/// Time is a number here, and an operation completes when the test says so, cancelled or not.
class Late final : public Engine {
public:
    TimePoint now() noexcept override { return time_; }
    Started start(Operation& operation) noexcept override {
        if (const auto* close = std::get_if<trapline::traps::Close>(operation.request)) {
            operation.result = ::close(close->fd);
            return Started::done;
        }
        in_flight_.push(operation);
        return Started::in_flight;
    }
    void cancel(Operation&) noexcept override { ++cancels; }
    void wait(TimePoint deadline, trapline::OperationList& completed) noexcept override {
        time_ = std::max(time_, deadline);
        while (Operation* operation = done_.pop())
            completed.push(*operation);
    }
    void interrupt() noexcept override {}
    std::string describe() const override { return "late"; }

    void complete(std::int64_t result) {
        Operation* operation = in_flight_.pop();
        operation->result = result;
        done_.push(*operation);
    }
    void complete(std::string_view received) {
        const auto& recv = std::get<trapline::traps::Recv>(*in_flight_.front()->request);
        std::memcpy(recv.data, received.data(), received.size());
        complete(static_cast<std::int64_t>(received.size()));
    }

    int cancels = 0;

private:
    TimePoint time_{1000s};
    trapline::OperationList in_flight_;
    trapline::OperationList done_;
};

/// Many turns, however slow the machine is.
void settle(Loop& loop) {
    loop.run_until_complete([]() -> Coroutine<> {
        co_await sleep(2ms);
        for (int turn = 0; turn < 20; ++turn)
            co_await sleep(0s);
    }());
}

} // namespace

TEST_CASE("bytes are received and sent") {
    const LeakGuard guard;
    World world{uring()};
    Pair pair{world.loop};
    trapline::test::write_all(pair.peer.get(), "hello");
    const Bytes got = world.loop.run_until_complete(sock_recv(pair.socket, 100));
    CHECK(got.text() == "hello");
    world.loop.run_until_complete(sock_sendall(pair.socket, got.from(1).first(3)));
    CHECK(trapline::test::read_waiting(pair.peer.get()) == "ell");
    pair.peer = Descriptor{};
    CHECK(world.loop.run_until_complete(sock_recv(pair.socket, 100)).empty());
}

TEST_CASE("a part of a buffer is received into, and sent from the same memory") {
    const LeakGuard guard;
    World world{uring()};
    Pair pair{world.loop};
    trapline::test::write_all(pair.peer.get(), "cd");
    Buffer buffer{4};
    std::memcpy(buffer.data(), "ab", 2);
    const std::size_t got =
        world.loop.run_until_complete(sock_recv_into(pair.socket, buffer.from(2)));
    CHECK(got == 2);
    CHECK(buffer.bytes().text() == "abcd");
    CHECK(buffer.from(9).size() == 0);
}

TEST_CASE("sock_sendall sends all, however much that is") {
    const LeakGuard guard;
    World world{uring()};
    Pair pair{world.loop};
    trapline::test::shrink_send_buffer(pair.socket.fileno());
    const std::string much(1 << 20, 'x');
    Task<std::size_t> reads =
        world.loop.create_task([](Socket from, std::size_t all) -> Coroutine<std::size_t> {
            std::size_t sum = 0;
            while (sum < all) {
                const Bytes some = co_await sock_recv(from, 100'000);
                sum += some.size();
            }
            co_return sum;
        }(Socket{world.loop, pair.peer.release()}, much.size()));
    world.loop.run_until_complete(sock_sendall(pair.socket, bytes(much)));
    CHECK(world.loop.run_until_complete(reads) == much.size());
    world.loop.run_until_complete(sock_sendall(pair.socket, Bytes{}));
}

TEST_CASE("sockets connect and are accepted") {
    const LeakGuard guard;
    World world{uring()};
    const Socket listening =
        listening_socket(world.loop, trapline::SocketAddress::parse("127.0.0.1:0"));
    const Socket client = socket_for(world.loop, getsockname(listening));
    const Future<Socket> accepted = sock_accept(listening);
    world.loop.run_until_complete(sock_connect(client, getsockname(listening)));
    const Socket server = world.loop.run_until_complete(accepted);
    world.loop.run_until_complete(sock_sendall(client, bytes("hello")));
    CHECK(world.loop.run_until_complete(sock_recv(server, 100)).text() == "hello");
}

TEST_CASE("errors name the operation") {
    const LeakGuard guard;
    World world{uring()};
    const auto nobody = trapline::SocketAddress::parse(
        "127.0.0.1:" +
        std::to_string(trapline::test::port_of(trapline::test::tcp_listener().get())));
    const Socket client = socket_for(world.loop, nobody);
    CHECK_THROWS_WITH(world.loop.run_until_complete(sock_connect(client, nobody)),
                      "connect: Connection refused");
    Pair pair{world.loop};
    pair.peer = Descriptor{};
    CHECK_THROWS_WITH(world.loop.run_until_complete(sock_sendall(pair.socket, bytes("x"))),
                      "send: Broken pipe");
    const Socket first = listening_socket(world.loop, nobody);
    CHECK_THROWS_WITH((void)listening_socket(world.loop, nobody),
                      ("listen at " + nobody.to_string() + ": Address already in use").c_str());
}

TEST_CASE("a cancelled future is done at once, its operation keeps its memory until it ends") {
    const LeakGuard guard;
    World world{uring()};
    Pair pair{world.loop};
    {
        Future<std::size_t> receives = sock_recv_into(pair.socket, Buffer{100});
        settle(world.loop); // it is with Linux
        CHECK(receives.cancel());
        CHECK(receives.done());
        CHECK_FALSE(receives.cancel());
    } // nobody but the operation has the buffer now
    settle(world.loop);
    trapline::test::write_all(pair.peer.get(), "hello"); // the operation takes none of it
    CHECK(world.loop.run_until_complete(sock_recv(pair.socket, 100)).text() == "hello");
    CHECK(world.told.empty());
}

TEST_CASE("to cancel the task that awaits an operation cancels that") {
    const LeakGuard guard;
    World world{uring()};
    Pair pair{world.loop};
    const auto receives = [](Socket from) -> Coroutine<> {
        const Bytes got = co_await sock_recv(from, 100);
        CHECK(got.empty());
    };
    CHECK_THROWS_AS(world.loop.run_until_complete(timeout(1ms, receives(pair.socket))),
                    TimeoutError);
    trapline::test::write_all(pair.peer.get(), "x");
    CHECK(world.loop.run_until_complete(sock_recv(pair.socket, 100)).text() == "x");
}

TEST_CASE("what an operation has done after all is lost with its cancellation") {
    const LeakGuard guard;
    auto late = std::make_unique<Late>();
    Late& engine = *late;
    World world{std::move(late)};
    Pair pair{world.loop};
    {
        Future<Bytes> receives = sock_recv(pair.socket, 100);
        receives.cancel();
    }
    engine.complete("lost");
    CHECK_THROWS_AS(world.loop.run_until_complete(Future<void>{world.loop}), std::runtime_error);
    const Future<Bytes> receives = sock_recv(pair.socket, 100);
    engine.complete("found");
    CHECK(world.loop.run_until_complete(receives).text() == "found");
}

TEST_CASE("a socket that was accepted for nobody is closed") {
    const LeakGuard guard;
    auto late = std::make_unique<Late>();
    Late& engine = *late;
    World world{std::move(late)};
    Pair pair{world.loop};
    Future<Socket> accepts = sock_accept(pair.socket);
    accepts.cancel();
    engine.complete(pair.peer.release());
    CHECK_THROWS_AS(world.loop.run_until_complete(Future<void>{world.loop}), std::runtime_error);
    CHECK(accepts.cancelled());
    CHECK(engine.cancels == 1);
}

TEST_CASE("a socket is closed when neither copies nor operations are left") {
    const LeakGuard guard;
    World world{uring()};
    std::optional<Pair> pair{world.loop};
    const Descriptor peer = std::move(pair->peer);
    Future<Bytes> receives = sock_recv(pair->socket, 100);
    pair->socket.close();
    CHECK_FALSE(pair->socket);
    settle(world.loop);
    CHECK_FALSE(receives.done()); // it goes on
    trapline::test::write_all(peer.get(), "x");
    CHECK(world.loop.run_until_complete(receives).text() == "x");
    settle(world.loop);
    CHECK(trapline::test::read_all(peer.get()).empty());
}

TEST_CASE("a loop that goes cancels what is in flight, and closes what it has") {
    const LeakGuard guard;
    Descriptor peer;
    {
        World world{uring()};
        Pair pair{world.loop};
        peer = std::move(pair.peer);
        (void)sock_recv(pair.socket, 100);
        (void)world.loop.create_task([](Socket from) -> Coroutine<> {
            (void)co_await sock_recv(from, 100);
        }(Socket{world.loop, ::dup(pair.socket.fileno())}));
        settle(world.loop);
    }
    CHECK(trapline::test::read_all(peer.get()).empty());
}

TEST_CASE("pipes are read and written, all of it") {
    const LeakGuard guard;
    World world{uring()};
    auto ends = trapline::test::pipe_ends();
    const Socket reader{world.loop, ends.a.release()};
    Socket writer{world.loop, ends.b.release()};
    const std::string much(300'000, 'x');
    Future<void> writes = pipe_write_all(writer, bytes(much));
    writer.close();
    const std::size_t sum =
        world.loop.run_until_complete([](Socket from) -> Coroutine<std::size_t> {
            const Buffer buffer{10'000};
            std::size_t all = 0;
            while (const std::size_t n = co_await pipe_read_into(from, buffer))
                all += n;
            co_return all;
        }(reader));
    CHECK(sum == much.size());
    CHECK(writes.done());
    writes.result();
}

TEST_CASE("an operation that does nothing completes") {
    World world{uring()};
    world.loop.run_until_complete(nop(world.loop));
    CHECK(world.loop.engine().counters().operations > 0);
}

TEST_CASE("a signal handler is called soon, and no more when it was removed") {
    const LeakGuard guard;
    World world{uring()};
    int seen = 0;
    Future<void> came{world.loop};
    SignalHandler handler = add_signal_handler(world.loop, SIGUSR2, [&] {
        ++seen;
        if (!came.done())
            came.set_result();
    });
    ::raise(SIGUSR2);
    CHECK(seen == 0);
    world.loop.run_until_complete(came);
    CHECK(seen == 1);
    handler.remove();
    settle(world.loop);
    ::raise(SIGUSR2); // blocked
    settle(world.loop);
    CHECK(seen == 1);
    std::signal(SIGUSR2, SIG_IGN); // what is pending goes
}
