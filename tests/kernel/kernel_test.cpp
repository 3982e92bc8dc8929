#include <trapline/kernel/kernel.hpp>

#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "../traps/counted_new.hpp"
#include "manual_engine.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

Coro<int> answers(int value) {
    co_await yield_now();
    co_return value;
}

Coro<void> fails(std::string text) {
    co_await yield_now();
    throw std::runtime_error(text);
}

Coro<void> sleeps(Duration duration, std::string& log, std::string note) {
    co_await sleep(duration);
    log += note;
}

/// Both engines that a unit test can have: a real ring and one of our own.
std::vector<KernelOptions> both() { return {KernelOptions{}, manual()}; }

} // namespace

TEST_CASE("a kernel serves one call, or keeps its tasks over several until it is shut down") {
    std::string log;
    const auto answer_everybody = [] { return answers(5); };
    const auto set_up = [&log]() -> Coro<void> {
        co_await spawn(sleeps(0s, log, "set up, "));
        co_await spawn(sleeps(1h, log, "never"));
    };
    const auto serve = [&log] { return sleeps(0s, log, "served"); };

    int result = run(answer_everybody()); // a kernel for one call

    Kernel kernel; // one that keeps its tasks over several
    kernel.run(set_up());
    kernel.run(serve());
    kernel.shutdown();
    CHECK(result == 5);
    CHECK(log == "set up, served");
    CHECK(kernel.task_count() == 0);
}

TEST_CASE("run answers results of every kind") {
    for (const KernelOptions& options : both()) {
        CHECK(run(answers(5), options) == 5);
        CHECK_NOTHROW(run([]() -> Coro<void> { co_await yield_now(); }(), options));
        int value = 1;
        const auto reference = [](int& v) -> Coro<int&> { co_return v; };
        CHECK(&run(reference(value), options) == &value);
        const auto pointer = []() -> Coro<std::unique_ptr<int>> {
            co_await yield_now();
            co_return std::make_unique<int>(3);
        };
        CHECK(*run(pointer(), options) == 3);
    }
}

TEST_CASE("run throws main's own exception") {
    for (const KernelOptions& options : both())
        CHECK_THROWS_WITH_AS(run(fails("main failed"), options), "main failed", std::runtime_error);
}

TEST_CASE("run takes a callable and keeps it alive as long as its coroutine runs") {
    for (const KernelOptions& options : both()) {
        const int value = run(
            [owned = std::make_unique<int>(7)]() -> Coro<int> {
                co_await yield_now();
                co_return *owned;
            },
            options);
        CHECK(value == 7);
    }
}

TEST_CASE("a kernel runs one main after the other, and other tasks go on meanwhile") {
    for (const KernelOptions& options : both()) {
        Kernel kernel{options};
        int steps = 0;
        const auto worker = [](int& count) -> Coro<void> {
            for (;;) {
                co_await yield_now();
                ++count;
            }
        };
        kernel.run([&]() -> Coro<void> { co_await spawn(worker(steps)); });
        CHECK(kernel.task_count() == 1);
        const int after_first = steps;
        CHECK(kernel.run(answers(1)) == 1);
        CHECK(kernel.run(answers(2)) == 2);
        CHECK(steps > after_first);
        kernel.shutdown();
        CHECK(kernel.task_count() == 0);
    }
}

TEST_CASE("a handle from one run can be joined in the next") {
    Kernel kernel{manual()};
    Task<int> task = kernel.run([]() -> Coro<Task<int>> { co_return co_await spawn(answers(9)); });
    CHECK(kernel.run([&]() -> Coro<int> { co_return co_await task.join(); }) == 9);
}

