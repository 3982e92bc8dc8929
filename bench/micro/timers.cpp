// Timers: many sleepers, set and woken, in a time that jumps; a time limit set and dropped.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>

#include <trapline/trapline.hpp>

#include "floor.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

/// The same durations for both: anything within a second.
std::vector<std::int64_t> durations(std::int64_t count) {
    std::mt19937_64 random{42};
    std::uniform_int_distribution<std::int64_t> within_a_second{1, 1'000'000'000};
    std::vector<std::int64_t> result(static_cast<std::size_t>(count));
    for (std::int64_t& duration : result)
        duration = within_a_second(random);
    return result;
}

Coro<void> sleeper(std::int64_t duration) { co_await sleep(Duration{duration}); }

Coro<void> bedroom(const std::vector<std::int64_t>& beds) {
    for (const std::int64_t duration : beds)
        co_await spawn(sleeper(duration));
    co_await sleep(2s);
}

void sleepers(benchmark::State& state) {
    Kernel kernel{{.engine = "simulation"}};
    const auto beds = durations(state.range(0));
    for (auto _ : state)
        kernel.run(bedroom(beds));
    state.SetItemsProcessed(state.iterations() * state.range(0));
}

bench::FloorCoro floor_sleeper(std::int64_t duration) {
    benchmark::DoNotOptimize(co_await bench::FloorTrap{duration});
}

void sleepers_floor(benchmark::State& state) {
    const auto beds = durations(state.range(0));
    for (auto _ : state) {
        bench::SleepLoop loop;
        std::vector<bench::FloorCoro> coros;
        coros.reserve(beds.size());
        for (const std::int64_t duration : beds) {
            coros.push_back(floor_sleeper(duration));
            loop.start(coros.back());
        }
        loop.run();
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
}

BENCHMARK(sleepers)->Arg(100'000)->Arg(1'000'000)->Unit(benchmark::kMillisecond);
BENCHMARK(sleepers_floor)->Arg(100'000)->Arg(1'000'000)->Unit(benchmark::kMillisecond);

// --- virtual time ----------------------------------------------------------------------------

constexpr int sleeps_a_run = 100'000;

Coro<void> sleeps_on(int count, std::uint64_t dice) {
    for (; count > 0; --count) {
        dice = dice * 6364136223846793005u + 1442695040888963407u; // up to a second
        co_await sleep(Duration{static_cast<std::int64_t>(dice >> 34)});
    }
}

/// So many tasks that do nothing but sleep, each as often as makes a hundred thousand in all.
void virtual_sleeps(benchmark::State& state) {
    Kernel kernel{{.engine = "simulation"}};
    const auto tasks = static_cast<int>(state.range(0));
    for (auto _ : state) {
        kernel.run([tasks]() -> Coro<void> {
            std::vector<Task<>> all;
            for (int i = 0; i < tasks; ++i)
                all.push_back(
                    co_await spawn(sleeps_on(sleeps_a_run / tasks, static_cast<std::uint64_t>(i))));
            for (const Task<>& task : all)
                co_await task.join();
        });
    }
    state.SetItemsProcessed(state.iterations() * sleeps_a_run);
}

BENCHMARK(virtual_sleeps)->Arg(1)->Arg(10)->Arg(100)->Arg(1000)->Arg(10'000);

// --- the queues alone ----------------------------------------------------------------------

void timer_queue(benchmark::State& state) {
    const auto beds = durations(state.range(0));
    std::vector<Timer> timers(beds.size());
    TimePoint start{1s};
    TimerQueue queue;
    for (auto _ : state) {
        for (std::size_t i = 0; i < beds.size(); ++i)
            queue.set(timers[i], start + Duration{beds[i]});
        while (!queue.empty()) {
            const TimePoint now = queue.next();
            while (Timer* timer = queue.pop(now))
                benchmark::DoNotOptimize(timer);
        }
        start += 2s;
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
}

void timer_queue_floor(benchmark::State& state) {
    struct Entry {
        std::int64_t wake;
        std::uint64_t order;
        void* task;
        bool operator<(const Entry& other) const {
            return wake != other.wake ? wake > other.wake : order > other.order;
        }
    };
    const auto beds = durations(state.range(0));
    std::priority_queue<Entry> queue;
    for (auto _ : state) {
        std::uint64_t order = 0;
        for (const std::int64_t duration : beds)
            queue.push({duration, order++, nullptr});
        while (!queue.empty()) {
            Entry top = queue.top();
            benchmark::DoNotOptimize(top);
            queue.pop();
        }
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
}

BENCHMARK(timer_queue)->Arg(100'000)->Arg(1'000'000)->Unit(benchmark::kMillisecond);
BENCHMARK(timer_queue_floor)->Arg(100'000)->Arg(1'000'000)->Unit(benchmark::kMillisecond);

// --- time limits ---------------------------------------------------------------------------

constexpr int limits_a_run = 100'000;

Coro<void> set_and_drop() {
    for (int i = 0; i < limits_a_run; ++i) {
        const TimePoint previous = (co_await traps::SetTimeout{5s}).value();
        (void)co_await traps::UnsetTimeout{previous};
    }
}

void limit_by_duration(benchmark::State& state) {
    Kernel kernel;
    for (auto _ : state)
        kernel.run(set_and_drop());
    state.SetItemsProcessed(state.iterations() * limits_a_run);
}

Coro<void> set_and_drop_by_time(TimePoint deadline) {
    for (int i = 0; i < limits_a_run; ++i) {
        const TimePoint previous = (co_await traps::SetTimeout{deadline}).value();
        (void)co_await traps::UnsetTimeout{previous};
    }
}

/// Without the reading of the clock that a limit by duration needs.
void limit_by_time(benchmark::State& state) {
    Kernel kernel;
    const TimePoint deadline{std::chrono::steady_clock::now().time_since_epoch() + 1h};
    for (auto _ : state)
        kernel.run(set_and_drop_by_time(deadline));
    state.SetItemsProcessed(state.iterations() * limits_a_run);
}

Coro<void> nothing() { co_return; }

Coro<void> scopes() {
    for (int i = 0; i < limits_a_run; ++i)
        co_await timeout_after(5s, nothing());
}

void timeout_after_nothing(benchmark::State& state) {
    Kernel kernel;
    for (auto _ : state)
        kernel.run(scopes());
    state.SetItemsProcessed(state.iterations() * limits_a_run);
}

void clock_read(benchmark::State& state) {
    for (auto _ : state)
        benchmark::DoNotOptimize(std::chrono::steady_clock::now());
    state.SetItemsProcessed(state.iterations());
}

BENCHMARK(limit_by_duration);
BENCHMARK(limit_by_time);
BENCHMARK(timeout_after_nothing);
BENCHMARK(clock_read);

} // namespace

BENCHMARK_MAIN();
