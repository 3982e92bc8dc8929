#include "../../bench/designs/future/future.hpp"

#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/kernel/engines/uring.hpp>

#include "world.hpp"

// What Python's documentation of asyncio says of its loop and its futures.

using namespace future_design;
using namespace std::chrono_literals;

namespace {

/// What the loop's exception handler is told.
class Told {
public:
    explicit Told(Loop& loop) {
        loop.set_exception_handler([this](const ExceptionContext& context) {
            all.push_back(context.message +
                          (context.exception ? ": " + describe(context.exception) : ""));
        });
    }
    std::vector<std::string> all;
};

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

TEST_CASE("what another thread asked for before the loop runs is called") {
    Loop loop{virtual_time()};
    Future<int> future{loop};
    std::thread{[&] {
        loop.call_soon_threadsafe([future]() mutable { future.set_result(7); });
    }}.join();
    CHECK(loop.run_until_complete(future) == 7);
    const TimePoint start = loop.time();
    bool called = false;
    loop.call_later(1h, [] {});
    loop.call_soon_threadsafe([&] { called = loop.time() == start; });
    loop.run_forever();
    CHECK(called); // before time went on
    called = false;
    loop.call_soon([&] { loop.call_soon_threadsafe([&] { called = true; }); });
    loop.run_forever();
    CHECK(called);
}

TEST_CASE("call_soon_threadsafe, call_soon and timers keep their order") {
    Loop loop{virtual_time()};
    std::string order;
    loop.call_soon([&] { order += "a"; });
    loop.call_soon_threadsafe([&] { order += "b"; });
    loop.call_later(0ns, [&] { order += "c"; });
    loop.run_forever();
    CHECK(order == "abc");
}

TEST_CASE("stop before run_forever lets one turn run, and is over with it") {
    Loop loop{virtual_time()};
    std::string order;
    loop.call_soon([&] {
        order += "a";
        loop.call_soon([&] { order += "c"; });
    });
    loop.call_soon([&] { order += "b"; });
    loop.call_later(1h, [&] { order += "d"; });
    loop.stop();
    const TimePoint start = loop.time();
    loop.run_forever();
    CHECK(order == "ab");
    CHECK(loop.time() == start);
    loop.run_forever();
    CHECK(order == "abcd");
}

TEST_CASE("what runs in the turn in which the loop is stopped still runs") {
    Loop loop{virtual_time()};
    std::string order;
    loop.call_soon([&] {
        order += "a";
        loop.stop();
        loop.call_soon([&] { order += "c"; });
    });
    loop.call_soon([&] { order += "b"; });
    loop.run_forever();
    CHECK(order == "ab");
    CHECK_FALSE(loop.is_running());
}

TEST_CASE("a loop cannot be run by one of its callbacks") {
    Loop loop{virtual_time()};
    bool ran = false;
    loop.call_soon([&] {
        CHECK(loop.is_running());
        CHECK_THROWS_WITH(loop.run_forever(), "the loop runs already");
        CHECK_THROWS_WITH(loop.run_until_complete(Future<int>{loop}), "the loop runs already");
        ran = true;
    });
    loop.run_forever();
    CHECK(ran);
}

TEST_CASE("run_until_complete leaves nothing behind, whether the future is complete or not") {
    Loop loop{virtual_time()};
    Future<int> late{loop};
    CHECK_THROWS_WITH(loop.run_until_complete(late),
                      "nothing is left that could complete the future");
    Future<int> next{loop};
    loop.call_soon([late]() mutable { late.set_result(1); });
    loop.call_later(1s, [next]() mutable { next.set_result(2); });
    CHECK(loop.run_until_complete(next) == 2);

    Future<int> stopped{loop};
    loop.call_later(1s, [&] { loop.stop(); });
    loop.call_later(2s, [stopped]() mutable { stopped.set_result(3); });
    CHECK_THROWS_WITH(loop.run_until_complete(stopped),
                      "the loop was stopped before the future was complete");
    CHECK(loop.run_until_complete(stopped) == 3);
}

TEST_CASE("an exception that leaves a callback is told, and the loop goes on") {
    Loop loop{virtual_time()};
    Told told{loop};
    std::string order;
    loop.call_soon([] { throw std::runtime_error("its own"); });
    loop.call_later(1s, [] { throw 7; });
    loop.call_later(2s, [&] { order += "a"; });
    Future<int> future{loop};
    future.add_done_callback([](const Future<int>& done) { (void)done.result(); });
    future.add_done_callback([&](const Future<int>&) { order += "b"; });
    future.cancel();
    loop.run_forever();
    CHECK(order == "ba");
    CHECK(told.all == std::vector<std::string>{
                          "an exception left a callback: its own",
                          "an exception left a callback: the future was cancelled",
                          "an exception left a callback: an exception of a kind of its own"});
}

TEST_CASE("an exception handler that throws does not end the loop either") {
    Loop loop{virtual_time()};
    loop.set_exception_handler(
        [](const ExceptionContext&) { throw std::runtime_error("the handler's own"); });
    bool called = false;
    loop.call_soon([] { throw std::runtime_error("the first of two lines that belong here"); });
    loop.call_soon([&] { called = true; });
    loop.run_forever();
    CHECK(called);
}

TEST_CASE("an exception that nobody asks a future for is told when the last handle goes") {
    Loop loop{virtual_time()};
    Told told{loop};
    const auto failed = std::make_exception_ptr(std::runtime_error("failed"));
    {
        Future<int> asked{loop};
        asked.set_exception(failed);
        CHECK(asked.exception() == failed);
        Future<int> thrown{loop};
        thrown.set_exception(failed);
        CHECK_THROWS(thrown.result());
        Future<int> only_done{loop};
        only_done.set_exception(failed);
        CHECK(only_done.done());
        const Future<int> copy = only_done;
        CHECK(copy == only_done);
        CHECK(told.all.empty());
    }
    CHECK(told.all ==
          std::vector<std::string>{"an exception of a future was never retrieved: failed"});
}

TEST_CASE("a done callback that was removed is not called") {
    Loop loop{virtual_time()};
    Future<int> future{loop};
    std::string order;
    future.add_done_callback([&](const Future<int>&) { order += "a"; });
    const CallbackId b = future.add_done_callback([&](const Future<int>&) { order += "b"; });
    const CallbackId c = future.add_done_callback([&](const Future<int>&) { order += "c"; });
    CHECK(future.remove_done_callback(b));
    CHECK_FALSE(future.remove_done_callback(b));
    future.set_result(1);
    CHECK_FALSE(future.remove_done_callback(c)); // it will be called soon
    settle(loop);
    CHECK(order == "ac");
}

TEST_CASE("a future of nothing has no result, but is done") {
    Loop loop{virtual_time()};
    Future<void> future{loop};
    loop.call_soon([future]() mutable { future.set_result(); });
    CHECK_THROWS_AS(future.result(), InvalidStateError);
    loop.run_until_complete(future);
    CHECK(future.exception() == nullptr);
    CHECK_THROWS_AS(future.set_result(), InvalidStateError);
}

TEST_CASE("an operation whose future was cancelled ends, and nobody is told") {
    Loop loop{virtual_time()};
    Told told{loop};
    const trapline::traps::IoRequest request = trapline::traps::Nop{};
    Operation operation;
    operation.request = &request;
    Future<Completion> future = loop.start_io(operation);
    CHECK(future.cancel());
    loop.run_forever();
    CHECK(future.cancelled());
    CHECK(told.all.empty());
    CHECK(loop.idle());
}

TEST_CASE("limits that are set and called off are forgotten before their time") {
    Loop loop{virtual_time()};
    std::string order;
    for (int i = 0; i < 1000; ++i) {
        Handle limit = loop.call_later(1h, [&] { order += "wrong"; });
        if (i % 100 == 0)
            loop.call_later(2s - 1ms * i, [&order, i] { order += std::to_string(i / 100); });
        limit.cancel();
    }
    CHECK(loop.timers() < 200);
    loop.run_forever();
    CHECK(order == "9876543210");
}

TEST_CASE("a future that nothing can complete is told of, instead of waiting for ever") {
    Loop loop{virtual_time()};
    CHECK_THROWS_WITH(loop.run_until_complete(Future<int>{loop}),
                      "nothing is left that could complete the future");
}
