// Internal. Awaiting what may fail, without losing the thread: `co_await Attempt{...}` never
// throws, it keeps the result or the exception. Since `co_await` cannot stand in a catch block,
// every scope with asynchronous cleanup is written as: attempt, clean up, take the outcome.
#pragma once

#include <coroutine>
#include <exception>
#include <memory>
#include <type_traits>
#include <utility>

#include "exceptions.hpp"
#include "outcome.hpp"
#include "task.hpp"

namespace trapline::detail {

/// What may be the body of a scope: an awaitable, or a callable that returns one.
template <class W>
concept Body = Awaitable<W> || CoroFunction<W>;

/// A body as something to await. A callable is called: what it returns has not run yet.
template <class W>
decltype(auto) begin(W& what) {
    if constexpr (Awaitable<W>)
        return std::move(what);
    else
        return invoke_kept(what);
}

template <class W>
using body_result_t = await_result_t<decltype(begin(std::declval<W&>()))>;

/// The default judge: an interrupt is what it is.
struct AsItIs {
    std::exception_ptr operator()(const Cancelled&) const noexcept {
        return std::current_exception();
    }
};

/// Awaits `awaitable` and keeps what comes of it in `outcome`. `judge` turns an interrupt into
/// the exception that is kept in its place.
template <class A, class Judge = AsItIs>
class [[nodiscard]] Attempt {
public:
    using trapline_awaitable = void;
    using result = await_result_t<A>;

    Attempt(A&& awaitable, Outcome<result>& outcome, Judge judge = {})
        : awaiter_(awaiter_of(std::forward<A>(awaitable))), outcome_(outcome), judge_(judge) {}

    bool await_ready() noexcept {
        try {
            return awaiter_.await_ready();
        } catch (...) {
            outcome_.set_failure(std::current_exception());
            return true;
        }
    }

    template <class Promise>
    auto await_suspend(std::coroutine_handle<Promise> self) noexcept {
        if constexpr (noexcept(awaiter_.await_suspend(self))) {
            return awaiter_.await_suspend(self);
        } else {
            try {
                return suspends(self);
            } catch (...) {
                outcome_.set_failure(std::current_exception());
                return false; // goes on at once
            }
        }
    }

    void await_resume() noexcept {
        if (outcome_.has_failure()) [[unlikely]]
            return; // it did not come to the trap
        try {
            if constexpr (std::is_void_v<result>) {
                awaiter_.await_resume();
                outcome_.set_value();
            } else if constexpr (std::is_lvalue_reference_v<result>) {
                outcome_.set_value(std::addressof(awaiter_.await_resume()));
            } else {
                outcome_.set_value(awaiter_.await_resume());
            }
        } catch (const Cancelled& interrupt) {
            outcome_.set_failure(judge_(interrupt));
        } catch (...) {
            outcome_.set_failure(std::current_exception());
        }
    }

private:
    template <class Promise>
    bool suspends(std::coroutine_handle<Promise> self) {
        if constexpr (std::is_void_v<decltype(awaiter_.await_suspend(self))>)
            return awaiter_.await_suspend(self), true;
        else
            return awaiter_.await_suspend(self);
    }

    decltype(awaiter_of(std::declval<A>())) awaiter_;
    Outcome<result>& outcome_;
    [[no_unique_address]] Judge judge_;
};

template <class A, class R>
Attempt(A&&, Outcome<R>&) -> Attempt<A>;
template <class A, class R, class Judge>
Attempt(A&&, Outcome<R>&, Judge) -> Attempt<A, Judge>;

} // namespace trapline::detail
