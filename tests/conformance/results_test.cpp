// P4 to P6: what becomes of results and exceptions, and how a deadlock reads.
#include "conformance.hpp"

#include <memory>
#include <thread>

using namespace trapline;
using namespace trapline::test;

namespace {

struct Unlucky : std::runtime_error {
    explicit Unlucky(int number) : std::runtime_error("unlucky number"), number(number) {}
    int number;
};

Coro<int> answer(int value) {
    co_await yield_now();
    co_return value;
}

Coro<int> fail(int number) {
    co_await yield_now();
    throw Unlucky{number};
}

Coro<int> fail_deeper(int number) { co_return co_await fail(number); }

/// What remains of a text from `what` on; "" if it is not in there.
std::string_view from(std::string_view text, std::string_view what) {
    const auto at = text.find(what);
    return at == text.npos ? std::string_view{} : text.substr(at);
}

bool contains(std::string_view text, std::string_view what) { return text.contains(what); }

std::size_t count_of(std::string_view text, std::string_view what) {
    std::size_t count = 0;
    for (auto at = text.find(what); at != text.npos; at = text.find(what, at + 1))
        ++count;
    return count;
}

/// Runs `main` on a fresh kernel with stderr captured; answers what was written there.
template <class Main>
std::string errors_of(const KernelOptions& options, Main main) {
    const CapturedStderr captured;
    run(main, options);
    return captured.text();
}

} // namespace

// --- P4: results ---------------------------------------------------------------------------

TEST_CASE("P4: the last handle may go while somebody joins") {
    each_run([]() -> Coro<void> {
        Task<int> only;
        only = co_await spawn([&only]() -> Coro<int> {
            co_await yield_now();
            only = Task<int>{};
            co_return 7;
        });
        const int result = co_await only.join();
        CHECK(result == 7);
    });
}

TEST_CASE("P4: an empty handle is refused with a sentence") {
    each_run([]() -> Coro<void> {
        bool refused = false;
        try {
            co_await Task<int>{}.join();
        } catch (const std::logic_error&) {
            refused = true;
        }
        CHECK(refused);
    });
}

TEST_CASE("P4: a task whose result holds what cannot be copied can be joined") {
    each_run([]() -> Coro<void> {
        auto task = co_await spawn([]() -> Coro<std::vector<std::unique_ptr<int>>> {
            std::vector<std::unique_ptr<int>> result;
            result.push_back(std::make_unique<int>(3));
            co_return result;
        });
        const auto result = co_await task.join();
        CHECK(*result.at(0) == 3);
    });
}

TEST_CASE("P7: a second task that awaits one completion gets device_or_resource_busy") {
    each_run([]() -> Coro<void> {
        ThreadCompletion completion;
        std::int64_t first = 0;
        const auto waiting = co_await spawn(
            [&]() -> Coro<void> { first = (co_await traps::AwaitThread{&completion}).value(); });
        co_await yield_now();
        const auto second = co_await traps::AwaitThread{&completion};
        completion.complete(5);
        co_await waiting.join();
        CHECK(second.error() == std::errc::device_or_resource_busy);
        CHECK(first == 5);
    });
}

TEST_CASE("P4: join answers the result") {
    each_run([]() -> Coro<void> {
        const Task<int> task = co_await spawn(answer(42));
        const int result = co_await task.join();
        CHECK(result == 42);
        CHECK(task.terminated());
        CHECK_FALSE(task.cancelled());
    });
}

TEST_CASE("P4: any number of tasks may join, before and after the end, and each gets the result") {
    each_run([]() -> Coro<void> {
        const Task<std::string> task = co_await spawn([]() -> Coro<std::string> {
            co_await let_others_run(5);
            co_return "a result that is too long to be kept within a string itself";
        });
        int right = 0;
        std::vector<Task<void>> joiners;
        for (int i = 0; i < 20; ++i) {
            joiners.push_back(co_await spawn([&right, task]() -> Coro<void> {
                const std::string result = co_await task.join();
                if (result.starts_with("a result"))
                    ++right;
            }));
        }
        for (const Task<void>& joiner : joiners)
            co_await joiner.join();
        const std::string late = co_await task.join();
        const std::string later = co_await task.join();
        CHECK(right == 20);
        CHECK(late == later);
        CHECK(late.starts_with("a result"));
    });
}

