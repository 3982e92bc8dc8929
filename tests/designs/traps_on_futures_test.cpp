#include "../../bench/designs/future/traps_on_futures.hpp"

#include <array>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/kernel/engines/uring.hpp>
#include <trapline/trapline.hpp>

#include "../../examples/echo.hpp"
#include "../../examples/rockets.hpp"
#include "../kernel/manual_engine.hpp"
#include "../support/leaks.hpp"
#include "../support/sockets.hpp"

using namespace trapline;
using namespace trapline::test;
using namespace std::chrono_literals;
using future_design::FutureKernel;

namespace {

FutureKernel on_uring() { return FutureKernel{make_uring_engine({})}; }
FutureKernel in_virtual_time() { return FutureKernel{std::make_unique<ManualEngine>()}; }

Coro<void> let_others_run() {
    for (int turn = 0; turn < 3; ++turn)
        co_await yield_now();
}

} // namespace

TEST_CASE("a kernel of futures runs a coroutine and answers its result") {
    FutureKernel kernel{make_uring_engine({})};
    int result = kernel.run([]() -> Coro<int> { co_return 7; }());
    CHECK(result == 7);
    CHECK_THROWS_WITH(kernel.run([]() -> Coro<void> {
        co_await yield_now();
        throw std::runtime_error("its own");
    }()),
                      "its own");
}

TEST_CASE("rockets count down on futures") {
    FutureKernel kernel = in_virtual_time();
    const auto waited = kernel.run([]() -> Coro<std::vector<Duration>> {
        std::vector<Coro<Duration>> rockets;
        rockets.push_back(countdown("Ariane", 5, 0, 1s, false));
        rockets.push_back(countdown("Soyuz", 3, 2, 1s, false));
        rockets.push_back(countdown("Falcon", 4, 1, 1s, false));
        co_return co_await gather(std::move(rockets));
    }());
    CHECK(waited == std::vector<Duration>{5s, 5s, 5s});
}

TEST_CASE("clients of an echo server on futures get every byte back") {
    const LeakGuard guard;
    FutureKernel kernel = on_uring();
    kernel.run([]() -> Coro<void> {
        TcpListener listener = co_await TcpListener::bind(SocketAddress::ipv4("127.0.0.1", 0));
        Task<> serving = co_await spawn(
            [](TcpListener& l) -> Coro<void> {
                for (;;)
                    co_await spawn(echo(co_await l.accept()));
            },
            std::ref(listener));
        std::vector<Task<>> clients;
        for (unsigned number = 0; number < 20; ++number)
            clients.push_back(co_await spawn(
                [](SocketAddress at, unsigned who) -> Coro<void> {
                    co_await exchange(co_await TcpStream::connect(at), who, 50);
                },
                listener.local_address(), number));
        for (Task<>& client : clients)
            co_await client.join();
        CHECK((co_await serving.cancel()));
    }());
}

TEST_CASE("time limits nest on futures, and report as on any kernel") {
    FutureKernel kernel = in_virtual_time();
    kernel.run([]() -> Coro<void> {
        const TimePoint start = co_await now();
        CHECK_FALSE((co_await ignore_after(2s, sleep(1h))));
        CHECK(((co_await now()) - start) == 2s);
        CHECK((co_await ignore_after(2s, sleep(1s))));
        std::string seen;
        try {
            co_await timeout_after(1s, [&]() -> Coro<void> {
                try {
                    co_await timeout_after(5s, sleep(1h));
                } catch (const TimeoutCancellation&) {
                    seen += "inner ";
                    throw;
                }
            });
        } catch (const TaskTimeout&) {
            seen += "outer";
        }
        CHECK(seen == "inner outer");
        CHECK_FALSE((co_await ignore_after(0s, sleep(1h))));
        CHECK_FALSE((co_await ignore_after(5s, ignore_after(10s, sleep(1h)))).has_value());
        // Before the clock began, with another one inside.
        const auto nested = [] { return ignore_after(5s, sleep(1s)); };
        CHECK_FALSE((co_await ignore_at(TimePoint{-1ns}, nested)).has_value());
        CHECK_FALSE((co_await ignore_after(Duration::min(), nested)).has_value());
        co_await sleep(1h); // no limit is left over
    }());
}

TEST_CASE("cancellation on futures interrupts what can be, and nothing is lost") {
    const LeakGuard guard;
    FutureKernel kernel = on_uring();
    kernel.run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        std::string got(100, '\0');
        std::size_t progress = 0;
        Task<> reads = co_await spawn(
            [](int fd, std::string& to, std::size_t& done) -> Coro<void> {
                try {
                    (void)co_await traps::recv(fd, std::as_writable_bytes(std::span(to)),
                                               MSG_WAITALL);
                } catch (const Cancelled& c) {
                    done = c.progress();
                    throw;
                }
            },
            ends.a.get(), std::ref(got), std::ref(progress));
        must(::write(ends.b.get(), "hello", 5), "write");
        co_await sleep(2ms);
        CHECK((co_await reads.cancel()));
        CHECK(reads.cancelled());
        CHECK(progress == 5);
        CHECK(got.starts_with("hello"));

        Task<> masked = co_await spawn([]() -> Coro<void> {
            co_await disable_cancellation([]() -> Coro<void> { co_await sleep(1ms); });
            co_await sleep(1h);
        });
        co_await let_others_run();
        CHECK((co_await masked.cancel()));
    }());
}

TEST_CASE("a close on futures ends who uses the descriptor") {
    const LeakGuard guard;
    FutureKernel kernel = on_uring();
    kernel.run([]() -> Coro<void> {
        Ends ends = socket_pair();
        int error = 0;
        Task<> reads = co_await spawn(
            [](int fd, int& why) -> Coro<void> {
                std::array<std::byte, 10> buffer;
                const auto n = co_await traps::recv(fd, buffer);
                why = n ? 0 : n.error().value();
            },
            ends.a.get(), std::ref(error));
        co_await let_others_run();
        CHECK((co_await traps::close(ends.a.release())));
        co_await reads.join();
        CHECK(error == ECANCELED);
    }());
}

TEST_CASE("groups, queues, locks and threads work on futures as they are") {
    FutureKernel kernel = on_uring();
    kernel.run([]() -> Coro<void> {
        Queue<int> queue{2};
        int sum = 0;
        co_await task_group([&](TaskGroup& group) -> Coro<void> {
            co_await group.spawn(
                [](Queue<int>& q) -> Coro<void> {
                    for (int i = 1; i <= 100; ++i)
                        co_await q.put(i);
                    q.close();
                },
                std::ref(queue));
            while (auto item = co_await queue.next())
                sum += *item;
        });
        CHECK(sum == 5050);
        CHECK((co_await run_in_thread([] { return 42; })) == 42);
        Lock lock;
        const auto held = co_await lock.hold();
        CHECK_FALSE((co_await ignore_after(1ms, lock.acquire())));
    }());
}

TEST_CASE("what is left is cancelled when a kernel of futures goes") {
    const LeakGuard guard;
    bool cleaned = false;
    {
        FutureKernel kernel = in_virtual_time();
        kernel.run([](bool& done) -> Coro<void> {
            co_await spawn(
                [](bool& d) -> Coro<void> {
                    try {
                        co_await sleep(1h);
                    } catch (const TaskCancelled&) {
                        d = true;
                        throw;
                    }
                },
                std::ref(done));
            co_await yield_now();
        }(cleaned));
        CHECK_FALSE(cleaned);
    }
    CHECK(cleaned);
}
