// Property tests: random programs of tasks over one primitive, and what must hold at their end.
//
//     struct Permits {                                          // the program: one for each seed
//         explicit Permits(World& world) : semaphore(1 + world.below(3)) {}
//         Coro<void> step(World& world) {                       // one thing that a task does
//             const auto permit = co_await semaphore.hold();
//             co_await world.note_result();
//             co_await world.pause();
//         }
//         std::string complaint() { return semaphore.value() == all ? "" : "a permit is lost"; }
//         ...
//     };
//     TEST_CASE("...") { properties::run<Permits>("semaphore"); }
//
// A program is 2 to 20 tasks, each of which makes a few steps on a kernel with virtual time. Around
// the steps: time limits, nested ones too; tasks that cancel each other before, between and after
// steps; steps as tasks of their own; on half of the programs shuffled turns. All times are a few
// microseconds, so that a limit, a cancellation and a wake-up often meet in one turn, in any order.
// Nearly all of the processor's time goes into interrupts that leave one coroutine after the other:
// a step is made of few.
// At last all tasks are cancelled. Then no task and no coroutine frame may be left, nobody may have
// failed, and complaint() must be empty.
//
// A program may have, besides,
//   - `static constexpr bool always_ends = true`: each step ends as long as the others go on, so
//     that some are run with interrupts held back;
//   - `std::string complaint_at_rest()`: asked when nothing can happen any more but what the final
//     cancellations bring: a waiter who could have gone on was forgotten;
//   - `void finish()`: called after that, before everybody is cancelled.
//
// The programs come from ten seeds, the last of them fresh and printed. A failure names the seed of
// its program: TRAPLINE_SEED=<seed> runs that one alone. TRAPLINE_PROGRAMS=<n> runs so many.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/kernel/kernel.hpp>
#include <trapline/traps/calls.hpp>
#include <trapline/traps/cancel.hpp>
#include <trapline/traps/sanitizers.hpp>

#include "../kernel/manual_engine.hpp"
#include "../support/leaks.hpp"
#include "world.hpp"

namespace trapline::properties {

namespace detail {

inline constexpr std::size_t tasks_max = 20;

template <class Program>
concept AlwaysEnds = requires { requires Program::always_ends; };

/// One program from its first task to its last.
template <class Program>
class Play {
public:
    template <class... Args>
    Play(Seed seed, Reached& reached, Args&... args)
        : world_(seed, reached), program_(world_, args...) {}

    /// What is wrong at the end; "" if nothing is.
    Coro<std::string> main() {
        // Most programs are small: those are soon at rest, and there bugs show.
        const unsigned count = 2 + world_.below(world_.one_in(3) ? tasks_max - 1 : 5);
        while (world_.tasks().size() < count) {
            world_.tasks().push_back(co_await spawn(actor()));
            if (world_.one_in(4))
                co_await world_.pause();
        }
        for (unsigned i = world_.below(2 * count); i > 0; --i)
            co_await world_.pause();
        co_await sleep(1s); // whatever can happen has happened then
        std::string complaint;
        if constexpr (requires { program_.complaint_at_rest(); })
            complaint = program_.complaint_at_rest();
        if constexpr (requires { program_.finish(); })
            program_.finish();
        const std::string failure = co_await end_all();
        if (complaint.empty())
            complaint = failure;
        if (complaint.empty())
            complaint = program_.complaint();
        co_return complaint;
    }

private:
    Coro<void> actor() {
        const test::Counted frame;
        for (unsigned steps = 1 + world_.below(4); steps > 0; --steps) {
            if (world_.one_in(3))
                co_await world_.pause();
            co_await step_somehow(0);
        }
    }

    Coro<void> step_somehow(int depth) {
        const test::Counted frame;
        switch (world_.below(depth < 3 ? 12 : 8)) {
        default:
            co_await program_.step(world_);
            ++world_.reached().steps;
            break;
        case 5:
            if (world_.tasks().size() < tasks_max)
                world_.tasks().push_back(co_await spawn(step()));
            else
                co_await step();
            break;
        case 6:
            if constexpr (AlwaysEnds<Program>)
                co_await disable_cancellation(step());
            else
                co_await step();
            break;
        case 7:
        case 8: {
            const Duration limit = world_.moment();
            const bool in_time = co_await ignore_after(limit, program_.step(world_));
            ++(in_time ? world_.reached().steps : world_.reached().timed_out);
            break;
        }
        case 9: {
            const bool in_time = co_await ignore_after(world_.moment(), step_somehow(depth + 1));
            world_.reached().timed_out += !in_time;
            break;
        }
        case 10:
        case 11: {
            try {
                co_await timeout_after(world_.moment(), step_somehow(depth + 1));
            } catch (const TaskTimeout&) {
                ++world_.reached().timed_out;
            }
            break;
        }
        }
    }

    Coro<void> step() {
        const test::Counted frame;
        co_await program_.step(world_);
        ++world_.reached().steps;
    }

