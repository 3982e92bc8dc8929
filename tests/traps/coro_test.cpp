#include <trapline/traps/coro.hpp>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/traps/calls.hpp>

#include "hand_loop.hpp"
#include "trampoline.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

/// Says when it is destroyed, and refuses to be so twice.
class Witness {
public:
    explicit Witness(int& alive) : alive_(&alive) { ++*alive_; }
    Witness(const Witness& other) : alive_(other.alive_) { ++*alive_; }
    Witness(Witness&& other) noexcept : alive_(other.alive_) { ++*alive_; }
    Witness& operator=(const Witness&) = delete;
    ~Witness() { --*alive_; }

private:
    int* alive_;
};

Coro<int> answer(int value) { co_return value; }

Coro<int> trapping(int value) {
    co_await sleep(1ms);
    co_return value;
}

Coro<int> failing(std::string text) {
    co_await yield_now();
    throw std::runtime_error(text);
}

Coro<int> twice(int x) {
    co_await sleep(1ms);
    co_return 2 * x;
}

Coro<int> four_times(int x) {
    int doubled = co_await twice(x);
    co_return co_await twice(doubled);
}

} // namespace

TEST_CASE("a coroutine awaits another for its result") { CHECK(drive(four_times(3)) == 12); }

TEST_CASE("a coroutine does nothing until it is awaited") {
    bool ran = false;
    const auto body = [](bool& flag) -> Coro<void> {
        flag = true;
        co_return;
    };
    {
        Coro<void> coro = body(ran);
        CHECK_FALSE(ran);
    }
    CHECK_FALSE(ran);
    drive(body(ran));
    CHECK(ran);
}

TEST_CASE("dropping a coroutine that never ran destroys its arguments and nothing else") {
    int alive = 0;
    bool ran = false;
    const auto body = [](Witness, bool& flag) -> Coro<void> {
        flag = true;
        co_return;
    };
    {
        Coro<void> coro = body(Witness{alive}, ran);
        CHECK(alive == 1);
    }
    CHECK(alive == 0);
    CHECK_FALSE(ran);
}

TEST_CASE("a moved-from coroutine is empty") {
    Coro<int> first = answer(7);
    CHECK(first);
    Coro<int> second = std::move(first);
    CHECK_FALSE(first); // NOLINT(bugprone-use-after-move)
    CHECK(second);
    first = std::move(second);
    CHECK(first);
    CHECK_FALSE(second); // NOLINT(bugprone-use-after-move)
    CHECK(drive(std::move(first)) == 7);
}

TEST_CASE("assigning to a coroutine destroys the one it held") {
    int alive = 0;
    const auto body = [](Witness) -> Coro<int> { co_return 1; };
    Coro<int> coro = body(Witness{alive});
    CHECK(alive == 1);
    coro = answer(2);
    CHECK(alive == 0);
    CHECK(drive(std::move(coro)) == 2);
}

TEST_CASE("co_await of an empty coroutine is refused") {
    const auto body = []() -> Coro<std::string> {
        Coro<int> empty;
        try {
            co_await std::move(empty);
        } catch (const std::logic_error& e) {
            co_return e.what();
        }
        co_return "";
    };
    const std::string text = drive(body());
    CHECK(text == "co_await of an empty Coro: it was moved from or awaited before");
}

TEST_CASE("a coroutine that was awaited is empty") {
    const auto body = []() -> Coro<bool> {
        Coro<int> child = answer(3);
        const int value = co_await std::move(child);
        co_return value == 3 && !child; // NOLINT(bugprone-use-after-move)
    };
    CHECK(drive(body()));
}

TEST_CASE("an exception passes through a chain of awaits and can be caught on the way") {
    const auto middle = [](bool catches) -> Coro<int> {
        try {
            co_return co_await failing("deep");
        } catch (const std::runtime_error&) {
            if (!catches)
                throw;
        }
        co_return -1;
    };
    CHECK(drive(middle(true)) == -1);
    CHECK_THROWS_WITH_AS(drive(middle(false)), "deep", std::runtime_error);
}

TEST_CASE("an exception before the first trap is thrown by the await") {
    const auto at_once = []() -> Coro<int> {
        throw std::runtime_error("at once");
        co_return 0;
    };
    const auto body = [&]() -> Coro<int> { co_return co_await at_once(); };
    CHECK_THROWS_WITH_AS(drive(body()), "at once", std::runtime_error);
}

TEST_CASE("an exception that is no std::exception passes too") {
    const auto body = []() -> Coro<void> {
        co_await yield_now();
        throw 42;
    };
    CHECK_THROWS_AS(drive(body()), int);
}

TEST_CASE("a coroutine can answer a reference") {
    int value = 1;
    const auto body = [](int& v) -> Coro<int&> {
        co_await yield_now();
        co_return v;
    };
    const auto caller = [&]() -> Coro<int*> {
        int& same = co_await body(value);
        co_return &same;
    };
    CHECK(drive(caller()) == &value);
    CHECK(&drive(body(value)) == &value);
}

TEST_CASE("a coroutine can answer a const value and a reference to const") {
    const std::string text = "text";
    const auto reference = [](const std::string& t) -> Coro<const std::string&> { co_return t; };
    const auto value = []() -> Coro<const std::string> { co_return "value"; };
    CHECK(&drive(reference(text)) == &text);
    CHECK(drive(value()) == "value");
}

