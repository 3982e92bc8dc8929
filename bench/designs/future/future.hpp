// Future<T>: a result that is yet to come, as asyncio has it. Whoever makes it completes it; others
// add callbacks, which the loop calls soon after. A handle: copies are the same future.
//
//     Future<int> answer{loop};
//     answer.add_done_callback([](const Future<int>& done) { use(done.result()); });
//     answer.set_result(42);
//
// An exception that nobody has asked for when the last handle goes is told to the loop's exception
// handler. Differences: remove_done_callback() takes what add_done_callback() answered, for
// functions cannot be compared; cancel() has no message.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "loop.hpp"

namespace future_design {

/// What result() throws of a future that was cancelled. As in Python, who catches all exceptions
/// does not catch this.
class CancelledError {
public:
    const char* what() const noexcept { return "the future was cancelled"; }
};

/// A call that the future's state does not allow.
class InvalidStateError : public std::logic_error {
public:
    using logic_error::logic_error;
};

/// A callback of a future, for remove_done_callback().
enum class CallbackId : std::uint64_t {};

namespace detail {

/// What all futures have, whatever their result.
class FutureState : public std::enable_shared_from_this<FutureState> {
public:
    using DoneCallback = std::function<void(const std::shared_ptr<FutureState>&)>;
    enum class Status : std::uint8_t { pending, finished, cancelled };

    explicit FutureState(Loop& owner) noexcept : loop_(owner) {}
    FutureState(const FutureState&) = delete;
    FutureState& operator=(const FutureState&) = delete;
    virtual ~FutureState();

    Loop& loop() const noexcept { return loop_; }
    bool done() const noexcept { return status_ != Status::pending; }
    bool cancelled() const noexcept { return status_ == Status::cancelled; }

    /// Throws CancelledError, or InvalidStateError if it is pending.
    const std::exception_ptr& exception();
    void set_exception(std::exception_ptr exception);
    virtual bool cancel();

    CallbackId add_done_callback(DoneCallback callback);
    bool remove_done_callback(CallbackId id) noexcept;

    void require_pending() const;
    void finish(Status status);

private:
    void call_soon(DoneCallback callback);

    Loop& loop_;
    Status status_ = Status::pending;
    bool retrieved_ = true; ///< there is no exception that nobody has asked for
    std::exception_ptr exception_;
    std::uint64_t callbacks_added_ = 0;
    std::vector<std::pair<CallbackId, DoneCallback>> callbacks_;
};

template <class T>
class ResultState : public FutureState {
public:
    using FutureState::FutureState;
    using Value = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

    void set_result(Value value) {
        require_pending();
        result_ = std::move(value);
        finish(Status::finished);
    }
    T result() {
        if (const std::exception_ptr& failure = exception())
            std::rethrow_exception(failure);
        if constexpr (!std::is_void_v<T>)
            return *result_;
    }

private:
    std::optional<Value> result_;
};

} // namespace detail

/// T is copied: everybody who asks has one.
template <class T>
class Future {
public:
    explicit Future(Loop& loop) : state_(std::make_shared<detail::ResultState<T>>(loop)) {}

    Loop& loop() const noexcept { return state_->loop(); }
    bool done() const noexcept { return state_->done(); }
    bool cancelled() const noexcept { return state_->cancelled(); }

    /// Throws the exception, CancelledError, or InvalidStateError if it is not done.
    T result() const { return state_->result(); }

    /// Null if it has a result. Throws CancelledError and InvalidStateError.
    std::exception_ptr exception() const { return state_->exception(); }

    // They throw InvalidStateError if it is done.
    void set_result(detail::ResultState<T>::Value result)
        requires(!std::is_void_v<T>)
    {
        state_->set_result(std::move(result));
    }
    void set_result()
        requires std::is_void_v<T>
    {
        state_->set_result({});
    }
    void set_exception(std::exception_ptr exception) {
        state_->set_exception(std::move(exception));
    }

    /// False if it was done.
    bool cancel() { return state_->cancel(); }

    /// Called soon if it is done.
    CallbackId add_done_callback(std::function<void(const Future&)> callback) {
        return state_->add_done_callback(
            [callback = std::move(callback)](const std::shared_ptr<detail::FutureState>& state) {
                callback(Future{std::static_pointer_cast<detail::ResultState<T>>(state)});
            });
    }
    /// False if it was called, or will be soon.
    bool remove_done_callback(CallbackId id) noexcept { return state_->remove_done_callback(id); }

    bool operator==(const Future&) const = default; ///< whether they are the same

    /// For what is built on futures.
    const std::shared_ptr<detail::ResultState<T>>& state() const noexcept { return state_; }

    explicit Future(std::shared_ptr<detail::ResultState<T>> state) noexcept
        : state_(std::move(state)) {}

private:
    std::shared_ptr<detail::ResultState<T>> state_;
};

template <class T>
T Loop::run_until_complete(Future<T> future) {
    struct Removed {
        Future<T>& future;
        CallbackId stops;
        ~Removed() { future.remove_done_callback(stops); }
    };
    {
        const Removed removed{future,
                              future.add_done_callback([this](const Future<T>&) { stop(); })};
        run_forever();
    }
    if (!future.done())
        throw std::runtime_error(idle() ? "nothing is left that could complete the future"
                                        : "the loop was stopped before the future was complete");
    return future.result();
}

} // namespace future_design
