// Queues and channels: an item handed from task to task, beside the round trip of a trap, of which
// a hand-over needs one at least; and an item put and got without waiting, beside a container.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <queue>
#include <vector>

#include <trapline/trapline.hpp>

using namespace trapline;

namespace {

KernelOptions nothing_but_tasks() { return {.engine = "simulation"}; }

template <class Main>
void run_rounds(benchmark::State& state, std::int64_t items, Main main) {
    Kernel kernel{nothing_but_tasks()};
    for (auto _ : state)
        kernel.run(main());
    state.SetItemsProcessed(state.iterations() * items);
}

// --- hand-over -----------------------------------------------------------------------------

constexpr int rounds_a_run = 500'000; // two hand-overs each

Coro<void> echo_queue(Queue<int>& in, Queue<int>& out) {
    for (int i = 0; i < rounds_a_run; ++i) {
        const int item = co_await in.get();
        co_await out.put(item);
    }
}

Coro<void> ping_pong_queue() {
    Queue<int> there;
    Queue<int> back;
    auto other = co_await spawn(echo_queue(there, back));
    for (int i = 0; i < rounds_a_run; ++i) {
        co_await there.put(i);
        benchmark::DoNotOptimize(co_await back.get());
    }
    co_await other.join();
}

Coro<void> echo_channel(Channel<int>& in, Channel<int>& out) {
    while (const std::optional<int> item = co_await in.receive())
        co_await out.send(*item);
}

Coro<void> ping_pong_channel() {
    Channel<int> there;
    Channel<int> back;
    auto other = co_await spawn(echo_channel(there, back));
    for (int i = 0; i < rounds_a_run; ++i) {
        co_await there.send(i);
        benchmark::DoNotOptimize(co_await back.receive());
    }
    there.close();
    co_await other.join();
}

Coro<void> echo_select(Channel<int>& in, Channel<int>& other_in, Channel<int>& out) {
    std::optional<int> item;
    for (int i = 0; i < rounds_a_run; ++i) {
        co_await select(in.receiving(item), other_in.receiving(item));
        co_await out.send(*item);
    }
}

Coro<void> ping_pong_select() {
    Channel<int> there;
    Channel<int> nobody;
    Channel<int> back;
    auto other = co_await spawn(echo_select(there, nobody, back));
    for (int i = 0; i < rounds_a_run; ++i) {
        co_await there.send(i);
        benchmark::DoNotOptimize(co_await back.receive());
    }
    co_await other.join();
}

Coro<void> yields() {
    for (int i = 0; i < rounds_a_run; ++i)
        co_await yield_now();
}

Coro<void> yields_of_two() {
    auto other = co_await spawn(yields());
    for (int i = 0; i < rounds_a_run; ++i)
        co_await yield_now();
    co_await other.join();
}

void hand_over_queue(benchmark::State& state) {
    run_rounds(state, 2 * rounds_a_run, ping_pong_queue);
}
void hand_over_channel(benchmark::State& state) {
    run_rounds(state, 2 * rounds_a_run, ping_pong_channel);
}
void hand_over_select(benchmark::State& state) {
    run_rounds(state, 2 * rounds_a_run, ping_pong_select);
}
/// For each hand-over one Yield.
void hand_over_floor(benchmark::State& state) {
    run_rounds(state, 2 * rounds_a_run, yields_of_two);
}

BENCHMARK(hand_over_queue);
BENCHMARK(hand_over_floor)->Name("hand_over_queue_floor");
BENCHMARK(hand_over_channel);
BENCHMARK(hand_over_floor)->Name("hand_over_channel_floor");
BENCHMARK(hand_over_select);
BENCHMARK(hand_over_floor)->Name("hand_over_select_floor");

// --- nobody waits --------------------------------------------------------------------------

constexpr int passes_a_run = 1'000'000;

int any_rank(int i) noexcept {
    return static_cast<int>(static_cast<unsigned>(i) * 2654435761u >> 8);
}

/// Items pass through a queue in which `held` others lie.
template <class Q>
Coro<void> pass(int held) {
    Q queue;
    for (int i = 0; i < held; ++i)
        co_await queue.put(any_rank(i));
    for (int i = 0; i < passes_a_run; ++i) {
        co_await queue.put(any_rank(i));
        benchmark::DoNotOptimize(co_await queue.get());
    }
}

void pass_queue(benchmark::State& state) {
    run_rounds(state, passes_a_run, [] { return pass<Queue<int>>(100); });
}
void pass_priority(benchmark::State& state) {
    run_rounds(state, passes_a_run, [] { return pass<PriorityQueue<int>>(100); });
}

template <class Container, class Front>
void pass_floor(benchmark::State& state, Front front) {
    for (auto _ : state) {
        Container items;
        for (int i = 0; i < 100; ++i)
            items.push(any_rank(i));
        for (int i = 0; i < passes_a_run; ++i) {
            items.push(any_rank(i));
            benchmark::DoNotOptimize(front(items));
            items.pop();
        }
    }
    state.SetItemsProcessed(state.iterations() * passes_a_run);
}

using Heap = std::priority_queue<int, std::vector<int>, std::greater<int>>;

void pass_queue_floor(benchmark::State& state) {
    pass_floor<std::queue<int>>(state, [](auto& items) { return items.front(); });
}
void pass_priority_floor(benchmark::State& state) {
    pass_floor<Heap>(state, [](auto& items) { return items.top(); });
}

BENCHMARK(pass_queue);
BENCHMARK(pass_queue_floor);
BENCHMARK(pass_priority);
BENCHMARK(pass_priority_floor);

} // namespace

BENCHMARK_MAIN();
