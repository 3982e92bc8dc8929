// P10: time limits: how they nest, what reports them, and that they leave no trace.
#include "conformance.hpp"

#include <optional>

using namespace trapline;
using namespace trapline::test;

namespace {

Coro<int> value(int result) { co_return result; }

Coro<int> value_later(int result) {
    co_await yield_now();
    co_return result;
}

/// Keeps the thread busy until the kernel's clock shows `time`: timers come due, none fires.
Coro<void> busy_until(TimePoint time) {
    TimePoint at{};
    do
        at = co_await now();
    while (at < time);
}

/// An awaitable that fails before it waits.
struct Failing {
    using trapline_awaitable = void;
    bool when_ready;
    bool await_ready() const {
        if (when_ready)
            throw std::runtime_error("no memory");
        return false;
    }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise>) const {
        throw std::runtime_error("no memory");
    }
    int await_resume() const { return 1; }
};

} // namespace

TEST_CASE("P10: who is in time has his result") {
    each_run([]() -> Coro<void> {
        const int after = co_await timeout_after(1h, value_later(1));
        const TimePoint start = co_await now();
        const int at = co_await timeout_at(start + 1h, value_later(2));
        const std::optional<int> ignored = co_await ignore_after(1h, value_later(3));
        const std::optional<int> ignored_at = co_await ignore_at(start + 1h, value_later(4));
        const bool in_time = co_await ignore_after(1h, let_others_run());
        CHECK(after == 1);
        CHECK(at == 2);
        CHECK(ignored == 3);
        CHECK(ignored_at == 4);
        CHECK(in_time);
    });
}

TEST_CASE("P10: who is late is interrupted, and the scope throws TaskTimeout") {
    each_run([]() -> Coro<void> {
        std::string inside;
        std::string outside;
        TimePoint reported{};
        const TimePoint deadline = co_await now() + 500us;
        try {
            co_await timeout_at(deadline, [&]() -> Coro<void> {
                try {
                    co_await sleep(1h);
                } catch (const TaskTimeout& timeout) {
                    inside = "TaskTimeout";
                    CHECK(timeout.deadline() == deadline);
                    throw;
                }
            });
        } catch (const TaskTimeout& timeout) {
            outside = "TaskTimeout";
            reported = timeout.deadline();
        }
        const TimePoint after = co_await now();
        CHECK(inside == "TaskTimeout");
        CHECK(outside == "TaskTimeout");
        CHECK(reported == deadline);
        CHECK(after >= deadline);
    });
}

TEST_CASE("P10: ignore_after and ignore_at answer nothing when the limit runs out") {
    each_run([]() -> Coro<void> {
        const auto slept = co_await ignore_after(200us, sleep(1h));
        const bool ended = co_await ignore_after(0.0002s, sleep_forever());
        const TimePoint soon = co_await now() + 200us;
        const std::optional<int> at = co_await ignore_at(soon, []() -> Coro<int> {
            co_await sleep(1h);
            co_return 1;
        });
        CHECK_FALSE(slept.has_value());
        CHECK_FALSE(ended);
        CHECK_FALSE(at.has_value());
    });
}

TEST_CASE("P10: the body may be a coroutine, a callable, or any awaitable, a join for instance") {
    each_run([]() -> Coro<void> {
        int base = 10;
        const Task<int> task = co_await spawn(value_later(3));
        const int coroutine = co_await timeout_after(1h, value(1));
        const int callable = co_await timeout_after(1h, [&]() -> Coro<int> { co_return base + 2; });
        const int joined = co_await timeout_after(1h, task.join());
        CHECK(coroutine == 1);
        CHECK(callable == 12);
        CHECK(joined == 3);
        const Task<void> endless = co_await spawn(sleep_forever());
        const bool in_time = co_await ignore_after(200us, endless.join());
        CHECK_FALSE(in_time);
        CHECK_FALSE(endless.terminated());
    });
}

TEST_CASE("P10: the body's own exception passes unchanged") {
    each_run([]() -> Coro<void> {
        std::string text;
        try {
            co_await timeout_after(1h, []() -> Coro<void> {
                co_await yield_now();
                throw std::out_of_range("own");
            });
        } catch (const std::out_of_range& failure) {
            text = failure.what();
        }
        CHECK(text == "own");
    });
}

