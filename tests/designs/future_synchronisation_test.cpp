#include "../../bench/designs/future/synchronisation.hpp"

#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "../../bench/designs/future/shield.hpp"
#include "../../bench/designs/future/waiting.hpp"
#include "../support/leaks.hpp"
#include "world.hpp"

// asyncio's Event, Lock, shield() and timeout(): what Python's documentation says of them, and what
// Python does where that is silent.

using namespace future_design;
using namespace std::chrono_literals;
using trapline::test::Counted;
using trapline::test::LeakGuard;

namespace {

Coroutine<> notes_event(Event& event, std::string& order, std::string name) {
    const Counted frame;
    co_await event.wait();
    order += name;
}

Coroutine<> notes_lock(Lock& lock, std::string& order, std::string name) {
    const Counted frame;
    try {
        const Lock::Held held = co_await lock.hold();
        order += name;
    } catch (const CancelledError&) {
        order += "-" + name;
        throw;
    }
}

Coroutine<int> answers_after(Duration time, int n) {
    co_await sleep(time);
    co_return n;
}

/// Runs it, and says what comes of it.
template <class T>
Coroutine<std::string> outcome(Coroutine<T> body) {
    try {
        co_await std::move(body);
    } catch (const TimeoutError&) {
        co_return "timeout";
    } catch (const CancelledError&) {
        co_return "cancelled";
    }
    co_return "done";
}

} // namespace

// --- Event ---------------------------------------------------------------------------------

TEST_CASE("an event wakes all who wait, in their order, also when it is cleared right after") {
    const LeakGuard guard;
    World world;
    std::string order;
    Event event{world.loop};
    for (const char* name : {"a", "b", "c"})
        (void)world.loop.create_task(notes_event(event, order, name));
    world.loop.call_later(1s, [&] {
        event.set();
        event.clear();
        CHECK(order.empty());
    });
    world.loop.run_forever();
    CHECK(order == "abc");
    CHECK_FALSE(event.is_set());
}

TEST_CASE("to wait for an event that is set takes no turn") {
    World world;
    std::string order;
    Event event{world.loop};
    event.set();
    event.set();
    world.loop.run_until_complete([](Event& e, std::string& o) -> Coroutine<> {
        Loop& loop = co_await running_loop();
        loop.call_soon([&o] { o += "soon"; });
        co_await e.wait();
        o += "at once ";
        co_await sleep(0ns);
    }(event, order));
    CHECK(order == "at once soon");
}

TEST_CASE("who is cancelled while waiting for an event leaves the others waiting") {
    const LeakGuard guard;
    World world;
    std::string order;
    Event event{world.loop};
    (void)world.loop.create_task(notes_event(event, order, "a"));
    Task<> b = world.loop.create_task(notes_event(event, order, "b"));
    (void)world.loop.create_task(notes_event(event, order, "c"));
    world.loop.call_later(1s, [b]() mutable { b.cancel(); });
    world.loop.call_later(2s, [&] { event.set(); });
    world.loop.run_forever();
    CHECK(b.cancelled());
    CHECK(order == "ac");
}

TEST_CASE("an event may go before those who wait for it, who then wait for ever") {
    const LeakGuard guard;
    World world;
    std::string order;
    {
        Event event{world.loop};
        (void)world.loop.create_task(notes_event(event, order, "a"));
        world.loop.run_forever();
    }
    CHECK(order.empty());
}

// --- Lock ----------------------------------------------------------------------------------

TEST_CASE("a lock is had by one at a time, in the order in which they asked") {
    const LeakGuard guard;
    World world;
    Lock lock;
    std::string order;
    const auto works = [](Lock& l, std::string& o, std::string name) -> Coroutine<> {
        for (int i = 0; i < 2; ++i) {
            const Lock::Held held = co_await l.hold();
            o += name;
            co_await sleep(0ns);
            o += name;
        }
    };
    for (const char* name : {"a", "b", "c"})
        (void)world.loop.create_task(works(lock, order, name));
    world.loop.run_forever();
    CHECK(order == "aabbccaabbcc");
    CHECK_FALSE(lock.locked());
}

