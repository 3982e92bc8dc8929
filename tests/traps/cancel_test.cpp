#include <trapline/traps/cancel.hpp>

#include <array>
#include <memory>
#include <optional>
#include <string>

#include <doctest/doctest.h>

#include <trapline/io/tcp.hpp>

#include "hand_loop.hpp"

using namespace trapline;
using namespace std::chrono_literals;

// The scopes driven by hand: what they ask, and what they make of each answer. That a kernel does
// what they ask is tested in tests/conformance.

namespace {

constexpr TimePoint start{100s};

Reply timed_out(TimePoint deadline, std::uint32_t progress = 0) {
    return {deadline.time_since_epoch().count(), progress, 0, Interrupt::timed_out};
}

constexpr Reply cancelled{.interrupt = Interrupt::cancelled};

/// Answers Clock with `start` and SetTimeout as a kernel does, up to the first other trap.
template <class T>
const Trap* enter_limits(Routine<T>& routine, TimePoint standing = never) {
    const Trap* trap = routine.start();
    for (;;) {
        if (trap && std::holds_alternative<traps::Clock>(*trap)) {
            trap = routine.send(Reply::time(start));
        } else if (const auto* set = trap ? std::get_if<traps::SetTimeout>(trap) : nullptr) {
            const TimePoint deadline = std::get<TimePoint>(set->limit);
            trap = routine.send(Reply::time(standing));
            standing = std::min(standing, deadline);
        } else {
            return trap;
        }
    }
}

/// Answers each UnsetTimeout, to the end.
template <class T>
void leave_limits(Routine<T>& routine, const Trap* trap) {
    while (trap) {
        REQUIRE(std::holds_alternative<traps::UnsetTimeout>(*trap));
        trap = routine.send();
    }
}

TimePoint previous_of(const Trap* trap) { return std::get<traps::UnsetTimeout>(*trap).previous; }

Coro<int> waits_and_answers(int value) {
    co_await traps::Sleep{1s};
    co_return value;
}

/// Notes which interrupt passes.
Coro<int> noting(std::string& note) {
    try {
        co_await sleep(1s);
    } catch (const Cancelled& interrupt) {
        note = interrupt.what();
        throw;
    }
    co_return 1;
}

Coro<void> write_trailer(int file) { co_await traps::write(file, {}); }

} // namespace

TEST_CASE("a receive and a join have their time limits, a trailer is written undisturbed") {
    const auto body = [](int file) -> Coro<bool> {
        TcpStream client;
        std::array<std::byte, 8> buffer{};
        Task<> task = co_await spawn(waits_and_answers(1));
        auto n = co_await timeout_after(5s, client.recv(buffer)); // or TaskTimeout
        bool in_time = co_await ignore_after(1s, task.wait());    // or false
        co_await disable_cancellation([&] { return write_trailer(file); });
        co_return n == 3 && in_time;
    };
    Routine<bool> routine{body(7)};
    std::string asked;
    for (const Trap* trap = routine.start(); trap;) {
        asked += std::string(asked.empty() ? "" : ", ") + traps::name_of(*trap);
        Reply reply{};
        if (std::holds_alternative<traps::Clock>(*trap))
            reply = Reply::time(start);
        else if (std::holds_alternative<traps::SetTimeout>(*trap))
            reply = Reply::time(never);
        else if (std::holds_alternative<traps::Io>(*trap))
            reply = {3};
        trap = routine.send(reply);
    }
    CHECK(routine.result());
    CHECK(asked == "Spawn, Clock, SetTimeout, Io, UnsetTimeout, "
                   "Clock, SetTimeout, Join, UnsetTimeout, Mask, Io, Mask");
}

TEST_CASE("a time limit asks for the time, sets its deadline and takes it off again") {
    Routine<int> routine{timeout_after(5s, waits_and_answers(7))};
    const Trap* trap = routine.start();
    REQUIRE(trap);
    CHECK(std::holds_alternative<traps::Clock>(*trap));
    trap = routine.send(Reply::time(start));
    REQUIRE(trap);
    CHECK(std::get<TimePoint>(std::get<traps::SetTimeout>(*trap).limit) == start + 5s);
    trap = routine.send(Reply::time(never));
    REQUIRE(trap);
    CHECK(std::holds_alternative<traps::Sleep>(*trap));
    trap = routine.send();
    REQUIRE(trap);
    CHECK(previous_of(trap) == never);
    CHECK(routine.send() == nullptr);
    CHECK(routine.result() == 7);
}