TEST_CASE("P10: an inner limit never extends an outer one") {
    each_io_run([]() -> Coro<void> {
        const TimePoint start = co_await now();
        const bool in_time = co_await ignore_at(start + 300us, [&]() -> Coro<void> {
            for (;;)
                (void)co_await ignore_after(1h, let_others_run());
        });
        CHECK_FALSE(in_time);
        const bool again = co_await ignore_after(300us, [&]() -> Coro<void> {
            (void)co_await ignore_after(100us, sleep(1h));
            (void)co_await ignore_after(1h, sleep(1h));
        });
        CHECK_FALSE(again);
    });
}

TEST_CASE("P10: a TaskTimeout that reaches another scope uncaught becomes UncaughtTimeout") {
    each_run([]() -> Coro<void> {
        std::string seen;
        try {
            co_await timeout_after(1h, [&]() -> Coro<void> {
                co_await timeout_after(100us, sleep(1h)); // nobody catches it in here
            });
        } catch (const UncaughtTimeout& error) {
            seen = error.what();
        } catch (const Cancelled&) {
            seen = "an interrupt";
        }
        CAPTURE(seen);
        CHECK(seen.contains("not caught"));
        bool ignored = true;
        try {
            (void)co_await ignore_after(
                1h, [&]() -> Coro<void> { co_await timeout_after(100us, sleep(1h)); });
        } catch (const UncaughtTimeout&) {
            ignored = false;
        }
        CHECK_FALSE(ignored);
    });
}

TEST_CASE(
    "P10: a limit of nothing or less interrupts the first blocking trap, not what is before") {
    each_run([]() -> Coro<void> {
        for (const Duration limit : {Duration{0}, Duration{-1h}}) {
            const int result = co_await timeout_after(limit, value(5)); // never blocks
            int steps = 0;
            const auto blocked = co_await ignore_after(limit, [&]() -> Coro<int> {
                (void)co_await now();
                ++steps;
                co_await yield_now();
                ++steps;
                co_return 1;
            });
            CHECK(result == 5);
            CHECK_FALSE(blocked.has_value());
            CHECK(steps == 1);
        }
    });
}

TEST_CASE("P10: a deadline in the past has run out at once") {
    each_run([]() -> Coro<void> {
        const TimePoint start = co_await now();
        const auto slept = co_await ignore_at(start - 1s, sleep(1h));
        const int result = co_await timeout_at(TimePoint::min(), value(5));
        bool timed_out = false;
        try {
            co_await timeout_at(start - 1s, let_others_run());
        } catch (const TaskTimeout& timeout) {
            timed_out = timeout.deadline() == start - 1s;
        }
        CHECK_FALSE(slept.has_value());
        CHECK(result == 5);
        CHECK(timed_out);
    });
}

TEST_CASE("P10: limits before the clock began run out at once, nested or not") {
    each_run([]() -> Coro<void> {
        std::string steps;
        const auto limited = [&](TimePoint outer, auto inner) -> Coro<void> {
            const auto done = co_await ignore_at(outer, inner);
            steps += done ? "done " : "late ";
        };
        const auto sleeps = [] { return ignore_after(1s, sleep(1h)); };
        const auto sleeps_at = [] { return ignore_at(TimePoint{-5ns}, sleep(1h)); };
        for (const TimePoint outer : {TimePoint{-1ns}, TimePoint::min(), TimePoint{-5ns}}) {
            co_await limited(outer, sleeps);
            co_await limited(outer, sleeps_at);
        }
        const auto after =
            co_await ignore_after(Duration::min(), [&] { return ignore_after(-2h, sleeps()); });
        steps += after ? "done" : "late";
        CHECK(steps == "late late late late late late late");
        // What stood before is in force again.
        const auto in_time = co_await ignore_at(TimePoint{-1ns}, let_others_run());
        const auto slept = co_await ignore_after(1h, sleep(1us));
        CHECK_FALSE(in_time);
        CHECK(slept.has_value());
    });
}