TEST_CASE("a lock that nobody waits for is taken at once; nobody passes one who was woken") {
    World world;
    Lock lock;
    std::string order;
    Coroutine<> main = [](Lock& l, std::string& o) -> Coroutine<> {
        Loop& loop = co_await running_loop();
        co_await l.acquire();
        o += "m";
        const Task<> a = loop.create_task(notes_lock(l, o, "a"));
        co_await sleep(0ns);
        l.release();
        CHECK_FALSE(l.locked()); // nobody has it: it is not handed over
        const Task<> c = loop.create_task(notes_lock(l, o, "c"));
        co_await notes_lock(l, o, "m");
        co_await c;
    }(lock, order);
    world.loop.run_until_complete(std::move(main));
    CHECK(order == "mamc");
}

TEST_CASE("who is cancelled after being woken for a lock wakes the next") {
    const LeakGuard guard;
    World world;
    Lock lock;
    std::string order;
    Coroutine<> main = [](Lock& l, std::string& o) -> Coroutine<> {
        Loop& loop = co_await running_loop();
        co_await l.acquire();
        Task<> a = loop.create_task(notes_lock(l, o, "a"));
        const Task<> b = loop.create_task(notes_lock(l, o, "b"));
        co_await sleep(0ns);
        l.release();
        a.cancel();
        co_await b;
        CHECK(a.cancelled());
    }(lock, order);
    world.loop.run_until_complete(std::move(main));
    CHECK(order == "-ab");
    CHECK_FALSE(lock.locked());
}

TEST_CASE("who is cancelled while waiting for a lock leaves the others their turn") {
    World world;
    Lock lock;
    std::string order;
    Coroutine<> main = [](Lock& l, std::string& o) -> Coroutine<> {
        Loop& loop = co_await running_loop();
        co_await l.acquire();
        Task<> a = loop.create_task(notes_lock(l, o, "a"));
        const Task<> b = loop.create_task(notes_lock(l, o, "b"));
        co_await sleep(0ns);
        a.cancel();
        co_await sleep(0ns);
        l.release();
        co_await b;
    }(lock, order);
    world.loop.run_until_complete(std::move(main));
    CHECK(order == "-ab");
}

TEST_CASE("a lock that nobody has cannot be released; its waits can be limited") {
    World world;
    Lock lock;
    CHECK_THROWS_WITH(lock.release(), "the lock is not acquired");
    Coroutine<std::string> main = [](Lock& l) -> Coroutine<std::string> {
        Loop& loop = co_await running_loop();
        co_await l.acquire();
        co_return co_await outcome(wait_for<void>(loop.create_task(l.acquire()), 1s));
    }(lock);
    const std::string came = world.loop.run_until_complete(std::move(main));
    CHECK(came == "timeout");
    CHECK(world.passed() == 1s);
    CHECK(lock.locked());
}

// --- shield --------------------------------------------------------------------------------

TEST_CASE("to cancel a shield does not cancel what is behind it") {
    const LeakGuard guard;
    World world;
    Task<int> inner = world.loop.create_task(answers_after(2s, 7));
    Future<int> outer = shield(inner);
    world.loop.call_later(1s, [outer]() mutable { CHECK(outer.cancel()); });
    CHECK_THROWS_AS(world.loop.run_until_complete(outer), CancelledError);
    CHECK(world.passed() == 1s);
    CHECK_FALSE(inner.done());
    CHECK(world.loop.run_until_complete(inner) == 7);
}

TEST_CASE("a shield completes as what is behind it does: result, exception, cancellation") {
    World world;
    Task<int> inner = world.loop.create_task(answers_after(1s, 7));
    CHECK(world.loop.run_until_complete(shield(inner)) == 7);
    CHECK(shield(inner).result() == 7);
    Future<int> fails{world.loop};
    const Future<int> outer = shield(fails);
    fails.set_exception(std::make_exception_ptr(std::runtime_error("failed")));
    CHECK_THROWS_WITH(world.loop.run_until_complete(outer), "failed");
    Future<int> cancelled{world.loop};
    const Future<int> other = shield(cancelled);
    cancelled.cancel();
    CHECK_THROWS_AS(world.loop.run_until_complete(other), CancelledError);
    CHECK(other.cancelled());
}

