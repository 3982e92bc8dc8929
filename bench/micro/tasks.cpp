// Traps and tasks: the round trip of a trap, at several depths and numbers of tasks, and under a
// policy; spawn and join; the call of a child coroutine. Each beside its floor.
#include <benchmark/benchmark.h>

#include <trapline/trapline.hpp>

#include "floor.hpp"

using namespace trapline;

namespace {

constexpr int trips_a_run = 1'000'000;

Coro<void> yields(int count) {
    for (int i = 0; i < count; ++i)
        co_await yield_now();
}

Coro<void> yields_below(int depth, int count) {
    if (depth > 1)
        co_await yields_below(depth - 1, count);
    else
        co_await yields(count);
}

Coro<void> yielders(int tasks, int depth) {
    std::vector<Task<void>> running;
    for (int i = 0; i < tasks; ++i)
        running.push_back(co_await spawn(depth > 1 ? yields_below(depth - 1, trips_a_run / tasks)
                                                   : yields(trips_a_run / tasks)));
    for (const Task<void>& task : running)
        co_await task.join();
}

void yield(benchmark::State& state) {
    Kernel kernel;
    const int tasks = static_cast<int>(state.range(0));
    const int depth = static_cast<int>(state.range(1));
    for (auto _ : state)
        kernel.run(yielders(tasks, depth));
    state.SetItemsProcessed(state.iterations() * trips_a_run);
}

bench::FloorCoro floor_yields(int count) {
    for (int i = 0; i < count; ++i)
        benchmark::DoNotOptimize(co_await bench::FloorTrap{});
}

bench::FloorCoro floor_yields_below(int depth, int count) {
    if (depth > 1)
        co_await floor_yields_below(depth - 1, count);
    else
        co_await floor_yields(count);
}

void yield_floor(benchmark::State& state) {
    const int tasks = static_cast<int>(state.range(0));
    const int depth = static_cast<int>(state.range(1));
    for (auto _ : state) {
        bench::YieldLoop loop;
        std::vector<bench::FloorCoro> coros;
        for (int i = 0; i < tasks; ++i) {
            coros.push_back(depth > 1 ? floor_yields_below(depth - 1, trips_a_run / tasks)
                                      : floor_yields(trips_a_run / tasks));
            loop.start(coros.back());
        }
        loop.run();
    }
    state.SetItemsProcessed(state.iterations() * trips_a_run);
}

void yield_cases(benchmark::internal::Benchmark* cases) {
    cases->ArgNames({"tasks", "depth"});
    for (const int tasks : {1, 100, 10'000})
        cases->Args({tasks, 1});
    for (const int depth : {3, 10})
        cases->Args({1, depth});
}

BENCHMARK(yield)->Apply(yield_cases);
BENCHMARK(yield_floor)->Apply(yield_cases);

// --- policies: what one costs that allows everything, and none ------------------------------

struct AllowAll final : Policy {
    Verdict trapped(Asking&) noexcept override { return Verdict::allow(); }
};

struct AllowAllAndLook final : Policy {
    Verdict trapped(Asking&) noexcept override { return Verdict::allow(); }
    bool sees_replies() const noexcept override { return true; }
};

template <class P>
void policy(benchmark::State& state) {
    Kernel kernel;
    for (auto _ : state)
        kernel.run(with_policy(std::make_shared<P>(), yields(trips_a_run)));
    state.SetItemsProcessed(state.iterations() * trips_a_run);
}

void policy_floor(benchmark::State& state) {
    Kernel kernel;
    for (auto _ : state)
        kernel.run(yields(trips_a_run));
    state.SetItemsProcessed(state.iterations() * trips_a_run);
}

BENCHMARK(policy<AllowAll>)->Name("policy");
BENCHMARK(policy<AllowAllAndLook>)->Name("policy_replies");
BENCHMARK(policy_floor);
BENCHMARK(policy_floor)->Name("policy_replies_floor");

// --- spawn and join ------------------------------------------------------------------------

constexpr int joins_a_run = 100'000;

Coro<void> empty() { co_return; }

Coro<void> spawns() {
    for (int i = 0; i < joins_a_run; ++i) {
        auto task = co_await spawn(empty());
        co_await task.join();
    }
}

void spawn_join(benchmark::State& state) {
    Kernel kernel;
    for (auto _ : state)
        kernel.run(spawns());
    state.SetItemsProcessed(state.iterations() * joins_a_run);
}

bench::FloorCoro floor_empty() { co_return; }

bench::FloorCoro floor_spawns() {
    for (int i = 0; i < joins_a_run; ++i) {
        auto* record = new bench::FloorRecord{&floor_empty().release().promise()};
        co_await bench::FloorTrap{reinterpret_cast<std::int64_t>(record)};
        co_await bench::FloorTrap{reinterpret_cast<std::int64_t>(record)};
        record->drop();
    }
}

void spawn_join_floor(benchmark::State& state) {
    for (auto _ : state) {
        bench::SpawnJoinLoop loop;
        bench::FloorCoro main = floor_spawns();
        loop.start(main);
        loop.run();
    }
    state.SetItemsProcessed(state.iterations() * joins_a_run);
}

BENCHMARK(spawn_join);
BENCHMARK(spawn_join_floor);

// --- a child that does not trap ------------------------------------------------------------

constexpr int calls_a_run = 1'000'000;

Coro<int> child(int x) { co_return x + 1; }

Coro<int> calls() {
    int sum = 0;
    for (int i = 0; i < calls_a_run; ++i)
        sum = co_await child(sum);
    co_return sum;
}

void call_child(benchmark::State& state) {
    Kernel kernel;
    for (auto _ : state)
        benchmark::DoNotOptimize(kernel.run(calls()));
    state.SetItemsProcessed(state.iterations() * calls_a_run);
}

bench::FloorCoro floor_child(int& x) {
    ++x;
    co_return;
}

bench::FloorCoro floor_calls(int& sum) {
    for (int i = 0; i < calls_a_run; ++i)
        co_await floor_child(sum);
}

void call_child_floor(benchmark::State& state) {
    for (auto _ : state) {
        int sum = 0;
        bench::YieldLoop loop;
        bench::FloorCoro main = floor_calls(sum);
        loop.start(main);
        loop.run();
        benchmark::DoNotOptimize(sum);
    }
    state.SetItemsProcessed(state.iterations() * calls_a_run);
}

BENCHMARK(call_child);
BENCHMARK(call_child_floor);

} // namespace

BENCHMARK_MAIN();
