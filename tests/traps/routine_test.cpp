#include <trapline/traps/routine.hpp>

#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/traps/calls.hpp>

#include "hand_loop.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

Coro<int> two_sleeps() {
    co_await sleep(1ms);
    co_await sleep(2ms);
    co_return 3;
}

/// Notes what ends it, and lets it pass.
Coro<void> noting(std::string& note) {
    try {
        co_await yield_now();
        note = "went on";
    } catch (const TaskCancelled&) {
        note = "cancelled";
        throw;
    } catch (const std::exception& e) {
        note = e.what();
        throw;
    }
}

std::exception_ptr error(const char* text) {
    return std::make_exception_ptr(std::runtime_error(text));
}

} // namespace

TEST_CASE("a loop that answers each trap drives a coroutine to its result") {
    const auto work = two_sleeps;
    TimePoint time{};
    const auto answer = [&](const Trap& trap) {
        return Reply::time(time += std::get<traps::Sleep>(trap).duration);
    };
    Routine<int> r{work()};
    for (const Trap* trap = r.start(); trap; trap = r.send(answer(*trap))) {}
    int result = r.result();
    CHECK(result == 3);
    CHECK(time == TimePoint{3ms});
}

TEST_CASE("start runs to the first trap, send to the next, and null is the end") {
    Routine<int> routine{two_sleeps()};
    CHECK_FALSE(routine.ended());
    const Trap* trap = routine.start();
    REQUIRE(trap);
    CHECK(std::get<traps::Sleep>(*trap).duration == 1ms);
    trap = routine.send();
    REQUIRE(trap);
    CHECK(std::get<traps::Sleep>(*trap).duration == 2ms);
    CHECK_FALSE(routine.ended());
    CHECK(routine.send() == nullptr);
    CHECK(routine.ended());
    CHECK(routine.result() == 3);
}

TEST_CASE("a coroutine without traps ends in start") {
    Routine<int> routine{[]() -> Coro<int> { co_return 1; }()};
    CHECK(routine.start() == nullptr);
    CHECK(routine.result() == 1);
}

TEST_CASE("the value that is sent is what the await answers") {
    const auto body = []() -> Coro<std::pair<TimePoint, std::error_code>> {
        const TimePoint time = co_await now();
        const auto answer = co_await traps::ReadWait{3};
        co_return {time, answer.error()};
    };
    Routine routine{body()};
    REQUIRE(routine.start());
    REQUIRE(routine.send(Reply::time(TimePoint{5ms})));
    CHECK(routine.send({-EBADF}) == nullptr);
    const auto [time, code] = routine.result();
    CHECK(time == TimePoint{5ms});
    CHECK(code == std::errc::bad_file_descriptor);
}

TEST_CASE("result throws the coroutine's exception") {
    std::string note;
    Routine<void> routine{noting(note)};
    routine.start();
    CHECK(routine.throw_in(error("thrown")) == nullptr);
    CHECK(routine.ended());
    CHECK_THROWS_WITH_AS(routine.result(), "thrown", std::runtime_error);
    CHECK(note == "thrown");
}

TEST_CASE("an exception that is thrown in can be caught, and the coroutine goes on") {
    const auto body = []() -> Coro<std::string> {
        std::string caught = "nothing";
        try {
            co_await sleep(1ms);
        } catch (const std::runtime_error& e) {
            caught = e.what();
        }
        co_await yield_now();
        co_return caught;
    };
    Routine<std::string> routine{body()};
    routine.start();
    const Trap* trap = routine.throw_in(error("thrown in"));
    REQUIRE(trap);
    CHECK(std::holds_alternative<traps::Yield>(*trap));
    CHECK(routine.send() == nullptr);
    CHECK(routine.result() == "thrown in");
}

TEST_CASE("an exception is thrown at the innermost await") {
    std::string note;
    const auto outer = [&]() -> Coro<void> { co_await noting(note); };
    Routine<void> routine{outer()};
    routine.start();
    routine.throw_in(error("deep"));
    CHECK(note == "deep");
}

TEST_CASE("close lets the coroutine clean up and swallows the cancellation") {
    std::string note;
    Routine<void> routine{noting(note)};
    routine.start();
    routine.close();
    CHECK(routine.ended());
    CHECK(note == "cancelled");
}

TEST_CASE("close is harmless when the coroutine never started, has ended or was closed") {
    std::string note;
    Routine<void> never_started{noting(note)};
    never_started.close();
    CHECK(never_started.ended());
    never_started.close();
    CHECK(note.empty());

    Routine<void> ended{noting(note)};
    ended.start();
    ended.send();
    ended.close();
    CHECK(ended.ended());
    CHECK(note == "went on");
}

TEST_CASE("close throws what cleanup throws instead of the cancellation") {
    const auto body = []() -> Coro<void> {
        try {
            co_await yield_now();
        } catch (const Cancelled&) {
            throw std::runtime_error("cleanup failed");
        }
    };
    Routine<void> routine{body()};
    routine.start();
    CHECK_THROWS_WITH_AS(routine.close(), "cleanup failed", std::runtime_error);
    CHECK(routine.ended());
}

