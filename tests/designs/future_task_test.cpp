#include "../../bench/designs/future/task.hpp"

#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "../support/leaks.hpp"
#include "world.hpp"

// What Python's documentation of asyncio says of its tasks, and what its tests show.

using namespace future_design;
using namespace std::chrono_literals;
using trapline::test::Counted;
using trapline::test::LeakGuard;

namespace {

Coroutine<int> twice(Future<int> number) { co_return 2 * co_await number; }

Coroutine<int> answer(int n) { co_return n; }

Coroutine<int> fail(std::string why) {
    throw std::runtime_error(why);
    co_return 0;
}

/// Waits until it is cancelled, and says so.
Coroutine<int> wait_for_ever(std::string& order) {
    const Counted frame;
    Future<int> never{co_await running_loop()};
    try {
        (void)co_await never;
    } catch (const CancelledError&) {
        order += "cancelled ";
        throw;
    }
    co_return 0;
}

Coroutine<> note(std::string& order, std::string what, int turns) {
    for (int turn = 0; turn < turns; ++turn) {
        order += what + std::to_string(turn) + " ";
        co_await sleep(0ns);
    }
}

} // namespace

TEST_CASE("a task answers what its coroutine makes of a future") {
    World world;
    Future<int> number{world.loop};
    Task<int> task = world.loop.create_task(twice(number));
    world.loop.call_later(1s, [number]() mutable { number.set_result(21); });
    int n = world.loop.run_until_complete(task);
    CHECK(n == 42);
    CHECK(world.loop.run_until_complete(answer(7)) == 7);
}

TEST_CASE("a task begins in the next turn, and tasks take turns") {
    const LeakGuard guard;
    World world;
    std::string order;
    const Task<> a = world.loop.create_task(note(order, "a", 3));
    const Task<> b = world.loop.create_task(note(order, "b", 2));
    CHECK(order.empty());
    world.loop.run_forever();
    CHECK(order == "a0 b0 a1 b1 a2 ");
    CHECK(a.done());
    CHECK(b.done());
}

TEST_CASE("to await a coroutine or a future that is done takes no turn") {
    World world;
    std::string order;
    Future<int> done{world.loop};
    done.set_result(1);
    world.loop.run_until_complete([](std::string& o, Future<int> number) -> Coroutine<> {
        Loop& loop = co_await running_loop();
        loop.call_soon([&o] { o += "soon "; });
        const int sum = co_await answer(1) + co_await number;
        o += std::to_string(sum) + " ";
        co_await sleep(0ns);
        o += "end";
    }(order, done));
    CHECK(order == "2 soon end");
}

TEST_CASE("a coroutine's exception appears where it is awaited, and in the task") {
    World world;
    std::string seen;
    Task<int> task = world.loop.create_task([](std::string& s) -> Coroutine<int> {
        try {
            (void)co_await fail("caught");
        } catch (const std::runtime_error& failure) {
            s = failure.what();
        }
        co_return co_await fail("not caught");
    }(seen));
    CHECK_THROWS_WITH(world.loop.run_until_complete(task), "not caught");
    CHECK(seen == "caught");
    CHECK(task.exception() != nullptr);
    CHECK(world.told.empty());
}

TEST_CASE("a task's exception that nobody asks for is told") {
    World world;
    (void)world.loop.create_task(fail("lost"));
    world.loop.run_forever();
    CHECK(world.told ==
          std::vector<std::string>{"an exception of a future was never retrieved: lost"});
}

TEST_CASE("sleep answers after its time, and those that end at the same time in their order") {
    World world;
    std::string order;
    const auto after = [](std::string& o, std::string what, Duration time) -> Coroutine<> {
        co_await sleep(time);
        o += what;
    };
    const TimePoint start = world.loop.time();
    const Task<> c = world.loop.create_task(after(order, "c", 2s));
    const Task<> a = world.loop.create_task(after(order, "a", 1s));
    const Task<> b = world.loop.create_task(after(order, "b", 1s));
    world.loop.run_forever();
    CHECK(order == "abc");
    CHECK(world.loop.time() - start == 2s);
}