TEST_CASE("P10: a past outer limit reaches the inner scope, whatever that asks for") {
    each_run([]() -> Coro<void> {
        std::string steps;
        try {
            co_await timeout_after(0ns, [&]() -> Coro<void> {
                const std::string inner =
                    co_await interrupt_of([] { return timeout_after(1h, sleep(1h)); });
                steps += inner;
                throw TimeoutCancellation{TimePoint{}}; // not this scope's: it passes
            });
        } catch (const TimeoutCancellation&) {
            steps += ",passed";
        } catch (const TaskTimeout&) {
            steps += ",reported";
        }
        CHECK(steps == "TimeoutCancellation,passed");
    });
}

TEST_CASE("P10: an inner limit does not displace an outer one that ran out before") {
    each_run([]() -> Coro<void> {
        const TimePoint start = co_await now();
        std::string steps;
        try {
            co_await timeout_at(start - 2s, [&]() -> Coro<void> {
                const std::string inner =
                    co_await interrupt_of([&] { return timeout_at(start - 1s, sleep(1h)); });
                steps += inner;
                co_await sleep(1ms);
                throw TimeoutCancellation{start - 2s};
            });
        } catch (const TaskTimeout& timeout) {
            steps += timeout.deadline() == start - 2s ? ",outer" : ",inner";
        }
        CHECK(steps == "TimeoutCancellation,outer");
    });
}

TEST_CASE("P10: a limit interrupts once, whatever inner scopes are left after it") {
    each_run([]() -> Coro<void> {
        std::string first;
        std::string second;
        (void)co_await ignore_after(100us, [&]() -> Coro<void> {
            first = co_await interrupt_of([] { return timeout_after(1h, sleep(1h)); });
            second = co_await interrupt_of([] { return sleep(300us); });
        });
        CHECK(first == "TimeoutCancellation");
        CHECK(second == "none");
    });
}

TEST_CASE("P10: the largest duration is no limit") {
    each_run([]() -> Coro<void> {
        const int result = co_await timeout_after(Duration::max(), value_later(5));
        const auto slept = co_await ignore_at(never, sleep(100us));
        CHECK(result == 5);
        CHECK(slept.has_value());
    });
}

TEST_CASE("P10: a limit that runs out while interrupts are held back waits, and is forgotten") {
    each_run([]() -> Coro<void> {
        // Never delivered: the scope is left before interrupts are let through.
        const int result = co_await timeout_after(100us, [] {
            return disable_cancellation([]() -> Coro<int> {
                co_await sleep(300us);
                const bool pending = co_await check_cancellation();
                co_return pending ? 1 : 0;
            });
        });
        CHECK(result == 1);
        const bool left = co_await check_cancellation();
        CHECK_FALSE(left);
        co_await sleep(100us);

        // Delivered at the first blocking trap after them, if that is within the scope.
        std::string steps;
        const bool in_time = co_await ignore_after(100us, [&]() -> Coro<void> {
            co_await disable_cancellation(sleep(300us));
            steps += "unmasked,";
            co_await yield_now();
            steps += "not here";
        });
        CHECK_FALSE(in_time);
        CHECK(steps == "unmasked,");
    });
}

TEST_CASE("P10: a limit set within held-back interrupts does not reach out of them") {
    each_run([]() -> Coro<void> {
        bool result = false;
        co_await disable_cancellation([&]() -> Coro<void> {
            result = co_await ignore_after(100us, [&]() -> Coro<void> { co_await sleep(300us); });
        });
        co_await sleep(100us);
        CHECK(result); // held back, so the body ended
    });
}

TEST_CASE("P10: a limit that runs out in the turn of the result does not take it away") {
    each_io_run([]() -> Coro<void> {
        bool woken = false;
        std::string after;
        for (const Duration lead : leads) {
            const TimePoint deadline = co_await now() + lead;
            WaitQueue queue;
            const Task<void> task = co_await spawn([&]() -> Coro<void> {
                woken = co_await ignore_at(deadline, park_on(queue));
                after = co_await interrupt_of(let_others_run());
            });
            co_await let_others_run(2);
            co_await busy_until(deadline);
            const bool in_time = queue.wake() == 1; // before the timer could fire
            co_await task.join();
            CHECK(after == "none");
            CHECK(woken == in_time);
            if (in_time)
                break;
        }
        CHECK(woken);
    });
}

