#include <trapline/traps/trap.hpp>

#include <string>
#include <type_traits>

#include <doctest/doctest.h>

#include "hand_loop.hpp"

using namespace trapline;
using namespace std::chrono_literals;

static_assert(std::is_trivially_copyable_v<Trap>);
static_assert(sizeof(Trap) <= 64);
static_assert(TrapType<traps::Yield> && TrapType<traps::Io>);
static_assert(!TrapType<int> && !TrapType<traps::Recv> && !TrapType<Trap>);

namespace {

template <class T>
std::string name_for(const T& trap) {
    static_assert(std::is_trivially_destructible_v<T>);
    static_assert(requires { typename T::result; });
    return traps::name_of(Trap{trap});
}

} // namespace

TEST_CASE("a trap that is awaited as it is answers its result") {
    const auto body = []() -> Coro<TimePoint> {
        TimePoint woke = (co_await traps::Sleep{5ms}).value();
        co_return woke;
    };
    CHECK(drive(body()) == TimePoint{5ms});
}

TEST_CASE("each trap bears its name") {
    using namespace traps;
    CHECK(name_for(Yield{}) == "Yield");
    CHECK(name_for(Sleep{1s}) == "Sleep");
    CHECK(name_for(SleepUntil{TimePoint{1s}}) == "SleepUntil");
    CHECK(name_for(Clock{}) == "Clock");
    CHECK(name_for(Self{}) == "Self");
    CHECK(name_for(Spawn{nullptr}) == "Spawn");
    CHECK(name_for(Join{nullptr}) == "Join");
    CHECK(name_for(Cancel{nullptr}) == "Cancel");
    CHECK(name_for(SetTimeout{1s}) == "SetTimeout");
    CHECK(name_for(UnsetTimeout{never}) == "UnsetTimeout");
    CHECK(name_for(Mask{true}) == "Mask");
    CHECK(name_for(Park{nullptr}) == "Park");
    CHECK(name_for(AwaitThread{nullptr}) == "AwaitThread");
    CHECK(name_for(ReadWait{0}) == "ReadWait");
    CHECK(name_for(WriteWait{0}) == "WriteWait");
    CHECK(name_for(IoRelease{0}) == "IoRelease");
    CHECK(name_for(Io{Nop{}}) == "Io");
    CHECK(std::variant_size_v<Trap> == 17); // one more: add its name above
}

TEST_CASE("trap_index is the trap's place in the variant") {
    CHECK(trap_index<traps::Yield> == 0);
    CHECK(Trap{traps::Yield{}}.index() == trap_index<traps::Yield>);
    CHECK(Trap{traps::Park{nullptr}}.index() == trap_index<traps::Park>);
    CHECK(trap_index<traps::Io> == std::variant_size_v<Trap> - 1);
}

TEST_CASE("a cancel is a request unless it says otherwise") {
    CHECK(traps::Cancel{nullptr}.reason == traps::CancelReason::request);
}
