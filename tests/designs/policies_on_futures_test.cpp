// Policies do on a kernel of futures what they do on the kernel: each program runs on both.
#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include <doctest/doctest.h>
#include <future/traps_on_futures.hpp>

#include <trapline/kernel/engines/uring.hpp>
#include <trapline/trapline.hpp>

#include "../kernel/manual_engine.hpp"
#include "../support/leaks.hpp"
#include "../support/sockets.hpp"

using namespace trapline;
using namespace trapline::test;
using namespace std::chrono_literals;
using future_design::FutureKernel;

namespace {

/// What a program notes is the same on both, and is this.
template <class Program>
void same_on_both(const std::string& expected, Program program) {
    const LeakGuard guard;
    const auto noted_on = [&](auto&& kernel) {
        std::string notes;
        kernel.run(program(notes));
        kernel.shutdown();
        return notes;
    };
    CHECK(noted_on(Kernel{{.engine = "uring"}}) == expected);
    CHECK(noted_on(FutureKernel{make_uring_engine({})}) == expected);
}

/// The same in virtual time.
template <class Program>
void same_in_virtual_time(const std::string& expected, Program program) {
    std::string notes;
    Kernel kernel{manual()};
    kernel.run(program(notes));
    CHECK(notes == expected);
    std::string on_futures;
    FutureKernel futures{std::make_unique<ManualEngine>()};
    futures.run(program(on_futures));
    CHECK(on_futures == expected);
}

Coro<void> note_failure(std::string& notes, Coro<void> what) {
    try {
        co_await std::move(what);
        notes += "done, ";
    } catch (const std::system_error& failure) {
        notes += failure.code().message() + ", ";
    } catch (const Cancelled&) {
        notes += "interrupted, ";
        throw;
    }
}

void note(std::string& notes, Duration time) {
    notes += std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(time).count()) +
             " ms, ";
}

Coro<void> let_others_run() {
    for (int turn = 0; turn < 3; ++turn)
        co_await yield_now();
}

/// Refuses `times` operations by ECONNREFUSED, as a server does that is not up yet.
struct NotYet final : Policy {
    explicit NotYet(int count) : times(count) {}
    Verdict trapped(Asking& asking) noexcept override {
        if (std::holds_alternative<traps::Io>(asking.trap) && times > 0) {
            --times;
            return Verdict::refuse(ECONNREFUSED);
        }
        return Verdict::allow();
    }
    int times;
};

Coro<void> nop() {
    const auto done = co_await traps::Io{traps::Nop{}};
    if (!done)
        throw std::system_error(done.error());
}

} // namespace

TEST_CASE("allow_only({}) lets nothing out on futures, and a permitted descriptor") {
    const auto program = [](std::string& notes) -> Coro<void> {
        const Ends ends = socket_pair();
        const auto sends = [](int fd) -> Coro<void> {
            const auto sent = co_await traps::send(fd, std::as_bytes(std::span("hello", 5)));
            if (!sent)
                throw std::system_error(sent.error());
        };
        co_await with_policy(allow_only({}), note_failure(notes, sends(ends.a.get())));
        notes += std::to_string(bytes_waiting(ends.b.get())) + " bytes, ";
        co_await with_policy(allow_only({.descriptors = {ends.a.get()}}),
                             note_failure(notes, sends(ends.a.get())));
        notes += std::to_string(bytes_waiting(ends.b.get())) + " bytes, ";
        co_await note_failure(notes, sends(ends.a.get()));
    };
    same_on_both("Operation not permitted, 0 bytes, done, 5 bytes, done, ", program);
}

TEST_CASE("a policy goes over to the children on futures") {
    same_on_both("Operation not permitted, ", [](std::string& notes) -> Coro<void> {
        const Ends ends = pipe_ends();
        co_await with_policy(allow_only({.tasks = true}), [&]() -> Coro<void> {
            Task<> child = co_await spawn(note_failure(notes, [](int fd) -> Coro<void> {
                const auto sent = co_await traps::write(fd, std::as_bytes(std::span("hello", 5)));
                if (!sent)
                    throw std::system_error(sent.error());
            }(ends.b.get())));
            co_await child.join();
        });
    });
}