TEST_CASE("a limit at a time does not ask for the time") {
    Routine<int> routine{timeout_at(start + 1s, waits_and_answers(7))};
    const Trap* trap = routine.start();
    REQUIRE(trap);
    CHECK(std::get<TimePoint>(std::get<traps::SetTimeout>(*trap).limit) == start + 1s);
}

TEST_CASE("leaving a limit restores the one that stood before") {
    Routine<int> routine{timeout_after(5s, waits_and_answers(7))};
    enter_limits(routine, start + 9s);
    const Trap* trap = routine.send();
    REQUIRE(trap);
    CHECK(previous_of(trap) == start + 9s);
}

TEST_CASE("a limit without end never overflows") {
    Routine<int> routine{timeout_after(Duration::max(), waits_and_answers(7))};
    routine.start();
    const Trap* trap = routine.send(Reply::time(start));
    REQUIRE(trap);
    CHECK(std::get<TimePoint>(std::get<traps::SetTimeout>(*trap).limit) == never);
}

TEST_CASE("a limit that runs out throws TaskTimeout with its deadline and the progress made") {
    Routine<int> routine{timeout_after(5s, waits_and_answers(7))};
    enter_limits(routine);
    leave_limits(routine, routine.send(timed_out(start + 5s, 12)));
    try {
        routine.result();
        FAIL("no TaskTimeout");
    } catch (const TaskTimeout& timeout) {
        CHECK(timeout.deadline() == start + 5s);
        CHECK(timeout.reported());
        CHECK(timeout.progress() == 12);
    }
}

TEST_CASE("the body sees its own limit as TaskTimeout") {
    std::string note;
    Routine<int> routine{timeout_after(5s, noting(note))};
    enter_limits(routine);
    leave_limits(routine, routine.send(timed_out(start + 5s)));
    CHECK_THROWS_AS(routine.result(), TaskTimeout);
    CHECK(note == TaskTimeout{start}.what());
}

TEST_CASE("ignore_after answers nothing when the limit runs out, else the result") {
    Routine<std::optional<int>> late{ignore_after(5s, waits_and_answers(7))};
    enter_limits(late);
    leave_limits(late, late.send(timed_out(start + 5s)));
    CHECK(late.result() == std::nullopt);

    Routine<std::optional<int>> in_time{ignore_at(start + 5s, waits_and_answers(7))};
    enter_limits(in_time);
    leave_limits(in_time, in_time.send());
    CHECK(in_time.result() == 7);
}

TEST_CASE("ignore_after of a void body answers whether it was in time") {
    const auto body = []() -> Coro<void> { co_await yield_now(); };
    Routine<bool> late{ignore_after(5s, body())};
    enter_limits(late);
    leave_limits(late, late.send(timed_out(start + 5s)));
    CHECK_FALSE(late.result());

    Routine<bool> in_time{ignore_after(5s, body())};
    enter_limits(in_time);
    leave_limits(in_time, in_time.send());
    CHECK(in_time.result());
}

TEST_CASE("a failure of the body passes, and the limit is taken off first") {
    const auto failing = []() -> Coro<int> {
        co_await yield_now();
        throw std::runtime_error("failed");
    };
    Routine<std::optional<int>> routine{ignore_after(5s, failing())};
    enter_limits(routine);
    const Trap* trap = routine.send();
    REQUIRE(trap);
    CHECK(std::holds_alternative<traps::UnsetTimeout>(*trap));
    leave_limits(routine, trap);
    CHECK_THROWS_WITH_AS(routine.result(), "failed", std::runtime_error);
}

TEST_CASE("a cancellation passes a limit as what it is") {
    Routine<std::optional<int>> routine{ignore_after(5s, waits_and_answers(7))};
    enter_limits(routine);
    leave_limits(routine, routine.send(cancelled));
    CHECK_THROWS_AS(routine.result(), TaskCancelled);
}

TEST_CASE("a limit that was disarmed restores no deadline") {
    Routine<int> routine{timeout_after(5s, waits_and_answers(7))};
    enter_limits(routine, start + 9s);
    REQUIRE(routine.frame().limit);
    routine.frame().limit->disarmed = true;
    const Trap* trap = routine.send(cancelled);
    REQUIRE(trap);
    CHECK(previous_of(trap) == never);
}

