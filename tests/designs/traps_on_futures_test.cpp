#include "../../bench/designs/future/traps_on_futures.hpp"

#include <array>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/kernel/engines/simulation.hpp>
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
FutureKernel in_simulation() { return FutureKernel{make_simulation_engine()}; }

Coro<void> let_others_run() {
    for (int turn = 0; turn < 3; ++turn)
        co_await yield_now();
}

Coro<void> sleep_for_hours() { co_await sleep(1h); }

Coro<void> park_with_interrupts_held_back(WaitQueue& queue) {
    const Counted frame;
    co_await disable_cancellation([&queue]() -> Coro<void> {
        const Counted inner;
        co_await traps::Park{&queue};
    });
}

/// Knows what it was told to forget.
class Forgetful final : public ManualEngine {
public:
    explicit Forgetful(std::vector<int>& forgotten) : forgotten_(forgotten) {}
    void forget(int fd) noexcept override { forgotten_.push_back(fd); }

private:
    std::vector<int>& forgotten_;
};

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

TEST_CASE("a task that cannot be cancelled is destroyed when a kernel of futures goes") {
    const LeakGuard guard;
    WaitQueue queue;
    Task<> parked;
    Task<> joins;
    std::string told;
    {
        FutureKernel kernel = in_virtual_time();
        kernel.loop().set_exception_handler(
            [&](const future_design::ExceptionContext& context) { told = context.message; });
        kernel.run([&]() -> Coro<void> {
            parked = co_await spawn(park_with_interrupts_held_back(queue), {.name = "stubborn"});
            joins = co_await spawn(
                [](Task<> other) -> Coro<void> {
                    co_await disable_cancellation([&other] { return other.wait(); });
                },
                parked);
            co_await let_others_run();
        }());
    }
    CHECK(parked.terminated());
    CHECK(parked.cancelled());
    CHECK(joins.terminated());
    CHECK(told == "shutdown: task 'stubborn' can never go on, and is destroyed");
    CHECK(queue.empty());
}

TEST_CASE("what cleanup spawns while a kernel of futures shuts down is cancelled, too") {
    const LeakGuard guard;
    FutureKernel kernel = in_virtual_time();
    const TimePoint start = kernel.loop().time();
    bool cleaned = false;
    kernel.run([](bool& done) -> Coro<void> {
        co_await spawn(
            [](bool& d) -> Coro<void> {
                co_await with_resource([]() -> Coro<int> { co_return 1; },
                                       [](int&) -> Coro<void> { co_await sleep(1h); },
                                       [&d](int&) -> Coro<void> {
                                           Task<> child = co_await spawn(sleep_for_hours());
                                           co_await child.wait();
                                           d = child.cancelled();
                                       });
            },
            std::ref(done));
        co_await let_others_run();
    }(cleaned));
    kernel.shutdown();
    CHECK(cleaned);
    CHECK(kernel.loop().time() - start < 1h);
}

TEST_CASE("a kernel of futures leaves threads the time they need, also where time jumps") {
    FutureKernel kernel = in_simulation();
    const auto answer = kernel.run([]() -> Coro<std::optional<int>> {
        co_return co_await ignore_after(1h, run_in_thread([] {
                                            std::this_thread::sleep_for(5ms); // its work
                                            return 42;
                                        }));
    }());
    CHECK(answer == 42);
}

TEST_CASE("who sleeps for ever on futures, where time jumps, is told that nothing is left") {
    FutureKernel kernel = in_simulation();
    CHECK_THROWS_WITH(kernel.run([]() -> Coro<void> { co_await sleep(Duration::max()); }()),
                      "nothing is left that could complete the future");
}

TEST_CASE("who is interrupted when it comes to wait for a thread has the thread know") {
    FutureKernel kernel = in_virtual_time();
    const bool taken = kernel.run([]() -> Coro<bool> {
        ThreadCompletion completion;
        Task<> waits = co_await spawn(
            [](ThreadCompletion& on) -> Coro<void> {
                co_await disable_cancellation([]() -> Coro<void> { co_await sleep(1s); });
                (void)co_await traps::AwaitThread{&on};
            },
            std::ref(completion));
        co_await let_others_run();
        const bool cancelled = co_await waits.cancel();
        CHECK(cancelled);
        co_return completion.try_complete(1);
    }());
    CHECK_FALSE(taken);
}

TEST_CASE("an IoRelease on futures reaches the engine") {
    std::vector<int> forgotten;
    FutureKernel kernel{std::make_unique<Forgetful>(forgotten)};
    kernel.run([]() -> Coro<void> {
        Task<> waits = co_await spawn([]() -> Coro<void> {
            const auto answer = co_await traps::ReadWait{5};
            CHECK(answer.error().value() == ECANCELED);
        });
        co_await let_others_run();
        CHECK((co_await traps::IoRelease{5}));
        co_await waits.join();
        CHECK((co_await traps::IoRelease{6}));
    }());
    CHECK(forgotten == std::vector<int>{5, 6});
}

TEST_CASE("a task of another kernel can neither be joined nor cancelled on futures") {
    Kernel other{manual()};
    const Task<> foreign = other.spawn(sleep_for_hours());
    FutureKernel another = in_virtual_time();
    Task<> alike;
    another.run([&]() -> Coro<void> { alike = co_await spawn(sleep_for_hours()); }());
    FutureKernel kernel = in_virtual_time();
    kernel.run([&]() -> Coro<void> {
        for (const Task<>* task : {&foreign, &std::as_const(alike)}) {
            const auto joined = co_await traps::Join{task->record()};
            CHECK(joined.error().value() == EXDEV);
            const auto cancelled = co_await traps::Cancel{task->record()};
            CHECK(cancelled.error().value() == EXDEV);
        }
    }());
    CHECK_FALSE(foreign.terminated());
    CHECK_FALSE(alike.terminated());
    another.shutdown();
    CHECK(alike.terminated());
    kernel.run([&]() -> Coro<void> { // it has ended: that can be said anywhere
        CHECK((co_await traps::Join{alike.record()}));
        const auto cancelled = co_await traps::Cancel{alike.record()};
        CHECK(cancelled.value() == traps::Delivery::over);
    }());
    other.shutdown();
}

TEST_CASE("a deadline from before the clock began has passed, and so have all inside of it") {
    const auto program = []() -> Coro<std::string> {
        std::string seen;
        try {
            co_await timeout_at(TimePoint{-5s}, [&seen]() -> Coro<void> {
                try {
                    co_await timeout_after(1s, sleep(1h));
                } catch (const TimeoutCancellation&) {
                    seen += "inner ";
                    throw;
                }
            });
        } catch (const TaskTimeout&) {
            seen += "outer";
        }
        co_await sleep(1h); // no limit is left over
        co_return seen;
    };
    CHECK(in_virtual_time().run(program()) == "inner outer");
    CHECK(Kernel{manual()}.run(program) == "inner outer");
}
