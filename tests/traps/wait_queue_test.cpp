#include <trapline/traps/wait_queue.hpp>

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "hand_loop.hpp"

using namespace trapline;

namespace {

/// A node that notes when it is woken.
struct Waiter {
    Waiter(std::vector<int>& order, int number) : order_(order), number_(number) {
        node.waker = {[](void* self) noexcept {
                          auto& waiter = *static_cast<Waiter*>(self);
                          waiter.order_.push_back(waiter.number_);
                      },
                      this};
    }
    WaitNode node;

private:
    std::vector<int>& order_;
    int number_;
};

struct Queueing {
    std::vector<int> order;
    std::deque<Waiter> waiters;
    WaitQueue queue;

    explicit Queueing(int n) {
        for (int i = 0; i < n; ++i)
            queue.append(waiters.emplace_back(order, i).node);
    }
};

struct Gate {
    WaitQueue queue;
    bool is_open = false;

    Coro<void> pass() {
        while (!is_open)
            co_await SureTrap{traps::Park{&queue}};
    }
    void open() noexcept {
        is_open = true;
        queue.wake_all();
    }
};

} // namespace

TEST_CASE("tasks that park at a gate pass when it opens, and later ones at once") {
    const auto body = []() -> Coro<bool> {
        Gate gate;
        Task<> first = co_await spawn(gate.pass());
        Task<> second = co_await spawn(gate.pass());
        co_await yield_now();
        const bool waited = !first.terminated() && !second.terminated() && !gate.queue.empty();
        gate.open();
        co_await first.join();
        co_await second.join();
        co_await gate.pass();
        co_return waited&& gate.queue.empty();
    };
    CHECK(HandLoop{}.run(body()));
}

TEST_CASE("wake wakes the longest waiting first and answers how many") {
    Queueing q{5};
    CHECK_FALSE(q.queue.empty());
    CHECK(q.queue.wake() == 1);
    CHECK(q.order == std::vector{0});
    CHECK(q.queue.wake(3) == 3);
    CHECK(q.order == std::vector{0, 1, 2, 3});
    CHECK(q.queue.wake(9) == 1);
    CHECK(q.queue.empty());
    CHECK(q.queue.wake() == 0);
    CHECK(q.queue.wake_all() == 0);
    CHECK(q.order == std::vector{0, 1, 2, 3, 4});
}

TEST_CASE("wake of none wakes none") {
    Queueing q{2};
    CHECK(q.queue.wake(0) == 0);
    CHECK(q.order.empty());
    CHECK(q.queue.wake_all() == 2);
}

TEST_CASE("a node that leaves is not woken, wherever it stood, and may leave twice") {
    for (std::size_t leaver = 0; leaver < 3; ++leaver) {
        Queueing q{3};
        WaitNode& node = q.waiters[leaver].node;
        CHECK(node.queued());
        node.unlink();
        CHECK_FALSE(node.queued());
        node.unlink();
        CHECK(q.queue.wake_all() == 2);
        std::vector expected{0, 1, 2};
        std::erase(expected, static_cast<int>(leaver));
        CHECK(q.order == expected);
    }
}

TEST_CASE("a woken node is out of the queue and may wait again, as the last one") {
    Queueing q{2};
    q.queue.wake();
    CHECK_FALSE(q.waiters[0].node.queued());
    q.queue.append(q.waiters[0].node);
    q.queue.wake_all();
    CHECK(q.order == std::vector{0, 1, 0});
}

TEST_CASE("a waker may put its node back: wake counts it once more only if asked to") {
    struct Returning {
        WaitQueue queue;
        WaitNode node;
        int woken = 0;
    } returning;
    returning.node.waker = {[](void* context) noexcept {
                                auto& self = *static_cast<Returning*>(context);
                                if (++self.woken < 3)
                                    self.queue.append(self.node);
                            },
                            &returning};
    returning.queue.append(returning.node);
    CHECK(returning.queue.wake() == 1);
    CHECK(returning.woken == 1);
    CHECK(returning.queue.wake(2) == 2);
    CHECK(returning.queue.empty());
}

TEST_CASE("a destroyed node unlinks itself") {
    std::vector<int> order;
    WaitQueue queue;
    auto first = std::make_unique<Waiter>(order, 1);
    Waiter second{order, 2};
    queue.append(first->node);
    queue.append(second.node);
    first.reset();
    CHECK(queue.wake_all() == 1);
    CHECK(order == std::vector{2});
}

TEST_CASE("a destroyed queue lets its waiters go without waking them") {
    std::vector<int> order;
    Waiter waiter{order, 1};
    {
        WaitQueue queue;
        queue.append(waiter.node);
    }
    CHECK_FALSE(waiter.node.queued());
    CHECK(order.empty());
    waiter.node.unlink();
}

TEST_CASE("any order of joining, leaving and waking keeps first in, first out") {
    std::vector<int> order;
    std::deque<Waiter> waiters;
    std::vector<int> expected;
    std::vector<int> waiting;
    WaitQueue queue;
    std::mt19937 dice{4};
    for (int i = 0; i < 200; ++i)
        waiters.emplace_back(order, i);
    for (int step = 0; step < 20'000; ++step) {
        const int i = static_cast<int>(dice() % waiters.size());
        WaitNode& node = waiters[static_cast<std::size_t>(i)].node;
        if (node.queued()) {
            node.unlink();
            std::erase(waiting, i);
        } else {
            queue.append(node);
            waiting.push_back(i);
        }
        if (dice() % 8 == 0 && !waiting.empty()) {
            queue.wake();
            expected.push_back(waiting.front());
            waiting.erase(waiting.begin());
        }
    }
    CHECK(order == expected);
    CHECK(queue.wake_all() == waiting.size());
}

TEST_CASE("a task parks until it is woken, by a plain function call") {
    HandLoop loop;
    const auto sleeper = [](WaitQueue& queue) -> Coro<int> {
        co_await traps::Park{&queue};
        co_return 1;
    };
    const auto body = [&]() -> Coro<int> {
        WaitQueue queue;
        Task<int> task = co_await spawn(sleeper(queue));
        co_await yield_now();
        const bool parked = !queue.empty() && !task.terminated();
        queue.wake();
        if (!parked)
            co_return 0;
        co_return co_await task.join();
    };
    CHECK(loop.run(body()) == 1);
}
