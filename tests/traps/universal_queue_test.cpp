#include <trapline/traps/universal_queue.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/trapline.hpp>

#include "../conformance/conformance.hpp"
#include "../support/virtual_time.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

std::vector<KernelOptions> both() { return {KernelOptions{}, test::virtual_time()}; }

template <class Body>
void on_both(Body body) {
    for (const KernelOptions& options : both()) {
        const test::LeakGuard guard;
        run(body, options);
    }
}

} // namespace

TEST_CASE("universal_queue.hpp: the example") {
    const auto body = []() -> Coro<int> {
        UniversalQueue<int> queue{1000}; // of at most 1000 items; without a number it is unbounded
        std::jthread producer{[&] {
            for (int i = 1; i <= 4; ++i)
                queue.put_sync(i);
            queue.close();
        }};
        int sum = 0;
        while (std::optional<int> item = co_await queue.next())
            sum += *item;
        co_return sum;
    };
    CHECK(run(body()) == 10);
}

TEST_CASE("what need not wait does not: first in, first out, and nothing beyond the capacity") {
    UniversalQueue<std::unique_ptr<int>> queue{2};
    CHECK(queue.capacity() == 2);
    CHECK(queue.empty());
    CHECK(queue.try_put(std::make_unique<int>(1)));
    queue.put_sync(std::make_unique<int>(2));
    CHECK(queue.full());
    auto third = std::make_unique<int>(3);
    CHECK_FALSE(queue.try_put(std::move(third)));
    CHECK(third); // left alone
    CHECK(*queue.get_sync() == 1);
    CHECK(queue.size() == 1);
    CHECK(**queue.try_get() == 2);
    CHECK_FALSE(queue.try_get());
    CHECK(queue.wakeups() == 0);
}

TEST_CASE("a closed queue gives what is in it, and no more") {
    on_both([]() -> Coro<void> {
        UniversalQueue<int> queue;
        queue.put_sync(1);
        co_await queue.put(2);
        queue.close();
        queue.close();
        CHECK(queue.closed());
        CHECK_FALSE(queue.try_put(3));
        CHECK_THROWS_AS(queue.put_sync(3), QueueClosed);
        int refused = 0;
        try {
            co_await queue.put(3);
        } catch (const QueueClosed&) {
            ++refused;
        }
        const int one = co_await queue.get();
        CHECK(one == 1);
        CHECK(queue.get_sync() == 2);
        CHECK_THROWS_AS(queue.get_sync(), QueueClosed);
        CHECK_FALSE(queue.next_sync());
        try {
            co_await queue.get();
        } catch (const QueueClosed&) {
            ++refused;
        }
        const std::optional<int> none = co_await queue.next();
        CHECK_FALSE(none);
        CHECK(refused == 2);
    });
}

TEST_CASE("close wakes tasks and threads on both sides") {
    on_both([]() -> Coro<void> {
        UniversalQueue<int> empty;
        UniversalQueue<int> full{1};
        full.put_sync(0);
        std::atomic<int> threads = 0;
        std::atomic<int> refused = 0;
        std::vector<std::jthread> workers;
        workers.emplace_back([&] {
            ++threads;
            refused += !empty.next_sync();
        });
        workers.emplace_back([&] {
            ++threads;
            try {
                full.put_sync(1);
            } catch (const QueueClosed&) {
                ++refused;
            }
        });
        const Task<void> getter = co_await spawn([&]() -> Coro<void> {
            const std::optional<int> item = co_await empty.next();
            refused += !item;
        });
        const Task<void> putter = co_await spawn([&]() -> Coro<void> {
            try {
                co_await full.put(2);
            } catch (const QueueClosed&) {
                ++refused;
            }
        });
        co_await yield_now();
        while (threads < 2)
            std::this_thread::yield();
        empty.close();
        full.close();
        co_await getter.join();
        co_await putter.join();
        workers.clear();
        CHECK(refused == 4);
        CHECK(full.size() == 1);
    });
}