    /// Cancels everybody, in any order. Answers the first failure that was no interrupt.
    Coro<std::string> end_all() {
        std::string failure;
        while (!world_.tasks().empty()) {
            auto& tasks = world_.tasks();
            std::swap(tasks[world_.below(static_cast<unsigned>(tasks.size()))], tasks.back());
            const Task<void> task = tasks.back();
            (void)co_await task.cancel();
            // join() would throw what is in here.
            TaskRecord& record = *task.record();
            record.failure_seen = true;
            if (record.failure && !record.cancelled && failure.empty())
                failure = message_of(record.failure);
            world_.reached().cancelled += record.cancelled;
            // New ones may have come meanwhile, steps as tasks: it is not the last any more.
            std::erase(world_.tasks(), task);
        }
        co_return failure;
    }

    World world_;
    Program program_;
};

/// Options for the kernel of the program of that seed. Its time jumps also while somebody waits for
/// a thread: that is mostly another task here, and the simulation would wait for it.
inline KernelOptions options_of(Seed seed) {
    KernelOptions options = manual();
    options.log = [](std::string_view) {}; // of a kernel that ends a failed program
    if (seed % 2)
        options.shuffle_seed = seed;
    return options;
}

/// What is wrong with the program of that seed; "" if nothing is. Whether frames are left is not
/// looked at: others may be alive on other threads.
template <class Program, class... Args>
std::string play_once(Seed seed, Reached& reached, Args&... args) {
    Play<Program> program{seed, reached, args...};
    Kernel kernel{options_of(seed)};
    std::string complaint;
    try {
        complaint = kernel.run(program.main());
        if (complaint.empty() && kernel.task_count() != 0)
            complaint = "tasks are left";
    } catch (const std::exception& failure) {
        complaint = failure.what();
    }
    kernel.shutdown();
    return complaint;
}

/// What is wrong with the program of that seed; "" if nothing is.
template <class Program>
std::string play(Seed seed, Reached& reached) {
    const long frames_before = test::Counted::alive();
    std::string complaint = play_once<Program>(seed, reached);
    if (complaint.empty() && test::Counted::alive() != frames_before)
        complaint = "coroutine frames are left";
    return complaint;
}

inline std::optional<std::uint64_t> number_of(const char* variable) {
    const char* text = std::getenv(variable);
    if (!text)
        return std::nullopt;
    return std::strtoull(text, nullptr, 10);
}

inline std::uint64_t default_programs() {
    return TRAPLINE_ADDRESS_SANITIZER || TRAPLINE_THREAD_SANITIZER ? 5'000 : 100'000;
}

} // namespace detail

struct Failure {
    Seed seed;
    std::string complaint;
};

/// The first of the `count` programs with the seeds from `first` on that fails: `play(seed,
/// reached)` says what is wrong with one.
template <class Play>
std::optional<Failure> first_failure(Play play, Seed first, std::uint64_t count, Reached& reached) {
    for (Seed seed = first; seed < first + count; ++seed) {
        std::string complaint = play(seed, reached);
        if (!complaint.empty())
            return Failure{seed, std::move(complaint)};
    }
    return std::nullopt;
}
template <class Program>
std::optional<Failure> first_failure(Seed first, std::uint64_t count, Reached& reached) {
    return first_failure(detail::play<Program>, first, count, reached);
}

/// Plays the programs, or one of `one_of`; within a doctest case.
template <class Play>
void run_each(std::string_view name, Play play, std::uint64_t one_of = 1) {
    constexpr Seed apart = 1'000'000'000;
    constexpr std::uint64_t seeds = 10;
    const auto check = [&](Seed first, std::uint64_t count, Reached& reached) {
        if (const auto failure = first_failure(play, first, count, reached))
            FAIL_CHECK(name << ", TRAPLINE_SEED=" << failure->seed << ": " << failure->complaint);
    };
    Reached reached;
    if (const auto seed = detail::number_of("TRAPLINE_SEED"))
        return check(*seed, 1, reached);

    const std::uint64_t programs =
        detail::number_of("TRAPLINE_PROGRAMS").value_or(detail::default_programs()) / one_of;
    const Seed fresh = (seeds + std::random_device{}() % apart) * apart;
    MESSAGE(name << ": the fresh seed is TRAPLINE_SEED=" << fresh);
    for (std::uint64_t i = 1; i < seeds; ++i)
        check(i * apart, programs / seeds, reached);
    check(fresh, programs - programs / seeds * (seeds - 1), reached);

    if (programs >= 1'000) {
        CHECK(reached.steps > programs);
        CHECK(reached.cancelled > programs / 10);
        CHECK(reached.timed_out > programs / 10);
        CHECK(reached.beside > 0);
    }
}

template <class Program>
void run(std::string_view name) {
    run_each(name, detail::play<Program>);
}

} // namespace trapline::properties
