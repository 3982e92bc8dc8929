#include <trapline/traps/exceptions.hpp>

#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>

#include <doctest/doctest.h>

#include <trapline/traps/calls.hpp>
#include <trapline/traps/routine.hpp>

using namespace trapline;
using namespace std::chrono_literals;

// A handler for errors does not swallow an interrupt, and one for interrupts no error.
static_assert(!std::is_base_of_v<std::exception, Cancelled>);
static_assert(!std::is_base_of_v<std::exception, TaskCancelled>);
static_assert(!std::is_base_of_v<std::exception, TaskTimeout>);
static_assert(!std::is_base_of_v<std::exception, TimeoutCancellation>);
static_assert(std::is_base_of_v<Cancelled, TaskCancelled>);
static_assert(std::is_base_of_v<Cancelled, TaskTimeout>);
static_assert(std::is_base_of_v<Cancelled, TimeoutCancellation>);
static_assert(std::is_base_of_v<std::runtime_error, UncaughtTimeout>);
static_assert(std::is_base_of_v<std::runtime_error, TaskError>);
static_assert(std::is_base_of_v<std::runtime_error, Deadlock>);

namespace nested_namespace {
struct Oddity {};
} // namespace nested_namespace

namespace {

template <class E>
std::exception_ptr ptr(E e) {
    return std::make_exception_ptr(std::move(e));
}

unsigned line_of(const std::source_location& at = std::source_location::current()) {
    return at.line();
}

Coro<void> work() { co_await yield_now(); }

} // namespace

TEST_CASE("a handler for errors sees errors, and an interrupt passes it by") {
    const auto body = [](std::string& note) -> Coro<void> {
        try {
            co_await work();
        } catch (const std::exception& error) { // no interrupt comes here
            note = error.what();
        } catch (const Cancelled&) { // to clean up; throw it on
            note = "interrupted";
            throw;
        }
    };
    std::string note;
    Routine<void> failing{body(note)};
    failing.start();
    failing.throw_in(ptr(std::runtime_error("broken")));
    CHECK_NOTHROW(failing.result());
    CHECK(note == "broken");
    Routine<void> interrupted{body(note)};
    interrupted.start();
    interrupted.send({.interrupt = Interrupt::cancelled});
    CHECK_THROWS_AS(interrupted.result(), TaskCancelled);
    CHECK(note == "interrupted");
}

TEST_CASE("message_of is what an exception says of itself, or its type") {
    CHECK(message_of(ptr(std::runtime_error("broken"))) == "broken");
    CHECK(message_of(ptr(TaskCancelled{})) == "task cancelled");
    CHECK(message_of(ptr(TaskTimeout{TimePoint{1s}})) == "time limit exceeded");
    CHECK(message_of(ptr(TimeoutCancellation{TimePoint{1s}})) ==
          "cancelled by an outer time limit");
    CHECK(message_of(ptr(42)) == "an exception of type int");
    CHECK(message_of(ptr(nested_namespace::Oddity{})) ==
          "an exception of type nested_namespace::Oddity");
    CHECK(message_of(nullptr) == "no exception");
}

TEST_CASE("is_interrupt tells the Cancelled family from all others") {
    CHECK(is_interrupt(ptr(TaskCancelled{})));
    CHECK(is_interrupt(ptr(TaskTimeout{TimePoint{1s}})));
    CHECK(is_interrupt(ptr(TimeoutCancellation{TimePoint{1s}})));
    CHECK_FALSE(is_interrupt(ptr(std::runtime_error("x"))));
    CHECK_FALSE(is_interrupt(ptr(UncaughtTimeout("x"))));
    CHECK_FALSE(is_interrupt(ptr(42)));
}

TEST_CASE("an interrupt's progress is kept when it is copied") {
    TaskTimeout timeout{TimePoint{2s}, true};
    CHECK(timeout.progress() == 0);
    timeout.set_progress(9);
    const TaskTimeout copy = timeout; // NOLINT(performance-unnecessary-copy-initialization)
    CHECK(copy.progress() == 9);
    CHECK(copy.deadline() == TimePoint{2s});
    CHECK(copy.reported());
    CHECK_FALSE(TaskTimeout{TimePoint{2s}}.reported());
}

TEST_CASE("TaskError throws its cause on") {
    const TaskError error{"task 'x' ended", ptr(std::logic_error("cause"))};
    CHECK(std::string(error.what()) == "task 'x' ended");
    CHECK(message_of(error.cause()) == "cause");
    CHECK_THROWS_WITH_AS(error.rethrow_cause(), "cause", std::logic_error);
}

TEST_CASE("a place is described by file, line and function, without the folders") {
    const std::string text = describe(std::source_location::current());
    CHECK(text.starts_with("exceptions_test.cpp:" + std::to_string(line_of() - 1) + " ("));
    CHECK(describe(std::source_location{}) == "the start");
}
