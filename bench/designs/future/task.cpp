#include "task.hpp"

#include <stdexcept>

namespace future_design {

namespace detail {

TaskCore::~TaskCore() { leave_loop(); }

void TaskCore::begin() noexcept {
    older_ = loop().tasks_;
    if (older_)
        older_->newer_ = this;
    loop().tasks_ = this;
    listed_ = true;
    let_others_run(goes_on_);
}

void TaskCore::leave_loop() noexcept {
    if (!std::exchange(listed_, false))
        return;
    (newer_ ? newer_->older_ : loop().tasks_) = older_;
    if (older_)
        older_->newer_ = newer_;
}

/// What it waited for has come: from here on the coroutine alone keeps that.
void TaskCore::call(Loop&) noexcept {
    const auto self = Ref<FutureState>::adopt(&future_);
    if (FutureState* const of = std::exchange(of_, nullptr))
        of->drop_reference();
    step();
}

/// It will not come: the future has gone, or the loop goes.
void TaskCore::drop() noexcept {
    const auto self = Ref<FutureState>::adopt(&future_);
    const auto of = Ref<FutureState>::adopt(std::exchange(of_, nullptr));
}

/// Runs the coroutines, one after the other, until one of them waits or the last one has ended.
void TaskCore::step() noexcept {
    if (future_.done())
        return; // destroyed with its loop
    throws_ = take_cancellation();
    const bool never_begins = throws_ && !started_;
    started_ = true;
    if (never_begins) {
        end_cancelled();
    } else {
        next_ = goes_on_;
        while (const std::coroutine_handle<> coroutine = std::exchange(next_, {}))
            coroutine.resume();
        if (!outermost_.done())
            return; // who waits goes on in the next step
        keep_outcome();
    }
    leave_loop();
    drop_coroutine();
}

void TaskCore::wait_for(FutureState& future, std::coroutine_handle<> self) {
    if (&future == &future_)
        throw std::runtime_error("a task cannot await itself");
    if (&future.loop() != &loop())
        throw std::runtime_error("a task cannot await a future of another loop");
    goes_on_ = self;
    future_.add_reference();
    future.add(*this);
    if (must_cancel_ && future.cancel())
        must_cancel_ = false;
}

void TaskCore::let_others_run(std::coroutine_handle<> self) noexcept {
    goes_on_ = self;
    future_.add_reference();
    loop().push_ready(*this);
}

void TaskCore::throw_if_cancelled() {
    if (std::exchange(throws_, false))
        throw CancelledError{};
}

bool TaskCore::request_cancel() {
    if (future_.done())
        return false;
    ++cancels_requested_;
    if (!of_ || !of_->cancel())
        must_cancel_ = true;
    return true;
}

void TaskCore::destroy_pending() noexcept {
    const auto keep = future();
    leave_loop();
    loop().call_exception_handler({"a task was destroyed, but it is pending", nullptr});
    end_cancelled(); // whoever asks is told something
    drop_coroutine();
}

void SleepAwaiter::suspend(TaskCore& task, std::coroutine_handle<> self) {
    task_ = &task;
    if (delay_ <= Duration::zero())
        return task.let_others_run(self); // a bare yield
    Loop& loop = task.loop();
    woken_ = make<ResultState<void>>(loop);
    alarm_ = loop.call_later(delay_, [woken = woken_] {
        if (!woken->done())
            woken->set_result({});
    });
    task.wait_for(*woken_, self);
}

} // namespace detail

} // namespace future_design
