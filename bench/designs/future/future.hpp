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

#include <concepts>
#include <cstdint>
#include <exception>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <variant>

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

class FutureState;

/// Who is called soon when a future is done: a callback, or a task that goes on.
class Waiter : public Callable {
protected:
    /// The future; counted as a reference once it is done. Null if it is no future's.
    FutureState* of_ = nullptr;

private:
    friend FutureState;
    std::uint32_t id_ = 0;
};

/// What all futures have, whatever their result.
class FutureState : public Counted {
public:
    enum class Status : std::uint8_t { pending, finished, cancelled };

    explicit FutureState(Loop& owner) noexcept : loop_(owner) {}

    Loop& loop() const noexcept { return loop_; }
    bool done() const noexcept { return status_ != Status::pending; }
    bool cancelled() const noexcept { return status_ == Status::cancelled; }

    /// Throws CancelledError, or InvalidStateError if it is pending.
    const std::exception_ptr& exception();
    void set_exception(std::exception_ptr exception);
    virtual bool cancel();

    /// From here on it is in the future's list, or in the loop's.
    CallbackId add(Waiter& waiter) noexcept;
    bool remove_done_callback(CallbackId id) noexcept;

    void require_pending() const;
    void finish(Status status) noexcept;

protected:
    ~FutureState() override;

private:
    void call_soon(Waiter& waiter) noexcept;

    Loop& loop_;
    Status status_ = Status::pending;
    bool retrieved_ = true; ///< there is no exception that nobody has asked for
    std::uint32_t waiters_added_ = 0;
    std::exception_ptr exception_;
    CallableList waiters_;
};

template <class Function>
class DoneCallback final : public Waiter, public Recycled {
public:
    explicit DoneCallback(Function&& function) : function_(std::move(function)) {}
    void call(Loop& loop) noexcept override {
        const auto future = Ref<FutureState>::adopt(of_);
        try {
            function_(future);
        } catch (...) {
            exception_left_callback(loop);
        }
        delete this;
    }
    void drop() noexcept override {
        const auto future = Ref<FutureState>::adopt(of_);
        delete this;
    }

private:
    Function function_; ///< of a Ref to the future
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
    /// For the last one who asks.
    T take() {
        if (const std::exception_ptr& failure = exception())
            std::rethrow_exception(failure);
        if constexpr (!std::is_void_v<T>)
            return std::move(*result_);
    }

private:
    std::optional<Value> result_;
};

} // namespace detail

/// T is copied: everybody who asks has one.
template <class T>
class Future {
public:
    explicit Future(Loop& loop) : state_(detail::make<detail::ResultState<T>>(loop)) {}

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
    template <std::invocable<const Future&> Function>
    CallbackId add_done_callback(Function callback) {
        auto of_this =
            [callback = std::move(callback)](const detail::Ref<detail::FutureState>& done) mutable {
                auto* state = static_cast<detail::ResultState<T>*>(done.get());
                callback(Future{detail::Ref{state}});
            };
        return state_->add(*new detail::DoneCallback<decltype(of_this)>{std::move(of_this)});
    }
    /// False if it was called, or will be soon.
    bool remove_done_callback(CallbackId id) noexcept { return state_->remove_done_callback(id); }

    bool operator==(const Future&) const = default; ///< whether they are the same

    /// For what is built on futures.
    const detail::Ref<detail::ResultState<T>>& state() const noexcept { return state_; }

    explicit Future(detail::Ref<detail::ResultState<T>> state) noexcept
        : state_(std::move(state)) {}

private:
    detail::Ref<detail::ResultState<T>> state_;
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
