#include <trapline/traps/attempt.hpp>

#include <memory>
#include <stdexcept>
#include <string>

#include <doctest/doctest.h>

#include "hand_loop.hpp"

using namespace trapline;
using namespace std::chrono_literals;
using detail::Attempt;
using detail::Outcome;

namespace {

Coro<int> answers() {
    co_await yield_now();
    co_return 3;
}

Coro<int> fails() {
    co_await yield_now();
    throw std::runtime_error("failed");
}

} // namespace

TEST_CASE("an attempt keeps the result") {
    const auto body = []() -> Coro<int> {
        Outcome<int> outcome;
        co_await Attempt{answers(), outcome};
        co_return outcome.take();
    };
    CHECK(drive(body()) == 3);
}

TEST_CASE("an attempt keeps the exception instead of throwing it") {
    const auto body = []() -> Coro<std::string> {
        Outcome<int> outcome;
        co_await Attempt{fails(), outcome};
        co_return outcome.has_failure() ? message_of(outcome.failure()) : "none";
    };
    CHECK(drive(body()) == "failed");
}

TEST_CASE("an attempt keeps interrupts, as the judge sees them") {
    const auto body = [](bool judged) -> Coro<std::string> {
        Outcome<int> outcome;
        const auto judge = [](const Cancelled& c) noexcept {
            return std::make_exception_ptr(std::runtime_error(std::string("judged: ") + c.what()));
        };
        if (judged)
            co_await Attempt{answers(), outcome, judge};
        else
            co_await Attempt{answers(), outcome};
        co_return message_of(outcome.failure());
    };
    for (const bool judged : {false, true}) {
        Routine<std::string> routine{body(judged)};
        routine.start();
        routine.send({.interrupt = Interrupt::cancelled});
        CHECK(routine.result() == (judged ? "judged: task cancelled" : "task cancelled"));
    }
}

TEST_CASE("an attempt takes void, references, what can only be moved, and bare awaitables") {
    int value = 1;
    const auto reference = [](int& v) -> Coro<int&> { co_return v; };
    const auto pointer = []() -> Coro<std::unique_ptr<int>> { co_return std::make_unique<int>(2); };
    const auto body = [&]() -> Coro<bool> {
        Outcome<void> nothing;
        co_await Attempt{yield_now(), nothing};
        Outcome<int&> same;
        co_await Attempt{reference(value), same};
        Outcome<std::unique_ptr<int>> moved;
        co_await Attempt{pointer(), moved};
        Outcome<TimePoint> woke;
        co_await Attempt{sleep(5s), woke};
        co_return nothing.has_value() && &same.take() == &value && *moved.take() == 2 &&
            woke.take() == TimePoint{5s};
    };
    CHECK(drive(body()));
}

TEST_CASE("a body is an awaitable, or a callable that returns one") {
    const auto callable = [] { return answers(); };
    static_assert(detail::Body<Coro<int>>);
    static_assert(detail::Body<std::remove_const_t<decltype(callable)>>);
    static_assert(detail::Body<decltype(yield_now())>);
    static_assert(!detail::Body<int>);
    static_assert(!detail::Body<int (*)()>);
    static_assert(std::is_same_v<detail::body_result_t<Coro<int>>, int>);
    static_assert(std::is_same_v<detail::body_result_t<Coro<int&>>, int&>);
    static_assert(std::is_same_v<detail::body_result_t<decltype(sleep(1s))>, TimePoint>);
    CHECK(drive(callable()) == 3);
}
