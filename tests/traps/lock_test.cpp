#include <trapline/traps/lock.hpp>

#include <cstddef>
#include <stdexcept>
#include <utility>
#include <vector>

#include "counted_new.hpp"
#include "on_kernel.hpp"

using namespace trapline;
using namespace trapline::test;

TEST_CASE("lock.hpp: held until the end of the scope") {
    on_kernel([]() -> Coro<void> {
        Lock lock;
        {
            const auto held = co_await lock.hold(); // until the end of the scope
            CHECK(held);
            CHECK(lock.locked());
        }
        CHECK(!lock.locked());
    });
}

TEST_CASE("a lock that is free costs no trap and no allocation, an RLock neither") {
    Kernel kernel{test::virtual_time()};
    const auto main = []() -> Coro<void> {
        const std::size_t allocations = allocation_counts().made;
        Lock lock;
        co_await lock.acquire();
        CHECK(!lock.try_acquire());
        lock.release();
        CHECK(lock.try_acquire());
        lock.release();
        RLock again;
        co_await again.acquire();
        co_await again.acquire();
        again.release();
        again.release();
        const bool none = allocation_counts().made == allocations;
        CHECK(none);
    };
    kernel.run(main());
    CHECK(kernel.counters().traps == 0);
}

TEST_CASE("what nobody has cannot be released") {
    Lock lock;
    CHECK_THROWS_AS(lock.release(), std::logic_error);
    RLock again;
    CHECK_THROWS_AS(again.release(), std::logic_error);
}

TEST_CASE("the longest waiter owns the lock from its release on") {
    on_kernel([]() -> Coro<void> {
        Lock lock;
        std::vector<int> order;
        const auto user = [&](int number) -> Coro<void> {
            const auto held = co_await lock.hold();
            order.push_back(number);
            co_await sleep(1ms);
            order.push_back(number);
        };
        auto held = co_await lock.hold();
        std::vector<Task<>> tasks;
        for (int i = 0; i < 3; ++i)
            tasks.push_back(co_await spawn(user, i));
        co_await settle();
        held.release();
        CHECK(lock.locked());
        CHECK(!lock.try_acquire());
        for (const Task<>& task : tasks)
            co_await task.join();
        CHECK(order == std::vector{0, 0, 1, 1, 2, 2});
        CHECK(!lock.locked());
    });
}

TEST_CASE("a lock is not lost when its waiter is cancelled in the turn of the release") {
    on_kernel([]() -> Coro<void> {
        for (const bool release_first : {true, false}) {
            Lock lock;
            bool had_it = false;
            co_await lock.acquire();
            Task<> waiter = co_await spawn([&]() -> Coro<void> {
                const auto held = co_await lock.hold();
                had_it = true;
                co_await sleep(1h);
            });
            co_await settle();
            if (release_first)
                lock.release();
            (void)co_await traps::Cancel{waiter.record()};
            if (!release_first)
                lock.release();
            co_await waiter.wait();
            CHECK(had_it == release_first);
            CHECK(!lock.locked());
        }
    });
}

TEST_CASE("a guard releases only what it took") {
    on_kernel([]() -> Coro<void> {
        Lock lock;
        auto first = co_await lock.hold();
        lock.release();
        CHECK(!first);
        auto second = co_await lock.hold();
        first.release();
        CHECK(lock.locked());
        first = std::move(second);
        CHECK(!second); // NOLINT(bugprone-use-after-move)
        CHECK(first);
        first.release();
        CHECK(!lock.locked());
    });
}

TEST_CASE("an RLock is its task's own, as often as it likes, also within a time limit") {
    on_kernel([]() -> Coro<void> {
        RLock lock;
        std::vector<int> order;
        const auto user = [&](int number) -> Coro<void> {
            const auto outer = co_await lock.hold();
            order.push_back(number);
            co_await sleep(1ms);
            {
                const auto inner = co_await timeout_after(1ms, lock.hold());
                CHECK(lock.depth() == 2);
                co_await sleep(1ms);
            }
            CHECK(lock.depth() == 1);
            order.push_back(number);
        };
        Task<> one = co_await spawn(user, 1);
        Task<> two = co_await spawn(user, 2);
        Task<> three = co_await spawn(user, 3);
        co_await settle();
        CHECK(lock.locked());
        const bool got_it = co_await ignore_after(500us, lock.acquire());
        CHECK(!got_it);
        co_await two.cancel();
        co_await one.join();
        co_await three.join();
        CHECK(order == std::vector{1, 1, 3, 3});
        CHECK(!lock.locked());
    });
}

TEST_CASE("an RLock is not lost when its waiter is cancelled in the turn of the release") {
    on_kernel([]() -> Coro<void> {
        for (const bool release_first : {true, false}) {
            RLock lock;
            bool had_it = false;
            auto mine = co_await lock.hold();
            Task<> waiter = co_await spawn([&]() -> Coro<void> {
                const auto held = co_await lock.hold();
                const auto again = co_await lock.hold();
                had_it = lock.depth() == 2;
                co_await sleep(1h);
            });
            co_await settle();
            if (release_first)
                mine.release();
            (void)co_await traps::Cancel{waiter.record()};
            if (!release_first)
                mine.release();
            co_await waiter.wait();
            CHECK(had_it == release_first);
            CHECK(!lock.locked());
        }
    });
}

TEST_CASE("a time limit while waiting leaves the lock to others") {
    on_kernel([]() -> Coro<void> {
        Lock lock;
        auto mine = co_await lock.hold();
        const bool got_it = co_await ignore_after(1ms, lock.acquire());
        CHECK(!got_it);
        Task<> other = co_await spawn([&]() -> Coro<void> { co_await lock.acquire(); });
        co_await settle();
        mine.release();
        co_await other.join();
        CHECK(lock.locked());
    });
}
