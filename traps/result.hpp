// Result<T>: a value, or an exception, that one task leaves and any number of others wait for.
//
//     Result<int> answer;
//     Task<> asker = co_await spawn(ask(answer));
//     int value = co_await answer.unwrap();
//
// It is set once. Belongs to one thread.
#pragma once

#include <coroutine>
#include <exception>
#include <type_traits>
#include <utility>

#include "outcome.hpp"
#include "park.hpp"
#include "task.hpp"

namespace trapline {

namespace detail {

[[noreturn]] void raise_result_set_twice();
[[noreturn]] void raise_result_without_exception();
[[noreturn]] void raise_result_moved_out();

} // namespace detail

template <class T = void>
class Result {
public:
    static_assert(!std::is_reference_v<T>, "a Result of a reference: take a pointer");

    Result() = default;
    Result(const Result&) = delete;
    Result& operator=(const Result&) = delete;
    /// Nobody may be waiting.
    ~Result() { detail::expect_nobody_waits(waiters_, "a Result"); }

    /// Leaves the value, made of `value`, or nothing for void; all who wait go on. Throws
    /// std::logic_error if it is set already, and what T's constructor throws: then it is not set.
    /// Never blocks.
    template <class... V>
        requires(std::is_void_v<T> ? sizeof...(V) == 0 : std::is_constructible_v<T, V...>)
    void set_value(V&&... value) {
        expect_unset();
        outcome_.set_value(std::forward<V>(value)...);
        set_ = true;
        waiters_.wake_all();
    }

    /// Leaves an exception, which unwrap() throws; all who wait go on. Throws std::logic_error if
    /// it is set already, or `failure` is null. Never blocks.
    void set_exception(std::exception_ptr failure) {
        expect_unset();
        if (!failure) [[unlikely]]
            detail::raise_result_without_exception();
        outcome_.set_failure(std::move(failure));
        set_ = true;
        waiters_.wake_all();
    }

    /// Whether a value or an exception was left.
    bool is_set() const noexcept { return set_; }

    class [[nodiscard]] Unwrap : public detail::ParkAwaiter {
    public:
        explicit Unwrap(Result& result) noexcept : result_(result) {}
        bool await_ready() noexcept { return ready(result_.set_); }
        template <class Promise>
        void await_suspend(std::coroutine_handle<Promise> self) noexcept {
            park(self, result_.waiters_);
        }
        T await_resume() const {
            end_wait();
            return result_.value();
        }

    private:
        Result& result_;
    };

    /// Waits until it is set; answers a copy of the value, or throws the exception. A T that cannot
    /// be copied is moved out, once; then std::logic_error. Blocks, unless it is set already: then
    /// it goes on without a trap. Interruptible: the value is still there for the next.
    Unwrap unwrap() noexcept { return Unwrap{*this}; }

private:
    void expect_unset() const {
        if (set_) [[unlikely]]
            detail::raise_result_set_twice();
    }

    T value() {
        if (outcome_.has_failure()) [[unlikely]]
            std::rethrow_exception(outcome_.failure());
        if constexpr (!std::is_void_v<T>) {
            if (!outcome_.has_value()) [[unlikely]]
                detail::raise_result_moved_out();
            if constexpr (detail::copyable<T>)
                return outcome_.copy();
            else
                return outcome_.move_out();
        }
    }

    bool set_ = false;
    detail::Outcome<T> outcome_;
    WaitQueue waiters_;
};

} // namespace trapline
