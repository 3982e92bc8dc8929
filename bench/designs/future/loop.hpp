// The future design: an event loop as asyncio has it. Callbacks are called soon, or at a time;
// a Future is a result that is yet to come, and calls back when it has come.
//
//     Loop loop{make_uring_engine({})};
//     Future<int> answer{loop};
//     loop.call_later(1s, [answer]() mutable { answer.set_result(42); });
//     int n = loop.run_until_complete(answer);
//
// Names and rules are those of Python's asyncio: callbacks run in the order in which they were
// asked for, never from within what completes a future, and those that a turn asks for run in the
// next. I/O is an operation of an engine (kernel/engine.hpp), whose completion completes a future.
#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <queue>
#include <stdexcept>
#include <utility>
#include <vector>

#include <trapline/kernel/engine.hpp>

namespace future_design {

using trapline::Duration;
using trapline::Engine;
using trapline::Operation;
using trapline::TimePoint;

/// What result() throws of a future that was cancelled.
class CancelledError : public std::exception {
public:
    const char* what() const noexcept override { return "the future was cancelled"; }
};

/// A call that the future's state does not allow.
class InvalidStateError : public std::logic_error {
public:
    using logic_error::logic_error;
};

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

template <class T>
class Future;

/// Belongs to the thread that made it, but for call_soon_threadsafe().
class Loop {
public:
    explicit Loop(std::unique_ptr<Engine> engine) noexcept : engine_(std::move(engine)) {}
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;

    Handle call_soon(Callback callback);
    Handle call_later(Duration delay, Callback callback);
    Handle call_at(TimePoint when, Callback callback);
    void call_soon_threadsafe(Callback callback);

    TimePoint time() noexcept { return engine_->now(); }

    /// Starts an operation; the future completes when it is over. Cancelling the future does not
    /// end the operation, which owns its memory until then: cancel_io() does.
    Future<Completion> start_io(Operation& operation);
    void cancel_io(Operation& operation) noexcept { engine_->cancel(operation); }

    /// Runs callbacks until stop() is called.
    void run_forever();
    void stop() noexcept { stopping_ = true; }

    /// Answers the future's result or throws its exception. Throws std::runtime_error when nothing
    /// is left that could complete it.
    template <class T>
    T run_until_complete(Future<T> future);

    const Engine& engine() const noexcept { return *engine_; }

    /// Something will come from another thread: there is reason to wait.
    void expect_thread(int change) noexcept { threads_awaited_ += change; }

private:
    struct Timer {
        TimePoint when;
        std::uint64_t number; ///< equal times: in the order in which they were set
        std::shared_ptr<Callback> callback;
        bool operator<(const Timer& other) const noexcept {
            return std::pair(when, number) > std::pair(other.when, other.number);
        }
    };

    void run_once();
    bool idle() const noexcept;

    std::unique_ptr<Engine> engine_;
    std::deque<std::shared_ptr<Callback>> ready_;
    std::priority_queue<Timer> timers_; ///< the soonest on top
    std::uint64_t timers_set_ = 0;
    std::uint64_t operations_ = 0; ///< in flight
    int threads_awaited_ = 0;
    bool stopping_ = false;

    std::mutex mutex_;
    std::vector<Callback> from_threads_;
};

/// A handle: copies are the same future.
template <class T>
class Future {
public:
    explicit Future(Loop& loop) : state_(std::make_shared<State>(loop)) {}

    bool done() const noexcept { return state_->status != Status::pending; }
    bool cancelled() const noexcept { return state_->status == Status::cancelled; }

    /// Throws the exception, CancelledError, or InvalidStateError if it is not done.
    T result() const {
        require_done();
        if (state_->exception)
            std::rethrow_exception(state_->exception);
        return *state_->result;
    }

    /// Null if it has a result. Throws CancelledError and InvalidStateError.
    std::exception_ptr exception() const {
        require_done();
        return state_->exception;
    }

    void set_result(T result) {
        require_pending();
        state_->result = std::move(result);
        finish(Status::finished);
    }
    void set_exception(std::exception_ptr exception) {
        require_pending();
        state_->exception = std::move(exception);
        finish(Status::finished);
    }

    /// False if it was done.
    bool cancel() {
        if (done())
            return false;
        finish(Status::cancelled);
        return true;
    }

    /// Called soon if it is done.
    void add_done_callback(std::function<void(Future)> callback) {
        if (done())
            return call_soon(std::move(callback));
        state_->callbacks.push_back(std::move(callback));
    }

private:
    enum class Status : std::uint8_t { pending, finished, cancelled };
    struct State {
        explicit State(Loop& owner) noexcept : loop(owner) {}
        Loop& loop;
        Status status = Status::pending;
        std::optional<T> result;
        std::exception_ptr exception;
        std::vector<std::function<void(Future)>> callbacks;
    };

    void call_soon(std::function<void(Future)> callback) {
        state_->loop.call_soon(
            [callback = std::move(callback), future = *this] { callback(future); });
    }
    void finish(Status status) {
        state_->status = status;
        for (auto& callback : std::exchange(state_->callbacks, {}))
            call_soon(std::move(callback));
    }
    void require_done() const {
        if (state_->status == Status::cancelled)
            throw CancelledError{};
        if (state_->status == Status::pending)
            throw InvalidStateError("the future is not done");
    }
    void require_pending() const {
        if (done())
            throw InvalidStateError("the future is done");
    }

    std::shared_ptr<State> state_;
};

template <class T>
T Loop::run_until_complete(Future<T> future) {
    future.add_done_callback([this](const Future<T>&) { stop(); });
    run_forever();
    if (!future.done())
        throw std::runtime_error("nothing is left that could complete the future");
    return future.result();
}

} // namespace future_design
