// Threads and tasks: a burst of items from a thread to a task, a function on a pool's thread, a
// coroutine for a thread; and how often somebody was woken for it. The floor is a plain thread, a
// mutex and a condition variable. What counts here is the time that passes, not the processor's.
#include <benchmark/benchmark.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>

#include <trapline/trapline.hpp>

using namespace trapline;

namespace {

// --- a burst -------------------------------------------------------------------------------

constexpr int burst_items = 100'000;

void count(benchmark::State& state, double wakeups) {
    state.SetItemsProcessed(state.iterations() * burst_items);
    state.counters["wakeups"] = benchmark::Counter(wakeups, benchmark::Counter::kAvgIterations);
}

Coro<void> receive_burst(UniversalQueue<int>& queue) {
    for (int i = 0; i < burst_items; ++i)
        benchmark::DoNotOptimize(co_await queue.get());
}

/// From a thread to a task. `state.range(0)`: the queue's capacity.
void burst_to_task(benchmark::State& state) {
    Kernel kernel;
    UniversalQueue<int> queue{static_cast<std::size_t>(state.range(0))};
    for (auto _ : state) {
        std::jthread producer{[&queue] {
            for (int i = 0; i < burst_items; ++i)
                queue.put_sync(i);
        }};
        kernel.run(receive_burst(queue));
    }
    count(state, static_cast<double>(queue.wakeups()));
}

Coro<void> send_burst(UniversalQueue<int>& queue) {
    for (int i = 0; i < burst_items; ++i)
        co_await queue.put(i);
}

/// From a task to a thread.
void burst_to_thread(benchmark::State& state) {
    Kernel kernel;
    UniversalQueue<int> queue{static_cast<std::size_t>(state.range(0))};
    for (auto _ : state) {
        std::jthread consumer{[&queue] {
            for (int i = 0; i < burst_items; ++i)
                benchmark::DoNotOptimize(queue.get_sync());
        }};
        kernel.run(send_burst(queue));
    }
    count(state, static_cast<double>(queue.wakeups()));
}

/// What one would write without a library: from a thread to a thread.
class PlainQueue {
public:
    explicit PlainQueue(std::size_t capacity) : capacity_(capacity) {}

    void put(int item) {
        std::unique_lock lock{mutex_};
        if (capacity_ != 0 && items_.size() == capacity_)
            room_.wait(lock, [this] { return ++wakeups_, items_.size() < capacity_; });
        items_.push_back(item);
        some_.notify_one();
    }
    int get() {
        std::unique_lock lock{mutex_};
        if (items_.empty())
            some_.wait(lock, [this] { return ++wakeups_, !items_.empty(); });
        const int item = items_.front();
        items_.pop_front();
        room_.notify_one();
        return item;
    }
    std::uint64_t wakeups() const { return wakeups_; }

private:
    const std::size_t capacity_;
    std::mutex mutex_;
    std::condition_variable some_;
    std::condition_variable room_;
    std::deque<int> items_;
    std::uint64_t wakeups_ = 0;
};

void plain_burst(benchmark::State& state) {
    PlainQueue queue{static_cast<std::size_t>(state.range(0))};
    for (auto _ : state) {
        std::jthread producer{[&queue] {
            for (int i = 0; i < burst_items; ++i)
                queue.put(i);
        }};
        for (int i = 0; i < burst_items; ++i)
            benchmark::DoNotOptimize(queue.get());
    }
    count(state, static_cast<double>(queue.wakeups()));
}
void burst_to_task_floor(benchmark::State& state) { plain_burst(state); }
void burst_to_thread_floor(benchmark::State& state) { plain_burst(state); }

void capacities(benchmark::internal::Benchmark* cases) {
    cases->ArgName("capacity")->Arg(0)->Arg(1000)->UseRealTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK(burst_to_task)->Apply(capacities);
BENCHMARK(burst_to_task_floor)->Apply(capacities);
BENCHMARK(burst_to_thread)->Apply(capacities);
BENCHMARK(burst_to_thread_floor)->Apply(capacities);

// --- there and back ------------------------------------------------------------------------

constexpr int trips_a_run = 1'000;

Coro<void> ask_pool(ThreadPool& pool) {
    for (int i = 0; i < trips_a_run; ++i)
        benchmark::DoNotOptimize(co_await pool.run([i] { return i; }));
}

/// A task has a function run on a thread.
void pool_trip(benchmark::State& state) {
    Kernel kernel;
    ThreadPool pool{1};
    for (auto _ : state)
        kernel.run(ask_pool(pool));
    state.SetItemsProcessed(state.iterations() * trips_a_run);
}

Coro<int> answer(int x) { co_return x; }

Coro<void> serve_thread() {
    Portal portal;
    std::jthread caller{[&portal] {
        for (int i = 0; i < trips_a_run; ++i)
            benchmark::DoNotOptimize(portal.run(answer, i));
        portal.close();
    }};
    co_await portal.serve();
}

/// A thread has a coroutine run on a kernel.
void portal_trip(benchmark::State& state) {
    Kernel kernel;
    for (auto _ : state)
        kernel.run(serve_thread());
    state.SetItemsProcessed(state.iterations() * trips_a_run);
}

/// A thread asks another one, which answers.
void plain_trip(benchmark::State& state) {
    for (auto _ : state) {
        PlainQueue there{0};
        PlainQueue back{0};
        std::jthread other{[&] {
            for (int i = 0; i < trips_a_run; ++i)
                back.put(there.get());
        }};
        for (int i = 0; i < trips_a_run; ++i) {
            there.put(i);
            benchmark::DoNotOptimize(back.get());
        }
    }
    state.SetItemsProcessed(state.iterations() * trips_a_run);
}
void pool_trip_floor(benchmark::State& state) { plain_trip(state); }
void portal_trip_floor(benchmark::State& state) { plain_trip(state); }

BENCHMARK(pool_trip)->UseRealTime();
BENCHMARK(pool_trip_floor)->UseRealTime();
BENCHMARK(portal_trip)->UseRealTime();
BENCHMARK(portal_trip_floor)->UseRealTime();

} // namespace

BENCHMARK_MAIN();
