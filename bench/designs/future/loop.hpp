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
// next. I/O is an operation of an engine (kernel/engine.hpp), whose completion completes a future.
//
// What is not as in asyncio:
//   - A loop that nothing can ever wake returns from run_forever(), instead of sleeping for ever;
//     so whoever waits for another thread says so (expect_thread).
//   - An exception handler gets a message and the exception, no dictionary; no callback has a
//     context (contextvars). There is no debug mode, no executor and no signal handler.
//   - What asyncio warns of by Python's logging is a line on stderr.
#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <trapline/kernel/engine.hpp>

namespace future_design {

using trapline::Duration;
using trapline::Engine;
using trapline::Operation;
using trapline::TimePoint;

using Callback = std::function<void()>;

/// A callback that was asked for, and can be called off.
class Handle {
public:
    Handle() noexcept = default;
    void cancel() noexcept {
        if (entry_)
            *entry_ = nullptr;
        entry_ = nullptr;
    }

private:
    friend class Loop;
    explicit Handle(std::shared_ptr<Callback> entry) noexcept : entry_(std::move(entry)) {}
    std::shared_ptr<Callback> entry_;
};

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
}

/// Belongs to the thread that made it, but for call_soon_threadsafe(). It outlives its futures.
class Loop {
public:
    explicit Loop(std::unique_ptr<Engine> engine) noexcept : engine_(std::move(engine)) {}
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;
    /// What was asked for and not called yet is dropped, and so are tasks that have not ended. No
    /// operation may be in flight.
    ~Loop();

    Handle call_soon(Callback callback);
    Handle call_later(Duration delay, Callback callback);
    Handle call_at(TimePoint when, Callback callback);
    /// Any thread, any time before the loop goes.
    void call_soon_threadsafe(Callback callback);

    TimePoint time() noexcept { return engine_->now(); }

    /// Starts an operation; the future completes when it is over. Cancelling the future does not
    /// end the operation, which owns its memory until then: cancel_io() does.
    Future<Completion> start_io(Operation& operation);
    void cancel_io(Operation& operation) noexcept { engine_->cancel(operation); }
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
    T run_until_complete(Coroutine<T> coroutine); ///< as a task

    /// It begins in the next turn. See task.hpp.
    template <class T>
    Task<T> create_task(Coroutine<T> coroutine);

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

private:
    struct Timer {
        TimePoint when;
        std::uint64_t number; ///< equal times: in the order in which they were set
        std::shared_ptr<Callback> callback;
        bool operator<(const Timer& other) const noexcept { // the soonest on top of the heap
            return std::pair(when, number) > std::pair(other.when, other.number);
        }
    };

    friend detail::TaskCore;
    void run_once();
    void take_from_threads();
    void serve_engine();
    void pop_timer();
    void forget_called_off();
    void call(Callback& callback) noexcept;

    std::unique_ptr<Engine> engine_;
    ExceptionHandler handler_;
    std::list<detail::TaskCore*> tasks_; ///< that have not ended
    std::deque<std::shared_ptr<Callback>> ready_;
    std::vector<Timer> timers_;    ///< a heap
    std::size_t timers_max_ = 128; ///< with more, those that were called off are looked for
    std::uint64_t timers_set_ = 0;
    std::uint64_t operations_ = 0; ///< in flight
    bool stopping_ = false;
    bool running_ = false;

    mutable std::mutex mutex_;
    std::vector<Callback> from_threads_;
};

/// "what() of it", or what there is to say of another exception.
std::string describe(const std::exception_ptr& exception);

} // namespace future_design