TEST_CASE("an item goes to the task that waits longest, and it is not to be had by others") {
    on_both([]() -> Coro<void> {
        UniversalQueue<int> queue;
        std::vector<int> got(3);
        std::vector<Task<void>> tasks;
        for (int i = 0; i < 3; ++i) {
            tasks.push_back(co_await spawn([&queue, &got, i]() -> Coro<void> {
                const int item = co_await queue.get();
                got[i] = item;
            }));
        }
        co_await yield_now();
        for (int item = 1; item <= 3; ++item) {
            queue.put_sync(item);
            CHECK_FALSE(queue.try_get());
        }
        for (const Task<void>& task : tasks)
            co_await task.join();
        CHECK(got == std::vector<int>{1, 2, 3});
        CHECK(queue.wakeups() == 3);
    });
}

TEST_CASE("room in a full queue goes to the put that waits longest") {
    on_both([]() -> Coro<void> {
        UniversalQueue<int> queue{1};
        queue.put_sync(0);
        std::vector<Task<void>> tasks;
        for (int i = 1; i <= 3; ++i)
            tasks.push_back(co_await spawn([&queue, i]() -> Coro<void> { co_await queue.put(i); }));
        co_await yield_now();
        std::vector<int> got;
        for (int i = 0; i < 4; ++i) {
            CHECK_FALSE(queue.try_put(9));
            got.push_back(*queue.try_get());
        }
        for (const Task<void>& task : tasks)
            co_await task.join();
        CHECK(got == std::vector<int>{0, 1, 2, 3});
    });
}

TEST_CASE("who is cancelled while it waits has taken nothing and put nothing") {
    on_both([]() -> Coro<void> {
        UniversalQueue<int> queue{1};
        const Task<void> getter =
            co_await spawn([&]() -> Coro<void> { (void)co_await queue.get(); });
        co_await yield_now();
        const bool cancelled = co_await getter.cancel();
        CHECK(cancelled);
        CHECK(queue.try_put(1));
        const Task<void> putter = co_await spawn([&]() -> Coro<void> { co_await queue.put(2); });
        co_await yield_now();
        const bool both_cancelled = co_await putter.cancel();
        CHECK(both_cancelled);
        CHECK(queue.get_sync() == 1);
        CHECK(queue.empty());
        const std::optional<int> late = co_await ignore_after(1ms, queue.get());
        CHECK_FALSE(late);
        CHECK(queue.try_put(3));
        CHECK(queue.size() == 1);
    });
}

TEST_CASE("an interrupt in the same turn as the item: the item stays, or goes to its task") {
    on_both([]() -> Coro<void> {
        for (const bool item_first : {true, false}) {
            UniversalQueue<int> queue;
            int got = 0;
            const Task<void> first =
                co_await spawn([&]() -> Coro<void> { got = co_await queue.get(); });
            co_await yield_now();
            if (item_first)
                queue.put_sync(1);
            (void)co_await traps::Cancel{first.record()};
            if (!item_first)
                queue.put_sync(1);
            co_await first.wait();
            CHECK(got == (item_first ? 1 : 0));
            CHECK(queue.size() == (item_first ? 0 : 1));

            UniversalQueue<int> full{1};
            full.put_sync(1);
            bool put = false;
            const Task<void> second = co_await spawn([&]() -> Coro<void> {
                co_await full.put(2);
                put = true;
            });
            co_await yield_now();
            if (item_first)
                CHECK(full.get_sync() == 1);
            (void)co_await traps::Cancel{second.record()};
            if (!item_first)
                CHECK(full.get_sync() == 1);
            co_await second.wait();
            CHECK(put == item_first);
            CHECK(full.size() == (item_first ? 1 : 0));
        }
    });
}

