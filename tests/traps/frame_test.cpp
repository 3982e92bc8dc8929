#include <trapline/traps/frame.hpp>

#include <stdexcept>
#include <string_view>

#include <doctest/doctest.h>

#include <trapline/traps/calls.hpp>
#include <trapline/traps/cancel.hpp>
#include <trapline/traps/routine.hpp>

using namespace trapline;
using namespace std::chrono_literals;

namespace {

constexpr unsigned line_here(std::source_location at = std::source_location::current()) {
    return at.line();
}

constexpr unsigned inner_line = line_here() + 2;
Coro<void> inner() {
    co_await sleep(1ms);
    co_await yield_now();
}

constexpr unsigned middle_line = line_here() + 1;
Coro<void> middle() { co_await inner(); }

constexpr unsigned outer_line = line_here() + 1;
Coro<void> outer() { co_await middle(); }

constexpr unsigned failing_line = line_here() + 2;
Coro<void> failing() {
    co_await yield_now();
    throw std::runtime_error("failed");
}

constexpr unsigned careful_line = line_here() + 3;
Coro<void> careful(bool fails_again) {
    try {
        co_await failing();
    } catch (const std::runtime_error&) {
        if (!fails_again)
            throw;
    }
    throw std::logic_error("another one");
}

bool ends_with(std::string_view text, std::string_view end) { return text.ends_with(end); }

Coro<int> asks_the_time_twice() {
    const TimePoint first = co_await now();
    const TimePoint second = co_await now();
    co_return static_cast<int>((second - first).count());
}

} // namespace

namespace {

template <class T>
Coro<void> waits() {
    const auto inner = []() -> Coro<void> { co_await yield_now(); };
    co_await inner();
}

} // namespace

TEST_CASE("where a user's function waits is shown, whatever it is made of") {
    Routine<void> routine{waits<detail::Outcome<int>>()};
    routine.start();
    CHECK(routine.frame().where().size() == 2);
}

TEST_CASE("a driver gives a coroutine its frame, and answers there what it asks, to the end") {
    const auto work = asks_the_time_twice;
    TimePoint time{};
    const auto answer = [&](const Trap& trap) {
        CHECK(std::holds_alternative<traps::Clock>(trap));
        return Reply::time(time += 5ns);
    };
    TrapFrame frame; // outlives the coroutine
    Coro<int> coro = work();
    coro.handle().promise().frame = &frame;
    frame.innermost = coro.handle();
    for (frame.resume(); !frame.ended(); frame.resume())
        frame.reply = answer(frame.trap);
    CHECK(coro.handle().promise().outcome.take() == 5);
    CHECK(time == TimePoint{10ns});
}

TEST_CASE("where lists the await of each coroutine in the chain, innermost first") {
    Routine<void> routine{outer()};
    CHECK(routine.frame().where().empty());
    routine.start();
    AwaitChain chain = routine.frame().where();
    REQUIRE(chain.size() == 3);
    CHECK(chain[0].line() == inner_line);
    CHECK(chain[1].line() == middle_line);
    CHECK(chain[2].line() == outer_line);
    CHECK(ends_with(chain[0].file_name(), "frame_test.cpp"));
    CHECK(std::string_view(chain[1].function_name()).contains("middle"));

    routine.send();
    chain = routine.frame().where();
    REQUIRE(chain.size() == 3);
    CHECK(chain[0].line() == inner_line + 1);
}

TEST_CASE("a chain that shrinks again is seen as it is") {
    const auto body = []() -> Coro<void> {
        co_await middle();
        co_await yield_now();
    };
    Routine<void> routine{body()};
    routine.start();
    CHECK(routine.frame().where().size() == 3);
    routine.send();
    routine.send();
    CHECK(routine.frame().where().size() == 1);
}

TEST_CASE("the frame notes where an exception began, and keeps it while it passes outwards") {
    const auto body = []() -> Coro<void> { co_await careful(false); };
    Routine<void> routine{body()};
    routine.start();
    routine.send();
    REQUIRE(routine.ended());
    REQUIRE(routine.frame().extras);
    const AwaitChain& chain = routine.frame().extras->failure_began;
    REQUIRE(chain.size() == 3);
    CHECK(chain[0].line() == failing_line);
    CHECK(chain[1].line() == careful_line);
    CHECK_THROWS_AS(routine.result(), std::runtime_error);
}

TEST_CASE("an exception that replaces another is noted where it began itself") {
    Routine<void> routine{careful(true)};
    routine.start();
    routine.send();
    REQUIRE(routine.frame().extras);
    const AwaitChain& chain = routine.frame().extras->failure_began;
    CHECK(chain.size() == 1);
    CHECK(chain.front().line() == careful_line);
    CHECK_THROWS_AS(routine.result(), std::logic_error);
}

TEST_CASE("interrupts leave no such note: they end tasks by design") {
    Routine<void> routine{outer()};
    routine.start();
    routine.send({.interrupt = Interrupt::cancelled});
    CHECK(routine.ended());
    CHECK((!routine.frame().extras || !routine.frame().extras->failure));
}

TEST_CASE("an interrupt carries the progress that was made") {
    Routine<void> routine{outer()};
    routine.start();
    routine.send({.progress = 7, .interrupt = Interrupt::cancelled});
    try {
        routine.result();
        FAIL("no interrupt");
    } catch (const TaskCancelled& interrupt) {
        CHECK(interrupt.progress() == 7);
    }
}

TEST_CASE("the trap that was yielded stands in the frame") {
    Routine<void> routine{outer()};
    const Trap* trap = routine.start();
    CHECK(trap == &routine.frame().trap);
    CHECK(std::get<traps::Sleep>(routine.frame().trap).duration == 1ms);
}

TEST_CASE("an exception thrown after an interrupt was handled is noted where it began") {
    const auto body = []() -> Coro<void> {
        try {
            co_await yield_now();
        } catch (const Cancelled&) {}
        throw std::runtime_error("cleanup failed");
    };
    Routine<void> routine{body()};
    routine.start();
    routine.send({.interrupt = Interrupt::cancelled});
    REQUIRE(routine.frame().extras);
    CHECK(routine.frame().extras->failure_began.size() == 1);
    CHECK_THROWS_AS(routine.result(), std::runtime_error);
}

TEST_CASE("the places of a chain are the user's: those within the library are left out") {
    const auto body = []() -> Coro<void> { co_await timeout_after(Duration::max(), outer); };
    Routine<void> routine{body()};
    const Trap* trap = routine.start();
    while (trap && !std::holds_alternative<traps::Yield>(*trap)) // the limit's traps come first
        trap = routine.send();
    REQUIRE(trap);
    for (const std::source_location& at : routine.frame().where())
        CHECK(std::string_view(at.file_name()).ends_with("frame_test.cpp"));
    CHECK(routine.frame().where().size() >= 2);
}
