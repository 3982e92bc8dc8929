#include <trapline/traps/guard.hpp>

#include <utility>

#include <trapline/traps/semaphore.hpp>

#include "on_kernel.hpp"

using namespace trapline;
using namespace trapline::test;

TEST_CASE("guard.hpp: held until the end of the scope") {
    on_kernel([]() -> Coro<void> {
        Semaphore semaphore{1};
        {
            const auto permit = co_await semaphore.hold();
            CHECK(permit);
            CHECK(semaphore.value() == 0);
        }
        CHECK(semaphore.value() == 1);
    });
}

TEST_CASE("a guard that was moved holds nothing, and the other one releases once") {
    on_kernel([]() -> Coro<void> {
        Semaphore semaphore{1};
        auto permit = co_await semaphore.hold();
        {
            const auto moved = std::move(permit);
            CHECK(moved);
            CHECK_FALSE(permit); // NOLINT(bugprone-use-after-move)
        }
        CHECK(semaphore.value() == 1);
    });
}

TEST_CASE("a guard may release early, and holds nothing then") {
    on_kernel([]() -> Coro<void> {
        Semaphore semaphore{1};
        auto permit = co_await semaphore.hold();
        permit.release();
        CHECK_FALSE(permit);
        CHECK(semaphore.value() == 1);
    });
}

TEST_CASE("a guard that is given another one's permit releases its own first") {
    on_kernel([]() -> Coro<void> {
        Semaphore first{1};
        Semaphore second{1};
        auto permit = co_await first.hold();
        permit = co_await second.hold();
        CHECK(first.value() == 1);
        CHECK(second.value() == 0);
    });
}