TEST_CASE("P4: a result is kept until the last handle is gone, and not longer") {
    each_run([]() -> Coro<void> {
        const long before = Counted::alive();
        {
            Task<Counted> task = co_await spawn([]() -> Coro<Counted> { co_return Counted{}; });
            co_await yield_now();
            CHECK(task.terminated());
            CHECK(Counted::alive() == before + 1);
            const Task<void> another = task;
            task = {};
            CHECK(Counted::alive() == before + 1);
        }
        CHECK(Counted::alive() == before);
    });
}

TEST_CASE("P4: the coroutine and its arguments go when it ends, though handles remain") {
    each_run([]() -> Coro<void> {
        const long before = Counted::alive();
        const Task<void> task = co_await spawn(
            [](Counted) -> Coro<void> {
                const Counted local;
                co_await yield_now();
            },
            Counted{});
        CHECK(Counted::alive() > before);
        co_await task.join();
        CHECK(Counted::alive() == before);
    });
}

TEST_CASE("P4: a task whose handle was dropped runs on to its end") {
    each_run([]() -> Coro<void> {
        bool ended = false;
        (void)co_await spawn([&]() -> Coro<void> {
            co_await let_others_run(2);
            ended = true;
        });
        co_await let_others_run(5);
        CHECK(ended);
    });
}

TEST_CASE("P4: a result that cannot be copied is moved out") {
    each_run([]() -> Coro<void> {
        Task<std::unique_ptr<int>> task = co_await spawn(
            []() -> Coro<std::unique_ptr<int>> { co_return std::make_unique<int>(5); });
        const std::unique_ptr<int> result = co_await std::move(task).join();
        REQUIRE(result);
        CHECK(*result == 5);
    });
}

TEST_CASE("P4: a result by reference is the object itself") {
    each_run([]() -> Coro<void> {
        int object = 1;
        const Task<int&> task = co_await spawn([&]() -> Coro<int&> { co_return object; });
        int& result = co_await task.join();
        CHECK(&result == &object);
    });
}

// --- P4: failures --------------------------------------------------------------------------

TEST_CASE("P4: join of a task that ended by an exception throws TaskError, which holds the cause") {
    each_run([]() -> Coro<void> {
        const Task<int> task = co_await spawn(fail_deeper(13), {.name = "reader"});
        std::string text;
        int number = 0;
        try {
            (void)co_await task.join();
        } catch (const TaskError& error) {
            text = error.what();
            try {
                error.rethrow_cause();
            } catch (const Unlucky& cause) {
                number = cause.number;
            }
        }
        CHECK(number == 13);
        CHECK(contains(text, "reader"));
        CHECK(contains(text, "unlucky number"));
        CHECK_FALSE(task.cancelled());
    });
}

TEST_CASE("P4: every joiner is told of the exception") {
    each_run([]() -> Coro<void> {
        const Task<int> task = co_await spawn(fail(1));
        int told = 0;
        std::vector<Task<void>> joiners;
        for (int i = 0; i < 10; ++i) {
            joiners.push_back(co_await spawn([&told, task]() -> Coro<void> {
                try {
                    (void)co_await task.join();
                } catch (const TaskError&) {
                    ++told;
                }
            }));
        }
        for (const Task<void>& joiner : joiners)
            co_await joiner.join();
        CHECK(told == 10);
    });
}

TEST_CASE("P4: wait answers the end, however it was") {
    each_run([]() -> Coro<void> {
        const Task<int> well = co_await spawn(answer(1));
        const Task<int> failed = co_await spawn(fail(1));
        co_await well.wait();
        co_await failed.wait();
        CHECK(well.terminated());
        CHECK(failed.terminated());
        bool threw = false;
        try {
            (void)co_await failed.join();
        } catch (const TaskError&) {
            threw = true;
        }
        CHECK(threw);
    });
}