TEST_CASE("of nested limits the inner one reports its own end, and the outer one goes on") {
    const auto body = []() -> Coro<std::string> {
        try {
            co_await timeout_after(2s, waits_and_answers(1));
        } catch (const TaskTimeout&) {}
        co_await yield_now();
        co_return "went on";
    };
    Routine<std::string> routine{timeout_after(5s, body())};
    enter_limits(routine);
    const Trap* trap = routine.send(timed_out(start + 2s));
    REQUIRE(trap);
    CHECK(previous_of(trap) == start + 5s);
    trap = routine.send();
    REQUIRE(trap);
    CHECK(std::holds_alternative<traps::Yield>(*trap));
    leave_limits(routine, routine.send());
    CHECK(routine.result() == "went on");
}

TEST_CASE("the end of an outer limit passes the inner one as TimeoutCancellation") {
    for (const Duration inner : {7s, 5s, 2s}) { // later, a tie, and sooner but not what ran out
        std::string note;
        const auto body = [&]() -> Coro<int> {
            try {
                co_return co_await timeout_after(inner, noting(note));
            } catch (const TimeoutCancellation& interrupt) {
                CHECK(interrupt.deadline() == start + 5s);
                throw;
            }
        };
        Routine<int> routine{timeout_after(5s, body())};
        enter_limits(routine);
        leave_limits(routine, routine.send(timed_out(start + 5s)));
        try {
            routine.result();
            FAIL("no TaskTimeout");
        } catch (const TaskTimeout& timeout) {
            CHECK(timeout.deadline() == start + 5s);
        }
        CHECK(note == TimeoutCancellation{start}.what());
    }
}

TEST_CASE("a TaskTimeout that leaks into an outer limit becomes UncaughtTimeout") {
    const auto body = []() -> Coro<int> {
        co_return co_await timeout_after(2s, waits_and_answers(1));
    };
    Routine<std::optional<int>> routine{ignore_after(5s, body())};
    enter_limits(routine);
    leave_limits(routine, routine.send(timed_out(start + 2s)));
    CHECK_THROWS_AS(routine.result(), UncaughtTimeout);
}

TEST_CASE("a TaskTimeout that nobody limits passes") {
    Routine<int> routine{waits_and_answers(1)};
    routine.start();
    routine.send(timed_out(start));
    CHECK_THROWS_AS(routine.result(), TaskTimeout);
}

TEST_CASE("a limit leaves nothing in the frame, however it is left") {
    Routine<int> returned{timeout_after(5s, waits_and_answers(7))};
    enter_limits(returned);
    CHECK(returned.frame().limit != nullptr);
    leave_limits(returned, returned.send());
    CHECK(returned.frame().limit == nullptr);

    Routine<int> ran_out{timeout_after(5s, waits_and_answers(7))};
    enter_limits(ran_out);
    leave_limits(ran_out, ran_out.send(timed_out(start + 5s)));
    CHECK(ran_out.frame().limit == nullptr);

    const auto two = []() -> Coro<int> {
        co_return co_await timeout_after(5s, timeout_after(3s, waits_and_answers(7)));
    };
    Routine<int> dropped{two()};
    enter_limits(dropped);
    CHECK(dropped.frame().limit->outer != nullptr);
    CHECK_THROWS_AS(dropped.close(), std::runtime_error); // it wants to take the limits off
    CHECK(dropped.frame().limit == nullptr);
}

TEST_CASE("a limit takes a coroutine, a callable, and any awaitable") {
    const auto body = []() -> Coro<int> {
        int sum = co_await timeout_after(1s, waits_and_answers(1));
        sum += co_await timeout_after(1s, [] { return waits_and_answers(2); });
        sum += co_await timeout_after(1s, [p = std::make_unique<int>(3)]() -> Coro<int> {
            co_await yield_now();
            co_return *p; // the callable is kept alive
        });
        co_await timeout_after(1s, sleep(1s));
        const auto answer = co_await timeout_after(1s, traps::nop());
        const auto bare_trap = co_await timeout_after(1s, traps::ReadWait{3});
        co_return sum + (answer && bare_trap ? 10 : 20);
    };
    Routine<int> routine{body()};
    for (const Trap* trap = routine.start(); trap;) {
        const bool asks_time = std::holds_alternative<traps::Clock>(*trap);
        const bool sets = std::holds_alternative<traps::SetTimeout>(*trap);
        trap = routine.send(asks_time ? Reply::time(start) : sets ? Reply::time(never) : Reply{});
    }
    CHECK(routine.result() == 16);
}