TEST_CASE("close complains of a coroutine that traps again, and destroys it") {
    int alive = 0;
    const auto body = [](int& count) -> Coro<void> {
        struct Guard {
            int& count;
            explicit Guard(int& c) : count(c) { ++count; }
            ~Guard() { --count; }
        };
        const Guard guard{count};
        try {
            co_await yield_now();
        } catch (const Cancelled&) {}
        co_await yield_now();
    };
    Routine<void> routine{body(alive)};
    routine.start();
    CHECK(alive == 1);
    CHECK_THROWS_WITH_AS(routine.close(), "coroutine trapped again instead of ending on close()",
                         std::runtime_error);
    CHECK(alive == 0);
    CHECK(routine.ended());
}

TEST_CASE("a coroutine that swallows the cancellation and ends is closed all the same") {
    const auto body = []() -> Coro<int> {
        try {
            co_await yield_now();
        } catch (const Cancelled&) {}
        co_return 1;
    };
    Routine<int> routine{body()};
    routine.start();
    CHECK_NOTHROW(routine.close());
}

TEST_CASE("a routine that is misused says so") {
    std::string note;
    CHECK_THROWS_AS(Routine<void>{Coro<void>{}}, std::logic_error);

    Routine<void> routine{noting(note)};
    CHECK_THROWS_AS(routine.send(), std::logic_error);
    CHECK_THROWS_AS(routine.throw_in(error("early")), std::logic_error);
    CHECK_THROWS_AS(routine.result(), std::logic_error);
    routine.start();
    CHECK_THROWS_AS(routine.start(), std::logic_error);
    CHECK_THROWS_AS(routine.result(), std::logic_error);
    routine.send();
    CHECK_THROWS_AS(routine.start(), std::logic_error);
    CHECK_THROWS_AS(routine.send(), std::logic_error);
    CHECK_THROWS_AS(routine.throw_in(error("late")), std::logic_error);
    CHECK_NOTHROW(routine.result());
    CHECK(note == "went on");
}

TEST_CASE("a closed routine neither starts nor goes on nor has a result") {
    std::string note;
    Routine<void> routine{noting(note)};
    routine.close();
    CHECK_THROWS_AS(routine.start(), std::logic_error);
    CHECK_THROWS_AS(routine.send(), std::logic_error);
    CHECK_THROWS_AS(routine.throw_in(error("late")), std::logic_error);
    CHECK_THROWS_AS(routine.result(), std::logic_error);
    CHECK(note.empty());
}

TEST_CASE("throwing in nothing is refused") {
    std::string note;
    Routine<void> routine{noting(note)};
    routine.start();
    CHECK_THROWS_AS(routine.throw_in(nullptr), std::logic_error);
    routine.send();
    CHECK(note == "went on");
}

TEST_CASE("a misuse that was refused leaves the coroutine as it was") {
    Routine<int> routine{two_sleeps()};
    CHECK_THROWS_AS(routine.send(), std::logic_error);
    int traps = 0;
    for (const Trap* trap = routine.start(); trap; trap = routine.send())
        ++traps;
    CHECK(traps == 2);
    CHECK(routine.result() == 3);
}

TEST_CASE("a loop of one's own answers sleeps and the clock") {
    const auto body = []() -> Coro<Duration> {
        const TimePoint start = co_await now();
        co_await sleep(3s);
        const TimePoint woke = co_await sleep(4s);
        co_return woke - start;
    };
    CHECK(drive(body()) == 7s);
}

TEST_CASE("a trap that the driver does not know is an error that names it") {
    const auto spawning = []() -> Coro<void> {
        co_await spawn([]() -> Coro<void> { co_return; }());
    };
    CHECK_THROWS_WITH_AS(drive(spawning()),
                         "Spawn: this kernel does not answer the trap: Function not implemented",
                         std::system_error);
    const auto sleeping = []() -> Coro<void> { co_await sleep_until(TimePoint{1s}); };
    CHECK_THROWS_WITH_AS(
        drive(sleeping()),
        "SleepUntil: this kernel does not answer the trap: Function not implemented",
        std::system_error);
    const auto reading = []() -> Coro<std::error_code> {
        co_return (co_await traps::read_wait(0)).error();
    };
    CHECK(drive(reading()) == std::errc::function_not_supported);
}

TEST_CASE("several routines take turns under one hand") {
    std::vector<std::string> order;
    const auto body = [](std::vector<std::string>& out, std::string name) -> Coro<void> {
        for (int i = 0; i < 2; ++i) {
            out.push_back(name + std::to_string(i));
            co_await yield_now();
        }
    };
    Routine<void> a{body(order, "a")};
    Routine<void> b{body(order, "b")};
    a.start();
    b.start();
    while (!a.ended() || !b.ended()) {
        if (!a.ended())
            a.send();
        if (!b.ended())
            b.send();
    }
    CHECK(order == std::vector<std::string>{"a0", "b0", "a1", "b1"});
}

TEST_CASE("a routine is not driven from within itself, nor told to throw nothing") {
    Routine<void>* self = nullptr;
    const auto body = [&]() -> Coro<void> {
        co_await yield_now();
        CHECK_THROWS_AS(self->send(), std::logic_error);
    };
    Routine<void> routine{body()};
    self = &routine;
    REQUIRE(routine.start());
    CHECK_THROWS_AS(routine.send({.interrupt = Interrupt::thrown}), std::logic_error);
    CHECK(routine.send() == nullptr);
    routine.result();
}
