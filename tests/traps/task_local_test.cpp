#include <trapline/traps/task_local.hpp>

#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/traps/calls.hpp>
#include <trapline/traps/cancel.hpp>
#include <trapline/traps/routine.hpp>
#include <trapline/traps/task.hpp>

#include "counted_new.hpp"
#include "hand_loop.hpp"

using namespace trapline;

namespace {

const TaskLocal<std::string> request_id{"none"}; // at namespace scope: it outlives all tasks

Coro<std::string> label() { co_return "request " + co_await request_id.get(); }

Coro<std::string> handle(std::string id) {
    co_await request_id.set(std::move(id));
    auto worker = co_await spawn(label());
    co_return co_await std::move(worker).join();
}

const TaskLocal<int> number;
const TaskLocal<std::shared_ptr<int>> shared;

template <class F>
auto in_loop(F body) {
    HandLoop loop;
    return loop.run(body());
}

} // namespace

TEST_CASE("a child begins with its parent's values") {
    CHECK(in_loop([] { return handle("7"); }) == "request 7");
    CHECK(in_loop([] { return label(); }) == "request none");
}

TEST_CASE("a value that was never set is the initial one") {
    const auto body = []() -> Coro<int> { co_return co_await number.get(); };
    CHECK(in_loop(body) == 0);
}

TEST_CASE("what parent and child set after the spawn is their own") {
    const auto child = []() -> Coro<std::vector<int>> {
        std::vector<int> seen;
        seen.push_back(co_await number.get());
        co_await number.set(10);
        co_await yield_now();
        seen.push_back(co_await number.get());
        co_return seen;
    };
    const auto body = [&]() -> Coro<std::vector<int>> {
        co_await number.set(1);
        auto task = co_await spawn(child());
        co_await number.set(2);
        std::vector<int> seen = co_await std::move(task).join();
        seen.push_back(co_await number.get());
        co_return seen;
    };
    CHECK(in_loop(body) == std::vector{1, 10, 2});
}

TEST_CASE("tasks side by side do not see each other's values") {
    const auto worker = [](int own) -> Coro<bool> {
        co_await number.set(own);
        for (int i = 0; i < 3; ++i) {
            co_await yield_now();
            const int seen = co_await number.get();
            if (seen != own)
                co_return false;
        }
        co_return true;
    };
    const auto body = [&]() -> Coro<int> {
        std::vector<Task<bool>> tasks;
        for (int i = 1; i <= 20; ++i)
            tasks.push_back(co_await spawn(worker(i)));
        int right = 0;
        for (const auto& task : tasks)
            right += co_await task.join();
        co_return right;
    };
    CHECK(in_loop(body) == 20);
}

TEST_CASE("values belong to the task, whichever of its coroutines set them") {
    const auto sets = []() -> Coro<void> { co_await number.set(5); };
    const auto body = [&]() -> Coro<int> {
        co_await sets();
        co_return co_await number.get();
    };
    CHECK(in_loop(body) == 5);
}

TEST_CASE("reset shows the initial value again") {
    const auto body = []() -> Coro<std::string> {
        co_await request_id.set("x");
        co_await request_id.reset();
        co_await request_id.reset();
        co_return co_await request_id.get();
    };
    CHECK(in_loop(body) == "none");
}

TEST_CASE("with() restores the value before, however its body ends") {
    const auto failing = []() -> Coro<void> {
        co_await number.set(4);
        throw std::runtime_error("no");
    };
    const auto body = [&]() -> Coro<std::vector<int>> {
        std::vector<int> seen;
        const auto here = [&]() -> Coro<int> { co_return co_await number.get(); };
        seen.push_back(co_await number.with(1, here));
        seen.push_back(co_await number.get());
        co_await number.set(2);
        bool failed = false;
        try {
            co_await number.with(3, failing());
        } catch (const std::runtime_error&) {
            failed = true;
        }
        seen.push_back(co_await number.get());
        seen.push_back(failed);
        co_return seen;
    };
    CHECK(in_loop(body) == std::vector{1, 0, 2, 1});
}

TEST_CASE("with() sets nothing when its body cannot begin") {
    const auto body = []() -> Coro<std::string> {
        std::string texts;
        try {
            co_await number.with(1, Coro<void>{});
        } catch (const std::logic_error& failure) {
            texts += failure.what();
        }
        texts += std::to_string(co_await number.get());
        const auto refuses = []() -> decltype(yield_now()) { throw std::runtime_error("; no "); };
        try {
            co_await number.with(1, refuses);
        } catch (const std::runtime_error& failure) {
            texts += failure.what();
        }
        texts += std::to_string(co_await number.get());
        co_return texts;
    };
    const std::string texts = in_loop(body);
    INFO(texts);
    CHECK(texts.ends_with("0; no 0"));
}

TEST_CASE("an interrupt leaves with() like any exception") {
    const auto sleeper = []() -> Coro<int> {
        int seen = 0;
        try {
            co_await number.with(9, sleep(Duration::max()));
        } catch (const TaskCancelled&) {
            seen = -1;
        }
        co_return seen + co_await number.get();
    };
    Routine<int> routine{sleeper()};
    const Trap* trap = routine.start();
    REQUIRE(trap);
    CHECK(std::holds_alternative<traps::Sleep>(*trap));
    CHECK(routine.send({.interrupt = Interrupt::cancelled}) == nullptr);
    CHECK(routine.result() == -1);
}

TEST_CASE("values are gone with the last task that has them") {
    std::weak_ptr<int> seen;
    const auto child = []() -> Coro<int> {
        co_await yield_now();
        const std::shared_ptr<int> value = co_await shared.get();
        co_return *value;
    };
    const auto body = [&]() -> Coro<int> {
        auto value = std::make_shared<int>(3);
        seen = value;
        co_await shared.set(std::move(value));
        auto task = co_await spawn(child());
        co_await shared.reset();
        const bool child_has_it = !seen.expired();
        const int answer = co_await task.join();
        co_return child_has_it&& seen.expired() ? answer : -1;
    };
    CHECK(in_loop(body) == 3);
}

TEST_CASE("asking for a value is no trap and allocates nothing") {
    const auto body = []() -> Coro<int> {
        co_await number.set(1);
        const AllocationCounts start = allocation_counts();
        int sum = 0;
        for (int i = 0; i < 100; ++i)
            sum += co_await number.get();
        co_return sum - static_cast<int>(allocation_counts().made - start.made);
    };
    Routine<int> routine{body()};
    CHECK(routine.start() == nullptr);
    CHECK(routine.result() == 100);
}

TEST_CASE("a failure and the values of a task do not disturb each other") {
    const auto failing = []() -> Coro<void> {
        co_await number.set(6);
        throw std::runtime_error("no");
    };
    const auto body = [&]() -> Coro<int> {
        int seen = 0;
        try {
            co_await failing();
        } catch (const std::runtime_error&) {
            seen = 100;
        }
        co_return seen + co_await number.get();
    };
    CHECK(in_loop(body) == 106);
}
