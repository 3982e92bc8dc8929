// Tasks of the future design, as asyncio has them: a Coroutine awaits futures, and other
// coroutines; a Task runs it by callbacks of the loop, and is the future of its result.
//
//     Coroutine<int> twice(Future<int> number) { co_return 2 * co_await number; }
//
//     Task<int> task = loop.create_task(twice(number));
//     int n = loop.run_until_complete(task);
//
// The rules are asyncio's. A task begins in the loop's next turn. To await a future that is done
// takes no turn. cancel() cancels the future that the task waits for, or else has its next wait
// throw: CancelledError appears in the coroutine, which may clean up, or go on and have a result
// after all. What was done when a cancellation comes is lost with it.
//
// What is not as in asyncio: a coroutine learns its loop and its task by awaiting running_loop()
// and current_task(), for there are no globals; tasks have neither names nor contexts. Who is left
// when the loop goes is destroyed with it, and the exception handler told: C++ collects no cycles.
#pragma once

#include <coroutine>
#include <exception>
#include <type_traits>
#include <utility>

#include "coroutine.hpp"

namespace future_design {

namespace detail {

template <class T>
class TaskState final : public ResultState<T>, public TaskCore {
public:
    TaskState(Loop& loop, Coroutine<T> coroutine)
        : ResultState<T>(loop),
          TaskCore(*this, coroutine.handle()),
          coroutine_(std::move(coroutine)) {
        coroutine_.handle().promise().task = this;
    }
    bool cancel() override { return request_cancel(); }

private:
    void keep_outcome() noexcept override {
        try {
            if constexpr (std::is_void_v<T>) {
                coroutine_.handle().promise().take();
                take_cancellation() ? end_cancelled() : this->ResultState<T>::set_result({});
            } else {
                T result = coroutine_.handle().promise().take();
                take_cancellation() ? end_cancelled()
                                    : this->ResultState<T>::set_result(std::move(result));
            }
        } catch (const CancelledError&) {
            end_cancelled();
        } catch (...) {
            this->set_exception(std::current_exception());
        }
    }
    void drop_coroutine() noexcept override { coroutine_ = {}; }

    Coroutine<T> coroutine_;
};

} // namespace detail

/// The future of a coroutine's result, made by Loop::create_task(). Only the coroutine completes
/// it.
template <class T = void>
class Task : public Future<T> {
public:
    /// How many cancel() calls were not taken back by uncancel().
    int cancelling() const noexcept { return core().cancelling(); }
    int uncancel() noexcept { return core().uncancel(); }

    void set_result() = delete;
    void set_exception() = delete;

private:
    friend class Loop;
    explicit Task(detail::Ref<detail::TaskState<T>> state) noexcept : Future<T>(std::move(state)) {}
    detail::TaskCore& core() const noexcept {
        return static_cast<detail::TaskState<T>&>(*this->state());
    }
};

template <class T>
Task<T> Loop::create_task(Coroutine<T> coroutine) {
    auto state = detail::make<detail::TaskState<T>>(*this, std::move(coroutine));
    state->begin();
    return Task<T>{std::move(state)};
}

template <class T>
T Loop::run_until_complete(Task<T> task) {
    return run_until_complete<T>(Future<T>{std::move(task)});
}

template <class T>
T Loop::run_until_complete(Coroutine<T> coroutine) {
    return run_until_complete<T>(Future<T>{create_task(std::move(coroutine))});
}

// --- what a coroutine awaits ---------------------------------------------------------------

namespace detail {

template <class T>
class FutureAwaiter {
public:
    explicit FutureAwaiter(Future<T> future) noexcept : future_(std::move(future)) {}
    bool await_ready() const noexcept { return future_.done(); }
    template <class Parent>
    void await_suspend(std::coroutine_handle<Parent> self) {
        self.promise().task->wait_for(*future_.state(), self);
        task_ = self.promise().task;
    }
    T await_resume() {
        if (task_)
            task_->throw_if_cancelled();
        return future_.state()->only_reference() ? future_.state()->take() : future_.result();
    }

private:
    Future<T> future_;
    TaskCore* task_ = nullptr; ///< if it waited
};

/// Knows the task that awaits it.
class TaskAwaiter {
public:
    bool await_ready() const noexcept { return false; }
    template <class Parent>
    bool await_suspend(std::coroutine_handle<Parent> self) noexcept {
        task_ = self.promise().task;
        return false;
    }

protected:
    TaskCore* task_ = nullptr;
};

} // namespace detail

/// Answers its result, or throws its exception or CancelledError. Cancelling the task cancels the
/// future. Throws std::runtime_error for the task's own, and for one of another loop.
template <class T>
detail::FutureAwaiter<T> operator co_await(Future<T> future) noexcept {
    return detail::FutureAwaiter<T>{std::move(future)};
}

/// The loop that runs the coroutine. Does not wait.
inline auto running_loop() noexcept {
    struct Awaiter : detail::TaskAwaiter {
        Loop& await_resume() const noexcept { return task_->loop(); }
    };
    return Awaiter{};
}

/// The task that runs the coroutine, without its result.
class CurrentTask {
public:
    explicit CurrentTask(detail::TaskCore& core) : core_(&core), keep_(core.future()) {}
    bool cancel() { return keep_->cancel(); }
    int cancelling() const noexcept { return core_->cancelling(); }
    int uncancel() noexcept { return core_->uncancel(); }

private:
    detail::TaskCore* core_;
    detail::Ref<detail::FutureState> keep_;
};

/// Does not wait.
inline auto current_task() noexcept {
    struct Awaiter : detail::TaskAwaiter {
        CurrentTask await_resume() const { return CurrentTask{*task_}; }
    };
    return Awaiter{};
}

namespace detail {

class SleepAwaiter {
public:
    explicit SleepAwaiter(Duration delay) noexcept : delay_(delay) {}
    SleepAwaiter(SleepAwaiter&& other) noexcept : delay_(other.delay_) {} // before it is awaited
    ~SleepAwaiter() { alarm_.cancel(); }
    bool await_ready() const noexcept { return false; }
    template <class Parent>
    void await_suspend(std::coroutine_handle<Parent> self) {
        suspend(*self.promise().task, self);
    }
    void await_resume() {
        task_->throw_if_cancelled();
        if (woken_)
            woken_->result();
    }

private:
    void suspend(TaskCore& task, std::coroutine_handle<> self);

    Duration delay_;
    TaskCore* task_ = nullptr;
    Ref<ResultState<void>> woken_; ///< null: it only lets others run
    Handle alarm_;
};

template <class A>
auto coroutine_of(A awaitable) -> Coroutine<decltype(awaitable.await_resume())> {
    co_return co_await std::move(awaitable);
}

} // namespace detail

/// Waits; for no time at all it lets the others run once.
inline detail::SleepAwaiter sleep(Duration delay) noexcept { return detail::SleepAwaiter{delay}; }

template <detail::Awaitable A>
auto Loop::create_task(A awaitable) {
    return create_task(detail::coroutine_of(std::move(awaitable)));
}

} // namespace future_design