TEST_CASE("a handle may outlive its kernel") {
    Task<> sleeper;
    Task<int> ended;
    {
        Kernel kernel{manual()};
        kernel.run([&]() -> Coro<void> {
            sleeper = co_await spawn([]() -> Coro<void> { co_await sleep(1h); }());
            ended = co_await spawn(answers(4));
            co_await ended.wait();
        });
    }
    CHECK(sleeper.terminated());
    CHECK(sleeper.cancelled());
    CHECK(run([&]() -> Coro<int> { co_return co_await ended.join(); }, manual()) == 4);
}

TEST_CASE("a shuffled turn for which there is no memory loses nobody" *
          doctest::skip(!detail::frames_recycled)) {
    Kernel kernel{{.shuffle_seed = 1}};
    std::vector<Task<int>> tasks;
    for (int n = 0; n < 200; ++n)
        tasks.push_back(kernel.spawn(answers(n)));
    bool refused = false;
    {
        const NoMemory none;
        try {
            kernel.run_once();
        } catch (const std::bad_alloc&) {
            refused = true;
        }
    }
    CHECK(refused);
    while (kernel.run_once()) {}
    for (int n = 0; n < 200; ++n) {
        REQUIRE(tasks[static_cast<std::size_t>(n)].terminated());
        CHECK(tasks[static_cast<std::size_t>(n)].result() == n);
    }
}

TEST_CASE("run within a running kernel is refused, and the outer one goes on") {
    const auto body = []() -> Coro<std::string> {
        std::string text;
        try {
            run(answers(1), manual());
        } catch (const std::logic_error& e) {
            text = e.what();
        }
        co_await yield_now();
        co_return text;
    };
    CHECK(run(body(), manual()) == "run() within a running kernel: await or spawn instead");
}

TEST_CASE("a kernel cannot be run from within itself, nor shut down") {
    Kernel kernel{manual()};
    const auto body = [&]() -> Coro<int> {
        int refused = 0;
        try {
            kernel.run(answers(1));
        } catch (const std::logic_error& error) {
            refused += std::string(error.what()).starts_with("run() within a running kernel");
        }
        try {
            kernel.shutdown();
        } catch (const std::logic_error& error) {
            refused += std::string(error.what()).starts_with("shutdown() within a running kernel");
        }
        co_return refused;
    };
    CHECK(kernel.run(body()) == 2);
    CHECK(kernel.run(answers(3)) == 3);
}

TEST_CASE("a kernel is refused to other threads") {
    Kernel kernel{manual()};
    std::string text;
    std::thread([&] {
        try {
            kernel.run(answers(1));
        } catch (const std::logic_error& e) {
            text = e.what();
        }
    }).join();
    CHECK(text == "a kernel runs on the thread that made it");
    CHECK(kernel.run(answers(2)) == 2);
}

TEST_CASE("two kernels on two threads do not disturb each other") {
    int other = 0;
    std::thread thread{[&] { other = run(answers(1), manual()); }};
    CHECK(run(answers(2), manual()) == 2);
    thread.join();
    CHECK(other == 1);
}

TEST_CASE("a coroutine may be made on one thread, run or destroyed on another") {
    const auto parent = [](int value) -> Coro<std::unique_ptr<int>> {
        Task<int> task = co_await spawn(answers(value));
        const int joined = co_await task.join();
        co_return std::make_unique<int>(joined);
    };
    for (const KernelOptions& options : both()) {
        for (int round = 0; round < 50; ++round) {
            Coro<std::unique_ptr<int>> main = parent(round);
            Coro<int> left = answers(round);
            std::unique_ptr<int> result;
            std::thread{[&] { result = run(std::move(main), options); }}.join();
            std::thread{[&] { left = {}; }}.join();
            CHECK(*result == round);
        }
    }
}

TEST_CASE("after shutdown nothing runs any more, and a second shutdown is harmless") {
    for (const KernelOptions& options : both()) {
        Kernel kernel{options};
        kernel.run(answers(1));
        kernel.shutdown();
        kernel.shutdown();
        CHECK_THROWS_WITH_AS(kernel.run(answers(2)), "the kernel was shut down", std::logic_error);
    }
}

