#include <trapline/traps/outcome.hpp>

#include <memory>
#include <stdexcept>
#include <string>

#include <doctest/doctest.h>

using namespace trapline;
using detail::Outcome;

namespace {

struct Counted {
    explicit Counted(int& count) : alive(&count) { ++*alive; }
    Counted(Counted&& other) noexcept : alive(other.alive) { ++*alive; }
    Counted& operator=(const Counted&) = delete;
    ~Counted() { --*alive; }
    int* alive;
};

std::exception_ptr failure(const char* text) {
    return std::make_exception_ptr(std::runtime_error(text));
}

} // namespace

TEST_CASE("an outcome holds nothing, a value or a failure") {
    Outcome<std::string> outcome;
    CHECK_FALSE(outcome.has_value());
    CHECK_FALSE(outcome.has_failure());
    outcome.set_value("text");
    CHECK(outcome.has_value());
    CHECK(outcome.copy() == "text");
    CHECK(outcome.take() == "text");
    outcome.set_failure(failure("failed"));
    CHECK(outcome.has_failure());
    CHECK_FALSE(outcome.has_value());
    CHECK_THROWS_WITH_AS(outcome.take(), "failed", std::runtime_error);
    CHECK_THROWS_AS(std::rethrow_exception(outcome.failure()), std::runtime_error);
}

TEST_CASE("an outcome of void says whether it came to its end") {
    Outcome<void> outcome;
    CHECK_FALSE(outcome.has_value());
    outcome.set_value();
    CHECK(outcome.has_value());
    outcome.take();
    outcome.copy();
}

TEST_CASE("an outcome of a reference is the object itself") {
    int value = 1;
    Outcome<int&> outcome;
    outcome.set_value(&value);
    CHECK(&outcome.take() == &value);
    CHECK(&outcome.copy() == &value);
}

TEST_CASE("an outcome destroys what it holds exactly once") {
    int alive = 0;
    {
        Outcome<Counted> outcome;
        outcome.set_value(alive);
        CHECK(alive == 1);
        outcome.set_value(alive);
        CHECK(alive == 1);
        outcome.set_failure(failure("x"));
        CHECK(alive == 0);
        outcome.set_value(alive);
        CHECK(alive == 1);
    }
    CHECK(alive == 0);
}

TEST_CASE("a value that throws when it is made leaves the outcome empty") {
    struct Throwing {
        explicit Throwing(bool throws) {
            if (throws)
                throw std::runtime_error("no");
        }
    };
    Outcome<Throwing> outcome;
    outcome.set_value(false);
    CHECK_THROWS_AS(outcome.set_value(true), std::runtime_error);
    CHECK_FALSE(outcome.has_value());
    CHECK_FALSE(outcome.has_failure());
}

TEST_CASE("take moves the value out") {
    Outcome<std::unique_ptr<int>> outcome;
    outcome.set_value(std::make_unique<int>(3));
    CHECK(*outcome.take() == 3);
}

TEST_CASE("an outcome moves into another") {
    Outcome<std::unique_ptr<int>> from;
    Outcome<std::unique_ptr<int>> to;
    from.set_value(std::make_unique<int>(3));
    from.move_to(to);
    REQUIRE(to.has_value());
    CHECK(*to.take() == 3);
}
