#include "future.hpp"

namespace future_design::detail {

FutureState::~FutureState() {
    while (Callable* waiter = waiters_.pop()) { // nobody can complete it any more
        static_cast<Waiter*>(waiter)->of_ = nullptr;
        waiter->drop();
    }
    if (!retrieved_)
        loop_.call_exception_handler({"an exception of a future was never retrieved", exception_});
}

const std::exception_ptr& FutureState::exception() {
    if (status_ == Status::cancelled)
        throw CancelledError{};
    if (status_ == Status::pending)
        throw InvalidStateError("the future is not done");
    retrieved_ = true;
    return exception_;
}

void FutureState::set_exception(std::exception_ptr exception) {
    require_pending();
    exception_ = std::move(exception);
    retrieved_ = false;
    finish(Status::finished);
}

bool FutureState::cancel() {
    if (done())
        return false;
    finish(Status::cancelled);
    return true;
}

CallbackId FutureState::add(Waiter& waiter) noexcept {
    waiter.of_ = this;
    waiter.id_ = ++waiters_added_;
    if (done())
        call_soon(waiter);
    else
        waiters_.push(waiter);
    return CallbackId{waiters_added_};
}

bool FutureState::remove_done_callback(CallbackId id) noexcept {
    Callable* const found = waiters_.remove_first([id](const Callable& waiter) {
        return CallbackId{static_cast<const Waiter&>(waiter).id_} == id;
    });
    if (!found)
        return false;
    static_cast<Waiter*>(found)->of_ = nullptr;
    found->drop();
    return true;
}

void FutureState::require_pending() const {
    if (done())
        throw InvalidStateError("the future is done");
}

void FutureState::finish(Status status) noexcept {
    status_ = status;
    while (Callable* waiter = waiters_.pop())
        call_soon(*static_cast<Waiter*>(waiter));
}

void FutureState::call_soon(Waiter& waiter) noexcept {
    add_reference(); // the waiter's
    loop_.push_ready(waiter);
}

} // namespace future_design::detail
