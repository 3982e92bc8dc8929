// The future design: an event loop as asyncio has it. Callbacks are called soon, or at a time;
// a Future (future.hpp) is a result that is yet to come, and calls back when it has come.
//
//     Loop loop{make_uring_engine({})};
//     Future<int> answer{loop};
//     loop.call_later(1s, [answer]() mutable { answer.set_result(42); });
//     int n = loop.run_until_complete(answer);
//
// Names and rules are those of Python's asyncio: callbacks run in the order in which they were
// asked for, never from within what completes a future, and those that a turn asks for run in the
// next. I/O is an operation of an engine (kernel/engine.hpp), whose completion completes a future:
// io.hpp has asyncio's calls on sockets, transport.hpp its transports and protocols.
//
// What is not as in asyncio:
//   - A loop that nothing can ever wake returns from run_forever(), instead of sleeping for ever;
//     so whoever waits for another thread says so (expect_thread).
//   - An exception handler gets a message and the exception, no dictionary; no callback has a
//     context (contextvars). There is no debug mode and no executor.
//   - What asyncio warns of by Python's logging is a line on stderr.
#pragma once

#include <atomic>
#include <concepts>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <trapline/kernel/engine.hpp>

#include "callable.hpp"

namespace future_design {

using trapline::Duration;
using trapline::Engine;
using trapline::Operation;
using trapline::TimePoint;

/// How an operation has ended.
struct Completion {
    std::int64_t result = 0; ///< or -errno
    std::size_t transferred = 0;
    std::uint16_t stopped_by = 0;
    bool ended_by_cancel = false;
};

/// What nobody else can be told.
struct ExceptionContext {
    std::string message;
    std::exception_ptr exception; ///< null if it is about none
};

template <class T>
class Future;
template <class T>
class Coroutine;
template <class T>
class Task;

namespace detail {

class TaskCore;

/// Who waits for an operation. It is the loop's until over() is called: it stays where it is, and
/// so does the operation.
class IoWaiter {
public:
    /// From the loop's turn, or from within start_io(). What it asks for is called soon.
    virtual void over(Operation& operation) noexcept = 0;

protected:
    ~IoWaiter() = default;

private:
    friend Loop;
    Operation* operation_ = nullptr;
    IoWaiter* previous_ = nullptr; ///< among those in flight
    IoWaiter* next_ = nullptr;
};

/// What lives for as long as it likes, but not longer than the loop.
class KeptByLoop {
public:
    /// Once, for one that did not leave before.
    virtual void loop_goes() noexcept = 0;

protected:
    ~KeptByLoop() = default;

private:
    friend Loop;
    KeptByLoop* previous_ = nullptr;
    KeptByLoop* next_ = nullptr;
};

/// Something an awaiter answers: Loop::create_task() makes a task of it.
template <class A>
concept Awaitable = requires(A& awaitable) { awaitable.await_ready(); };

} // namespace detail

/// Belongs to the thread that made it, but for call_soon_threadsafe(). It outlives its futures.
class Loop {
public:
    explicit Loop(std::unique_ptr<Engine> engine) noexcept : engine_(std::move(engine)) {}
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;
    /// What was asked for and not called yet is dropped, and so are tasks that have not ended.
    /// Operations in flight are cancelled, and waited for.
    ~Loop();

    template <std::invocable Function>
    Handle call_soon(Function callback) {
        auto entry = entry_of(std::move(callback));
        push_ready(*detail::Ref{entry}.release());
        return Handle{std::move(entry)};
    }
    template <std::invocable Function>
    Handle call_later(Duration delay, Function callback) {
        return call_at(trapline::later(time(), delay), std::move(callback));
    }
    template <std::invocable Function>
    Handle call_at(TimePoint when, Function callback) {
        auto entry = entry_of(std::move(callback));
        set_timer(when, entry);
        return Handle{std::move(entry)};
    }
    /// Any thread, any time before the loop goes.
    template <std::invocable Function>
    void call_soon_threadsafe(Function callback) {
        hand_over(entry_of(std::move(callback)));
    }

    TimePoint time() noexcept { return engine_->now(); }