TEST_CASE("cancel cancels the future that a task waits for, and throws there") {
    const LeakGuard guard;
    World world;
    std::string order;
    Task<int> task = world.loop.create_task(wait_for_ever(order));
    world.loop.call_later(1s, [task, &order]() mutable {
        CHECK(task.cancel());
        CHECK(task.cancelling() == 1);
        CHECK_FALSE(task.done()); // not before it has seen it
        CHECK(order.empty());
    });
    CHECK_THROWS_AS(world.loop.run_until_complete(task), CancelledError);
    CHECK(order == "cancelled ");
    CHECK(task.cancelled());
    CHECK_FALSE(task.cancel());
    CHECK(world.told.empty());
}

TEST_CASE("a cancellation goes down through what is awaited, tasks too") {
    const LeakGuard guard;
    World world;
    std::string order;
    Task<int> inner = world.loop.create_task(wait_for_ever(order));
    Task<int> outer = world.loop.create_task(
        [](Task<int> task) -> Coroutine<int> { co_return co_await task; }(inner));
    world.loop.call_later(1s, [outer]() mutable { outer.cancel(); });
    world.loop.run_forever();
    CHECK(inner.cancelled());
    CHECK(outer.cancelled());
}

TEST_CASE("to cancel one who waits for a task leaves no trace in a third who does") {
    World world;
    Future<int> number{world.loop};
    Task<int> shared = world.loop.create_task(twice(number));
    const auto waits = [](Task<int> task) -> Coroutine<int> { co_return co_await task; };
    Task<int> first = world.loop.create_task(waits(shared));
    Task<int> second = world.loop.create_task(waits(shared));
    world.loop.call_later(1s, [first]() mutable { first.cancel(); });
    world.loop.run_forever();
    CHECK(shared.cancelled()); // shield() would have kept it
    CHECK(second.cancelled());
    CHECK(number.cancelled());
}

TEST_CASE("a task that is cancelled before it begins never does") {
    const LeakGuard guard;
    World world;
    bool began = false;
    Task<> task = world.loop.create_task([](bool& b, Counted) -> Coroutine<> {
        b = true;
        co_return;
    }(began, Counted{}));
    CHECK(task.cancel());
    CHECK_THROWS_AS(world.loop.run_until_complete(task), CancelledError);
    CHECK_FALSE(began);
}

TEST_CASE("a task may go on after a cancellation, and then it was not cancelled") {
    World world;
    Task<int> task = world.loop.create_task([]() -> Coroutine<int> {
        try {
            co_await sleep(1h);
        } catch (const CancelledError&) {}
        co_await sleep(1s); // as long as it likes
        CurrentTask self = co_await current_task();
        CHECK(self.cancelling() == 1);
        CHECK(self.uncancel() == 0);
        co_return 7;
    }());
    const TimePoint start = world.loop.time();
    world.loop.call_later(1s, [task]() mutable { task.cancel(); });
    CHECK(world.loop.run_until_complete(task) == 7);
    CHECK_FALSE(task.cancelled());
    CHECK(world.loop.time() - start == 2s);
}

TEST_CASE("who catches all that goes wrong does not catch its cancellation") {
    World world;
    std::string order;
    Task<> task = world.loop.create_task([](std::string& o) -> Coroutine<> {
        try {
            co_await sleep(1h);
        } catch (const std::exception&) {
            o += "wrong";
        }
    }(order));
    world.loop.call_later(1s, [task]() mutable { task.cancel(); });
    world.loop.run_forever();
    CHECK(task.cancelled());
    CHECK(order.empty());
}

