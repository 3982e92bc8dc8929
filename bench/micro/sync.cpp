// Locks and semaphores that nobody else wants: acquire and release, beside the least that keeps
// the books. And with somebody who wants them, too: each release hands over to the next.
#include <benchmark/benchmark.h>

#include <trapline/trapline.hpp>

using namespace trapline;

namespace {

constexpr int rounds_a_run = 1'000'000;

KernelOptions without_world() { return {.engine = "simulation"}; }

/// Counts in memory what is taken, and sees each time whether it is there: nobody can do less.
Coro<void> floor_rounds() {
    std::size_t free = 1;
    for (int i = 0; i < rounds_a_run; ++i) {
        benchmark::DoNotOptimize(free);
        if (free != 0)
            --free;
        benchmark::DoNotOptimize(free);
        benchmark::ClobberMemory();
        ++free;
    }
    co_return;
}

template <class L>
Coro<void> rounds() {
    L lock;
    benchmark::DoNotOptimize(&lock);
    for (int i = 0; i < rounds_a_run; ++i) {
        co_await lock.acquire();
        benchmark::ClobberMemory();
        lock.release();
        benchmark::ClobberMemory();
    }
}

template <class L>
Coro<void> held_rounds() {
    L lock;
    benchmark::DoNotOptimize(&lock);
    for (int i = 0; i < rounds_a_run; ++i) {
        const auto held = co_await lock.hold();
        benchmark::ClobberMemory();
    }
}

/// Runs it, and sees that no trap was made in the million rounds.
void run_without_traps(benchmark::State& state, Coro<void> (*body)()) {
    Kernel kernel{without_world()};
    for (auto _ : state)
        kernel.run(body());
    if (kernel.counters().traps != 0)
        state.SkipWithError("there were traps");
    state.SetItemsProcessed(state.iterations() * rounds_a_run);
}

void lock(benchmark::State& state) { run_without_traps(state, rounds<Lock>); }
void lock_floor(benchmark::State& state) { run_without_traps(state, floor_rounds); }
void lock_hold(benchmark::State& state) { run_without_traps(state, held_rounds<Lock>); }
void lock_hold_floor(benchmark::State& state) { run_without_traps(state, floor_rounds); }
void rlock(benchmark::State& state) { run_without_traps(state, rounds<RLock>); }
void rlock_floor(benchmark::State& state) { run_without_traps(state, floor_rounds); }
void semaphore(benchmark::State& state) { run_without_traps(state, rounds<Semaphore>); }
void semaphore_floor(benchmark::State& state) { run_without_traps(state, floor_rounds); }
void semaphore_hold(benchmark::State& state) { run_without_traps(state, held_rounds<Semaphore>); }
void semaphore_hold_floor(benchmark::State& state) { run_without_traps(state, floor_rounds); }

BENCHMARK(lock);
BENCHMARK(lock_floor);
BENCHMARK(lock_hold);
BENCHMARK(lock_hold_floor);
BENCHMARK(rlock);
BENCHMARK(rlock_floor);
BENCHMARK(semaphore);
BENCHMARK(semaphore_floor);
BENCHMARK(semaphore_hold);
BENCHMARK(semaphore_hold_floor);

// --- handed over ---------------------------------------------------------------------------

constexpr int hand_overs_a_run = 100'000;

Coro<void> user(Lock& lock, int count) {
    for (int i = 0; i < count; ++i) {
        co_await lock.acquire();
        co_await yield_now(); // the others come meanwhile
        lock.release();
    }
}

Coro<void> users(int count) {
    Lock lock;
    std::vector<Task<void>> tasks;
    for (int i = 0; i < count; ++i)
        tasks.push_back(co_await spawn(user(lock, hand_overs_a_run / count)));
    for (const Task<void>& task : tasks)
        co_await task.join();
}

/// A lock that each wants: a hand-over, and the yield of the one who has it.
void lock_handed_over(benchmark::State& state) {
    Kernel kernel{without_world()};
    for (auto _ : state)
        kernel.run(users(static_cast<int>(state.range(0))));
    state.SetItemsProcessed(state.iterations() * hand_overs_a_run);
}

BENCHMARK(lock_handed_over)->ArgName("tasks")->Arg(2)->Arg(100);

} // namespace

BENCHMARK_MAIN();