TEST_CASE("a main that is refused is destroyed, arguments and all") {
    Kernel kernel{manual()};
    kernel.shutdown();
    const auto argument = std::make_shared<int>(1);
    const auto body = [](std::shared_ptr<int>) -> Coro<void> { co_return; };
    CHECK_THROWS_AS(kernel.run(body(argument)), std::logic_error);
    CHECK(argument.use_count() == 1);
}

TEST_CASE("run of an empty coroutine is refused") {
    Kernel kernel{manual()};
    CHECK_THROWS_AS(kernel.run(Coro<int>{}), std::logic_error);
}

TEST_CASE("time is the engine's: sleeps are exact, and hours pass in no time") {
    Kernel kernel{manual()};
    const auto countdown = [](Duration delay, int count) -> Coro<Duration> {
        const TimePoint start = co_await now();
        co_await sleep(delay);
        for (int i = 0; i < count; ++i)
            co_await sleep(1h);
        co_return co_await now() - start;
    };
    const auto body = [&]() -> Coro<std::vector<Duration>> {
        std::vector<Task<Duration>> rockets;
        rockets.push_back(co_await spawn(countdown(0h, 5)));
        rockets.push_back(co_await spawn(countdown(2h, 3)));
        rockets.push_back(co_await spawn(countdown(1h, 4)));
        std::vector<Duration> waited;
        for (Task<Duration>& rocket : rockets)
            waited.push_back(co_await rocket.join());
        co_return waited;
    };
    CHECK(kernel.run(body()) == std::vector<Duration>{5h, 5h, 5h});
}

TEST_CASE("equal wake-up times wake in the order in which they were set") {
    Kernel kernel{manual()};
    std::string log;
    kernel.run([&]() -> Coro<void> {
        co_await spawn(sleeps(2s, log, "c"));
        co_await spawn(sleeps(1s, log, "a"));
        co_await spawn(sleeps(1s, log, "b"));
        co_await sleep(3s);
    });
    CHECK(log == "abc");
}

TEST_CASE("a sleep until a time that is past answers the time it is now") {
    ManualEngine* engine = nullptr;
    Kernel kernel{manual(&engine)};
    const auto body = [&]() -> Coro<bool> {
        const TimePoint start = co_await now();
        engine->time += 5s; // hard work
        const TimePoint until_past = co_await sleep_until(start - 1s);
        engine->time += 5s;
        const TimePoint for_nothing = co_await sleep(0s);
        engine->time += 5s;
        const TimePoint late = co_await sleep_until(start + 12s);
        co_return until_past == start + 5s && for_nothing == start + 10s && late == start + 15s;
    };
    CHECK(kernel.run(body()));
}

TEST_CASE("time limits are exact in virtual time, nested as well") {
    const auto body = []() -> Coro<std::string> {
        std::string log;
        const TimePoint start = co_await now();
        const auto note = [&](TimePoint time) { log += " " + std::to_string((time - start) / 1s); };
        try {
            co_await timeout_after(5s, sleep(1h));
        } catch (const TaskTimeout&) {
            log += "own";
        }
        note(co_await now());
        const auto inner = [&]() -> Coro<void> {
            try {
                co_await timeout_after(20s, sleep(1h));
            } catch (const TimeoutCancellation&) {
                log += " outer";
                throw;
            }
        };
        const bool in_time = co_await ignore_after(10s, inner());
        log += in_time ? " in time" : " late";
        note(co_await now());
        const auto woke = co_await ignore_after(10s, sleep(9s));
        note(woke.value());
        co_await sleep(1h); // no limit is left that could interrupt this
        note(co_await now());
        co_return log;
    };
    CHECK(run(body(), manual()) == "own 5 outer late 15 24 3624");
}

