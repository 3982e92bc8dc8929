#include "../../bench/designs/future/queue.hpp"

#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "../../bench/designs/future/waiting.hpp"
#include "../support/leaks.hpp"
#include "world.hpp"

// asyncio's Queue.

using namespace future_design;
using namespace std::chrono_literals;
using trapline::test::LeakGuard;

namespace {

Coroutine<> gets(Queue<int>& queue, std::string& order, std::string name) {
    try {
        const int n = co_await queue.get();
        order += name + std::to_string(n) + " ";
    } catch (const CancelledError&) {
        order += "-" + name + " ";
        throw;
    }
}

Coroutine<> puts(Queue<int>& queue, std::string& order, int n) {
    try {
        co_await queue.put(n);
        order += "+" + std::to_string(n) + " ";
    } catch (const CancelledError&) {
        order += "-" + std::to_string(n) + " ";
        throw;
    }
}

} // namespace

TEST_CASE("a queue hands over in order, and holds who puts more than it may hold") {
    const LeakGuard guard;
    World world;
    Queue<std::unique_ptr<int>> queue{world.loop, 2};
    std::string order;
    Coroutine<> producer = [](Queue<std::unique_ptr<int>>& q, std::string& o) -> Coroutine<> {
        for (int i = 0; i < 4; ++i) {
            co_await q.put(std::make_unique<int>(i));
            o += "+" + std::to_string(i) + " ";
        }
    }(queue, order);
    Coroutine<> consumer = [](Queue<std::unique_ptr<int>>& q, std::string& o) -> Coroutine<> {
        for (int i = 0; i < 4; ++i) {
            const std::unique_ptr<int> n = co_await q.get();
            o += std::to_string(*n) + " ";
        }
    }(queue, order);
    (void)world.loop.create_task(std::move(producer));
    world.loop.run_until_complete(std::move(consumer));
    CHECK(order == "+0 +1 0 1 +2 +3 2 3 ");
    CHECK(queue.empty());
}

TEST_CASE("those who wait to get are served in the order in which they asked") {
    World world;
    Queue<int> queue{world.loop};
    std::string order;
    for (const char* name : {"a", "b", "c"})
        (void)world.loop.create_task(gets(queue, order, name));
    world.loop.call_later(1s, [&] {
        for (int n : {1, 2, 3})
            queue.put_nowait(n);
        CHECK(queue.qsize() == 3);
    });
    world.loop.run_forever();
    CHECK(order == "a1 b2 c3 ");
}

TEST_CASE("who is cancelled after being woken to get wakes the next") {
    const LeakGuard guard;
    World world;
    Queue<int> queue{world.loop, 1};
    std::string order;
    Task<> a = world.loop.create_task(gets(queue, order, "a"));
    const Task<> b = world.loop.create_task(gets(queue, order, "b"));
    world.loop.call_later(1s, [&, a]() mutable {
        queue.put_nowait(1);
        a.cancel();
    });
    world.loop.run_forever();
    CHECK(order == "-a b1 ");
    CHECK(b.done());
}

TEST_CASE("who is cancelled after being woken to put wakes the next, and has put nothing") {
    const LeakGuard guard;
    World world;
    Queue<int> queue{world.loop, 1};
    queue.put_nowait(0);
    std::string order;
    std::vector<Task<>> putters;
    for (int n : {1, 2, 3})
        putters.push_back(world.loop.create_task(puts(queue, order, n)));
    world.loop.call_later(1s, [&] {
        CHECK(queue.get_nowait() == 0);
        putters[0].cancel();
    });
    world.loop.call_later(2s, [&] { CHECK(queue.get_nowait() == 2); });
    world.loop.call_later(3s, [&] { CHECK(queue.get_nowait() == 3); });
    world.loop.run_forever();
    CHECK(order == "-1 +2 +3 ");
    CHECK(queue.empty());
}

TEST_CASE("who is cancelled before being woken takes nobody's turn") {
    World world;
    Queue<int> queue{world.loop};
    std::string order;
    Task<> a = world.loop.create_task(gets(queue, order, "a"));
    (void)world.loop.create_task(gets(queue, order, "b"));
    world.loop.call_later(1s, [a]() mutable { a.cancel(); });
    world.loop.call_later(2s, [&] { queue.put_nowait(1); });
    world.loop.run_forever();
    CHECK(order == "-a b1 ");
}

TEST_CASE("put_nowait and get_nowait throw where they would wait") {
    World world;
    Queue<int> queue{world.loop, 1};
    CHECK(queue.maxsize() == 1);
    CHECK_THROWS_AS((void)queue.get_nowait(), QueueEmpty);
    queue.put_nowait(1);
    CHECK(queue.full());
    CHECK_THROWS_AS(queue.put_nowait(2), QueueFull);
    CHECK(queue.get_nowait() == 1);
}

TEST_CASE("join waits until all that was put is worked off") {
    World world;
    Queue<int> queue{world.loop};
    CHECK(queue.join().done());
    CHECK_THROWS_WITH(queue.task_done(), "task_done() was called too many times");
    queue.put_nowait(1);
    queue.put_nowait(2);
    (void)queue.get_nowait();
    world.loop.call_later(1s, [&] { queue.task_done(); });
    world.loop.call_later(2s, [&] { queue.task_done(); });
    world.loop.run_until_complete(queue.join());
    CHECK(world.passed() == 2s);
}

TEST_CASE("a get can be limited, and what comes later is still there") {
    World world;
    Queue<int> queue{world.loop};
    CHECK_THROWS_AS(world.loop.run_until_complete(timeout(1s, queue.get())), TimeoutError);
    queue.put_nowait(1);
    CHECK(world.loop.run_until_complete(timeout(1s, queue.get())) == 1);
}
