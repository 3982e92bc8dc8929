// What is around the steps of a random program, see programs.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <trapline/traps/calls.hpp>
#include <trapline/traps/cancel.hpp>

#include "../support/leaks.hpp"

namespace trapline::properties {

using namespace std::chrono_literals;

using Seed = std::uint64_t;

/// What the programs came to: a generator that reaches nothing proves nothing.
struct Reached {
    std::size_t steps = 0;     ///< that ended by themselves
    std::size_t cancelled = 0; ///< tasks that ended by a cancellation
    std::size_t timed_out = 0; ///< steps ended by a limit
    std::size_t beside = 0;    ///< results that were there although an interrupt had come meanwhile

    Reached& operator+=(const Reached& other) noexcept {
        steps += other.steps;
        cancelled += other.cancelled;
        timed_out += other.timed_out;
        beside += other.beside;
        return *this;
    }
};

/// Numbers at random, the same ones for the same seed.
class Dice {
public:
    explicit Dice(Seed seed) noexcept : state_(seed) {}

    /// Any number below `limit`.
    unsigned below(unsigned limit) noexcept {
        // splitmix64: a program takes a few hundred numbers, and a large generator long to seed
        std::uint64_t bits = (state_ += 0x9e3779b97f4a7c15);
        bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
        bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
        return static_cast<unsigned>((bits ^ (bits >> 31)) % limit);
    }
    bool one_in(unsigned count) noexcept { return below(count) == 0; }

private:
    std::uint64_t state_;
};

/// What is around the steps of a program: its dice, its tasks, and ways to pass the time.
class World : public Dice {
public:
    World(Seed seed, Reached& reached) noexcept : Dice(seed), reached_(reached) {}
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    /// So short that it often ends together with another.
    Duration moment() noexcept { return 1us * below(5); }

    /// Lets nobody, or others, go on; sometimes interrupts one of them as the last thing.
    Coro<void> pause() {
        const test::Counted frame;
        switch (below(5)) {
        case 0: break;
        case 1: co_await sleep(moment()); break;
        case 2: co_await yield_now(); [[fallthrough]];
        default: co_await yield_now(); break;
        }
        if (one_in(8))
            co_await interrupt_one();
    }

    /// Cancels any of the tasks but the one that asks, and does not wait for its end.
    Coro<void> interrupt_one() {
        const test::Counted frame;
        const Task<void> target = tasks_[below(static_cast<unsigned>(tasks_.size()))];
        (void)co_await traps::Cancel{target.record()};
    }

    /// For steps that wait for nothing.
    static Coro<void> nothing() { co_return; }

    /// To be awaited right after what the primitive gave: counts what came beside an interrupt.
    Coro<void> note_result() {
        const bool interrupted = co_await check_cancellation();
        reached_.beside += interrupted;
    }

    std::vector<Task<void>>& tasks() noexcept { return tasks_; }
    Reached& reached() noexcept { return reached_; }

private:
    Reached& reached_;
    std::vector<Task<void>> tasks_;
};

} // namespace trapline::properties
