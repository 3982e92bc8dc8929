// ThreadCompletion: what another thread completes and a task waits for.
//
//     ThreadCompletion done;
//     std::jthread worker{[&] { done.complete(work()); }};
//     std::int64_t value = (co_await traps::AwaitThread{&done}).value();
//
// It must outlive the call of complete(): a task that may be cancelled while it waits has to own
// it together with the thread, or hold interrupts back (disable_cancellation).
//
// The completion is also the judge between a thread that hands something over and an interrupt that
// comes at the same time: try_complete() answers false if the task was interrupted; if it answers
// true, the task is not interrupted by this wait any more.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "wait_queue.hpp"

namespace trapline {

class ThreadCompletion {
public:
    ThreadCompletion() = default;
    /// One whose thread is to begin when somebody waits for it, and not before: the first await()
    /// calls `starter`, once, on its own thread.
    explicit ThreadCompletion(Waker starter) noexcept : starter_(starter) {}
    ThreadCompletion(const ThreadCompletion&) = delete;
    ThreadCompletion& operator=(const ThreadCompletion&) = delete;

    /// Leaves the value, or an -errno, and wakes the waiting task. Any thread; once. Never blocks.
    void complete(std::int64_t value = 0) noexcept {
        value_ = value;
        // The task may run, and destroy this, as soon as it is woken: nothing is touched after.
        if (state_.exchange(State::completed, std::memory_order_acq_rel) == State::awaited)
            waker_.wake(waker_.context);
    }

    /// The same, unless the task that waited was interrupted and has not come back to wait again:
    /// then it answers false. If nobody has waited yet, whoever comes finds it completed.
    bool try_complete(std::int64_t value = 0) noexcept {
        value_ = value;
        State state = state_.load(std::memory_order_acquire);
        do {
            if (state == State::forgotten)
                return false;
        } while (!state_.compare_exchange_weak(state, State::completed, std::memory_order_acq_rel,
                                               std::memory_order_acquire));
        if (state == State::awaited)
            waker_.wake(waker_.context);
        return true;
    }

    /// Waits for it on a plain thread. Answers the value. Blocks the thread, so no task does this.
    /// Throws std::logic_error if somebody else waits.
    std::int64_t wait();

    bool completed() const noexcept {
        return state_.load(std::memory_order_acquire) == State::completed;
    }

    /// Only if completed().
    std::int64_t value() const noexcept { return value_; }

    enum class Await : std::uint8_t { waiting, completed, taken };

    /// For kernels: asks to be told, by a waker that may be called on any thread. One at a time:
    /// `taken` if somebody else waits. `completed` if it is already, then nobody calls.
    Await await(Waker waker, const TaskRecord* task = nullptr) noexcept {
        if (starter_.wake)
            start();
        State state = state_.load(std::memory_order_acquire);
        do {
            if (state == State::completed)
                return Await::completed;
            if (state == State::claimed || state == State::awaited)
                return Await::taken;
        } while (!state_.compare_exchange_weak(state, State::claimed, std::memory_order_acquire));
        waker_ = waker;
        task_ = task;
        state = State::claimed;
        const bool waiting =
            state_.compare_exchange_strong(state, State::awaited, std::memory_order_acq_rel);
        return waiting ? Await::waiting : Await::completed;
    }

    /// Who waits, if it is a task; for messages, only while somebody waits.
    const TaskRecord* task() const noexcept { return task_; }

    /// For kernels: asks no more, because the task is being interrupted. False if the waker is
    /// being called or was.
    bool forget() noexcept {
        State expected = State::awaited;
        return state_.compare_exchange_strong(expected, State::forgotten,
                                              std::memory_order_acq_rel);
    }

    /// What a policy may want to know of the work.
    bool changes_files = false;

private:
    void start() noexcept {
        const Waker starter = std::exchange(starter_, {});
        starter.wake(starter.context);
    }

    enum class State : std::uint8_t { pending, claimed, awaited, forgotten, completed };
    std::atomic<State> state_ = State::pending;
    std::int64_t value_ = 0;
    Waker waker_;
    Waker starter_;
    const TaskRecord* task_ = nullptr;
};

} // namespace trapline