TEST_CASE("join waits until all is done, on tasks and on threads") {
    on_both([]() -> Coro<void> {
        UniversalQueue<int> queue;
        co_await queue.join();
        queue.join_sync();
        CHECK_THROWS_AS(queue.task_done(), std::logic_error);
        for (int i = 0; i < 3; ++i)
            queue.put_sync(i);
        std::atomic<int> done = 0;
        std::jthread thread{[&] {
            queue.join_sync();
            CHECK(done == 3);
        }};
        const Task<void> joins = co_await spawn([&]() -> Coro<void> {
            co_await queue.join();
            CHECK(done == 3);
        });
        for (int i = 0; i < 3; ++i) {
            co_await yield_now();
            CHECK_FALSE(joins.terminated());
            (void)co_await queue.get();
            ++done;
            queue.task_done();
        }
        co_await joins.join();
    });
}

TEST_CASE("closing does not end a join: what was put is still to be done") {
    on_both([]() -> Coro<void> {
        UniversalQueue<int> queue;
        co_await queue.put(1);
        const Task<void> joiner = co_await spawn([&]() -> Coro<void> { co_await queue.join(); });
        co_await yield_now();
        queue.close();
        co_await yield_now();
        co_await yield_now();
        CHECK_FALSE(joiner.terminated());
        CHECK(queue.try_get() == 1);
        queue.task_done();
        co_await joiner.join();
    });
}

#ifndef NDEBUG
TEST_CASE("destroying a queue that a task waits on stops the program, with a word about both") {
    const test::CapturedStderr errors;
    const std::string death = test::in_child([]() -> std::string {
        std::signal(SIGABRT, SIG_DFL); // not doctest's
        run(
            []() -> Coro<void> {
                auto queue = std::make_unique<UniversalQueue<int>>();
                const auto wait = [](UniversalQueue<int>& q) -> Coro<void> { co_await q.get(); };
                const Task<void> getter = co_await spawn(wait(*queue), {.name = "worker"});
                co_await yield_now();
                queue.reset();
                co_await getter.join();
            },
            test::virtual_time());
        return "";
    });
    CHECK(death.contains("signal 6"));
    CHECK(errors.text().starts_with(
        "trapline: a UniversalQueue is destroyed while task 'worker', at "));
    CHECK(errors.text().contains("universal_queue_test.cpp:"));
}
#endif

TEST_CASE("a burst of items wakes a task that waits far less often than there are items") {
    static constexpr int items = test::sanitized ? 10'000 : 100'000;
    run([]() -> Coro<void> {
        UniversalQueue<int> queue;
        std::atomic<bool> go = false;
        std::jthread producer{[&] {
            while (!go) {}
            for (int i = 0; i < items; ++i)
                queue.put_sync(i);
            queue.close();
        }};
        go = true;
        int expected = 0;
        while (const std::optional<int> item = co_await queue.next())
            expected += *item == expected;
        CHECK(expected == items);
        CHECK(queue.wakeups() < items / 4);
    });
}

