#include <trapline/traps/time.hpp>

#include <doctest/doctest.h>

#include <trapline/traps/reply.hpp>

using namespace trapline;
using namespace std::chrono_literals;

// Only a kernel can tell the time.
template <class Clock>
concept TellsTheTime = requires { Clock::now(); };
static_assert(TellsTheTime<std::chrono::steady_clock> && !TellsTheTime<KernelClock>);
static_assert(sizeof(Reply) == 16);

TEST_CASE("later adds, and stops at never instead of overflowing") {
    CHECK(later(TimePoint{1s}, 2s) == TimePoint{3s});
    CHECK(later(TimePoint{1s}, -2s) == TimePoint{-1s});
    CHECK(later(TimePoint{1s}, Duration::max()) == never);
    CHECK(later(TimePoint{1ns}, never - TimePoint{1ns}) == never);
    CHECK(later(TimePoint{1ns}, never - TimePoint{2ns}) < never);
    CHECK(later(TimePoint{0ns}, Duration::min()) == TimePoint::min());
}

TEST_CASE("a reply is a value, an error or an interrupt") {
    CHECK_FALSE(Reply{}.failed());
    CHECK_FALSE(Reply{5}.failed());
    CHECK(Reply{-2}.failed());
    CHECK(Reply{-2}.error() == 2);
    CHECK(Reply{}.interrupt == Interrupt::none);
}

TEST_CASE("a reply carries a time") {
    CHECK(Reply::time(TimePoint{3s}).time() == TimePoint{3s});
    CHECK(Reply::time(never).time() == never);
}
