// Virtual time: exact, at once, the same each time; and what it does when there are threads.
#include <trapline/kernel/kernel.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/io/tcp.hpp>
#include <trapline/trapline.hpp>

#include "../../examples/rockets.hpp"
#include "../../kernel/engines/simulation.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

const KernelOptions simulation{.engine = "simulation"};

} // namespace

TEST_CASE("the clock begins at a fixed time, and stands still while tasks run") {
    Kernel kernel{simulation};
    CHECK(kernel.describe() == "simulation: virtual time, no descriptors");
    const auto body = []() -> Coro<std::vector<TimePoint>> {
        std::vector<TimePoint> times{co_await now()};
        for (int i = 0; i < 1000; ++i)
            co_await yield_now();
        times.push_back(co_await now());
        co_await sleep(1h);
        times.push_back(co_await now());
        co_return times;
    };
    const std::vector<TimePoint> times = kernel.run(body());
    CHECK(times == std::vector{simulation_start, simulation_start, simulation_start + 1h});
    CHECK(kernel.run(body()).front() == simulation_start + 1h); // it goes on with the next run
}

TEST_CASE("an hour of countdown, and an hour of time limits, run in no time and exactly") {
    // Three rockets of the examples, the last one an hour before its lift-off.
    const auto launch_site = []() -> Coro<std::vector<Duration>> {
        std::vector<Task<Duration>> rockets;
        rockets.push_back(co_await spawn(countdown("Ariane", 3600, 0, 1s, false)));
        rockets.push_back(co_await spawn(countdown("Soyuz", 1800, 1800, 1s, false)));
        rockets.push_back(co_await spawn(countdown("Falcon", 360'000, 7, 10ms, false)));
        std::vector<Duration> waited;
        for (Task<Duration>& rocket : rockets)
            waited.push_back(co_await rocket.join());
        co_return waited;
    };
    CHECK(run(launch_site(), simulation) == std::vector<Duration>{1h, 1h, 1h + 70ms});

    const auto limits = []() -> Coro<Duration> {
        const TimePoint start = co_await now();
        for (int i = 0; i < 3600; ++i) {
            const auto woke = co_await ignore_after(1s, sleep(1s + 1ns));
            CHECK_FALSE(woke.has_value());
        }
        co_return co_await now() - start;
    };
    CHECK(run(limits(), simulation) == 1h);
}

TEST_CASE("a run is like the one before it, and shuffle_seed is the one thing that changes it") {
    const auto order_with = [](std::optional<std::uint64_t> seed) {
        KernelOptions options = simulation;
        options.shuffle_seed = seed;
        std::string order;
        run(
            [&]() -> Coro<void> {
                for (char letter = 'a'; letter < 'k'; ++letter) {
                    co_await spawn([&order, letter]() -> Coro<void> {
                        for (int i = 0; i < 3; ++i) {
                            co_await sleep(10ms * (letter % 3));
                            order += letter;
                        }
                    });
                }
                co_await sleep(1min);
            },
            options);
        return order;
    };
    CHECK(order_with(std::nullopt) == order_with(std::nullopt));
    CHECK(order_with(7) == order_with(7));
    CHECK(order_with(7) != order_with(8));
}

TEST_CASE("there are no descriptors: I/O is answered ENOSYS, but for the one that does nothing") {
    const auto body = []() -> Coro<void> {
        CHECK((co_await traps::nop()).has_value());
        const auto socket = co_await traps::socket(AF_INET, SOCK_STREAM);
        CHECK(socket.error() == std::errc::function_not_supported);
        const auto ready = co_await traps::read_wait(0);
        CHECK(ready.error() == std::errc::function_not_supported);
        std::string text;
        try {
            (void)co_await TcpListener::bind(SocketAddress::parse("127.0.0.1:0"));
        } catch (const std::system_error& e) {
            text = e.what();
        }
        CHECK(text.contains("127.0.0.1:0"));
        CHECK(text.contains("not implemented"));
    };
    run(body(), simulation);
}

TEST_CASE("signals that are to cancel main cannot be waited for, and main does not begin") {
    KernelOptions options = simulation;
    options.cancel_on = stop_signals;
    bool began = false;
    const auto body = [&]() -> Coro<void> {
        began = true;
        co_return;
    };
    CHECK_THROWS_AS(run(body, options), std::system_error);
    CHECK_FALSE(began);
}

TEST_CASE("a thread's work takes no time of the clock: no limit runs out on it") {
    const auto body = []() -> Coro<Duration> {
        const TimePoint start = co_await now();
        const int answer = co_await timeout_after(10s, run_in_thread([] {
                                                      std::this_thread::sleep_for(5ms);
                                                      return 42;
                                                  }));
        CHECK(answer == 42);
        co_return co_await now() - start;
    };
    CHECK(run(body(), simulation) == 0s);
}

TEST_CASE("a time limit on a thread that hangs runs out when it would, and the clock says so") {
    ThreadCompletion never_done;
    const auto body = [&]() -> Coro<Duration> {
        const TimePoint start = co_await now();
        CHECK_FALSE((co_await ignore_after(5ms, traps::AwaitThread{&never_done})).has_value());
        co_return co_await now() - start;
    };
    const auto start = std::chrono::steady_clock::now();
    CHECK(run(body(), simulation) == 5ms);
    CHECK(std::chrono::steady_clock::now() - start >= 5ms);
}

TEST_CASE("others' wake-ups do not put off a time limit on a thread that hangs") {
    ThreadCompletion never_done;
    std::vector<ThreadCompletion> quick(20);
    const auto body = [&]() -> Coro<Duration> {
        const TimePoint start = co_await now();
        const auto limited = [&]() -> Coro<void> {
            (void)co_await ignore_after(20ms, traps::AwaitThread{&never_done});
        };
        const Task<> task = co_await spawn(limited());
        std::jthread thread{[&] {
            for (ThreadCompletion& completion : quick) {
                std::this_thread::sleep_for(1ms);
                completion.complete();
            }
        }};
        for (ThreadCompletion& completion : quick)
            (void)co_await traps::AwaitThread{&completion};
        co_await task.join();
        co_return co_await now() - start;
    };
    CHECK(run(body(), simulation) == 20ms);
}

TEST_CASE("time jumps as soon as no thread is awaited any more") {
    const auto body = []() -> Coro<Duration> {
        const TimePoint start = co_await now();
        const Task<TimePoint> sleeper = co_await spawn([] { return sleep(24h); });
        co_await run_in_thread([] {});
        co_await sleep(1h);
        co_await run_in_thread([] {});
        co_await sleeper.join();
        co_return co_await now() - start;
    };
    CHECK(run(body(), simulation) == 24h);
}

TEST_CASE("who sleeps for ever with nobody else left is a deadlock, not the end of time") {
    const auto body = []() -> Coro<void> { co_await sleep(Duration::max()); };
    CHECK_THROWS_AS(run(body(), simulation), Deadlock);
    const auto beside = []() -> Coro<void> {
        const Task<TimePoint> other = co_await spawn([] { return sleep(Duration::max()); });
        co_await sleep(24h * 365);
        CHECK(co_await other.cancel());
    };
    run(beside(), simulation);
}

TEST_CASE("shutdown waits in virtual time, too: its patience is no pause") {
    KernelOptions options = simulation;
    std::vector<std::string> lines;
    options.log = [&](std::string_view line) { lines.emplace_back(line); };
    Kernel kernel{options};
    kernel.run([]() -> Coro<void> {
        co_await spawn([] { return disable_cancellation(sleep(12s)); }, {.name = "slow"});
        co_await yield_now();
    });
    kernel.shutdown();
    CHECK(lines.size() == 2); // after five seconds, and after ten
}

TEST_CASE("who sleeps for ever with interrupts held back is destroyed by shutdown, with a word") {
    KernelOptions options = simulation;
    std::vector<std::string> lines;
    options.log = [&](std::string_view line) { lines.emplace_back(line); };
    Kernel kernel{options};
    const Task<TimePoint> task =
        kernel.spawn([] { return disable_cancellation(sleep(Duration::max())); }, {.name = "rock"});
    kernel.run_once();
    kernel.shutdown();
    CHECK(task.cancelled());
    REQUIRE(!lines.empty());
    CHECK(lines.size() <= 2); // patience may have run out once
    CHECK(lines.back() == "shutdown: task 'rock' can never go on, and is destroyed");
}

TEST_CASE("a host lets virtual time pass by how long it is willing to wait") {
    Kernel kernel{simulation};
    const Task<TimePoint> task = kernel.spawn([] { return sleep(1h); });
    CHECK(kernel.run_once());
    CHECK(kernel.run_once());
    CHECK_FALSE(task.terminated());
    CHECK(kernel.run_once(59min));
    CHECK_FALSE(task.terminated());
    CHECK_FALSE(kernel.run_once(24h));
    CHECK(task.result() == simulation_start + 1h);
    try {
        (void)kernel.pollable_fd();
        CHECK(false);
    } catch (const std::system_error& e) {
        CHECK(e.code() == std::errc::operation_not_supported);
        CHECK(std::string_view(e.what()).contains("'simulation"));
    }
}