TEST_CASE("P4: interrupting who joins leaves the task alone") {
    each_run([]() -> Coro<void> {
        const Task<int> task = co_await spawn([]() -> Coro<int> {
            co_await let_others_run(10);
            co_return 3;
        });
        const Task<int> joiner =
            co_await spawn([task]() -> Coro<int> { co_return co_await task.join(); });
        co_await yield_now();
        const bool cancelled = co_await joiner.cancel();
        CHECK(cancelled);
        CHECK_FALSE(task.terminated());
        const int result = co_await task.join();
        CHECK(result == 3);
    });
}

TEST_CASE("P4: a task that joins itself is told so") {
    each_run([]() -> Coro<void> {
        const Task<void> self = co_await current_task();
        std::error_code code;
        std::string text;
        try {
            co_await self.join();
        } catch (const std::system_error& error) {
            code = error.code();
            text = error.what();
        }
        CHECK(code == std::errc::resource_deadlock_would_occur);
        CHECK(contains(text, "main"));
    });
}

TEST_CASE("P4: a crash nobody can join is logged once, with the name and the chain of awaits") {
    each_engine([](const KernelOptions& options) {
        const std::string log = errors_of(options, []() -> Coro<void> {
            (void)co_await spawn(fail_deeper(1), {.name = "worker-7"});
            co_await let_others_run(5);
        });
        CAPTURE(log);
        CHECK(count_of(log, "worker-7") == 1);
        CHECK(count_of(log, "unlucky number") == 1);
        // The innermost first.
        const std::string_view places = from(log, "results_test.cpp:");
        CHECK(count_of(places, "results_test.cpp:") == 2);
        CHECK(contains(from(places, "fail("), "fail_deeper("));
    });
}

TEST_CASE("P4: a crash is logged when the last handle goes, if nobody joined") {
    each_engine([](const KernelOptions& options) {
        const CapturedStderr captured;
        std::string early;
        run(
            [&]() -> Coro<void> {
                Task<int> task = co_await spawn(fail(1), {.name = "late"});
                co_await task.wait();
                Task<void> second = task;
                task = {};
                early = captured.text();
                second = {};
            },
            options);
        CHECK(early == "");
        CHECK(count_of(captured.text(), "late") == 1);
    });
}

TEST_CASE("P4: a crash that somebody joined is not logged") {
    each_engine([](const KernelOptions& options) {
        const std::string log = errors_of(options, []() -> Coro<void> {
            const Task<int> task = co_await spawn(fail(1));
            try {
                (void)co_await task.join();
            } catch (const TaskError&) {}
        });
        CHECK(log == "");
    });
}

TEST_CASE("P4: a cancelled task is no crash") {
    each_engine([](const KernelOptions& options) {
        const std::string log = errors_of(options, []() -> Coro<void> {
            (void)co_await spawn(sleep_forever());
            const Task<void> task = co_await spawn(sleep_forever());
            co_await yield_now();
            (void)co_await task.cancel();
        });
        CHECK(log == "");
    });
}

TEST_CASE("P4: a crash disturbs nobody else") {
    each_engine([](const KernelOptions& options) {
        const std::string log = errors_of(options, []() -> Coro<void> {
            const Task<int> other = co_await spawn([]() -> Coro<int> {
                co_await let_others_run(10);
                co_return 9;
            });
            for (int i = 0; i < 5; ++i)
                (void)co_await spawn(fail(i));
            const int result = co_await other.join();
            CHECK(result == 9);
        });
        CHECK(count_of(log, "crashed") == 5);
    });
}

TEST_CASE("P4: a crash by something that is no std::exception is named by its type") {
    each_engine([](const KernelOptions& options) {
        const std::string log = errors_of(options, []() -> Coro<void> {
            (void)co_await spawn([]() -> Coro<void> {
                co_await yield_now();
                throw 42;
            });
            co_await let_others_run();
        });
        CHECK(contains(log, "int"));
        CHECK(count_of(log, "crashed") == 1);
    });
}

