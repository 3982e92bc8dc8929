// ThreadCompletion: what another thread completes and a task waits for.
//
//     ThreadCompletion done;
//     std::jthread worker{[&] { done.complete(work()); }};
//     std::int64_t value = (co_await traps::AwaitThread{&done}).value();
//
// It must outlive the call of complete(): a task that may be cancelled while it waits has to own
// it together with the thread, or hold interrupts back (disable_cancellation).
#pragma once

#include <atomic>
#include <cstdint>

#include "wait_queue.hpp"

namespace trapline {

class ThreadCompletion {
public:
    ThreadCompletion() = default;
    ThreadCompletion(const ThreadCompletion&) = delete;
    ThreadCompletion& operator=(const ThreadCompletion&) = delete;

    /// Leaves the value, or an -errno, and wakes the waiting task. Any thread; once. Never blocks.
    void complete(std::int64_t value = 0) noexcept {
        value_ = value;
        // The task may run, and destroy this, as soon as it is woken: nothing is touched after.
        if (state_.exchange(State::completed, std::memory_order_acq_rel) == State::awaited)
            waker_.wake(waker_.context);
    }

    bool completed() const noexcept {
        return state_.load(std::memory_order_acquire) == State::completed;
    }

    /// Only if completed().
    std::int64_t value() const noexcept { return value_; }

    enum class Await : std::uint8_t { waiting, completed, taken };

    /// For kernels: asks to be told, by a waker that may be called on any thread. One at a time:
    /// `taken` if somebody else waits. `completed` if it is already, then nobody calls.
    Await await(Waker waker) noexcept {
        State expected = State::pending;
        if (!state_.compare_exchange_strong(expected, State::claimed, std::memory_order_acquire))
            return expected == State::completed ? Await::completed : Await::taken;
        waker_ = waker;
        expected = State::claimed;
        const bool waiting =
            state_.compare_exchange_strong(expected, State::awaited, std::memory_order_acq_rel);
        return waiting ? Await::waiting : Await::completed;
    }

    /// For kernels: asks no more. False if the waker is being called or was.
    bool forget() noexcept {
        State expected = State::awaited;
        return state_.compare_exchange_strong(expected, State::pending, std::memory_order_acq_rel);
    }

private:
    enum class State : std::uint8_t { pending, claimed, awaited, completed };
    std::atomic<State> state_ = State::pending;
    std::int64_t value_ = 0;
    Waker waker_;
};

} // namespace trapline
