// Groups: a thousand empty children in a task_group, beside the same spawned and joined by hand,
// which promises nothing when something fails.
#include <vector>

#include <benchmark/benchmark.h>

#include <trapline/trapline.hpp>

using namespace trapline;

namespace {

constexpr int children = 1000;
constexpr int groups_a_run = 100;

Coro<void> empty() { co_return; }

Coro<void> groups() {
    for (int i = 0; i < groups_a_run; ++i) {
        co_await task_group([](TaskGroup& group) -> Coro<void> {
            for (int child = 0; child < children; ++child)
                co_await group.spawn(empty());
        });
    }
}

void group_of_1000(benchmark::State& state) {
    Kernel kernel;
    for (auto _ : state)
        kernel.run(groups());
    state.SetItemsProcessed(state.iterations() * groups_a_run * children);
}

Coro<void> by_hand() {
    for (int i = 0; i < groups_a_run; ++i) {
        std::vector<Task<void>> tasks;
        tasks.reserve(children);
        for (int child = 0; child < children; ++child)
            tasks.push_back(co_await spawn(empty()));
        for (const Task<void>& task : tasks)
            co_await task.join();
    }
}

void group_of_1000_floor(benchmark::State& state) {
    Kernel kernel;
    for (auto _ : state)
        kernel.run(by_hand());
    state.SetItemsProcessed(state.iterations() * groups_a_run * children);
}

BENCHMARK(group_of_1000);
BENCHMARK(group_of_1000_floor);

} // namespace

BENCHMARK_MAIN();