TEST_CASE("P4: a task that ends by the cancellation joins as TaskError with an interrupt inside") {
    each_run([]() -> Coro<void> {
        const Task<void> task = co_await spawn(sleep_forever());
        co_await yield_now();
        (void)co_await task.cancel();
        bool interrupt = false;
        try {
            co_await task.join();
        } catch (const TaskError& error) {
            interrupt = is_interrupt(error.cause());
        }
        CHECK(interrupt);
        CHECK(task.cancelled());
    });
}

// --- P5 ------------------------------------------------------------------------------------

TEST_CASE("P5: run answers main's result") {
    each_engine([](const KernelOptions& options) {
        CHECK(run(answer(7), options) == 7);
        const std::unique_ptr<int> moved = run(
            []() -> Coro<std::unique_ptr<int>> { co_return std::make_unique<int>(8); }, options);
        REQUIRE(moved);
        CHECK(*moved == 8);
    });
}

TEST_CASE("P5: run throws main's own exception") {
    each_engine([](const KernelOptions& options) {
        int number = 0;
        try {
            (void)run(fail_deeper(99), options);
        } catch (const Unlucky& failure) {
            number = failure.number;
        }
        CHECK(number == 99);
        CHECK_THROWS_AS(run(
                            []() -> Coro<void> {
                                throw 5;
                                co_return;
                            },
                            options),
                        int);
    });
}

TEST_CASE("P5: main's exception is not logged, it is thrown") {
    each_engine([](const KernelOptions& options) {
        const CapturedStderr captured;
        CHECK_THROWS_AS((void)run(fail(1), options), Unlucky);
        CHECK(captured.text() == "");
    });
}

TEST_CASE("P5: after main has thrown, the kernel runs the next main, and the others go on") {
    each_engine([](const KernelOptions& options) {
        int steps = 0;
        Kernel kernel{options};
        CHECK_THROWS_AS(kernel.run([&]() -> Coro<void> {
            co_await spawn([&]() -> Coro<void> {
                for (;;) {
                    ++steps;
                    co_await yield_now();
                }
            });
            co_await let_others_run();
            throw Unlucky{1};
        }),
                        Unlucky);
        const int before = steps;
        CHECK(kernel.task_count() == 1);
        kernel.run(let_others_run(5));
        CHECK(steps > before);
        CHECK(kernel.run(answer(3)) == 3);
    });
}

// --- P6 ------------------------------------------------------------------------------------

namespace {

/// What the Deadlock says that running `main` ends in.
template <class Main>
std::string deadlock_of(const KernelOptions& options, Main main) {
    try {
        run(main, options);
    } catch (const Deadlock& deadlock) {
        return deadlock.what();
    }
    return "no deadlock";
}

} // namespace

TEST_CASE("P6: when nothing can ever happen again, run throws Deadlock") {
    each_engine([](const KernelOptions& options) {
        const std::string text = deadlock_of(options, []() -> Coro<void> {
            WaitQueue queue;
            co_await traps::Park{&queue};
        });
        CAPTURE(text);
        CHECK(contains(text, "deadlock"));
        CHECK(contains(text, "'main' waits in Park at results_test.cpp:"));
    });
}

TEST_CASE("P6: the text lists each waiting task, its trap and where it waits") {
    each_engine([](const KernelOptions& options) {
        const std::string text = deadlock_of(options, []() -> Coro<void> {
            WaitQueue queue;
            (void)co_await spawn(park_on(queue), {.name = "consumer"});
            const Task<void> middle = co_await spawn(park_on(queue), {.name = "middle"});
            const Task<void> joiner = co_await spawn(
                [middle]() -> Coro<void> { co_await middle.join(); }, {.name = "joiner"});
            co_await joiner.join();
        });
        CAPTURE(text);
        CHECK(contains(text, "'consumer' waits in Park at conformance.hpp:"));
        CHECK(contains(text, "'joiner' waits in Join of task 3 'middle' at results_test.cpp:"));
        CHECK(contains(text, "'main' waits in Join of task 4 'joiner' at results_test.cpp:"));
        CHECK(count_of(text, "\n") == 4);
    });
}

