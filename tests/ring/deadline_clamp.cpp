// Failure: a deadline that Linux does not take: before its clock began, or centuries from now
// (RELIABILITY 2, row 33); io_uring_enter answers EINVAL, or the sum overflows.
// Proves: a wait until any time point is a look or a wait, never an error; sleeps and time limits
// of any length behave as their length says.
// Seen on Linux 6.18: a negative timeout is EINVAL; 2^63 ns are fine.
#include "../support/ring.hpp"

using namespace ring_test;

namespace {

void in_the_engine(const UringOptions& options) {
    Driver driver(options);
    driver.run(traps::Nop{});
    const TimePoint start = driver.engine->now();
    for (const TimePoint past : {TimePoint::min(), TimePoint::min() + 1ns, TimePoint{-1ns},
                                 TimePoint{-5s}, TimePoint{}, TimePoint{1ns}, start})
        driver.turn(past);
    CHECK(driver.engine->now() - start < 500ms, "a deadline in the past just looks");

    const Pair pair = Pair::sockets();
    char c = 0;
    for (const TimePoint future : {never, never - 1ns, start + 24h * 365 * 200}) {
        driver.engine->interrupt();
        driver.turn(future); // hangs unless it can be woken
        Operation recv;
        driver.start(recv, traps::Recv{pair.fd[0], 0, &c, 1});
        pair.put("x");
        while (!Driver::came_back(recv))
            driver.turn(future);
        CHECK_EQUAL(recv.result, 1, "I/O ends a long wait");
    }
    const TimePoint before = driver.engine->now();
    driver.turn(before + 2ms);
    CHECK(driver.engine->now() - before >= 2ms, "a wait without completions is not early");
}

void in_tasks(const UringOptions& options) {
    Kernel kernel({.engine = "uring", .uring = options});
    kernel.run([]() -> Coro<void> {
        const TimePoint start = co_await now();
        co_await sleep(-1s);
        co_await sleep(Duration::min());
        co_await sleep_until(TimePoint{});
        co_await sleep_until(TimePoint::min());
        CHECK((co_await now()) - start < 500ms, "sleeps that are over before they begin");
        const auto sleeper =
            co_await spawn([]() -> Coro<void> { co_await sleep(Duration::max()); });
        const auto other =
            co_await spawn([]() -> Coro<void> { co_await sleep_until(never - 1ns); });
        co_await sleep(1ms);
        CHECK(!sleeper.terminated() && !other.terminated(), "centuries have not passed");
        const bool interrupted = co_await sleeper.cancel();
        CHECK(interrupted, "a sleep of centuries can be cancelled");
        co_await other.cancel();
        const auto forty = co_await timeout_after(Duration::max(), []() -> Coro<int> {
            co_await sleep(1us);
            co_return 40;
        });
        CHECK_EQUAL(forty, 40, "a limit of centuries");
        for (const Duration limit : {-1ns, Duration::min(), Duration{0}}) {
            const bool in_time =
                co_await ignore_after(limit, []() -> Coro<void> { co_await sleep(1h); });
            CHECK(!in_time, "a limit that is over before it begins");
        }
    });
}

} // namespace

int main() {
    for_each_ring(
        [](const UringOptions& options) {
            in_the_engine(options);
            in_tasks(options);
        },
        {2, 64});
}
