#include <trapline/traps/async_generator.hpp>

#include <csignal>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/kernel/kernel.hpp>
#include <trapline/traps/routine.hpp>
#include <trapline/traps/wait_queue.hpp>

#include "../support/leaks.hpp"
#include "../support/process.hpp"
#include "../support/virtual_time.hpp"
#include "counted_new.hpp"

using namespace trapline;
using namespace std::chrono_literals;
using test::Counted;

static_assert(!std::is_copy_constructible_v<AsyncGenerator<int>>);

namespace {

using Ints = std::vector<int>;

/// Runs `main`, which returns a coroutine, in virtual time; what it left behind is cancelled.
/// Frames that are still alive then are failures.
template <class Main>
auto run_it(Main main) {
    const test::LeakGuard guard;
    return run(std::move(main), test::virtual_time());
}

// async_generator.hpp
AsyncGenerator<int> ticks(int count) {
    for (int tick = 1; tick <= count; ++tick) {
        co_await sleep(1s);
        co_yield tick;
    }
}

/// 0, 1, 2, ..., each after a sleep.
AsyncGenerator<int> numbers(int count, Duration pause = 1s, Counted = {}) {
    const Counted frame;
    for (int i = 0; i < count; ++i) {
        co_await sleep(pause);
        co_yield i;
    }
}

/// Yields numbers; when it is to end, by whatever interrupt, it takes a second to clean up.
AsyncGenerator<int> tidy(std::string& log) {
    const Counted frame;
    try {
        for (int i = 0;; ++i) {
            co_await sleep(1s);
            co_yield i;
        }
    } catch (const GeneratorClosed&) {
        log += "closed,";
    } catch (const Cancelled& interrupt) {
        log += std::string(interrupt.what()) + ",";
    }
    co_await sleep(1s);
    log += "tidied,";
}

AsyncGenerator<int> failing() {
    const Counted frame;
    co_yield 1;
    co_await yield_now();
    throw std::runtime_error("out of numbers");
}

/// Answers what `what` throws, as text; "none" if it throws nothing.
template <class W>
Coro<std::string> failure_of(W what) {
    try {
        co_await detail::begin(what);
    } catch (const std::exception& failure) {
        co_return failure.what();
    } catch (const Cancelled& interrupt) {
        co_return interrupt.what();
    }
    co_return "none";
}

} // namespace

TEST_CASE("async_generator.hpp: next, for_each and collect") {
    run_it([]() -> Coro<void> {
        Ints seen;
        AsyncGenerator<int> gen = ticks(3);
        while (std::optional<int> tick = co_await gen.next())
            seen.push_back(*tick);
        co_await for_each(ticks(3), [&](int tick) { seen.push_back(tick); });
        std::vector<int> all = co_await collect(ticks(3));
        CHECK(seen == Ints{1, 2, 3, 1, 2, 3});
        CHECK(all == Ints{1, 2, 3});
    });
}

TEST_CASE("the body runs when it is asked, in the task that asks") {
    run_it([]() -> Coro<void> {
        const TimePoint start = co_await now();
        AsyncGenerator<int> gen = numbers(2);
        co_await sleep(5s);
        const auto first = co_await gen.next();
        CHECK(first == 0);
        const TimePoint after = co_await now();
        CHECK(after - start == 6s);
        const auto task_of = []() -> AsyncGenerator<Task<void>> {
            const Task<void> task = co_await current_task();
            co_yield task;
        };
        AsyncGenerator<Task<void>> tasks = task_of();
        const auto asked = co_await tasks.next();
        const Task<void> self = co_await current_task();
        CHECK(*asked == self);
    });
}

TEST_CASE("an async generator that has ended answers nothing for ever, and is destroyed") {
    run_it([]() -> Coro<void> {
        AsyncGenerator<int> gen = numbers(1);
        (void)co_await gen.next();
        CHECK_FALSE(gen.ended());
        auto item = co_await gen.next();
        CHECK_FALSE(item);
        CHECK(gen.ended());
        CHECK(Counted::alive() == 0);
        item = co_await gen.next();
        CHECK_FALSE(item);
        AsyncGenerator<int> none;
        item = co_await none.next();
        CHECK_FALSE(item);
    });
}

TEST_CASE("an async generator is dropped half way, or before it was asked") {
    run_it([]() -> Coro<void> {
        {
            AsyncGenerator<int> never = numbers(3);
            AsyncGenerator<int> gen = numbers(3);
            (void)co_await gen.next();
            CHECK(Counted::alive() == 3);
        }
        CHECK(Counted::alive() == 0);
    });
}

