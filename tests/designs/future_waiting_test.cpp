#include "../../bench/designs/future/waiting.hpp"

#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <future/gather.hpp>

#include "../support/leaks.hpp"
#include "world.hpp"

// What Python's documentation of asyncio says of gather, wait and wait_for.

using namespace future_design;
using namespace std::chrono_literals;
using trapline::test::Counted;
using trapline::test::LeakGuard;

namespace {

Coroutine<int> after(Duration time, int n) {
    co_await sleep(time);
    co_return n;
}

Coroutine<int> fail_after(Duration time, std::string why) {
    co_await sleep(time);
    throw std::runtime_error(why);
}

/// Takes a while to clean up, then is cancelled, or answers `instead`.
Coroutine<int> slow_to_end(Duration cleanup, std::optional<int> instead) {
    const Counted frame;
    try {
        co_await sleep(1h);
    } catch (const CancelledError&) {}
    co_await sleep(cleanup);
    if (!instead)
        throw CancelledError{};
    co_return *instead;
}

template <class T>
Coroutine<T> await_it(Future<T> future) {
    co_return co_await future;
}

} // namespace

TEST_CASE("gather answers all results in the order given") {
    const LeakGuard guard;
    World world;
    const std::vector<int> both =
        world.loop.run_until_complete([]() -> Coroutine<std::vector<int>> {
            Loop& loop = co_await running_loop();
            const Future<int> first = loop.create_task(after(2s, 1));
            const Future<int> second = loop.create_task(after(1s, 2));
            std::vector<int> results = co_await gather(loop, std::vector{first, second});
            co_return results;
        }());
    CHECK(both == std::vector{1, 2});
    CHECK(world.passed() == 2s);
    CHECK(world.loop.run_until_complete(gather(world.loop, std::vector<Future<int>>{})).empty());
    Future<int> twice{world.loop};
    twice.set_result(3);
    CHECK(world.loop.run_until_complete(gather(world.loop, std::vector{twice, twice})) ==
          std::vector{3, 3});
}

TEST_CASE("the first exception is the gather's at once, and the others go on") {
    World world;
    Future<int> slow = world.loop.create_task(after(2s, 1));
    Future<int> also = world.loop.create_task(fail_after(3s, "second"));
    const auto all = gather(
        world.loop,
        std::vector{slow, Future<int>{world.loop.create_task(fail_after(1s, "first"))}, also});
    CHECK_THROWS_WITH(world.loop.run_until_complete(all), "first");
    CHECK(world.passed() == 1s);
    CHECK_FALSE(slow.done());
    world.loop.run_forever();
    CHECK(slow.result() == 1);
    CHECK(also.done());
    also = slow;
    CHECK(world.told.empty()); // the gather has seen it
}

TEST_CASE("gather with return_exceptions answers exceptions beside results") {
    World world;
    Future<int> cancelled{world.loop};
    cancelled.cancel();
    const auto all = world.loop.run_until_complete(gather(
        world.loop,
        std::vector{Future<int>{world.loop.create_task(after(2s, 1))},
                    Future<int>{world.loop.create_task(fail_after(1s, "failed"))}, cancelled},
        return_exceptions));
    REQUIRE(all.size() == 3);
    CHECK(all[0] == 1);
    CHECK(describe(all[1].error()) == "failed");
    CHECK_THROWS_AS(std::rethrow_exception(all[2].error()), CancelledError);
    CHECK(world.passed() == 2s);
}

TEST_CASE("one that is cancelled counts as one that threw, and the gather is not cancelled") {
    World world;
    Future<int> slow = world.loop.create_task(after(2s, 1));
    Future<int> cancelled = world.loop.create_task(after(1h, 1));
    auto all = gather(world.loop, std::vector{slow, cancelled});
    world.loop.call_later(1s, [cancelled]() mutable { cancelled.cancel(); });
    CHECK_THROWS_AS(world.loop.run_until_complete(all), CancelledError);
    CHECK_FALSE(all.cancelled());
    CHECK(all.done());
    CHECK_FALSE(slow.done());
}

TEST_CASE("cancelling a gather, or who awaits it, cancels those that are not done") {
    const LeakGuard guard;
    World world;
    Future<int> done = world.loop.create_task(after(1s, 1));
    Future<int> slow = world.loop.create_task(after(1h, 2));
    Future<int> stubborn = world.loop.create_task(slow_to_end(1s, 3));
    Task<std::vector<int>> waits =
        world.loop.create_task(await_it(gather(world.loop, std::vector{done, slow, stubborn})));
    world.loop.call_later(2s, [waits]() mutable { waits.cancel(); });
    CHECK_THROWS_AS(world.loop.run_until_complete(waits), CancelledError);
    CHECK(done.result() == 1);
    CHECK(slow.cancelled());
    CHECK(world.loop.run_until_complete(stubborn) == 3);

    Future<int> last = world.loop.create_task(slow_to_end(1s, 4));
    auto all = gather(world.loop, std::vector{last});
    world.loop.call_later(1s, [all]() mutable {
        CHECK(all.cancel());
        CHECK_FALSE(all.done()); // not before those are
    });
    CHECK_THROWS_AS(world.loop.run_until_complete(all), CancelledError); // all the same
    CHECK(last.result() == 4);
    CHECK_FALSE(all.cancel());
}

