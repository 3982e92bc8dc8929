// Waiting for several futures, or for one and not too long, as asyncio has it.
//
//     Waited<int> some = co_await wait(std::vector{first, second}, {.timeout = 1s});
//     int in_time = co_await wait_for(first, 1s); // or TimeoutError
//     co_await timeout(1s, work());               // the same for a coroutine
//
// wait() and wait_for() take futures: create_task() makes one of a coroutine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "task.hpp"

namespace future_design {

class TimeoutError : public std::exception {
public:
    const char* what() const noexcept override { return "the time is over"; }
};

// --- wait ----------------------------------------------------------------------------------

enum class ReturnWhen : std::uint8_t { all_completed, first_completed, first_exception };

struct WaitOptions {
    std::optional<Duration> timeout{};
    ReturnWhen return_when = ReturnWhen::all_completed; ///< cancelled is no exception
};

/// Both in the order in which they were given.
template <class T>
struct Waited {
    std::vector<Future<T>> done;
    std::vector<Future<T>> pending;
};

namespace detail {

/// What the callbacks of a wait share. It may outlive the wait: a callback that is to be called
/// soon cannot be removed any more.
struct Waiting {
    Waiting(Loop& loop, std::size_t count, ReturnWhen when)
        : waiter(loop), left(count), return_when(when) {}

    void one_is_done(bool failed) {
        --left;
        if (left == 0 || return_when == ReturnWhen::first_completed ||
            (return_when == ReturnWhen::first_exception && failed))
            release();
    }
    void release() {
        if (!waiter.done())
            waiter.set_result();
    }

    Future<void> waiter;
    std::size_t left;
    ReturnWhen return_when;
};

/// The callbacks and the time limit of a wait, for as long as it lasts.
template <class T>
class WaitScope {
public:
    WaitScope(std::vector<Future<T>>& futures, Loop& loop, const WaitOptions& options)
        : futures_(futures),
          waiting_(std::make_shared<Waiting>(loop, futures.size(), options.return_when)) {
        if (options.timeout)
            limit_ =
                loop.call_later(*options.timeout, [waiting = waiting_] { waiting->release(); });
        for (Future<T>& future : futures)
            callbacks_.push_back(
                future.add_done_callback([waiting = waiting_](const Future<T>& done) {
                    const bool asks = waiting->return_when == ReturnWhen::first_exception;
                    waiting->one_is_done(asks && !done.cancelled() && done.exception());
                }));
    }
    WaitScope(const WaitScope&) = delete;
    WaitScope& operator=(const WaitScope&) = delete;
    ~WaitScope() {
        limit_.cancel();
        for (std::size_t i = 0; i < callbacks_.size(); ++i)
            futures_[i].remove_done_callback(callbacks_[i]);
    }

    Future<void> over() const { return waiting_->waiter; }

private:
    std::vector<Future<T>>& futures_;
    std::shared_ptr<Waiting> waiting_;
    std::vector<CallbackId> callbacks_;
    Handle limit_;
};

} // namespace detail

/// Waits until all are done, or what the options say. No future is cancelled, neither when the time
/// is over nor when the wait is; nothing of theirs is thrown. Throws std::invalid_argument for
/// none.
template <class T>
Coroutine<Waited<T>> wait(std::vector<Future<T>> futures, WaitOptions options = {}) {
    if (futures.empty())
        throw std::invalid_argument("wait: there is nothing to wait for");
    {
        Loop& loop = co_await running_loop();
        const detail::WaitScope<T> scope{futures, loop, options};
        co_await scope.over();
    }
    Waited<T> waited;
    for (Future<T>& future : futures)
        (future.done() ? waited.done : waited.pending).push_back(std::move(future));
    co_return waited;
}

// --- wait_for ------------------------------------------------------------------------------

/// Answers the future's result or throws its exception. When the time is over it cancels the
/// future, waits until that is done, and throws TimeoutError if it was cancelled: else what came of
/// it after all is the answer. Cancelling the wait cancels the future. No time (or less): only what
/// is done already is in time. Nothing: as long as it takes.
template <class T>
Coroutine<T> wait_for(Future<T> future, std::optional<Duration> timeout) {
    if (!timeout)
        co_return co_await future;
    if (*timeout <= Duration::zero()) {
        if (future.done())
            co_return future.result();
        future.cancel();
        (void)co_await wait(std::vector{future});
        if (future.cancelled())
            throw TimeoutError{};
        co_return future.result();
    }
    struct Limit {
        Limit(Future<T>& limited, Loop& loop, Duration time)
            : alarm(loop.call_later(time, [this, &limited] { over = limited.cancel(); })) {}
        ~Limit() { alarm.cancel(); }
        bool over = false;
        Handle alarm;
    };
    Loop& loop = co_await running_loop();
    const CurrentTask self = co_await current_task();
    const int cancelling = self.cancelling();
    const Limit limit{future, loop, *timeout};
    try {
        co_return co_await future;
    } catch (const CancelledError&) {
        if (!limit.over || self.cancelling() > cancelling)
            throw; // somebody else cancelled the future, or us
    }
    throw TimeoutError{};
}

// --- timeout -------------------------------------------------------------------------------

namespace detail {

/// asyncio's class Timeout: cancels the task when the time is over.
class TimeoutScope {
public:
    TimeoutScope(CurrentTask task, Loop& loop, Duration delay)
        : task_(std::move(task)), cancelling_(task_.cancelling()) {
        const auto expires = [this] {
            expiring_ = true;
            task_.cancel();
        };
        alarm_ =
            delay > Duration::zero() ? loop.call_later(delay, expires) : loop.call_soon(expires);
    }
    TimeoutScope(const TimeoutScope&) = delete;
    TimeoutScope& operator=(const TimeoutScope&) = delete;
    ~TimeoutScope() { leave(); }

    /// Whether a cancellation that comes out of it is the scope's own.
    bool leave() noexcept {
        alarm_.cancel();
        return std::exchange(expiring_, false) && task_.uncancel() <= cancelling_;
    }

private:
    CurrentTask task_;
    int cancelling_;
    bool expiring_ = false;
    Handle alarm_;
};

template <class A>
struct Awaited {
    using Result = decltype(std::declval<A&>().await_resume());
};
template <class T>
struct Awaited<Future<T>> {
    using Result = T;
};
template <class T>
struct Awaited<Task<T>> {
    using Result = T;
};
template <class T>
struct Awaited<Coroutine<T>> {
    using Result = T;
};

} // namespace detail

/// asyncio.timeout() around what is awaited, which runs in the same task: a coroutine, a future, or
/// another awaitable such as sleep(). When the time is over it cancels the task, and makes a
/// TimeoutError of that cancellation where it leaves the scope; not of one that came from
/// elsewhere, too. They nest. Nothing: no limit.
template <class A>
auto timeout(std::optional<Duration> delay, A body)
    -> Coroutine<typename detail::Awaited<A>::Result> {
    if (!delay)
        co_return co_await std::move(body);
    Loop& loop = co_await running_loop();
    CurrentTask self = co_await current_task();
    detail::TimeoutScope scope{std::move(self), loop, *delay};
    try {
        co_return co_await std::move(body);
    } catch (const CancelledError&) {
        if (!scope.leave())
            throw;
    }
    throw TimeoutError{};
}

} // namespace future_design
