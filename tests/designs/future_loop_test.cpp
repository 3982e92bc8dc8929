#include "../../bench/designs/future/loop.hpp"

#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/kernel/engines/uring.hpp>

#include "../kernel/manual_engine.hpp"

// What Python's documentation of asyncio says of its loop and its futures.

using namespace future_design;
using namespace std::chrono_literals;

namespace {

std::unique_ptr<Engine> virtual_time() { return std::make_unique<trapline::ManualEngine>(); }

void settle(Loop& loop) {
    Future<int> end{loop};
    loop.call_later(1ns, [end]() mutable { end.set_result(0); });
    loop.run_until_complete(end);
}

} // namespace

TEST_CASE("a future is completed later, and run_until_complete answers its result") {
    Loop loop{trapline::make_uring_engine({})};
    Future<int> answer{loop};
    loop.call_later(1ms, [answer]() mutable { answer.set_result(42); });
    int n = loop.run_until_complete(answer);
    CHECK(n == 42);
}

TEST_CASE("callbacks are called in the order in which they were asked for") {
    Loop loop{virtual_time()};
    std::string order;
    loop.call_soon([&] {
        order += "a";
        loop.call_soon([&] { order += "c"; }); // in the next turn
    });
    loop.call_soon([&] { order += "b"; });
    settle(loop);
    CHECK(order == "abc");
}

TEST_CASE("call_later and call_at call in the order of their times, equal ones as they were set") {
    Loop loop{virtual_time()};
    std::string order;
    const TimePoint start = loop.time();
    loop.call_at(start + 2s, [&] { order += "c"; });
    loop.call_at(start + 1s, [&] { order += "a"; });
    loop.call_later(1s, [&] { order += "b"; });
    Future<int> end{loop};
    loop.call_later(3s, [end]() mutable { end.set_result(0); });
    loop.run_until_complete(end);
    CHECK(order == "abc");
    CHECK(loop.time() - start == 3s);
}

TEST_CASE("a handle that was cancelled calls nothing, and its time is not waited for") {
    Loop loop{virtual_time()};
    bool called = false;
    const TimePoint start = loop.time();
    Handle later = loop.call_later(1h, [&] { called = true; });
    Handle soon = loop.call_soon([&] { called = true; });
    soon.cancel();
    later.cancel();
    later.cancel();
    settle(loop);
    loop.run_forever(); // nothing is left
    CHECK_FALSE(called);
    CHECK(loop.time() - start < 1h);
}

TEST_CASE("done callbacks are called soon, never from within what completes the future") {
    Loop loop{virtual_time()};
    Future<int> future{loop};
    std::string order;
    future.add_done_callback(
        [&](const Future<int>& done) { order += std::to_string(done.result()); });
    future.add_done_callback([&](const Future<int>&) { order += "b"; });
    future.set_result(1);
    CHECK(order.empty());
    settle(loop);
    CHECK(order == "1b");
    future.add_done_callback([&](const Future<int>&) { order += "c"; }); // it is done already
    CHECK(order == "1b");
    settle(loop);
    CHECK(order == "1bc");
}

TEST_CASE("a future that was cancelled says so, and cannot be completed") {
    Loop loop{virtual_time()};
    Future<int> future{loop};
    bool told = false;
    future.add_done_callback([&](const Future<int>& done) { told = done.cancelled(); });
    CHECK(future.cancel());
    CHECK_FALSE(future.cancel());
    CHECK_THROWS_AS(future.result(), CancelledError);
    CHECK_THROWS_AS(future.set_result(1), InvalidStateError);
    settle(loop);
    CHECK(told);
}

TEST_CASE("result throws the exception, and InvalidStateError before there is one") {
    Loop loop{virtual_time()};
    Future<int> future{loop};
    CHECK_THROWS_AS(future.result(), InvalidStateError);
    future.set_exception(std::make_exception_ptr(std::runtime_error("failed")));
    CHECK_THROWS_WITH(future.result(), "failed");
    CHECK(future.exception() != nullptr);
    CHECK_THROWS_AS(future.set_result(1), InvalidStateError);
}

TEST_CASE("call_soon_threadsafe wakes a loop that waits") {
    Loop loop{trapline::make_uring_engine({})};
    Future<int> future{loop};
    loop.expect_thread(1);
    std::thread other{[&] {
        loop.call_soon_threadsafe([&loop, future]() mutable {
            loop.expect_thread(-1);
            future.set_result(7);
        });
    }};
    CHECK(loop.run_until_complete(future) == 7);
    other.join();
}

TEST_CASE("a future that nothing can complete is told of, instead of waiting for ever") {
    Loop loop{virtual_time()};
    CHECK_THROWS_WITH(loop.run_until_complete(Future<int>{loop}),
                      "nothing is left that could complete the future");
}