TEST_CASE("an exception behind a shield that was cancelled is told") {
    World world;
    {
        Future<int> inner{world.loop};
        Future<int> outer = shield(inner);
        outer.cancel();
        inner.set_exception(std::make_exception_ptr(std::runtime_error("lost")));
    }
    world.loop.run_forever();
    CHECK(world.told ==
          std::vector<std::string>{"an exception of a future was never retrieved: lost"});
}

TEST_CASE("a shield and what is behind it may go in any order") {
    World world;
    std::optional<Future<int>> inner{world.loop};
    Future<int> outer = shield(*inner);
    inner.reset();
    CHECK(outer.cancel());
    Future<int> other{world.loop};
    (void)shield(other);
    other.set_result(1);
    world.loop.run_forever();
    CHECK(world.told.empty());
}

// --- timeout -------------------------------------------------------------------------------

TEST_CASE("timeout makes a TimeoutError of what it interrupts, and of nothing else") {
    const LeakGuard guard;
    World world;
    CHECK(world.loop.run_until_complete(outcome(timeout(1s, sleep(1h)))) == "timeout");
    CHECK(world.passed() == 1s);
    CHECK(world.loop.run_until_complete(timeout(2s, answers_after(1s, 7))) == 7);
    CHECK(world.loop.run_until_complete(timeout(std::nullopt, answers_after(1h, 8))) == 8);
    Coroutine<int> fails = []() -> Coroutine<int> {
        co_await sleep(1ms);
        throw std::runtime_error("its own");
    }();
    CHECK_THROWS_WITH(world.loop.run_until_complete(timeout(1s, std::move(fails))), "its own");
    Future<int> never{world.loop};
    CHECK(world.loop.run_until_complete(outcome(timeout(1s, never))) == "timeout");
    CHECK(never.cancelled());
}

TEST_CASE("the body of a timeout runs in the task that awaits it, whose cancellation is its own") {
    World world;
    Task<std::string> task = world.loop.create_task(outcome(timeout(2s, sleep(1h))));
    world.loop.call_later(1s, [task]() mutable { task.cancel(); });
    CHECK(world.loop.run_until_complete(task) == "cancelled");
    CHECK(world.passed() == 1s);
}

TEST_CASE("a cancellation and the end of the time at once are a cancellation") {
    World world;
    Task<std::string> task = world.loop.create_task(outcome(timeout(1s, sleep(1h))));
    world.loop.call_later(1s, [task]() mutable { task.cancel(); }); // it is set before the limit
    CHECK(world.loop.run_until_complete(task) == "cancelled");
}

TEST_CASE("timeouts nest, and each counts its own cancellation") {
    World world;
    std::string order;
    world.loop.run_until_complete([](std::string& o) -> Coroutine<> {
        const auto nested = [](std::string& in) -> Coroutine<> {
            in += co_await outcome(timeout(1s, sleep(1h))) + " ";
            co_await sleep(1h);
        };
        o += co_await outcome(timeout(2s, nested(o)));
        const CurrentTask self = co_await current_task();
        CHECK(self.cancelling() == 0);
        co_await sleep(1s); // and nothing is left of it
    }(order));
    CHECK(order == "timeout timeout");
    CHECK(world.passed() == 3s);
}

TEST_CASE("a timeout of nothing lets pass what does not wait, and leaves no cancellation behind") {
    World world;
    std::string order;
    world.loop.run_until_complete([](std::string& o) -> Coroutine<> {
        const auto at_once = [](std::string& in) -> Coroutine<> {
            in += "body ";
            co_return;
        };
        o += co_await outcome(timeout(0s, at_once(o))) + " ";
        o += co_await outcome(timeout(0s, sleep(0s)));
        co_await sleep(0s);
    }(order));
    CHECK(order == "body done timeout");
}

TEST_CASE("a limit that runs out in the turn in which the body ends is taken back") {
    World world;
    Future<void> ended{world.loop};
    Task<std::string> task = world.loop.create_task([](Future<void> end) -> Coroutine<std::string> {
        const auto body = [](Future<void> e) -> Coroutine<> {
            try {
                co_await e;
            } catch (const CancelledError&) {} // it had ended
        };
        std::string came = co_await outcome(timeout(1s, body(end)));
        co_await sleep(1s);
        co_return came;
    }(ended));
    world.loop.call_later(1s, [ended]() mutable { ended.set_result(); });
    CHECK(world.loop.run_until_complete(task) == "done");
}