TEST_CASE("a cancelled poll goes through the engine, and a result that was first is delivered") {
    ManualEngine* engine = nullptr;
    Kernel kernel{manual(&engine)};
    const auto poller = [](int& mask) -> Coro<void> {
        mask = (co_await traps::read_wait(3)).value();
        co_await yield_now();
        mask += 1000; // not reached when cancelled
    };
    int mask = 0;
    const auto cancels = [&](bool ready_first) -> Coro<bool> {
        mask = 0;
        Task<> task = co_await spawn(poller(mask));
        co_await yield_now();
        if (ready_first)
            engine->complete_poll(4);
        const bool cancelled = co_await task.cancel();
        co_return (cancelled && task.cancelled());
    };
    CHECK(kernel.run(cancels(false)));
    CHECK(mask == 0);
    CHECK(kernel.run(cancels(true)));
    CHECK(mask == 4);
}

TEST_CASE("an operation that the engine refuses is an error of the call") {
    const auto body = []() -> Coro<std::error_code> {
        const auto answer = co_await traps::socket(AF_INET, SOCK_STREAM);
        co_return answer.error();
    };
    CHECK(run(body(), manual()) == std::errc::function_not_supported);
}

TEST_CASE("a thread's completion wakes a kernel that waits in its engine") {
    for (const KernelOptions& options : both()) {
        const auto body = []() -> Coro<std::int64_t> {
            ThreadCompletion done;
            std::jthread worker{[&] { done.complete(42); }};
            co_return (co_await traps::AwaitThread{&done}).value();
        };
        for (int i = 0; i < 5; ++i)
            CHECK(run(body(), options) == 42);
    }
}

TEST_CASE("threads that complete at the same time wake each task once, with what they left") {
    constexpr int threads = 4;
    constexpr int rounds = 100;
    struct Line {
        ThreadCompletion done;
        int written = -1; // plain: handed over with the completion
    };
    for (const KernelOptions& options : both()) {
        std::vector<std::vector<Line>> lines(threads);
        for (std::vector<Line>& line : lines)
            line = std::vector<Line>(rounds);
        int matches = 0;
        const auto waits = [&](std::vector<Line>& line) -> Coro<void> {
            for (int round = 0; round < rounds; ++round) {
                const auto value = co_await traps::AwaitThread{&line[round].done};
                matches += value == round && line[round].written == round;
            }
        };
        std::vector<std::jthread> workers;
        run(
            [&]() -> Coro<void> {
                std::vector<Task<>> tasks;
                for (std::vector<Line>& line : lines)
                    tasks.push_back(co_await spawn(waits(line)));
                for (std::vector<Line>& line : lines) {
                    workers.emplace_back([&line] {
                        for (int round = 0; round < rounds; ++round) {
                            line[round].written = round;
                            line[round].done.complete(round);
                        }
                    });
                }
                for (Task<>& task : tasks)
                    co_await task.join();
            },
            options);
        CHECK(matches == threads * rounds);
    }
}

TEST_CASE("a kernel may go as soon as threads have woken its last tasks") {
    constexpr int threads = 3;
    for (const KernelOptions& options : both()) {
        for (int round = 0; round < 100; ++round) {
            ThreadCompletion done[threads];
            std::int64_t sum = 0;
            std::vector<std::jthread> workers; // joined when the kernel is gone
            const auto waits = [&](ThreadCompletion& completion) -> Coro<void> {
                sum += (co_await traps::AwaitThread{&completion}).value();
            };
            run(
                [&]() -> Coro<void> {
                    std::vector<Task<>> tasks;
                    for (ThreadCompletion& completion : done)
                        tasks.push_back(co_await spawn(waits(completion)));
                    co_await yield_now();
                    for (ThreadCompletion& completion : done)
                        workers.emplace_back([&] { completion.complete(1); });
                    for (Task<>& task : tasks)
                        co_await task.join();
                },
                options);
            CHECK(sum == threads);
        }
    }
}