TEST_CASE("wait tells those that are done from those that are not, and cancels nobody") {
    const LeakGuard guard;
    World world;
    const Future<int> quick = world.loop.create_task(after(1s, 1));
    const Future<int> slow = world.loop.create_task(after(3s, 2));
    const std::vector both{slow, quick};
    Waited<int> some = world.loop.run_until_complete(wait(both, {.timeout = 2s}));
    CHECK(world.passed() == 2s);
    CHECK(some.done == std::vector{quick});
    CHECK(some.pending == std::vector{slow});
    CHECK_FALSE(slow.cancelled());
    some = world.loop.run_until_complete(wait(both));
    CHECK(world.passed() == 3s);
    CHECK(some.done == both);
    CHECK(some.pending.empty());
    some = world.loop.run_until_complete(wait(both, {.timeout = 1h})); // done already
    CHECK(some.done == both);
    world.loop.run_forever();
    CHECK(world.passed() == 3s); // the limit is not left behind
    CHECK_THROWS_AS(world.loop.run_until_complete(wait(std::vector<Future<int>>{})),
                    std::invalid_argument);
}

TEST_CASE("wait may return with the first, or with the first exception") {
    World world;
    const Future<int> a = world.loop.create_task(after(1s, 1));
    const Future<int> b = world.loop.create_task(fail_after(2s, "failed"));
    const Future<int> c = world.loop.create_task(after(3s, 1));
    const std::vector all{a, b, c};
    Waited<int> first =
        world.loop.run_until_complete(wait(all, {.return_when = ReturnWhen::first_completed}));
    CHECK(world.passed() == 1s);
    CHECK(first.done == std::vector{a});
    CHECK(first.pending == std::vector{b, c});
    Future<int> cancelled{world.loop};
    cancelled.cancel();
    first = world.loop.run_until_complete(
        wait(std::vector{cancelled, a, b, c}, {.return_when = ReturnWhen::first_exception}));
    CHECK(world.passed() == 2s);
    CHECK(first.done == std::vector{cancelled, a, b});
    CHECK(first.pending == std::vector{c});
    first = world.loop.run_until_complete(
        wait(std::vector{a, c}, {.return_when = ReturnWhen::first_exception}));
    CHECK(world.passed() == 3s); // none came
}

TEST_CASE("who is cancelled in a wait leaves those it waits for alone") {
    const LeakGuard guard;
    World world;
    const Future<int> slow = world.loop.create_task(after(2s, 1));
    Task<Waited<int>> waits = world.loop.create_task(wait(std::vector{slow}));
    world.loop.call_later(1s, [waits]() mutable { waits.cancel(); });
    CHECK_THROWS_AS(world.loop.run_until_complete(waits), CancelledError);
    CHECK(world.loop.run_until_complete(slow) == 1);
}

TEST_CASE("wait_for answers what comes in time") {
    World world;
    Future<int> quick = world.loop.create_task(after(1s, 1));
    CHECK(world.loop.run_until_complete(wait_for(quick, 2s)) == 1);
    CHECK(world.loop.run_until_complete(wait_for(quick, 0s)) == 1); // done already
    Future<int> failing = world.loop.create_task(fail_after(1s, "failed"));
    CHECK_THROWS_WITH(world.loop.run_until_complete(wait_for(failing, 1h)), "failed");
    Future<int> slow = world.loop.create_task(after(1h, 2));
    CHECK(world.loop.run_until_complete(wait_for(slow, std::nullopt)) == 2);
    const TimePoint end = world.loop.time();
    world.loop.run_forever();
    CHECK(world.loop.time() == end); // no limit is left behind
}

TEST_CASE("wait_for cancels what is late, and waits until that has ended") {
    const LeakGuard guard;
    World world;
    Future<int> late = world.loop.create_task(slow_to_end(2s, {}));
    CHECK_THROWS_AS(world.loop.run_until_complete(wait_for(late, 1s)), TimeoutError);
    CHECK(late.cancelled());
    CHECK(world.passed() == 3s);

    Future<int> after_all = world.loop.create_task(slow_to_end(1s, 7));
    CHECK(world.loop.run_until_complete(wait_for(after_all, 1s)) == 7);
    CHECK_FALSE(after_all.cancelled());

    Future<int> none = world.loop.create_task(after(1h, 1));
    CHECK_THROWS_AS(world.loop.run_until_complete(wait_for(none, 0s)), TimeoutError);
    CHECK(none.cancelled());
}

TEST_CASE("who is cancelled in wait_for is cancelled, and so is the future") {
    const LeakGuard guard;
    World world;
    Future<int> slow = world.loop.create_task(slow_to_end(2s, {}));
    Task<int> waits = world.loop.create_task(wait_for(slow, 1h));
    world.loop.call_later(1s, [waits]() mutable { waits.cancel(); });
    CHECK_THROWS_AS(world.loop.run_until_complete(waits), CancelledError);
    CHECK(slow.cancelled());
    CHECK(world.passed() == 3s);

    Future<int> theirs{world.loop}; // cancelled by somebody else: that is no timeout
    world.loop.call_later(1s, [theirs]() mutable { theirs.cancel(); });
    CHECK_THROWS_AS(world.loop.run_until_complete(wait_for(theirs, 1h)), CancelledError);

    // Both the limit and a cancellation: the cancellation is what is told.
    Future<int> both = world.loop.create_task(slow_to_end(2s, {}));
    Task<int> meets = world.loop.create_task(wait_for(both, 1s));
    world.loop.call_later(2s, [meets]() mutable { meets.cancel(); });
    CHECK_THROWS_AS(world.loop.run_until_complete(meets), CancelledError);
}