TEST_CASE("an exception passes to the one who asked, and the async generator has ended") {
    run_it([]() -> Coro<void> {
        AsyncGenerator<int> gen = failing();
        (void)co_await gen.next();
        const std::string failure = co_await failure_of(gen.next());
        CHECK(failure == "out of numbers");
        CHECK(gen.ended());
        const auto item = co_await gen.next();
        CHECK_FALSE(item);
    });
}

TEST_CASE("values that cannot be copied, and references, can be yielded") {
    run_it([]() -> Coro<void> {
        const auto pointers = []() -> AsyncGenerator<std::unique_ptr<int>> {
            co_await yield_now();
            co_yield std::make_unique<int>(1);
            auto two = std::make_unique<int>(2);
            co_yield std::move(two);
        };
        int sum = 0;
        AsyncGenerator<std::unique_ptr<int>> gen = pointers();
        while (const auto item = co_await gen.next())
            sum += **item;
        co_await for_each(pointers(), [&](std::unique_ptr<int> item) { sum += *item; });
        const auto all = co_await collect(pointers());
        CHECK(sum == 6);
        CHECK(all.size() == 2);

        Ints values{1, 2, 3};
        const auto elements = [](Ints& of) -> AsyncGenerator<int&> {
            for (int& value : of)
                co_yield value;
        };
        AsyncGenerator<int&> references = elements(values);
        int* first = co_await references.next();
        CHECK(first == &values[0]);
        co_await for_each(references, [](int& value) { value *= 10; });
        const Ints copies = co_await collect(elements(values));
        CHECK(values == Ints{1, 20, 30});
        CHECK(copies == values);

        const auto converted = []() -> AsyncGenerator<std::string> {
            co_yield "text";
            co_yield {'x', 'x', 'x'};
            const std::string kept = "kept";
            co_yield kept;
            co_yield kept;
        };
        const auto texts = co_await collect(converted());
        CHECK(texts == std::vector<std::string>{"text", "xxx", "kept", "kept"});
    });
}

TEST_CASE("where shows the body and who waits for it") {
    const auto main = []() -> Coro<void> {
        AsyncGenerator<int> gen = numbers(1);
        (void)co_await gen.next();
    };
    Routine<void> routine{main()};
    routine.start();
    const AwaitChain chain = routine.frame().where();
    REQUIRE(chain.size() == 2);
    CHECK(describe(chain[0]).find("numbers") != std::string::npos);
    CHECK(describe(chain[1]).find("async_generator_test.cpp") != std::string::npos);
}

// --- interrupts ------------------------------------------------------------------------------

TEST_CASE("an interrupt reaches the body at its trap; if it passes, the generator has ended") {
    run_it([]() -> Coro<void> {
        std::string log;
        AsyncGenerator<int> gen = tidy(log);
        const auto consume = [](AsyncGenerator<int>& from) -> Coro<void> {
            while (co_await from.next()) {}
        };
        const Task<void> task = co_await spawn(consume(gen));
        co_await sleep(2500ms);
        co_await task.cancel();
        CHECK(log == "task cancelled,tidied,");
        CHECK(gen.ended());

        AsyncGenerator<int> plain = numbers(5);
        const Task<void> other = co_await spawn(consume(plain));
        co_await sleep(2500ms);
        const bool reached = co_await other.cancel();
        CHECK(reached);
        CHECK(other.cancelled());
        CHECK(plain.ended());
    });
}

TEST_CASE("a time limit around next reaches the body like any interrupt") {
    run_it([]() -> Coro<void> {
        AsyncGenerator<int> gen = numbers(5, 2s);
        const auto item = co_await timeout_after(3s, gen.next());
        CHECK(item == 0);
        const std::string failure = co_await failure_of(timeout_after(1s, gen.next()));
        CHECK(failure == "time limit exceeded");
        CHECK(gen.ended());
        const auto late = co_await ignore_after(1s, gen.next());
        REQUIRE(late);
        CHECK_FALSE(*late);
    });
}

TEST_CASE("a body with a time limit of its own goes on after it") {
    run_it([]() -> Coro<void> {
        const auto patient = []() -> AsyncGenerator<std::string> {
            for (const Duration pause : {1s, 9s, 1s}) {
                const auto woke = co_await ignore_after(5s, sleep(pause));
                co_yield woke ? "item" : "nothing in time";
            }
        };
        const auto all = co_await collect(patient());
        CHECK(all == std::vector<std::string>{"item", "nothing in time", "item"});
    });
}

