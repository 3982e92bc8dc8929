#include <trapline/traps/result.hpp>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "on_kernel.hpp"

using namespace trapline;
using namespace trapline::test;

namespace {

Coro<void> ask(Result<int>& answer) {
    co_await sleep(1ms);
    answer.set_value(42);
}

template <class T>
Coro<std::string> error_of(Result<T>& result) {
    try {
        (void)co_await result.unwrap();
    } catch (const std::exception& error) {
        co_return error.what();
    }
    co_return "none";
}

} // namespace

TEST_CASE("result.hpp: wait for an answer") {
    on_kernel([]() -> Coro<void> {
        Result<int> answer;
        Task<> asker = co_await spawn(ask(answer));
        int value = co_await answer.unwrap();
        CHECK(value == 42);
        co_await asker.join();
    });
}

TEST_CASE("any number unwrap the same value, before and after it is set") {
    on_kernel([]() -> Coro<void> {
        Result<std::string> result;
        std::vector<std::string> values;
        const auto reader = [&]() -> Coro<void> {
            const std::string value = co_await result.unwrap();
            values.push_back(value);
        };
        Task<> one = co_await spawn(reader);
        Task<> two = co_await spawn(reader);
        co_await settle();
        CHECK(!result.is_set());
        result.set_value("so be it");
        CHECK(result.is_set());
        co_await one.join();
        co_await two.join();
        co_await reader();
        CHECK(values == std::vector<std::string>(3, "so be it"));
    });
}

TEST_CASE("an exception is thrown to each who unwraps") {
    on_kernel([]() -> Coro<void> {
        Result<> result;
        auto one = co_await spawn(error_of(result));
        co_await settle();
        result.set_exception(std::make_exception_ptr(std::runtime_error("no luck")));
        const std::string first = co_await one.join();
        const std::string second = co_await error_of(result);
        CHECK(first == "no luck");
        CHECK(second == "no luck");
    });
}

TEST_CASE("it is set once, by a value or an exception") {
    Result<int> value;
    CHECK_THROWS_AS(value.set_exception(nullptr), std::logic_error);
    value.set_value(1);
    CHECK_THROWS_AS(value.set_value(2), std::logic_error);
    CHECK_THROWS_AS(value.set_exception(std::make_exception_ptr(1)), std::logic_error);
    Result<> nothing;
    nothing.set_value();
    CHECK_THROWS_AS(nothing.set_value(), std::logic_error);
}

TEST_CASE("a value that cannot be copied is moved out once") {
    on_kernel([]() -> Coro<void> {
        Result<std::unique_ptr<int>> result;
        result.set_value(std::make_unique<int>(7));
        const std::unique_ptr<int> value = co_await result.unwrap();
        CHECK(*value == 7);
        CHECK(result.is_set());
        const std::string again = co_await error_of(result);
        CHECK(again == "the Result's value was moved out by an earlier unwrap");
    });
}

TEST_CASE("a reader that is interrupted leaves it to the others; one that was told has it") {
    on_kernel([]() -> Coro<void> {
        Result<int> result;
        const auto none = co_await ignore_after(1ms, result.unwrap());
        CHECK(!none);
        Task<int> told = co_await spawn([&]() -> Coro<int> { co_return co_await result.unwrap(); });
        co_await settle();
        result.set_value(3);
        (void)co_await traps::Cancel{told.record()};
        const int value = co_await told.join();
        CHECK(value == 3);
    });
}

TEST_CASE("a reader that is cancelled in the turn in which it is set: both orders") {
    on_kernel([]() -> Coro<void> {
        for (const bool set_first : {true, false}) {
            Result<int> result;
            int got = 0;
            Task<> reader = co_await spawn([&]() -> Coro<void> { got = co_await result.unwrap(); });
            co_await settle();
            if (set_first)
                result.set_value(3);
            (void)co_await traps::Cancel{reader.record()};
            if (!set_first)
                result.set_value(3);
            co_await reader.wait();
            CHECK(got == (set_first ? 3 : 0));
            const int later = co_await result.unwrap();
            CHECK(later == 3);
        }
    });
}

TEST_CASE("a value that cannot be made is not set, and another one can be") {
    struct Fussy {
        explicit Fussy(int value) : number(value) {
            if (value < 0)
                throw std::out_of_range("negative");
        }
        int number;
    };
    on_kernel([]() -> Coro<void> {
        Result<Fussy> result;
        CHECK_THROWS_AS(result.set_value(-1), std::out_of_range);
        CHECK(!result.is_set());
        result.set_value(1);
        const Fussy value = co_await result.unwrap();
        CHECK(value.number == 1);
    });
}
