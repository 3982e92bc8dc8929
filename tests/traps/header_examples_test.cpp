// The examples that the headers of traps/ show in their first comments, compiled and run. Who
// changes one there changes it here.
#include <array>
#include <cerrno>
#include <string>
#include <thread>

#include <doctest/doctest.h>

#include <trapline/traps/calls.hpp>
#include <trapline/traps/cancel.hpp>
#include <trapline/traps/coro.hpp>
#include <trapline/traps/exceptions.hpp>
#include <trapline/traps/routine.hpp>
#include <trapline/traps/task.hpp>
#include <trapline/traps/thread.hpp>
#include <trapline/traps/trap.hpp>
#include <trapline/traps/wait_queue.hpp>

#include "hand_loop.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

// coro.hpp
Coro<int> twice(int x) {
    co_await sleep(1ms);
    co_return 2 * x;
}

Coro<int> work(int x = 1) {
    co_await sleep(1ms);
    co_return x;
}

Reply answer(const Trap& trap) {
    return std::holds_alternative<traps::Sleep>(trap) ? Reply::time(TimePoint{1ms})
                                                      : Reply{-ENOSYS};
}

} // namespace

TEST_CASE("coro.hpp: await another coroutine") {
    const auto body = []() -> Coro<int> {
        int four = co_await twice(2);
        co_return four;
    };
    CHECK(drive(body()) == 4);
}

TEST_CASE("routine.hpp: drive a coroutine by hand") {
    Routine<int> r{work()};
    for (const Trap* trap = r.start(); trap; trap = r.send(answer(*trap))) {}
    int result = r.result();
    CHECK(result == 1);
}

TEST_CASE("task.hpp: spawn and join") {
    const auto body = []() -> Coro<int> {
        Task<int> t = co_await spawn(work(3), {.name = "worker"});
        int result = co_await t.join();
        co_return result;
    };
    CHECK(HandLoop{}.run(body()) == 3);
}

TEST_CASE("trap.hpp: a trap can be awaited as it is") {
    const auto body = []() -> Coro<TimePoint> {
        TimePoint woke = (co_await traps::Sleep{5ms}).value();
        co_return woke;
    };
    CHECK(drive(body()) == TimePoint{5ms});
}

TEST_CASE("calls.hpp: trap calls answer std::expected") {
    const auto body = [](int fd) -> Coro<std::size_t> {
        std::array<std::byte, 16> buffer{};
        std::expected<std::size_t, std::error_code> n = co_await traps::recv(fd, buffer);
        short events = (co_await traps::read_wait(fd)).value();
        co_return n.value() + static_cast<std::size_t>(events);
    };
    Routine<std::size_t> r{body(3)};
    r.start();
    r.send({10});
    r.send({1});
    CHECK(r.result() == 11);
}

TEST_CASE("wait_queue.hpp: park and wake") {
    const auto body = []() -> Coro<bool> {
        WaitQueue queue;
        const auto sleeper = [](WaitQueue& q) -> Coro<void> { co_await traps::Park{&q}; };
        Task<> task = co_await spawn(sleeper(queue));
        co_await yield_now();
        queue.wake();
        co_await task.join();
        co_return true;
    };
    CHECK(HandLoop{}.run(body()));
}

TEST_CASE("exceptions.hpp: a handler for errors does not swallow an interrupt") {
    const auto body = []() -> Coro<void> {
        try {
            co_await sleep(1s);
        } catch (const std::exception&) {
            FAIL("swallowed");
        }
    };
    Routine<void> r{body()};
    r.start();
    r.send({.interrupt = Interrupt::cancelled});
    CHECK_THROWS_AS(r.result(), Cancelled);
}