namespace {

AsyncGenerator<int> parked(WaitQueue& queue) {
    const Counted frame;
    for (int i = 0;; ++i) {
        co_await traps::Park{&queue};
        co_yield i;
    }
}

} // namespace

TEST_CASE("a value that the body has come to is not lost to a cancellation of the same turn") {
    for (const bool cancelled_first : {false, true}) {
        run_it([cancelled_first]() -> Coro<void> {
            WaitQueue queue;
            Ints got;
            std::string end;
            const auto consume = [](WaitQueue& from, Ints& seen, std::string& note) -> Coro<void> {
                AsyncGenerator<int> gen = parked(from);
                try {
                    while (const auto item = co_await gen.next())
                        seen.push_back(*item);
                } catch (const TaskCancelled&) {
                    note = gen.ended() ? "the body was interrupted" : "the loop was interrupted";
                }
            };
            const Task<void> task = co_await spawn(consume(queue, got, end));
            co_await yield_now();
            if (cancelled_first)
                (void)co_await traps::Cancel{task.record()};
            const std::size_t woken = queue.wake();
            if (!cancelled_first)
                (void)co_await traps::Cancel{task.record()};
            co_await task.wait();
            CHECK(woken == got.size());
            CHECK(got.size() == (cancelled_first ? 0u : 1u));
            CHECK(end == "the body was interrupted");
        });
    }
}

// --- close -----------------------------------------------------------------------------------

TEST_CASE("close runs the body's cleanup to its end") {
    run_it([]() -> Coro<void> {
        std::string log;
        AsyncGenerator<int> gen = tidy(log);
        (void)co_await gen.next();
        const TimePoint before = co_await now();
        co_await gen.close();
        const TimePoint after = co_await now();
        CHECK(after - before == 1s);
        CHECK(log == "closed,tidied,");
        CHECK(gen.ended());
        CHECK(Counted::alive() == 0);
    });
}

TEST_CASE("close lets a body that knows nothing of it end at its co_yield") {
    run_it([]() -> Coro<void> {
        AsyncGenerator<int> gen = numbers(3);
        (void)co_await gen.next();
        co_await gen.close();
        CHECK(Counted::alive() == 0);
        co_await gen.close();
    });
}

TEST_CASE("close of one that was never asked or has ended does nothing") {
    run_it([]() -> Coro<void> {
        std::string log;
        AsyncGenerator<int> never = tidy(log);
        co_await never.close();
        CHECK(never.ended());
        AsyncGenerator<int> ended = numbers(0);
        (void)co_await ended.next();
        co_await ended.close();
        CHECK(log == "");
    });
}

TEST_CASE("close throws what cleanup throws, and complains of a body that yields again") {
    run_it([]() -> Coro<void> {
        const auto bad_cleanup = []() -> AsyncGenerator<int> {
            try {
                co_yield 1;
            } catch (const Cancelled&) {
                throw std::runtime_error("cleanup failed");
            }
        };
        const auto stubborn = []() -> AsyncGenerator<int> {
            const Counted frame;
            for (;;) {
                try {
                    co_yield 1;
                } catch (const Cancelled&) {}
            }
        };
        AsyncGenerator<int> a = bad_cleanup();
        (void)co_await a.next();
        std::string failure = co_await failure_of(a.close());
        CHECK(failure == "cleanup failed");
        AsyncGenerator<int> b = stubborn();
        (void)co_await b.next();
        failure = co_await failure_of(b.close());
        CHECK(failure == "generator yielded again instead of ending on close()");
        CHECK(b.ended());
        CHECK(Counted::alive() == 0);
    });
}

TEST_CASE("interrupts are held back while close cleans up") {
    run_it([]() -> Coro<void> {
        std::string log;
        const auto closes = [](std::string& note) -> Coro<void> {
            AsyncGenerator<int> gen = tidy(note);
            (void)co_await gen.next();
            co_await gen.close();
            note += "went on,";
            co_await sleep(1s);
            note += "never";
        };
        const Task<void> task = co_await spawn(closes(log));
        co_await sleep(1500ms);
        const bool reached = co_await task.cancel();
        CHECK(reached);
        CHECK(log == "closed,tidied,went on,");
    });
}

// --- for_each and collect --------------------------------------------------------------------