TEST_CASE("P10: a limit that ran out before the result came takes no wake-up") {
    each_io_run([]() -> Coro<void> {
        WaitQueue queue;
        std::string seen;
        const Task<void> task = co_await spawn([&]() -> Coro<void> {
            seen = co_await interrupt_of([&] { return timeout_after(200us, park_on(queue)); });
        });
        co_await yield_now();
        while (!queue.empty())
            co_await yield_now();
        CHECK(queue.wake() == 0);
        co_await task.join();
        CHECK(seen == "TaskTimeout");
    });
}

TEST_CASE("P10: bytes that come in the turn in which the limit runs out are received or left") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        for (int round = 0; round < 20; ++round) {
            const TimePoint deadline = co_await now() + 50us;
            std::string got;
            const Task<void> task = co_await spawn([&]() -> Coro<void> {
                std::string buffer(8, '\0');
                const auto count =
                    co_await ignore_at(deadline, traps::recv(ends.a.get(), bytes_of(buffer)));
                if (count)
                    got = buffer.substr(0, count->value());
            });
            co_await let_others_run(2);
            co_await busy_until(deadline);
            write_all(ends.b.get(), "abc");
            co_await task.join();
            CHECK(got + read_waiting(ends.a.get()) == "abc");
        }
    });
}

TEST_CASE("P10: a limit never reaches anyone after its scope was left") {
    each_run([]() -> Coro<void> {
        int left_in_time = 0;
        for (const bool by_exception : {false, true}) {
            for (const Duration lead : leads) {
                const TimePoint deadline = co_await now() + lead;
                bool in_time = false;
                try {
                    (void)co_await ignore_at(deadline, [by_exception]() -> Coro<void> {
                        co_await yield_now();
                        if (by_exception)
                            throw 1;
                    });
                } catch (int) {}
                const TimePoint left = co_await now();
                in_time = left < deadline;
                const std::string seen =
                    co_await interrupt_of([&] { return sleep_until(deadline + 300us); });
                CHECK(seen == "none");
                left_in_time += in_time;
                if (in_time)
                    break;
            }
        }
        CHECK(left_in_time == 2);
    });
}

TEST_CASE("P10: a body that handles its limit itself gives its result, and is interrupted once") {
    each_run([]() -> Coro<void> {
        const int result = co_await timeout_after(100us, []() -> Coro<int> {
            const std::string seen = co_await interrupt_of([] { return sleep(1h); });
            const std::string again = co_await interrupt_of([] { return sleep(300us); });
            co_return seen == "TaskTimeout" && again == "none" ? 7 : 0;
        });
        CHECK(result == 7);
    });
}

TEST_CASE("P10: a limit interrupts who waits for a task, not that task") {
    each_run([]() -> Coro<void> {
        WaitQueue gate;
        const Task<void> task = co_await spawn(park_on(gate));
        const std::string seen =
            co_await interrupt_of([&] { return timeout_after(100us, task.join()); });
        CHECK(seen == "TaskTimeout");
        CHECK(task.state() == TaskState::blocked);
        CHECK(gate.wake() == 1);
        co_await task.join();
    });
}

TEST_CASE("P10: a task does not inherit the limits of the one that spawned it") {
    each_run([]() -> Coro<void> {
        WaitQueue gate;
        Task<void> child;
        const bool in_time = co_await ignore_after(100us, [&]() -> Coro<void> {
            child = co_await spawn(park_on(gate));
            co_await child.join();
        });
        CHECK_FALSE(in_time);
        co_await sleep(200us);
        CHECK(gate.wake() == 1);
        co_await child.join();
        CHECK_FALSE(child.cancelled());
    });
}

TEST_CASE("P10: a task that ends by its own limit joins as TaskError, and counts as cancelled") {
    each_run([]() -> Coro<void> {
        const Task<void> task =
            co_await spawn([] { return timeout_after(100us, sleep_forever()); });
        bool timeout = false;
        try {
            co_await task.join();
        } catch (const TaskError& error) {
            try {
                error.rethrow_cause();
            } catch (const TaskTimeout&) {
                timeout = true;
            }
        }
        CHECK(timeout);
        CHECK(task.cancelled());
    });
}

