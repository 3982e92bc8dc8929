// Portal: through it plain threads run coroutines on a kernel that runs elsewhere, and wait for
// their results. A task serves it:
//
//     Portal portal;
//     Task<> serving = co_await spawn(portal.serve());
//     const auto later = [](int x) -> Coro<int> {
//         co_await sleep(1ms); // on the kernel that serves
//         co_return x + 1;
//     };
//     int two = co_await run_in_thread([&] { return portal.run(later, 1); });
//     portal.close();
//     co_await serving.join();
//
// Each call becomes a task of its own, a child of serve(): calls do not wait for each other, and
// when serve() has ended, so have they. No thread hangs: when serve() ends, is cancelled or shut
// down with its kernel, or is destroyed without having run, every thread that waits is told by
// PortalClosed, after its coroutine, if it had begun, was cancelled and has cleaned up.
#pragma once

#include <atomic>
#include <list>
#include <memory>
#include <stdexcept>
#include <thread>
#include <utility>

#include "attempt.hpp"
#include "task.hpp"
#include "universal_queue.hpp"

namespace trapline {

/// A call through a portal that was closed before the call was made, or ended before it was over.
class PortalClosed : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

namespace detail {

/// A call on its way, on the stack of the thread that waits for it.
class PortalCall {
public:
    PortalCall() = default;
    PortalCall(const PortalCall&) = delete;
    PortalCall& operator=(const PortalCall&) = delete;

    /// Runs it, and keeps what comes of it.
    virtual Coro<void> carry_out() = 0;

    /// Lets the thread go on, with PortalClosed unless something came of it.
    virtual void finish() noexcept = 0;

    ThreadCompletion done;

protected:
    ~PortalCall() = default;
};

/// What a portal shares with those who are in it, who may outlive it.
struct PortalState {
    UniversalQueue<PortalCall*> calls; ///< that have not begun
    std::atomic<bool> served = false;
    std::atomic<std::thread::id> server{}; ///< the thread of the kernel
    std::list<Task<void>> running;         ///< for that thread alone

    void submit(PortalCall& call);
    /// Takes no more calls, and refuses those that have not begun.
    void shut() noexcept;
};

/// The judge of what ends a call: a thread knows no cancellation of tasks.
std::exception_ptr portal_interrupt(const Cancelled& interrupt);

/// Takes the exception out of the task's notes, so that the thread alone has it.
struct ForgetFailure {
    using trapline_awaitable = void;
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) const noexcept {
        self.promise().frame->forget_failure();
        return false;
    }
    void await_resume() const noexcept {}
};

/// PortalClosed, for a call that was not carried out to its end.
std::exception_ptr closed_before_the_end() noexcept;

template <class R>
class PortalCallOf final : public PortalCall {
public:
    explicit PortalCallOf(Coro<R>&& body) noexcept : body_(std::move(body)) {}

    Coro<void> carry_out() override {
        co_await Attempt{std::move(body_), outcome,
                         [](const Cancelled& interrupt) { return portal_interrupt(interrupt); }};
        co_await ForgetFailure{};
    }

    void finish() noexcept override {
        if (!outcome.has_value() && !outcome.has_failure())
            outcome.set_failure(closed_before_the_end());
        done.complete(); // the thread goes on, and this with it
    }

    Outcome<R> outcome;

private:
    Coro<R> body_;
};

} // namespace detail

class Portal {
public:
    Portal();
    Portal(const Portal&) = delete;
    Portal& operator=(const Portal&) = delete;
    /// Closes it. Nobody may be about to enter run(); those who are in it may stay.
    ~Portal() { close(); }

    /// Carries out the calls of threads, each as a task of its own, until the portal is closed and
    /// all calls have ended. Blocks. Interrupted: cancels the calls that run, waits for their end,
    /// and refuses the others; the portal is closed then. A second time: std::logic_error.
    Coro<void> serve();

    /// Runs `function(args...)`, which returns a coroutine, on the kernel of the task that serves,
    /// and answers its result or throws its exception. Function and arguments are moved there.
    /// Blocks the calling thread, also until somebody serves. Throws PortalClosed if the portal is
    /// closed or the call is cancelled, and std::logic_error on the kernel's own thread. A time
    /// limit that nobody caught arrives as TaskTimeout, which is no std::exception. Any thread.
    template <class F, class... Args>
        requires detail::CoroFunction<std::decay_t<F>, std::decay_t<Args>...>
    auto run(F&& function, Args&&... args)
        -> detail::coro_result_t<std::decay_t<F>, std::decay_t<Args>...> {
        using R = detail::coro_result_t<std::decay_t<F>, std::decay_t<Args>...>;
        const std::shared_ptr<detail::PortalState> state = state_;
        detail::PortalCallOf<R> call{detail::call_and_keep<std::decay_t<F>, std::decay_t<Args>...>(
            std::forward<F>(function), std::forward<Args>(args)...)};
        state->submit(call);
        call.done.wait();
        return call.outcome.take();
    }

    /// Takes no more calls. Those that were made are still carried out, and then serve() ends; if
    /// nobody serves, they are refused. Any thread. Never blocks. Harmless twice.
    void close() noexcept;
    bool closed() const noexcept { return state_->calls.closed(); }

private:
    std::shared_ptr<detail::PortalState> state_;
};

} // namespace trapline
