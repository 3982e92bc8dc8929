// A resource that is closed by awaiting: what a destructor cannot do.
//
//     std::size_t written = co_await with_resource(
//         open_log(), [](Log& log) { return log.write("started"); },
//         [](Log& log) { return log.flush_and_close(); });
//
// Once `open` has answered, `close` runs exactly once, however `body` ends: by its result, an
// exception, a cancellation or a time limit. While it runs interrupts are held back. If the task is
// interrupted within `open`, nothing was opened and nothing is closed.
#pragma once

#include <concepts>
#include <exception>
#include <functional>
#include <type_traits>
#include <utility>

#include "cancel.hpp"

namespace trapline {

namespace detail {

/// Calls with the opened resource: with nothing, if `open` answers void.
template <class R, class F>
decltype(auto) call_with(F& function, [[maybe_unused]] Outcome<R>& opened) {
    if constexpr (std::is_void_v<R>)
        return std::invoke(function);
    else
        return std::invoke(function, opened.get());
}

template <class F, class R>
concept ResourceUser =
    (std::is_void_v<R> && std::invocable<F&>) || (!std::is_void_v<R> && std::invocable<F&, R&>);
template <class F, class R>
using resource_use_t = decltype(call_with<R>(std::declval<F&>(), std::declval<Outcome<R>&>()));
template <class F, class R>
concept ResourceBody = ResourceUser<F, R> && Awaitable<resource_use_t<F, R>>;
template <class F, class R>
concept ResourceClose =
    ResourceUser<F, R> && (Awaitable<resource_use_t<F, R>> || std::is_void_v<resource_use_t<F, R>>);

template <class F, class R>
Coro<await_result_t<resource_use_t<F, R>>> use_resource(F& body, Outcome<R>& opened) {
    co_return co_await call_with<R>(body, opened);
}

template <class F, class R>
Coro<void> close_resource(F& close, Outcome<R>& opened) {
    if constexpr (std::is_void_v<resource_use_t<F, R>>)
        call_with<R>(close, opened);
    else
        (void)co_await call_with<R>(close, opened);
    co_return;
}

} // namespace detail

/// Opens, answers the result of `body(resource)`, and closes by `close(resource)`. `open` is a
/// Coro, a callable that returns one, or any awaitable of ours; its result is handed to both by
/// reference, or nothing is if that is void. `body` returns an awaitable, and so does `close`, or
/// it is a plain function. Throws what `open` throws; or what `body` throws, and then a failure of
/// `close` is dropped; or what `close` throws. Blocks where they do.
template <detail::Body Open, class Use, class Close, class R = detail::body_result_t<Open>>
    requires detail::ResourceBody<Use, R> && detail::ResourceClose<Close, R>
auto with_resource(Open open, Use body, Close close)
    -> Coro<detail::await_result_t<detail::resource_use_t<Use, R>>> {
    detail::Outcome<R> opened;
    detail::Outcome<detail::await_result_t<detail::resource_use_t<Use, R>>> outcome;
    detail::Outcome<void> closed;
    // Made beforehand: when something is open, no lack of memory may keep it so.
    auto using_it = detail::use_resource(body, opened);
    auto closing = disable_cancellation(detail::close_resource(close, opened));
    {
        auto&& opening = detail::begin(open);
        co_await detail::Attempt{std::move(opening), opened};
    }
    if (opened.has_failure())
        std::rethrow_exception(opened.failure());
    co_await detail::Attempt{std::move(using_it), outcome};
    co_await detail::Attempt{std::move(closing), closed};
    if (closed.has_failure() && !outcome.has_failure())
        std::rethrow_exception(closed.failure());
    co_return outcome.take();
}

} // namespace trapline