TEST_CASE("a limit answers references and what can only be moved") {
    int value = 3;
    const auto reference = [](int& v) -> Coro<int&> { co_return v; };
    const auto pointer = []() -> Coro<std::unique_ptr<int>> { co_return std::make_unique<int>(4); };

    Routine<int&> same{timeout_after(1s, reference(value))};
    leave_limits(same, enter_limits(same));
    CHECK(&same.result() == &value);

    Routine<std::optional<std::unique_ptr<int>>> moved{ignore_after(1s, pointer())};
    leave_limits(moved, enter_limits(moved));
    CHECK(**moved.result() == 4);
}

TEST_CASE("a driver without time limits is told so, and the body has not run") {
    bool ran = false;
    const auto body = [&]() -> Coro<int> {
        ran = true;
        co_return 1;
    };
    CHECK_THROWS_WITH_AS(
        drive(timeout_after(1s, body())),
        "SetTimeout: this kernel does not answer the trap: Function not implemented",
        std::system_error);
    CHECK_FALSE(ran);
}

TEST_CASE("disable_cancellation holds interrupts back, and restores what was before") {
    for (const bool held_before : {false, true}) {
        Routine<int> routine{disable_cancellation(waits_and_answers(7))};
        const Trap* trap = routine.start();
        REQUIRE(trap);
        CHECK(std::get<traps::Mask>(*trap).on);
        trap = routine.send({held_before});
        REQUIRE(trap);
        CHECK(std::holds_alternative<traps::Sleep>(*trap));
        trap = routine.send();
        REQUIRE(trap);
        CHECK(std::get<traps::Mask>(*trap).on == held_before);
        CHECK(routine.send({true}) == nullptr);
        CHECK(routine.result() == 7);
    }
}

TEST_CASE("disable_cancellation ends with the scope also when the body fails") {
    const auto failing = []() -> Coro<void> {
        co_await yield_now();
        throw std::runtime_error("failed");
    };
    Routine<void> routine{disable_cancellation([&] { return failing(); })};
    routine.start();
    routine.send();
    const Trap* trap = routine.send();
    REQUIRE(trap);
    CHECK_FALSE(std::get<traps::Mask>(*trap).on);
    routine.send();
    CHECK_THROWS_WITH_AS(routine.result(), "failed", std::runtime_error);
}

TEST_CASE("check_cancellation says whether an interrupt waits") {
    const auto body = []() -> Coro<bool> { co_return co_await check_cancellation(); };
    for (const bool pending : {false, true}) {
        const Task<> task = detail::make_task(body());
        task.record()->interrupt_pending = pending;
        Routine<bool> routine{body()};
        const Trap* trap = routine.start();
        REQUIRE(trap);
        CHECK(std::holds_alternative<traps::Self>(*trap));
        routine.send({reinterpret_cast<std::intptr_t>(task.record())});
        CHECK(routine.result() == pending);
    }
}

TEST_CASE("cancel of a task asks the kernel, waits for its end and says what came of it") {
    const auto child = []() -> Coro<void> { co_return; };
    for (const bool reached : {false, true}) {
        const Task<> task = detail::make_task(child());
        Routine<bool> routine{task.cancel()};
        const Trap* trap = routine.start();
        REQUIRE(trap);
        CHECK(std::get<traps::Cancel>(*trap).task == task.record());
        trap = routine.send();
        REQUIRE(trap);
        CHECK(std::get<traps::Join>(*trap).task == task.record());
        task.record()->state = TaskState::terminated;
        task.record()->interrupted = reached;
        CHECK(routine.send() == nullptr);
        CHECK(routine.result() == reached);
    }
}

TEST_CASE("cancel of a task that has ended asks nobody") {
    const auto child = []() -> Coro<void> { co_return; };
    const Task<> task = detail::make_task(child());
    task.record()->state = TaskState::terminated;
    CHECK_FALSE(drive(task.cancel()));
}

TEST_CASE("cancel that is refused names the task") {
    const auto child = []() -> Coro<void> { co_return; };
    const Task<> task = detail::make_task(child(), {.name = "worker"});
    Routine<bool> routine{task.cancel()};
    routine.start();
    routine.send({-EDEADLK});
    try {
        routine.result();
        FAIL("not refused");
    } catch (const std::system_error& e) {
        CHECK(e.code() == std::errc::resource_deadlock_would_occur);
        CHECK(std::string(e.what()).starts_with("cancel of task 'worker': "));
    }
}