TEST_CASE("P6: the text shows the whole chain of awaits") {
    each_engine([](const KernelOptions& options) {
        const std::string text = deadlock_of(options, []() -> Coro<void> {
            WaitQueue queue;
            co_await timeout_after(Duration::max(), park_on(queue));
        });
        CAPTURE(text);
        CHECK(contains(text, "at conformance.hpp:"));
        CHECK_FALSE(contains(text, "cancel.hpp")); // the library's own
        CHECK(contains(text, "awaited at results_test.cpp:"));
    });
}

TEST_CASE("P6: two tasks that join each other are a deadlock") {
    each_engine([](const KernelOptions& options) {
        const std::string text = deadlock_of(options, []() -> Coro<void> {
            Task<void> first;
            Task<void> second;
            first =
                co_await spawn([&]() -> Coro<void> { co_await second.join(); }, {.name = "first"});
            second =
                co_await spawn([&]() -> Coro<void> { co_await first.join(); }, {.name = "second"});
            co_await first.join();
        });
        CAPTURE(text);
        CHECK(contains(text, "'first' waits in Join of task 3 'second'"));
        CHECK(contains(text, "'second' waits in Join of task 2 'first'"));
    });
}

TEST_CASE("P6: who sleeps, does I/O or waits for a thread is no deadlock") {
    each_io_run([]() -> Coro<void> {
        WaitQueue queue;
        co_await spawn([&]() -> Coro<void> {
            co_await sleep(1ms);
            queue.wake();
        });
        co_await traps::Park{&queue};

        const Ends ends = socket_pair();
        co_await spawn([&]() -> Coro<void> {
            (void)co_await traps::read_wait(ends.a.get());
            queue.wake();
        });
        std::jthread writer{[&] { write_all(ends.b.get(), "x"); }};
        co_await traps::Park{&queue};

        ThreadCompletion completion;
        co_await spawn([&]() -> Coro<void> {
            (void)co_await traps::AwaitThread{&completion};
            queue.wake();
        });
        std::jthread thread{[&] { completion.complete(); }};
        co_await traps::Park{&queue};
    });
}

TEST_CASE("P6: a time limit makes no deadlock before it runs out") {
    each_run([]() -> Coro<void> {
        WaitQueue queue;
        const bool in_time = co_await ignore_after(1ms, park_on(queue));
        CHECK_FALSE(in_time);
    });
}

TEST_CASE("P6: after a Deadlock the kernel can be shut down, and cleanup runs") {
    each_engine([](const KernelOptions& options) {
        bool cleaned = false;
        {
            Kernel kernel{options};
            CHECK_THROWS_AS(kernel.run([&]() -> Coro<void> {
                const Counted frame;
                WaitQueue queue;
                try {
                    co_await traps::Park{&queue};
                } catch (const Cancelled&) {
                    cleaned = true;
                    throw;
                }
            }),
                            Deadlock);
            CHECK(kernel.task_count() == 1);
        }
        CHECK(cleaned);
    });
}

TEST_CASE(
    "P4: a stored spawn or join may be awaited again: the one is refused, the other answers") {
    each_io_run([]() -> Coro<void> {
        auto spawning = spawn(let_others_run());
        const Task<void> task = co_await spawning;
        bool refused = false;
        try {
            (void)co_await spawning;
        } catch (const std::logic_error&) {
            refused = true;
        }
        CHECK(refused);
        auto join = task.join();
        co_await join;
        const auto other = co_await traps::read_wait(-1); // leaves an error as the last reply
        CHECK_FALSE(other.has_value());
        co_await join;
        const auto again = co_await traps::Spawn{task.record()};
        CHECK(again.error() == std::errc::connection_already_in_progress);
    });
}
