// Internal. What may stand behind `co_await`, what comes of it, and callables that return such a
// thing.
#pragma once

#include <concepts>
#include <functional>
#include <type_traits>
#include <utility>

#include "coro.hpp"
#include "trap.hpp"

namespace trapline::detail {

template <class A>
concept Awaitable = MarkedAwaitable<A> || TrapType<std::remove_cvref_t<A>>;

template <class A>
decltype(auto) awaiter_of(A&& awaitable) {
    if constexpr (TrapType<std::remove_cvref_t<A>>)
        return TrapCall{awaitable};
    else if constexpr (requires { std::forward<A>(awaitable).operator co_await(); })
        return std::forward<A>(awaitable).operator co_await();
    else
        return std::forward<A>(awaitable);
}

/// What `co_await std::move(a)` answers.
template <class A>
using await_result_t = decltype(awaiter_of(std::declval<A>()).await_resume());

/// Calls with the arguments moved out where the callable takes them so, else with references.
template <class F, class... Args>
decltype(auto) invoke_kept(F& function, Args&... args) {
    if constexpr (std::invocable<F&, Args...>)
        return std::invoke(function, std::move(args)...);
    else
        return std::invoke(function, args...);
}

/// A callable that returns a coroutine or another awaitable of ours.
template <class F, class... Args>
concept CoroFunction =
    (std::invocable<F&, Args...> || std::invocable<F&, Args&...>) &&
    Awaitable<decltype(invoke_kept(std::declval<F&>(), std::declval<Args&>()...))>;

template <class F, class... Args>
using coro_result_t =
    await_result_t<decltype(invoke_kept(std::declval<F&>(), std::declval<Args&>()...))>;

/// Keeps a callable and its arguments alive for as long as the coroutine it returns runs.
template <class F, class... Args>
auto call_and_keep(F function, Args... args) -> Coro<coro_result_t<F, Args...>> {
    co_return co_await invoke_kept(function, args...);
}

} // namespace trapline::detail
