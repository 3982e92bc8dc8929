// Time limits and masking.
//
//     auto n = co_await timeout_after(5s, client.recv(buffer)); // or TaskTimeout
//     bool in_time = co_await ignore_after(1s, task.wait());    // or false
//     co_await disable_cancellation([&] { return write_trailer(file); });
//
// `what` is a Coro<T>, a callable that returns one (it is kept alive meanwhile), or any awaitable
// of ours. When a limit runs out, what stands inside is interrupted like by a cancellation: it is
// really over when the scope is left, and if it finished first, its result wins.
//
// Limits nest. The sooner deadline wins, a tie goes to the outer scope, an inner one never
// extends an outer. The scope whose limit ran out reports TaskTimeout (or nothing, with ignore_);
// inner ones pass it on as TimeoutCancellation. A TaskTimeout that nobody catches before it
// reaches another limit's scope is a bug, and becomes UncaughtTimeout there. A cancellation
// disarms all limits of a task, so that its cleanup is not interrupted a second time.
//
// A limit that is set and dropped without running out leaves nothing behind in the kernel.
#pragma once

#include <algorithm>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "attempt.hpp"
#include "task.hpp"

namespace trapline {

namespace detail {

/// A time-limit scope: its entry in the frame, and the judge of interrupts that leave its body.
class LimitScope {
public:
    /// Replies count times from zero upwards: a deadline from before has passed all the same.
    explicit LimitScope(TimePoint deadline) noexcept {
        limit_.deadline = std::max(deadline, TimePoint{});
    }
    LimitScope(const LimitScope&) = delete;
    LimitScope& operator=(const LimitScope&) = delete;
    ~LimitScope() { leave(); }

    TimePoint deadline() const noexcept { return limit_.deadline; }

    /// The deadline to restore on leaving.
    TimePoint previous() const noexcept { return limit_.disarmed ? never : limit_.previous; }

    /// The limit is set now; `previous` stood before.
    void enter(TrapFrame& frame, TimePoint previous) noexcept;
    void leave() noexcept;

    /// In a catch block: what the interrupt means outside of the scope, null if it is its own.
    std::exception_ptr judge(const Cancelled& interrupt) noexcept;

    /// The scope's own limit ran out.
    bool expired() const noexcept { return expired_; }

    TaskTimeout report() const noexcept;

private:
    TimeLimit limit_;
    TrapFrame* frame_ = nullptr;
    std::size_t progress_ = 0;
    bool expired_ = false;
};

class SetLimit : public ReplyAwaiter {
public:
    explicit SetLimit(LimitScope& scope) noexcept : scope_(scope) {}

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        yield<traps::SetTimeout>(self, scope_.deadline());
    }

    void await_resume() { scope_.enter(frame(), SureTrap<traps::SetTimeout>::answer(reply())); }

private:
    LimitScope& scope_;
};

template <bool ignore, class R>
struct LimitedResult {
    using type = R;
};
template <class R>
struct LimitedResult<true, R> {
    static_assert(!std::is_reference_v<R>, "ignore_after of a reference: return a pointer");
    using type = std::optional<R>;
};
template <>
struct LimitedResult<true, void> {
    using type = bool;
};

/// The one scope behind timeout_after, timeout_at, ignore_after and ignore_at.
template <bool ignore, class W, class R = body_result_t<W>>
Coro<typename LimitedResult<ignore, R>::type> with_limit(std::variant<Duration, TimePoint> limit,
                                                         W what) {
    // No conditional expression: g++ 14 miscompiles a co_await in one.
    TimePoint deadline{};
    if (const Duration* duration = std::get_if<Duration>(&limit))
        deadline = later(co_await now(), *duration);
    else
        deadline = std::get<TimePoint>(limit);
    LimitScope scope{deadline};
    Outcome<R> outcome;
    auto&& body = begin(what);
    // Made first: it refuses an empty coroutine, and then no limit must be set yet.
    Attempt attempt{std::move(body), outcome,
                    [&scope](const Cancelled& c) noexcept { return scope.judge(c); }};
    co_await SetLimit{scope};
    co_await attempt;
    co_await traps::UnsetTimeout{scope.previous()};
    scope.leave();
    if (scope.expired()) {
        if constexpr (!ignore)
            throw scope.report();
        else if constexpr (std::is_void_v<R>)
            co_return false;
        else
            co_return std::nullopt; // an empty std::optional, moved, makes g++ 14 warn
    }
    if constexpr (ignore && std::is_void_v<R>) {
        outcome.take();
        co_return true;
    } else {
        co_return outcome.take();
    }
}

} // namespace detail

// What is common to the scopes below: they throw what `what` throws, std::logic_error if that is an
// empty coroutine, and std::bad_alloc before it has begun. A cancellation passes through `what` and
// on. So does the time limit of an outer scope, as TimeoutCancellation; a TaskTimeout that leaves
// `what` is thrown as UncaughtTimeout by those that set a limit.

/// Answers the result of `what`, or throws TaskTimeout when `limit` passes first.
template <detail::Body W>
auto timeout_after(Duration limit, W what) -> Coro<detail::body_result_t<W>> {
    return detail::with_limit<false>(limit, std::move(what));
}
/// The same for fractions, as in 0.5s.
template <FractionalDuration D, detail::Body W>
auto timeout_after(D limit, W what) -> Coro<detail::body_result_t<W>> {
    return detail::with_limit<false>(detail::whole(limit), std::move(what));
}

/// Answers the result of `what`, or throws TaskTimeout when `deadline` comes first.
template <detail::Body W>
auto timeout_at(TimePoint deadline, W what) -> Coro<detail::body_result_t<W>> {
    return detail::with_limit<false>(deadline, std::move(what));
}

/// Answers std::optional of the result of `what` (void: whether it was in time).
template <detail::Body W>
auto ignore_after(Duration limit, W what) {
    return detail::with_limit<true>(limit, std::move(what));
}
/// The same for fractions, as in 0.5s.
template <FractionalDuration D, detail::Body W>
auto ignore_after(D limit, W what) {
    return detail::with_limit<true>(detail::whole(limit), std::move(what));
}

/// Answers std::optional of the result of `what` (void: whether it was in time).
template <detail::Body W>
auto ignore_at(TimePoint deadline, W what) {
    return detail::with_limit<true>(deadline, std::move(what));
}

/// Answers the result of `what`, while interrupts are held back. What came meanwhile arrives at
/// the first blocking trap after the outermost such scope.
template <detail::Body W>
auto disable_cancellation(W what) -> Coro<detail::body_result_t<W>> {
    detail::Outcome<detail::body_result_t<W>> outcome;
    auto&& body = detail::begin(what);
    detail::Attempt attempt{std::move(body), outcome};
    const bool previous = co_await SureTrap{traps::Mask{true}};
    co_await attempt;
    co_await SureTrap{traps::Mask{previous}};
    co_return outcome.take();
}

namespace detail {

class [[nodiscard]] CheckCancellation : public TrapAwaiter<traps::Self> {
public:
    CheckCancellation() noexcept : TrapAwaiter<traps::Self>(traps::Self{}) {}
    bool await_resume() { return SureTrap<traps::Self>::answer(reply())->interrupt_pending; }
};

} // namespace detail

/// Whether an interrupt waits for this task's next interruptible trap. Never blocks.
inline detail::CheckCancellation check_cancellation() noexcept { return {}; }

} // namespace trapline