TEST_CASE("a cancellation that meets a result wins over it") {
    World world;
    Future<int> number{world.loop};
    Task<int> task = world.loop.create_task(twice(number));
    world.loop.call_later(1s, [number, task]() mutable {
        number.set_result(1);
        CHECK(task.cancel());
    });
    CHECK_THROWS_AS(world.loop.run_until_complete(task), CancelledError);
    CHECK(number.result() == 1);
}

TEST_CASE("a task that cancels itself goes on to its next wait, or its end") {
    World world;
    std::string order;
    Task<> waits = world.loop.create_task([](std::string& o) -> Coroutine<> {
        CurrentTask self = co_await current_task();
        self.cancel();
        o += "goes on ";
        co_await sleep(1h);
        o += "wrong ";
    }(order));
    Task<> ends = world.loop.create_task([](std::string& o) -> Coroutine<> {
        CurrentTask self = co_await current_task();
        self.cancel();
        o += "ends ";
    }(order));
    const TimePoint start = world.loop.time();
    world.loop.run_forever();
    CHECK(order == "goes on ends ");
    CHECK(waits.cancelled());
    CHECK(ends.cancelled());
    CHECK(world.loop.time() == start);
}

TEST_CASE("an exception while a task cleans up takes the cancellation's place") {
    World world;
    Task<> task = world.loop.create_task([]() -> Coroutine<> {
        try {
            co_await sleep(1h);
        } catch (const CancelledError&) {
            throw std::runtime_error("cannot clean up");
        }
    }());
    world.loop.call_later(1s, [task]() mutable { task.cancel(); });
    CHECK_THROWS_WITH(world.loop.run_until_complete(task), "cannot clean up");
    CHECK_FALSE(task.cancelled());
}

TEST_CASE("a task can await neither itself nor a future of another loop") {
    World world;
    World other;
    Future<int> foreign{other.loop};
    CHECK_THROWS_WITH(world.loop.run_until_complete(twice(foreign)),
                      "a task cannot await a future of another loop");
    std::optional<Task<>> itself;
    itself = world.loop.create_task(
        [](std::optional<Task<>>& self) -> Coroutine<> { co_await *self; }(itself));
    CHECK_THROWS_WITH(world.loop.run_until_complete(*itself), "a task cannot await itself");
    itself.reset();
    CHECK_THROWS_WITH(world.loop.create_task(Coroutine<int>{}), "there is no coroutine");
}

TEST_CASE("tasks that are left when the loop goes are destroyed, and that is told") {
    const LeakGuard guard;
    std::vector<std::string> told;
    std::string order;
    {
        Loop loop{virtual_time()};
        loop.set_exception_handler(
            [&](const ExceptionContext& context) { told.push_back(context.message); });
        const Task<int> waits = loop.create_task(wait_for_ever(order));
        (void)loop.create_task([](Task<int> task, Counted) -> Coroutine<int> {
            co_return co_await task;
        }(waits, Counted{}));
        CHECK_THROWS_WITH(loop.run_until_complete(Future<int>{loop}),
                          "nothing is left that could complete the future");
        (void)loop.create_task(wait_for_ever(order)); // and one that has not begun
    }
    CHECK(order.empty());
    CHECK(told == std::vector<std::string>(3, "a task was destroyed, but it is pending"));
}

TEST_CASE("a million awaits neither nest nor leave anything behind") {
    const LeakGuard guard;
    World world;
    const int many = 1'000'000;
    const int sum = world.loop.run_until_complete([](int count) -> Coroutine<int> {
        int n = 0;
        for (int i = 0; i < count; ++i)
            n += co_await answer(1);
        co_return n;
    }(many));
    CHECK(sum == many);
    struct Deep {
        static Coroutine<int> down(int levels) {
            if (levels == 0)
                co_return 0;
            co_return 1 + co_await down(levels - 1);
        }
    };
    CHECK(world.loop.run_until_complete(Deep::down(100'000)) == 100'000);
}
