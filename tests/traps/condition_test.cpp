#include <trapline/traps/condition.hpp>

#include <stdexcept>
#include <string_view>
#include <vector>

#include "on_kernel.hpp"

using namespace trapline;
using namespace trapline::test;

namespace {

/// Waits once, and notes when it has the lock again; or that it was interrupted, with the lock.
struct Waiters {
    Condition condition;
    std::vector<int> woken;
    std::vector<int> interrupted;

    Coro<void> wait(int number) {
        const auto held = co_await condition.hold();
        try {
            co_await condition.wait();
            woken.push_back(number);
        } catch (const Cancelled&) {
            if (condition.lock().locked())
                interrupted.push_back(number);
            throw;
        }
    }
};

} // namespace

TEST_CASE("condition.hpp: wait until there is something on the shelf") {
    on_kernel([]() -> Coro<void> {
        Condition changed;
        std::vector<int> shelf;
        Task<> buyer = co_await spawn([&]() -> Coro<void> {
            const auto held = co_await changed.hold();
            co_await changed.wait_for([&] { return !shelf.empty(); });
            shelf.pop_back();
        });
        co_await settle();
        changed.notify(); // for nothing: the buyer looks, and waits on
        co_await settle();
        CHECK(!buyer.terminated());
        shelf.push_back(1);
        changed.notify();
        co_await buyer.join();
        CHECK(shelf.empty());
        CHECK(!changed.lock().locked());
    });
}

TEST_CASE("waiting without the lock is refused, and what holds already is not waited for") {
    on_kernel([]() -> Coro<void> {
        Condition condition;
        bool refused = false;
        try {
            co_await condition.wait();
        } catch (const std::logic_error&) {
            refused = true;
        }
        CHECK(refused);
        const auto held = co_await condition.hold();
        co_await condition.wait_for([] { return true; });
        CHECK(held);
    });
}

TEST_CASE("a notification reaches the longest waiters, as many as it is for") {
    on_kernel([]() -> Coro<void> {
        Waiters all;
        std::vector<Task<>> tasks;
        for (int i = 0; i < 5; ++i)
            tasks.push_back(co_await spawn(all.wait(i)));
        co_await settle();
        CHECK(!all.condition.lock().locked());
        all.condition.notify(2);
        co_await settle();
        CHECK(all.woken == std::vector{0, 1});
        all.condition.notify();
        co_await settle();
        CHECK(all.woken == std::vector{0, 1, 2});
        all.condition.notify_all();
        all.condition.notify_all();
        co_await settle();
        CHECK(all.woken == std::vector{0, 1, 2, 3, 4});
    });
}

TEST_CASE("waiters that are notified while the lock is held run when it is theirs, not before") {
    Kernel kernel{test::virtual_time()};
    const auto main = [&]() -> Coro<void> {
        Waiters all;
        std::vector<Task<>> tasks;
        for (int i = 0; i < 3; ++i)
            tasks.push_back(co_await spawn(all.wait(i)));
        co_await settle();
        auto held = co_await all.condition.hold();
        all.condition.notify_all();
        co_await settle();
        CHECK(all.woken.empty());
        const auto traps = kernel.counters().traps;
        held.release();
        co_await settle();
        CHECK(all.woken == std::vector{0, 1, 2});
        CHECK(kernel.counters().traps == traps + 1); // our own sleep: each waiter parked once
    };
    kernel.run(main());
}

TEST_CASE("several conditions over one lock") {
    on_kernel([]() -> Coro<void> {
        Lock lock;
        Condition full{lock};
        Condition empty{lock};
        CHECK(&full.lock() == &lock);
        Task<> one = co_await spawn([&]() -> Coro<void> {
            const auto held = co_await full.hold();
            co_await full.wait();
            empty.notify();
        });
        Task<> other = co_await spawn([&]() -> Coro<void> {
            const auto held = co_await empty.hold();
            co_await empty.wait();
        });
        co_await settle();
        full.notify();
        co_await one.join();
        co_await other.join();
        CHECK(!lock.locked());
    });
}