TEST_CASE("a coroutine can answer what can only be moved") {
    const auto body = []() -> Coro<std::unique_ptr<int>> {
        auto made = std::make_unique<int>(5);
        co_await yield_now();
        co_return made;
    };
    const auto caller = [&]() -> Coro<std::unique_ptr<int>> { co_return co_await body(); };
    CHECK(*drive(caller()) == 5);
}

TEST_CASE("a coroutine can answer what has no default constructor and converts from another type") {
    struct Wrapped {
        Wrapped(int v) : value(v) {} // NOLINT(google-explicit-constructor)
        int value;
    };
    const auto body = []() -> Coro<Wrapped> { co_return 6; };
    CHECK(drive(body()).value == 6);
}

TEST_CASE("a result that throws when it is made becomes the coroutine's exception") {
    struct Picky {
        explicit Picky(int) {}
        Picky(Picky&&) { throw std::runtime_error("cannot move"); }
    };
    const auto body = []() -> Coro<Picky> {
        Picky picky{1};
        co_return std::move(picky);
    };
    CHECK_THROWS_WITH_AS(drive(body()), "cannot move", std::runtime_error);
}

TEST_CASE("arguments and locals are gone when the await is over") {
    int alive = 0;
    const auto body = [](Witness, int& count) -> Coro<int> {
        const Witness local{count};
        co_await yield_now();
        co_return count;
    };
    const auto caller = [&]() -> Coro<int> {
        const int inside = co_await body(Witness{alive}, alive);
        co_return inside * 10 + alive;
    };
    const int seen = drive(caller());
    CHECK(seen == 30); // the argument, its temporary and the local; then none
    CHECK(alive == 0);
}

TEST_CASE("dropping a suspended chain destroys all of it, innermost first") {
    std::string order;
    struct Note {
        std::string& text;
        char letter;
        ~Note() { text += letter; }
    };
    const auto inner = [](std::string& text) -> Coro<void> {
        const Note note{text, 'i'};
        co_await yield_now();
    };
    const auto outer = [&](std::string& text) -> Coro<void> {
        const Note note{text, 'o'};
        co_await inner(text);
    };
    {
        Routine<void> routine{outer(order)};
        REQUIRE(routine.start());
        CHECK(order.empty());
    }
    CHECK(order == "io");
}

TEST_CASE("a million awaits in a row use no stack") {
    const auto body = []() -> Coro<long> {
        long sum = 0;
        for (int i = 0; i < 1'000'000; ++i)
            sum += co_await answer(1);
        co_return sum;
    };
    CHECK(drive(body()) == 1'000'000);
}

TEST_CASE("awaits of coroutines that trap use no stack") {
    const auto body = []() -> Coro<long> {
        long sum = 0;
        for (int i = 0; i < 100'000; ++i)
            sum += co_await trapping(1);
        co_return sum;
    };
    CHECK(drive(body()) == 100'000);
}

namespace {

Coro<int> nested(int depth) {
    if (depth == 0) {
        co_await yield_now();
        co_return 0;
    }
    co_return 1 + co_await nested(depth - 1);
}

Coro<int> nested_failing(int depth) {
    if (depth == 0) {
        co_await yield_now();
        throw std::runtime_error("from the bottom");
    }
    co_return 1 + co_await nested_failing(depth - 1);
}

} // namespace

TEST_CASE("awaits may nest a hundred thousand deep") { CHECK(drive(nested(100'000)) == 100'000); }

TEST_CASE("an exception passes tens of thousands of awaits") {
    CHECK_THROWS_WITH_AS(drive(nested_failing(30'000)), "from the bottom", std::runtime_error);
}

TEST_CASE("resuming goes straight to the innermost coroutine") {
    Routine<int> routine{nested(1000)};
    REQUIRE(routine.start());
    CHECK(routine.frame().where().size() == 1001);
    CHECK(routine.send() == nullptr);
    CHECK(routine.result() == 1000);
}

TEST_CASE("coroutines that hand over by trampoline and by transfer work together") {
    CHECK(drive(by_trampoline(3)) == 3);
    CHECK(drive(by_transfer(3)) == 3);
    // Each awaits one of the other kind, down to the last.
    CHECK(drive(by_trampoline(1000)) == 1000);
    CHECK(drive(by_transfer(1001)) == 1001);
}

TEST_CASE("a million awaits in a row between both kinds use no stack") {
    CHECK(drive(sum_by_trampoline(1'000'000)) == 1'000'000);
    CHECK(drive(sum_by_transfer(1'000'000)) == 1'000'000);
}

TEST_CASE("exceptions pass between both kinds") {
    CHECK_THROWS_WITH_AS(drive(by_trampoline(11, true)), "from the bottom", std::runtime_error);
    CHECK_THROWS_WITH_AS(drive(by_transfer(11, true)), "from the bottom", std::runtime_error);
}

TEST_CASE("generators of both kinds yield to both kinds, and a million values use no stack") {
    for (const bool traps : {false, true}) {
        const int n = traps ? 1'000 : 1'000'000;
        CHECK(drive(add_by_trampoline(ones_by_transfer(n, traps))) == n);
        CHECK(drive(add_by_transfer(ones_by_trampoline(n, traps))) == n);
        CHECK(drive(add_by_trampoline(ones_by_trampoline(n, traps))) == n);
    }
}
