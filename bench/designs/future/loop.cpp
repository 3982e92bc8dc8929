#include "loop.hpp"

namespace future_design {

using trapline::OperationList;

namespace {

/// An operation in flight and who waits for it.
struct Pending {
    Operation* operation;
    Future<Completion> future;
};

Completion completion_of(const Operation& operation) noexcept {
    return {operation.result, operation.transferred, operation.stopped_by,
            operation.cancel_requested && operation.ended_by_cancel()};
}

} // namespace

Handle Loop::call_soon(Callback callback) {
    ready_.push_back(std::make_shared<Callback>(std::move(callback)));
    return Handle{ready_.back()};
}

Handle Loop::call_later(Duration delay, Callback callback) {
    return call_at(trapline::later(time(), delay), std::move(callback));
}

Handle Loop::call_at(TimePoint when, Callback callback) {
    auto entry = std::make_shared<Callback>(std::move(callback));
    timers_.push({when, timers_set_++, entry});
    return Handle{std::move(entry)};
}

void Loop::call_soon_threadsafe(Callback callback) {
    {
        const std::scoped_lock lock{mutex_};
        from_threads_.push_back(std::move(callback));
    }
    engine_->interrupt();
}

Future<Completion> Loop::start_io(Operation& operation) {
    Future<Completion> future{*this};
    // The kernel's field for the task is free here: whose it is tells the future instead.
    auto pending = std::make_unique<Pending>(&operation, future);
    operation.task = reinterpret_cast<trapline::TaskRecord*>(pending.get());
    if (engine_->start(operation) == Engine::Started::done) {
        future.set_result(completion_of(operation));
    } else {
        ++operations_;
        (void)pending.release(); // until it is handed back
    }
    return future;
}

bool Loop::idle() const noexcept {
    return ready_.empty() && timers_.empty() && operations_ == 0 && threads_awaited_ == 0;
}

void Loop::run_forever() {
    stopping_ = false;
    while (!stopping_ && !idle())
        run_once();
}

void Loop::run_once() {
    while (!timers_.empty() && !*timers_.top().callback) // was called off
        timers_.pop();
    TimePoint deadline = trapline::never;
    if (!ready_.empty())
        deadline = TimePoint::min();
    else if (!timers_.empty())
        deadline = timers_.top().when;
    else if (idle())
        return;
    OperationList completed;
    engine_->wait(deadline, completed);
    while (Operation* operation = completed.pop()) {
        --operations_;
        const std::unique_ptr<Pending> pending{reinterpret_cast<Pending*>(operation->task)};
        pending->future.set_result(completion_of(*operation));
    }
    {
        const std::scoped_lock lock{mutex_};
        for (Callback& callback : std::exchange(from_threads_, {}))
            call_soon(std::move(callback));
    }
    for (const TimePoint now = timers_.empty() ? TimePoint::min() : time();
         !timers_.empty() && timers_.top().when <= now; timers_.pop())
        ready_.push_back(timers_.top().callback);
    for (std::size_t count = ready_.size(); count > 0; --count) {
        const std::shared_ptr<Callback> callback = std::move(ready_.front());
        ready_.pop_front();
        if (*callback)
            std::exchange(*callback, nullptr)();
    }
}

} // namespace future_design