TEST_CASE("rate_limit spaces operations on futures") {
    same_in_virtual_time("0 ms, 150 ms, interrupted, 5 ms, ", [](std::string& notes) -> Coro<void> {
        const auto limit = rate_limit(100, 5);
        const TimePoint start = co_await now();
        co_await with_policy(limit, []() -> Coro<void> {
            for (int i = 0; i < 5; ++i)
                co_await nop();
        });
        note(notes, (co_await now()) - start);
        co_await with_policy(limit, []() -> Coro<void> {
            for (int i = 0; i < 15; ++i)
                co_await nop();
        });
        note(notes, (co_await now()) - start);
        // A limit ends the delay.
        const TimePoint before = co_await now();
        (void)co_await ignore_after(5ms, with_policy(limit, note_failure(notes, nop())));
        note(notes, (co_await now()) - before);
    });
}

TEST_CASE("retry asks again on futures") {
    same_in_virtual_time(
        "done, 300 ms, Connection refused, 10 ms, interrupted, cancelled, ",
        [](std::string& notes) -> Coro<void> {
            TimePoint start = co_await now();
            const RetryOptions options{.attempts = 3, .first = 100ms, .errors = {ECONNREFUSED}};
            co_await with_policy(std::make_shared<NotYet>(2),
                                 with_policy(retry(options), note_failure(notes, nop())));
            note(notes, (co_await now()) - start);
            start = co_await now();
            const RetryOptions few{.attempts = 2, .first = 10ms, .errors = {ECONNREFUSED}};
            co_await with_policy(std::make_shared<NotYet>(2),
                                 with_policy(retry(few), note_failure(notes, nop())));
            note(notes, (co_await now()) - start);
            // Who waits to ask again can be cancelled.
            Task<> waits = co_await spawn(
                with_policy(std::make_shared<NotYet>(1),
                            with_policy(retry({.first = 1h, .errors = {ECONNREFUSED}}),
                                        note_failure(notes, nop()))));
            co_await let_others_run();
            const bool cancelled = co_await waits.cancel();
            notes += cancelled ? "cancelled, " : "too late, ";
        });
}

TEST_CASE("a close ends what a policy delays on futures") {
    same_on_both("Operation canceled, closed, ", [](std::string& notes) -> Coro<void> {
        Ends ends = socket_pair();
        const auto once_an_hour = rate_limit(1.0 / 3600);
        co_await with_policy(once_an_hour, nop()); // the next one waits
        Task<> waits = co_await spawn(with_policy(
            once_an_hour, note_failure(notes, [](int fd) -> Coro<void> {
                const auto sent = co_await traps::send(fd, std::as_bytes(std::span("hello", 5)));
                if (!sent)
                    throw std::system_error(sent.error());
            }(ends.a.get()))));
        co_await let_others_run();
        const auto closed = co_await traps::close(ends.a.release());
        co_await waits.join();
        notes += closed ? "closed, " : "not closed, ";
    });
}

TEST_CASE("who has been cancelled is told so on futures, where a policy refuses what would block") {
    same_in_virtual_time("cancelled, ", [](std::string& notes) -> Coro<void> {
        Task<> tries =
            co_await spawn(with_policy(std::make_shared<NotYet>(1000), []() -> Coro<void> {
                for (int round = 0; round < 5; ++round) {
                    co_await disable_cancellation([]() -> Coro<void> { co_await sleep(1s); });
                    (void)co_await traps::Io{traps::Nop{}};
                }
            }));
        co_await let_others_run();
        const bool cancelled = co_await tries.cancel();
        notes += cancelled ? "cancelled, " : "too late, ";
    });
}