TEST_CASE("for_each takes coroutine functions, and callables that capture") {
    run_it([]() -> Coro<void> {
        Ints seen;
        co_await for_each(numbers(3), [&seen](int item) -> Coro<void> {
            co_await sleep(1s);
            seen.push_back(item);
        });
        CHECK(seen == Ints{0, 1, 2});
        AsyncGenerator<int> gen = numbers(3);
        co_await for_each(gen, [](int) { return sleep(1s); });
        CHECK(gen.ended());
    });
}

TEST_CASE("false ends for_each, and the generator is closed") {
    run_it([]() -> Coro<void> {
        std::string log;
        Ints seen;
        co_await for_each(tidy(log), [&](int item) {
            seen.push_back(item);
            return item < 2;
        });
        CHECK(seen == Ints{0, 1, 2});
        CHECK(log == "closed,tidied,");
        co_await for_each(tidy(log), [&](int item) -> Coro<bool> {
            co_await yield_now();
            co_return item < 1;
        });
        CHECK(log == "closed,tidied,closed,tidied,");
    });
}

TEST_CASE("for_each closes the generator when the function fails, and throws that") {
    run_it([]() -> Coro<void> {
        std::string log;
        const std::string failure = co_await failure_of(for_each(tidy(log), [](int item) {
            if (item == 1)
                throw std::runtime_error("enough of it");
        }));
        CHECK(failure == "enough of it");
        CHECK(log == "closed,tidied,");
    });
}

TEST_CASE("for_each throws what leaves the body, and what goes wrong in closing if it is alone") {
    run_it([]() -> Coro<void> {
        std::string failure = co_await failure_of(for_each(failing(), [](int) {}));
        CHECK(failure == "out of numbers");
        const auto bad_cleanup = []() -> AsyncGenerator<int> {
            try {
                co_yield 1;
            } catch (const Cancelled&) {
                throw std::runtime_error("cleanup failed");
            }
        };
        failure = co_await failure_of(for_each(bad_cleanup(), [](int) { return false; }));
        CHECK(failure == "cleanup failed");
        failure = co_await failure_of(
            for_each(bad_cleanup(), [](int) { throw std::runtime_error("first"); }));
        CHECK(failure == "first");
    });
}

TEST_CASE("for_each that is interrupted in the function lets the body clean up") {
    run_it([]() -> Coro<void> {
        std::string log;
        const auto loops = [](std::string& note) -> Coro<void> {
            co_await for_each(tidy(note), [](int) { return sleep(10s); });
        };
        const Task<void> task = co_await spawn(loops(log));
        co_await sleep(2s);
        co_await task.cancel();
        CHECK(task.cancelled());
        CHECK(log == "closed,tidied,");

        log.clear();
        const std::string failure = co_await failure_of(timeout_after(2s, loops(log)));
        CHECK(failure == "time limit exceeded");
        CHECK(log == "closed,tidied,");
    });
}

TEST_CASE("collect takes what is left, or the first few, and closes the generator") {
    run_it([]() -> Coro<void> {
        AsyncGenerator<int> gen = numbers(4);
        (void)co_await gen.next();
        const Ints rest = co_await collect(gen);
        CHECK(rest == Ints{1, 2, 3});
        CHECK(gen.ended());
        std::string log;
        const Ints two = co_await collect(tidy(log), 2);
        CHECK(two == Ints{0, 1});
        CHECK(log == "closed,tidied,");
        const Ints none = co_await collect(tidy(log), 0);
        CHECK(none.empty());
        const std::string failure = co_await failure_of(collect(failing()));
        CHECK(failure == "out of numbers");
    });
}

// --- several tasks, and lifetimes ------------------------------------------------------------

TEST_CASE("tasks may take turns at a generator, but two cannot ask at a time") {
    run_it([]() -> Coro<void> {
        AsyncGenerator<int> gen = numbers(3);
        const auto ask = [](AsyncGenerator<int>& from) -> Coro<std::optional<int>> {
            co_return co_await from.next();
        };
        const auto first = co_await spawn(ask(gen));
        co_await yield_now();
        std::string failure = co_await failure_of(gen.next());
        CHECK(failure == "next() of a generator while another task waits for its next value");
        CHECK_THROWS_WITH_AS((void)gen.close(),
                             "close() of a generator while another task waits for its next value",
                             std::logic_error);
        failure = co_await failure_of(timeout_after(1ms, gen.next()));
        CHECK(failure.starts_with("next() of a generator"));
        const auto zero = co_await first.join();
        CHECK(zero == 0);
        const auto second = co_await spawn(ask(gen));
        const auto one = co_await second.join();
        CHECK(one == 1);
        const auto two = co_await gen.next();
        CHECK(two == 2);
    });
}

