#include <trapline/traps/semaphore.hpp>

#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "counted_new.hpp"
#include "on_kernel.hpp"

using namespace trapline;
using namespace trapline::test;

TEST_CASE("semaphore.hpp: a permit until the end of the scope") {
    on_kernel([]() -> Coro<void> {
        Semaphore connections{10};
        {
            const auto permit = co_await connections.hold(); // until the end of the scope
            CHECK(connections.value() == 9);
        }
        CHECK(connections.value() == 10);
    });
}

TEST_CASE("permits that are free cost no trap and no allocation") {
    Kernel kernel{test::virtual_time()};
    const auto main = []() -> Coro<void> {
        const std::size_t allocations = allocation_counts().made;
        Semaphore semaphore{2};
        co_await semaphore.acquire();
        co_await semaphore.acquire();
        CHECK(!semaphore.try_acquire());
        semaphore.release(2);
        CHECK(semaphore.try_acquire());
        CHECK(semaphore.value() == 1);
        BoundedSemaphore bounded{1};
        {
            const auto permit = co_await bounded.hold();
            CHECK(bounded.value() == 0);
        }
        const bool none = allocation_counts().made == allocations;
        CHECK(none);
    };
    kernel.run(main());
    CHECK(kernel.counters().traps == 0);
}

TEST_CASE("a release gives the permit to the longest waiter, and nobody overtakes") {
    on_kernel([]() -> Coro<void> {
        Semaphore semaphore{0};
        std::vector<int> order;
        const auto user = [&](int number) -> Coro<void> {
            co_await semaphore.acquire();
            order.push_back(number);
        };
        std::vector<Task<>> tasks;
        for (int i = 0; i < 3; ++i)
            tasks.push_back(co_await spawn(user, i));
        co_await settle();
        semaphore.release();
        CHECK(semaphore.value() == 0);
        CHECK(!semaphore.try_acquire());
        co_await settle();
        CHECK(order == std::vector{0});
        semaphore.release(5);
        CHECK(semaphore.value() == 3);
        co_await settle();
        CHECK(order == std::vector{0, 1, 2});
    });
}

TEST_CASE("a permit is neither lost nor doubled when its waiter is cancelled in the same turn") {
    on_kernel([]() -> Coro<void> {
        for (const bool release_first : {true, false}) {
            Semaphore semaphore{0};
            Task<> first = co_await spawn([&]() -> Coro<void> {
                const auto permit = co_await semaphore.hold();
                co_await sleep(1h);
            });
            Task<bool> second = co_await spawn([&]() -> Coro<bool> {
                co_await semaphore.acquire();
                co_return true;
            });
            co_await settle();
            if (release_first)
                semaphore.release();
            (void)co_await traps::Cancel{first.record()};
            if (!release_first)
                semaphore.release();
            CHECK(semaphore.value() == 0);
            const bool handed_on = co_await second.join();
            CHECK(handed_on);
            CHECK(first.terminated());
            CHECK(semaphore.value() == 0);
        }
    });
}

TEST_CASE("a time limit while waiting leaves the permit to others") {
    on_kernel([]() -> Coro<void> {
        Semaphore semaphore{0};
        const std::optional<Guard<Semaphore>> none = co_await ignore_after(1ms, semaphore.hold());
        CHECK(!none);
        semaphore.release();
        CHECK(semaphore.value() == 1);
        {
            const auto permit = co_await timeout_after(1ms, semaphore.hold());
            CHECK(permit);
            CHECK(semaphore.value() == 0);
        }
        CHECK(semaphore.value() == 1);
    });
}

TEST_CASE("a guard moves, and releases once") {
    on_kernel([]() -> Coro<void> {
        Semaphore semaphore{2};
        auto one = co_await semaphore.hold();
        auto other = co_await semaphore.hold();
        other = std::move(one);
        CHECK(!one); // NOLINT(bugprone-use-after-move)
        CHECK(semaphore.value() == 1);
        other.release();
        other.release();
        CHECK(!other);
        CHECK(semaphore.value() == 2);
    });
}

TEST_CASE("a bounded one refuses to be released more often than it was acquired") {
    on_kernel([]() -> Coro<void> {
        BoundedSemaphore semaphore{2};
        CHECK(semaphore.bound() == 2);
        CHECK_THROWS_AS(semaphore.release(), std::logic_error);
        {
            const auto permit = co_await semaphore.hold();
            CHECK_THROWS_AS(semaphore.release(2), std::logic_error);
            CHECK(semaphore.value() == 1);
        }
        CHECK(semaphore.value() == 2);
        co_await semaphore.acquire();
        CHECK(semaphore.try_acquire());
        semaphore.release(2);
        CHECK(semaphore.value() == 2);
    });
}

TEST_CASE("a bounded one hands its permits over like any, also in the turn of a cancellation") {
    on_kernel([]() -> Coro<void> {
        for (const bool release_first : {true, false}) {
            BoundedSemaphore semaphore{1};
            auto permit = co_await semaphore.hold();
            bool had_it = false;
            Task<> waiter = co_await spawn([&]() -> Coro<void> {
                const auto own = co_await semaphore.hold();
                had_it = true;
                co_await sleep(1h);
            });
            co_await settle();
            if (release_first)
                permit.release();
            CHECK(semaphore.value() == 0);
            (void)co_await traps::Cancel{waiter.record()};
            permit.release();
            co_await waiter.wait();
            CHECK(had_it == release_first);
            CHECK(semaphore.value() == 1);
        }
    });
}
