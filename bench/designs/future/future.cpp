#include "future.hpp"

#include <algorithm>

namespace future_design::detail {

FutureState::~FutureState() {
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

CallbackId FutureState::add_done_callback(DoneCallback callback) {
    const CallbackId id{++callbacks_added_};
    if (done())
        call_soon(std::move(callback));
    else
        callbacks_.emplace_back(id, std::move(callback));
    return id;
}

bool FutureState::remove_done_callback(CallbackId id) noexcept {
    return std::erase_if(callbacks_, [id](const auto& entry) { return entry.first == id; }) > 0;
}

void FutureState::require_pending() const {
    if (done())
        throw InvalidStateError("the future is done");
}

void FutureState::finish(Status status) {
    status_ = status;
    for (auto& [id, callback] : std::exchange(callbacks_, {}))
        call_soon(std::move(callback));
}

void FutureState::call_soon(DoneCallback callback) {
    loop_.call_soon(
        [callback = std::move(callback), self = shared_from_this()] { callback(self); });
}

} // namespace future_design::detail
