// Coroutines of the future design. A Coroutine awaits futures, and other coroutines; it runs when
// it is awaited, or when it is made a task (task.hpp), by callbacks of the loop.
//
//     Coroutine<int> twice(Future<int> number) { co_return 2 * co_await number; }
//     Coroutine<int> four_times(Future<int> number) { co_return 2 * co_await twice(number); }
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

#include "future.hpp"

namespace future_design {

template <class T>
class Coroutine;

namespace detail {

/// What all tasks have, whatever their result. The coroutines of one hand over to each other by
/// next(): resuming never nests. It is itself the callback by which it goes on; there is only one
/// at a time, which holds a reference to the task.
class TaskCore : public Waiter {
public:
    TaskCore(FutureState& future, std::coroutine_handle<> coroutine) noexcept
        : future_(future), outermost_(coroutine), goes_on_(coroutine) {}
    TaskCore(const TaskCore&) = delete;
    TaskCore& operator=(const TaskCore&) = delete;

    Loop& loop() const noexcept { return future_.loop(); }
    Ref<FutureState> future() const noexcept { return Ref<FutureState>{&future_}; }
    int cancelling() const noexcept { return cancels_requested_; }
    /// With the last one a cancellation that was not delivered is taken back, too.
    int uncancel() noexcept {
        if (cancels_requested_ > 0 && --cancels_requested_ == 0)
            must_cancel_ = false;
        return cancels_requested_;
    }

    // For awaiters.
    void next(std::coroutine_handle<> coroutine) noexcept { next_ = coroutine; }
    void wait_for(FutureState& future, std::coroutine_handle<> self);
    void let_others_run(std::coroutine_handle<> self) noexcept;
    void throw_if_cancelled();

    /// The first step is taken in the next turn.
    void begin() noexcept;
    /// The loop goes.
    void destroy_pending() noexcept;

protected:
    ~TaskCore();
    bool request_cancel();
    bool take_cancellation() noexcept { return std::exchange(must_cancel_, false); }
    virtual void keep_outcome() noexcept = 0; ///< the outermost coroutine has ended
    virtual void drop_coroutine() noexcept = 0;
    void end_cancelled() noexcept { future_.FutureState::cancel(); }

private:
    void call(Loop& loop) noexcept final;
    void drop() noexcept final;
    void step() noexcept;
    void leave_loop() noexcept;

    FutureState& future_;
    std::coroutine_handle<> outermost_;
    std::coroutine_handle<> goes_on_; ///< at the next step
    std::coroutine_handle<> next_;    ///< in this step
    TaskCore* newer_ = nullptr;       ///< in the loop
    TaskCore* older_ = nullptr;
    int cancels_requested_ = 0;
    bool listed_ = false;
    bool started_ = false;
    bool must_cancel_ = false; ///< the next wait throws
    bool throws_ = false;      ///< this one does
};

class PromiseBase : public Recycled {
public:
    std::suspend_always initial_suspend() noexcept { return {}; }
    auto final_suspend() noexcept {
        struct HandOver {
            bool await_ready() noexcept { return false; }
            void await_suspend(std::coroutine_handle<>) noexcept { self.task->next(self.parent); }
            void await_resume() noexcept {}
            PromiseBase& self;
        };
        return HandOver{*this};
    }
    void unhandled_exception() noexcept { failure = std::current_exception(); }

    TaskCore* task = nullptr;       ///< who runs it
    std::coroutine_handle<> parent; ///< who awaits it; null for a task's outermost one
    std::exception_ptr failure;
};

template <class T>
class Promise : public PromiseBase {
public:
    Coroutine<T> get_return_object() noexcept;
    template <class U>
    void return_value(U&& value) {
        result_.emplace(std::forward<U>(value));
    }
    T take() {
        if (failure)
            std::rethrow_exception(failure);
        return std::move(*result_);
    }

private:
    std::optional<T> result_;
};

template <>
class Promise<void> : public PromiseBase {
public:
    Coroutine<void> get_return_object() noexcept;
    void return_void() noexcept {}
    void take() {
        if (failure)
            std::rethrow_exception(failure);
    }
};

template <class T>
class ChildAwaiter {
public:
    explicit ChildAwaiter(std::coroutine_handle<Promise<T>> child) noexcept : child_(child) {}
    bool await_ready() const noexcept { return false; }
    template <class Parent>
    void await_suspend(std::coroutine_handle<Parent> self) noexcept {
        child_.promise().parent = self;
        child_.promise().task = self.promise().task;
        self.promise().task->next(child_);
    }
    T await_resume() { return child_.promise().take(); }

private:
    std::coroutine_handle<Promise<T>> child_;
};

} // namespace detail

/// Runs when it is awaited, by the task that awaits it, or when it is made a task. Move-only.
template <class T = void>
class [[nodiscard]] Coroutine {
public:
    using promise_type = detail::Promise<T>;

    Coroutine() noexcept = default;
    Coroutine(Coroutine&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
    Coroutine& operator=(Coroutine&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Coroutine() {
        if (handle_)
            handle_.destroy();
    }

    /// Answers its result or throws its exception. Once; std::logic_error if there is none.
    detail::ChildAwaiter<T> operator co_await() && { return detail::ChildAwaiter<T>{handle()}; }

    /// Throws std::logic_error if it was moved away.
    std::coroutine_handle<promise_type> handle() const {
        if (!handle_)
            throw std::logic_error("there is no coroutine");
        return handle_;
    }

private:
    friend promise_type;
    explicit Coroutine(std::coroutine_handle<promise_type> handle) noexcept : handle_(handle) {}

    std::coroutine_handle<promise_type> handle_;
};

namespace detail {

template <class T>
Coroutine<T> Promise<T>::get_return_object() noexcept {
    return Coroutine<T>{std::coroutine_handle<Promise>::from_promise(*this)};
}
inline Coroutine<void> Promise<void>::get_return_object() noexcept {
    return Coroutine<void>{std::coroutine_handle<Promise>::from_promise(*this)};
}

} // namespace detail

} // namespace future_design
