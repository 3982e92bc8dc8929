#include <trapline/traps/time.hpp>

#include <cmath>

#include <doctest/doctest.h>

#include "hand_loop.hpp"

using namespace trapline;
using namespace std::chrono_literals;
using detail::whole;

// Only a kernel can tell the time.
template <class Clock>
concept TellsTheTime = requires { Clock::now(); };
static_assert(TellsTheTime<std::chrono::steady_clock> && !TellsTheTime<KernelClock>);

TEST_CASE("how long something takes is told by the kernel's clock") {
    const auto body = []() -> Coro<Duration> {
        const auto work = []() -> Coro<void> { co_await sleep(3s); };
        TimePoint start = co_await now();
        co_await work();
        Duration took = co_await now() - start;
        co_return took;
    };
    CHECK(drive(body()) == 3s);
}

TEST_CASE("later adds, and stops at never instead of overflowing") {
    CHECK(later(TimePoint{1s}, 2s) == TimePoint{3s});
    CHECK(later(TimePoint{1s}, -2s) == TimePoint{-1s});
    CHECK(later(TimePoint{1s}, Duration::max()) == never);
    CHECK(later(TimePoint{1ns}, never - TimePoint{1ns}) == never);
    CHECK(later(TimePoint{1ns}, never - TimePoint{2ns}) < never);
    CHECK(later(TimePoint{0ns}, Duration::min()) == TimePoint::min());
}

TEST_CASE("fractions of a unit are durations, too, held at the ends of what there is") {
    CHECK(whole(0.5s) == 500ms);
    CHECK(whole(-0.25ms) == -250us);
    CHECK(whole(std::chrono::duration<float>{0.5F}) == 500ms);
    CHECK(whole(1e300 * 1h) == Duration::max());
    CHECK(whole(-1e300 * 1h) == Duration::min());
    CHECK(whole(std::chrono::duration<double>{std::nan("")}) == Duration::max());
    const auto body = []() -> Coro<Duration> {
        const TimePoint start = co_await now();
        co_await sleep(1.5s);
        co_return co_await now() - start;
    };
    CHECK(drive(body()) == 1500ms);
}