    /// Starts an operation; the future completes when it is over. Cancelling the future does not
    /// end the operation, which owns its memory until then: cancel_io() does.
    Future<Completion> start_io(Operation& operation);
    void cancel_io(Operation& operation) noexcept {
        operation.cancel_requested = true;
        engine_->cancel(operation);
    }
    /// Nothing is in flight on `fd`, and it will be used elsewhere.
    void forget(int fd) noexcept { engine_->forget(fd); }

    /// Runs callbacks until stop() is called, or nothing is left that could ever happen. Throws
    /// std::runtime_error if it runs already.
    void run_forever();
    /// The turn that runs is the last one; if none does, the first one of the next run is.
    void stop() noexcept { stopping_ = true; }
    bool is_running() const noexcept { return running_; }

    /// Answers the future's result or throws its exception. Throws std::runtime_error when the loop
    /// was stopped before, or nothing is left that could complete it.
    template <class T>
    T run_until_complete(Future<T> future);
    template <class T>
    T run_until_complete(Task<T> task);
    template <class T>
    T run_until_complete(Coroutine<T> coroutine); ///< as a task

    /// It begins in the next turn. See task.hpp.
    template <class T>
    Task<T> create_task(Coroutine<T> coroutine);
    template <detail::Awaitable A>
    auto create_task(A awaitable);

    /// Told of exceptions that leave a callback, and of those in futures that nobody looked at.
    /// Without one they are lines on stderr; so is what it throws itself.
    using ExceptionHandler = std::function<void(const ExceptionContext&)>;
    void set_exception_handler(ExceptionHandler handler) { handler_ = std::move(handler); }
    void call_exception_handler(const ExceptionContext& context) noexcept;

    const Engine& engine() const noexcept { return *engine_; }

    /// Something will come from another thread: there is reason to wait.
    void expect_thread(int change) noexcept {
        engine_->threads_awaited += static_cast<std::uint64_t>(change);
    }

    /// How many times it keeps, those that were called off lately included.
    std::size_t timers() const noexcept { return timers_.size(); }

    /// Nothing can ever happen any more, unless somebody calls something from outside.
    bool idle() const noexcept;

    // For what is built on the loop.

    /// Calls it in the next turn; in this one if it comes of the engine.
    void push_ready(detail::Callable& callable) noexcept { ready_.push(callable); }
    /// Calls it when this turn has ended, before anything is waited for.
    void push_before_wait(detail::Callable& callable) noexcept { before_wait_.push(callable); }
    void start_io(Operation& operation, detail::IoWaiter& waiter) noexcept;
    void keep(detail::KeptByLoop& object) noexcept;
    void leave(detail::KeptByLoop& object) noexcept;
    /// Received data that is in the engine's buffers; see bytes.hpp.
    unsigned buffers_lent = 0;

private:
    struct Timer {
        TimePoint when;
        std::uint64_t number; ///< equal times: in the order in which they were set
        detail::Entry* entry;
        bool operator<(const Timer& other) const noexcept { // the soonest on top of the heap
            return when != other.when ? when > other.when : number > other.number;
        }
    };

    template <class Function>
    static detail::Ref<detail::Entry> entry_of(Function&& function) {
        return detail::make<detail::EntryOf<Function>>(std::move(function));
    }

    friend detail::TaskCore;
    void set_timer(TimePoint when, detail::Ref<detail::Entry> entry);
    void hand_over(detail::Ref<detail::Entry> entry);
    void run_once();
    void take_from_threads();
    void serve_engine();
    void pop_timer() noexcept;
    void forget_called_off();
    void is_over(Operation& operation) noexcept;
    void end_operations() noexcept;

    std::unique_ptr<Engine> engine_;
    ExceptionHandler handler_;
    detail::TaskCore* tasks_ = nullptr; ///< that have not ended, the newest first
    detail::CallableList ready_;
    detail::CallableList before_wait_;
    std::vector<Timer> timers_;    ///< a heap
    std::size_t timers_max_ = 128; ///< with more, those that were called off are looked for
    std::uint64_t timers_set_ = 0;
    detail::IoWaiter* in_flight_ = nullptr;
    detail::KeptByLoop* kept_ = nullptr;
    bool stopping_ = false;
    bool running_ = false;

    std::atomic<bool> any_from_threads_ = false;
    std::mutex mutex_;
    detail::CallableList from_threads_;
};

/// "what() of it", or what there is to say of another exception.
std::string describe(const std::exception_ptr& exception);

} // namespace future_design