TEST_CASE("a kernel is not gone before a thread has let go that wakes it") {
    struct Lingering final : ManualEngine {
        Lingering(bool& in, bool& early) : inside(in), gone_early(early) {}
        ~Lingering() override { gone_early = inside; }
        void interrupt() noexcept override {
            ManualEngine::interrupt();
            // The kernel, woken, ends meanwhile.
            for (int i = 0; i < 1'000; ++i)
                std::this_thread::yield();
            inside = false;
        }
        bool& inside;
        bool& gone_early;
    };
    ThreadCompletion done;
    bool inside = true;
    bool gone_early = false;
    std::jthread worker;
    run(
        [&]() -> Coro<void> {
            Task<> waiting =
                co_await spawn([&]() -> Coro<void> { (void)co_await traps::AwaitThread{&done}; });
            co_await yield_now(); // it waits: the thread has somebody to wake
            worker = std::jthread{[&] { done.complete(); }};
            co_await waiting.join();
        },
        {.make_engine = [&] { return std::make_unique<Lingering>(inside, gone_early); }});
    CHECK_FALSE(gone_early);
}

TEST_CASE("a thread that completes with -errno is an error of the call") {
    const auto body = []() -> Coro<std::error_code> {
        ThreadCompletion done;
        std::jthread worker{[&] { done.complete(-ENOENT); }};
        co_return (co_await traps::AwaitThread{&done}).error();
    };
    CHECK(run(body(), manual()) == std::errc::no_such_file_or_directory);
}

TEST_CASE("counters count traps, turns, tasks and the engine's work") {
    Kernel kernel{manual()};
    const Kernel::Counters before = kernel.counters();
    CHECK(before.traps == 0);
    kernel.run([]() -> Coro<void> {
        Task<int> task = co_await spawn(answers(1)); // Spawn; Yield in there
        co_await task.join();                        // Join
        co_await traps::nop();                       // Io
    });
    const Kernel::Counters after = kernel.counters();
    CHECK(after.traps == 4);
    CHECK(after.spawned == 2);
    CHECK(after.turns >= 3);
    CHECK(after.engine.operations == 1);
    CHECK(after.engine.system_calls >= 1);
}

TEST_CASE("a kernel describes its engine in a line") {
    CHECK(Kernel{manual()}.describe() == "manual");
    const std::string uring = Kernel{{.engine = "uring"}}.describe();
    CHECK(uring.contains("uring"));
    CHECK_FALSE(uring.contains('\n'));
    const std::string epoll = Kernel{{.engine = "epoll"}}.describe();
    CHECK(epoll.contains("epoll on Linux"));
    CHECK_FALSE(epoll.contains('\n'));
}

TEST_CASE("a deadlock lists each waiting task, its trap and where it waits") {
    Kernel kernel{manual()};
    WaitQueue queue;
    const auto parks = [](WaitQueue& q) -> Coro<void> { co_await traps::Park{&q}; };
    std::string text;
    try {
        kernel.run([&]() -> Coro<void> {
            Task<> task = co_await spawn(parks(queue), {.name = "parked"});
            co_await task.join();
        });
    } catch (const Deadlock& deadlock) {
        text = deadlock.what();
    }
    CHECK(text.starts_with("deadlock: main has not ended, and nothing can ever happen again\n"));
    CHECK(text.contains("task 1 'main' waits in Join of task 2 'parked' at kernel_test.cpp:"));
    CHECK(text.contains("task 2 'parked' waits in Park at kernel_test.cpp:"));
}

TEST_CASE("after a deadlock the kernel can still run, and the waiting tasks can be woken") {
    Kernel kernel{manual()};
    WaitQueue queue;
    bool woken = false;
    const auto parks = [&]() -> Coro<void> {
        co_await traps::Park{&queue};
        woken = true;
    };
    CHECK_THROWS_AS(kernel.run(parks()), Deadlock);
    CHECK(kernel.task_count() == 1);
    kernel.run([&]() -> Coro<void> {
        queue.wake();
        co_await yield_now();
        co_await yield_now();
    });
    CHECK(woken);
    CHECK(kernel.task_count() == 0);
}

TEST_CASE("join of a task of another kernel is refused") {
    Kernel other{manual()};
    Task<int> foreign = other.run([]() -> Coro<Task<int>> {
        co_return co_await spawn([]() -> Coro<int> {
            co_await sleep(1h);
            co_return 1;
        }());
    });
    const auto body = [&]() -> Coro<std::vector<std::error_code>> {
        std::vector<std::error_code> codes;
        try {
            co_await foreign.join();
        } catch (const std::system_error& e) {
            codes.push_back(e.code());
        }
        try {
            co_await foreign.cancel();
        } catch (const std::system_error& e) {
            codes.push_back(e.code());
        }
        co_return codes;
    };
    const auto codes = run(body(), manual());
    REQUIRE(codes.size() == 2);
    CHECK(codes[0] == std::errc::cross_device_link);
    CHECK(codes[1] == std::errc::cross_device_link);
}

TEST_CASE("an interrupt reaches a joiner though the joined task ends before it runs again") {
    const auto joiner = [](Task<int> task) -> Coro<bool> {
        try {
            co_await task.join();
        } catch (const TaskCancelled&) {
            co_return true;
        }
        co_return false;
    };
    const auto body = [&]() -> Coro<bool> {
        Task<int> joined = co_await spawn(answers(1));
        Task<bool> task = co_await spawn(joiner(joined));
        co_await yield_now();
        // Now `joined` is ready, and ends before the joiner runs.
        const bool cancelled = co_await task.cancel();
        const bool saw = co_await task.join();
        co_return (cancelled && saw);
    };
    CHECK(run(body(), manual()));
}

TEST_CASE("a steady state of spawn, await, join, sleep and limits allocates nothing" *
          doctest::skip(!detail::frames_recycled)) {
    const auto child = [](int value) -> Coro<int> {
        co_await yield_now();
        co_return co_await answers(value);
    };
    const auto round = [&]() -> Coro<int> {
        Task<int> task = co_await spawn(child(1));
        co_await sleep(0ns); // a time to come may or may not pass meanwhile
        const auto limited = co_await ignore_after(1h, answers(2));
        co_await traps::nop();
        const int joined = co_await task.join();
        co_return joined + limited.value();
    };
    const auto body = [&]() -> Coro<std::size_t> {
        for (int i = 0; i < 20; ++i)
            co_await round();
        const std::size_t before = allocation_counts().made;
        int sum = 0;
        for (int i = 0; i < 500; ++i)
            sum += co_await round();
        const std::size_t made = allocation_counts().made - before;
        co_return sum == 1500 ? made : 1'000'000;
    };
    for (const KernelOptions& options : both())
        CHECK(run(body(), options) == 0);
}

TEST_CASE("without memory spawn throws where it was called, and all goes on" *
          doctest::skip(!detail::frames_recycled)) {
    struct Big {
        std::byte bytes[9000]; // no chunk of the frame pool has room for it
    };
    const auto body = []() -> Coro<bool> {
        bool refused = false;
        {
            Coro<Big> big = []() -> Coro<Big> { co_return Big{}; }();
            const NoMemory none;
            try {
                co_await spawn(std::move(big));
            } catch (const std::bad_alloc&) {
                refused = true;
            }
        }
        const int value = co_await (co_await spawn(answers(1))).join();
        co_return (refused && value == 1);
    };
    for (const KernelOptions& options : both()) {
        bool refused = false; // on a thread that keeps no frames yet
        std::thread([&] { refused = run(body(), options); }).join();
        CHECK(refused);
    }
}

TEST_CASE("kernels come and go on several threads at once") {
    // Their rings are mapped where those of other threads have been a moment before.
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([] {
            for (int j = 0; j < 25; ++j)
                run([]() -> Coro<void> { (void)co_await traps::nop(); });
        });
}