TEST_CASE("a generator may move while a task waits for its next value") {
    run_it([]() -> Coro<void> {
        AsyncGenerator<int> gen = numbers(1);
        const auto ask = [](AsyncGenerator<int>& from) -> Coro<Ints> {
            Ints seen;
            while (const auto item = co_await from.next())
                seen.push_back(*item);
            co_return seen;
        };
        const auto task = co_await spawn(ask(gen));
        co_await yield_now();
        AsyncGenerator<int> moved = std::move(gen);
        const Ints seen = co_await task.join(); // it asks the empty one again
        CHECK(seen == Ints{0});
        const auto rest = co_await moved.next();
        CHECK_FALSE(rest);
    });
}

TEST_CASE("a body goes with a chain that is destroyed while it waits") {
    const test::LeakGuard guard;
    AsyncGenerator<int> gen = numbers(3);
    const auto ask = [](AsyncGenerator<int>& from) -> Coro<void> { (void)co_await from.next(); };
    {
        Routine<void> routine{ask(gen)};
        REQUIRE(routine.start());
        CHECK(Counted::alive() == 2);
    }
    CHECK(Counted::alive() == 0);
    CHECK(gen.ended());
    {
        const auto owns = []() -> Coro<void> {
            AsyncGenerator<int> own = numbers(3);
            (void)co_await own.next();
        };
        Routine<void> routine{owns()};
        REQUIRE(routine.start());
    }
    CHECK(Counted::alive() == 0);
}

TEST_CASE("a generator that goes by an exception leaves its body to the task that waits") {
    test::CapturedStderr captured;
    run_it([]() -> Coro<void> {
        const auto ask = [](AsyncGenerator<int>& from) -> Coro<std::optional<int>> {
            co_return co_await from.next();
        };
        Task<std::optional<int>> asking;
        Task<std::optional<int>> interrupted;
        try {
            AsyncGenerator<int> gen = numbers(3);
            AsyncGenerator<int> other = numbers(3);
            asking = co_await spawn(ask(gen));
            interrupted = co_await spawn(ask(other));
            co_await yield_now();
            throw std::runtime_error("on its way");
        } catch (const std::runtime_error&) {}
        const auto item = co_await asking.join();
        CHECK(item == 0);
        co_await interrupted.cancel();
        CHECK(Counted::alive() == 0);
    });
    CHECK(captured.text().find("is destroyed while a task waits") != std::string::npos);
}

TEST_CASE("a generator that is destroyed under a waiting task says where both are") {
    test::CapturedStderr captured;
    const std::string end = test::in_child([] {
        std::signal(SIGABRT, SIG_DFL); // doctest's handler would report the case as crashed
        run(
            []() -> Coro<void> {
                auto gen = std::make_unique<AsyncGenerator<int>>(numbers(3));
                const auto ask = [](AsyncGenerator<int>& from) -> Coro<void> {
                    (void)co_await from.next();
                };
                co_await spawn(ask(*gen));
                co_await yield_now();
                gen.reset();
            },
            test::virtual_time());
        return "went on";
    });
    CHECK(end == " (child: signal " + std::to_string(SIGABRT) + ")");
    const std::string text = captured.text();
    CHECK(text.find("a generator, at async_generator_test.cpp:") != std::string::npos);
    CHECK(text.find("waits for its next value at async_generator_test.cpp:") != std::string::npos);
}

namespace {

AsyncGenerator<int> plain_numbers(int count) {
    for (int i = 0; i < count; ++i)
        co_yield i;
}

} // namespace

TEST_CASE("a million values take no stack, and none an allocation") {
    run_it([]() -> Coro<void> {
        AsyncGenerator<int> gen = plain_numbers(1'000'000);
        (void)co_await gen.next();
        long sum = 0;
        const std::size_t before = allocation_counts().made;
        while (const auto item = co_await gen.next())
            sum += *item;
        const std::size_t made = allocation_counts().made - before;
        CHECK(sum == 499'999'500'000);
        CHECK(made == 0);
    });
}

TEST_CASE("a generator may ask another one") {
    run_it([]() -> Coro<void> {
        const auto evens = [](AsyncGenerator<int> of) -> AsyncGenerator<int> {
            while (const auto item = co_await of.next()) {
                if (*item % 2 == 0)
                    co_yield *item;
            }
        };
        const Ints all = co_await collect(evens(evens(numbers(6))));
        CHECK(all == Ints{0, 2, 4});
    });
}