TEST_CASE("one that is interrupted has the lock again, and waits for it if need be") {
    on_kernel([]() -> Coro<void> {
        for (const bool lock_is_free : {true, false}) {
            Waiters all;
            Task<> task = co_await spawn(all.wait(1));
            co_await settle();
            auto held = co_await all.condition.hold();
            if (lock_is_free)
                held.release();
            (void)co_await traps::Cancel{task.record()};
            co_await settle();
            CHECK(all.interrupted.size() == (lock_is_free ? 1 : 0));
            held.release();
            co_await task.wait();
            CHECK(all.interrupted == std::vector{1});
            CHECK(task.cancelled());
            CHECK(!all.condition.lock().locked());
        }
    });
}

TEST_CASE("a time limit ends the wait with the lock held") {
    on_kernel([]() -> Coro<void> {
        Condition condition;
        const auto held = co_await condition.hold();
        const bool notified = co_await ignore_after(1ms, condition.wait());
        CHECK(!notified);
        CHECK(held);
    });
}

TEST_CASE("the notification of a waiter that is interrupted goes to the next") {
    on_kernel([]() -> Coro<void> {
        for (const bool cancel_first : {true, false}) {
            Waiters all;
            Task<> first = co_await spawn(all.wait(1));
            Task<> second = co_await spawn(all.wait(2));
            co_await settle();
            auto held = co_await all.condition.hold();
            if (cancel_first)
                (void)co_await traps::Cancel{first.record()};
            all.condition.notify();
            if (!cancel_first)
                (void)co_await traps::Cancel{first.record()};
            co_await settle();
            held.release();
            co_await second.join();
            CHECK(all.interrupted == std::vector{1});
            CHECK(all.woken == std::vector{2});
            CHECK(first.terminated());
        }
    });
}

TEST_CASE("one that was given the lock with the notification keeps both") {
    on_kernel([]() -> Coro<void> {
        Waiters all;
        Task<> task = co_await spawn(all.wait(1));
        co_await settle();
        all.condition.notify();
        CHECK(all.condition.lock().locked());
        (void)co_await traps::Cancel{task.record()};
        co_await task.wait();
        CHECK(all.woken == std::vector{1});
        CHECK(all.interrupted.empty());
    });
}

TEST_CASE("a task that is destroyed while it waits leaves the lock to who has it") {
    Condition condition;
    KernelOptions options = test::virtual_time();
    options.log = [](std::string_view) {}; // that the task can never go on
    Kernel kernel{options};
    const auto main = [&]() -> Coro<void> {
        co_await spawn([&]() -> Coro<void> {
            const auto held = co_await condition.hold();
            co_await disable_cancellation(condition.wait());
        });
        co_await settle();
    };
    kernel.run(main());
    CHECK(condition.lock().try_acquire());
    kernel.shutdown();
    CHECK(kernel.task_count() == 0);
    CHECK(condition.lock().locked());
    condition.lock().release();
}

TEST_CASE("what a predicate throws comes out of wait_for, and the lock is held") {
    on_kernel([]() -> Coro<void> {
        Condition condition;
        int looks = 0;
        bool threw = false;
        bool locked = false;
        Task<> waiter = co_await spawn([&]() -> Coro<void> {
            const auto held = co_await condition.hold();
            try {
                co_await condition.wait_for([&]() -> bool {
                    if (++looks == 2)
                        throw std::out_of_range("no such shelf");
                    return false;
                });
            } catch (const std::out_of_range&) {
                threw = true;
                locked = static_cast<bool>(held);
            }
        });
        co_await settle();
        CHECK(looks == 1);
        condition.notify_all();
        co_await waiter.join();
        CHECK(looks == 2);
        CHECK(threw);
        CHECK(locked);
        CHECK(!condition.lock().locked());
    });
}