namespace {

struct Shape {
    std::size_t capacity;
    int kernels;
    int threads;
};

/// What all of a crowd did to a queue.
struct Totals {
    std::atomic<long> put = 0;
    std::atomic<long> put_sum = 0;
    std::atomic<long> got = 0;
    std::atomic<long> got_sum = 0;
    std::atomic<long> interrupted = 0;
};

using Queue = UniversalQueue<std::unique_ptr<long>>;

/// Puts `count` items; of those that a time limit or a cancellation ends, none counts.
Coro<void> put_some(Queue& queue, Totals& totals, unsigned seed, int count) {
    std::mt19937 random{seed};
    for (int i = 0; i < count; ++i) {
        const long value = static_cast<long>(random() % 1000);
        auto item = std::make_unique<long>(value);
        bool put = true;
        if (random() % 2)
            put = co_await ignore_after(Duration{random() % 20'000}, queue.put(std::move(item)));
        else
            co_await queue.put(std::move(item));
        totals.put += put;
        totals.put_sum += put ? value : 0;
        totals.interrupted += !put;
    }
}

Coro<void> get_all(Queue& queue, Totals& totals, unsigned seed) {
    std::mt19937 random{seed};
    for (;;) {
        std::optional<std::unique_ptr<long>> item;
        if (random() % 2) {
            auto in_time = co_await ignore_after(Duration{random() % 20'000}, queue.next());
            if (!in_time) {
                ++totals.interrupted;
                continue;
            }
            item = std::move(*in_time);
        } else {
            item = co_await queue.next();
        }
        if (!item)
            co_return;
        ++totals.got;
        totals.got_sum += **item;
    }
}

/// Getters that are cancelled over and over, and start again.
Coro<void> cancel_getters(Queue& queue, Totals& totals, int rounds) {
    for (int round = 0; round < rounds; ++round) {
        const Task<void> getter = co_await spawn([&]() -> Coro<void> {
            while (const auto item = co_await queue.next()) {
                ++totals.got;
                totals.got_sum += **item;
            }
        });
        for (int turn = 0; turn < round % 4; ++turn)
            co_await yield_now();
        const bool interrupted = co_await getter.cancel();
        totals.interrupted += interrupted;
    }
}

void crowd(const Shape& shape, unsigned seed) {
    constexpr int count = test::sanitized ? 100 : 400;
    Queue queue{shape.capacity};
    Totals totals;
    std::vector<std::jthread> producers;
    std::vector<std::jthread> consumers;
    for (int k = 0; k < shape.kernels; ++k) {
        const KernelOptions options = k % 2 ? test::virtual_time() : KernelOptions{};
        producers.emplace_back([&, options, k] {
            run(
                [&]() -> Coro<void> {
                    std::vector<Task<void>> tasks;
                    for (unsigned i = 0; i < 3; ++i)
                        tasks.push_back(
                            co_await spawn(put_some(queue, totals, seed + 10 * k + i, count)));
                    for (const Task<void>& task : tasks)
                        co_await task.join();
                },
                options);
        });
        consumers.emplace_back([&, options, k] {
            run(
                [&]() -> Coro<void> {
                    std::vector<Task<void>> tasks;
                    for (unsigned i = 0; i < 3; ++i)
                        tasks.push_back(
                            co_await spawn(get_all(queue, totals, seed + 10 * k + i + 5)));
                    tasks.push_back(co_await spawn(cancel_getters(queue, totals, count)));
                    for (const Task<void>& task : tasks)
                        co_await task.join();
                },
                options);
        });
    }
    for (int t = 0; t < shape.threads; ++t) {
        producers.emplace_back([&] {
            for (int i = 0; i < count; ++i) {
                queue.put_sync(std::make_unique<long>(i));
                ++totals.put;
                totals.put_sum += i;
            }
        });
        consumers.emplace_back([&] {
            while (const auto item = queue.next_sync()) {
                ++totals.got;
                totals.got_sum += **item;
            }
        });
    }
    producers.clear();
    queue.close();
    consumers.clear();
    CHECK(queue.empty());
    CHECK(totals.got == totals.put);
    CHECK(totals.got_sum == totals.put_sum);
}

} // namespace

TEST_CASE("a crowd of tasks, kernels and threads loses no item and doubles none") {
    for (unsigned seed = 1; seed <= 3; ++seed) {
        for (const Shape& shape :
             {Shape{1, 2, 1}, Shape{3, 2, 2}, Shape{0, 2, 1}, Shape{2, 1, 0}}) {
            CAPTURE(seed);
            CAPTURE(shape.capacity);
            CAPTURE(shape.kernels);
            crowd(shape, seed);
        }
    }
}

TEST_CASE(
    "what one producer puts, one consumer gets in that order, however often it is cancelled") {
    on_both([]() -> Coro<void> {
        constexpr int items = test::sanitized ? 500 : 3000;
        UniversalQueue<int> queue{4};
        std::jthread producer{[&] {
            for (int i = 0; i < items; ++i)
                queue.put_sync(i);
            queue.close();
        }};
        int next = 0;
        bool over = false;
        while (!over) {
            const Task<void> getter = co_await spawn([&]() -> Coro<void> {
                while (const std::optional<int> item = co_await queue.next()) {
                    CHECK(*item == next);
                    ++next;
                }
                over = true;
            });
            for (int turn = 0; turn < next % 3; ++turn)
                co_await yield_now();
            co_await getter.cancel();
        }
        CHECK(next == items);
    });
}