TEST_CASE("P10: limits that were set and dropped leave no trace: a deadlock is seen at once") {
    each_engine([](const KernelOptions& options) {
        // A limit that was left behind would keep this waiting for an hour.
        CHECK_THROWS_AS(run(
                            []() -> Coro<void> {
                                for (int i = 0; i < 10'000; ++i)
                                    (void)co_await timeout_after(1h, value(i));
                                (void)co_await ignore_after(
                                    1h, [] { return timeout_after(2h, let_others_run()); });
                                WaitQueue queue;
                                co_await traps::Park{&queue};
                            },
                            options),
                        Deadlock);
    });
}

TEST_CASE("P10: a task that ends with limits in force leaves none of them") {
    each_engine([](const KernelOptions& options) {
        CHECK_THROWS_AS(run(
                            []() -> Coro<void> {
                                const Task<void> task = co_await spawn(
                                    [] { return timeout_after(1h, sleep_forever()); });
                                co_await let_others_run();
                                (void)co_await task.cancel();
                                WaitQueue queue;
                                co_await traps::Park{&queue};
                            },
                            options),
                        Deadlock);
    });
}

TEST_CASE("P10: after a limit has ended an operation, its descriptor is free for the next") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        std::string buffer(4, '\0');
        for (int i = 0; i < 20; ++i) {
            const auto got =
                co_await ignore_after(20us, traps::recv(ends.a.get(), bytes_of(buffer)));
            CHECK_FALSE(got.has_value());
        }
        write_all(ends.b.get(), "x");
        const auto got = co_await traps::recv(ends.a.get(), bytes_of(buffer));
        CHECK(got == 1);
    });
}

TEST_CASE("P10: a thousand tasks with limits of their own each report their own") {
    each_run([]() -> Coro<void> {
        const TimePoint start = co_await now();
        int right = 0;
        std::vector<Task<void>> tasks;
        for (int i = 0; i < 1000; ++i) {
            tasks.push_back(co_await spawn([&, i]() -> Coro<void> {
                const TimePoint deadline = start + 1us * (i * 37 % 2000);
                try {
                    co_await timeout_at(deadline, sleep_forever());
                } catch (const TaskTimeout& timeout) {
                    right += timeout.deadline() == deadline;
                }
            }));
        }
        for (const Task<void>& task : tasks)
            co_await task.join();
        CHECK(right == 1000);
    });
}

TEST_CASE("P10: a tie goes to the outer one also when that has run out and nobody saw it yet") {
    each_io_run([]() -> Coro<void> {
        const TimePoint deadline = co_await now() + 200us;
        const auto inner = [&]() -> Coro<void> {
            co_await disable_cancellation(busy_until(deadline + 100us));
            co_await disable_cancellation(let_others_run()); // the kernel sees it run out
            (void)co_await ignore_at(deadline, sleep(1h));
            co_await sleep(1h);
        };
        const std::string seen =
            co_await interrupt_of([&] { return timeout_at(deadline, inner()); });
        CHECK(seen == "TaskTimeout");
    });
}

TEST_CASE("P10: a limit on an empty coroutine is refused, and none is set") {
    each_run([]() -> Coro<void> {
        Coro<int> empty;
        bool refused = false;
        try {
            co_await timeout_after(100us, std::move(empty));
        } catch (const std::logic_error&) {
            refused = true;
        }
        CHECK(refused);
        const std::string seen = co_await interrupt_of([] { return sleep(1ms); });
        CHECK(seen == "none");
    });
}

TEST_CASE("P10: what fails before it waits fails through its limit, and leaves none behind") {
    each_run([]() -> Coro<void> {
        for (const bool when_ready : {true, false}) {
            std::string said;
            try {
                (void)co_await timeout_after(100us, Failing{when_ready});
            } catch (const std::runtime_error& failure) {
                said = failure.what();
            }
            CHECK(said == "no memory");
            const std::string seen = co_await interrupt_of([] { return sleep(1ms); });
            CHECK(seen == "none");
        }
    });
}
