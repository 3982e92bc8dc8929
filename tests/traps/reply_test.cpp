#include <trapline/traps/reply.hpp>

#include <cerrno>

#include <doctest/doctest.h>

#include <trapline/traps/calls.hpp>
#include <trapline/traps/routine.hpp>

using namespace trapline;
using namespace std::chrono_literals;

static_assert(sizeof(Reply) == 16);

namespace {

Reply answer(const Trap& trap, TimePoint now) {
    if (std::holds_alternative<traps::Yield>(trap))
        return {};
    if (std::holds_alternative<traps::Clock>(trap))
        return Reply::time(now);
    return {-ENOSYS};
}

} // namespace

TEST_CASE("nothing, a time and an error are the answers of one who knows two traps") {
    const auto body = []() -> Coro<std::error_code> {
        co_await yield_now();
        const TimePoint time = co_await now();
        CHECK(time == TimePoint{3s});
        const auto woke = co_await traps::Sleep{1s};
        co_return woke.error();
    };
    Routine<std::error_code> routine{body()};
    for (const Trap* trap = routine.start(); trap;)
        trap = routine.send(answer(*trap, TimePoint{3s}));
    CHECK(routine.result() == std::errc::function_not_supported);
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
