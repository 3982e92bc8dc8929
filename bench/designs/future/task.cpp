#include "task.hpp"

#include <stdexcept>

namespace future_design {

namespace detail {

TaskCore::TaskCore(FutureState& future, std::coroutine_handle<> coroutine)
    : future_(future), next_(coroutine) {}

TaskCore::~TaskCore() { leave_loop(); }

void TaskCore::begin() {
    in_loop_ = loop().tasks_.insert(loop().tasks_.end(), this);
    listed_ = true;
    loop().call_soon([this, keep = future()] { step(); });
}

void TaskCore::leave_loop() noexcept {
    if (std::exchange(listed_, false))
        loop().tasks_.erase(in_loop_);
}

/// Runs the coroutines, one after the other, until one of them waits or the last one has ended.
void TaskCore::step() {
    if (future_.done())
        return; // destroyed with its loop
    waits_for_ = nullptr;
    throws_ = take_cancellation();
    const bool never_begins = throws_ && !started_;
    started_ = true;
    if (never_begins) {
        end_cancelled();
    } else {
        while (const std::coroutine_handle<> coroutine = std::exchange(next_, {}))
            coroutine.resume();
        if (!ended())
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
    future.add_done_callback([this, keep = this->future(), self](const auto&) {
        next_ = self;
        step();
    });
    waits_for_ = future.shared_from_this();
    if (must_cancel_ && waits_for_->cancel())
        must_cancel_ = false;
}

void TaskCore::let_others_run(std::coroutine_handle<> self) {
    loop().call_soon([this, keep = future(), self] {
        next_ = self;
        step();
    });
}

void TaskCore::throw_if_cancelled() {
    if (std::exchange(throws_, false))
        throw CancelledError{};
}

bool TaskCore::request_cancel() {
    if (future_.done())
        return false;
    ++cancels_requested_;
    if (!waits_for_ || !waits_for_->cancel())
        must_cancel_ = true;
    return true;
}

void TaskCore::destroy_pending() noexcept {
    const auto keep = future();
    leave_loop();
    waits_for_ = nullptr;
    loop().call_exception_handler({"a task was destroyed, but it is pending", nullptr});
    end_cancelled(); // whoever asks is told something
    drop_coroutine();
}

} // namespace detail

namespace {

/// A bare yield: the task goes on in the next turn.
class LetOthersRun : public detail::TaskAwaiter {
public:
    template <class Parent>
    void await_suspend(std::coroutine_handle<Parent> self) {
        task_ = self.promise().task;
        task_->let_others_run(self);
    }
    void await_resume() { task_->throw_if_cancelled(); }
};

} // namespace

Coroutine<> sleep(Duration delay) {
    if (delay <= Duration::zero()) {
        co_await LetOthersRun{};
        co_return;
    }
    Loop& loop = co_await running_loop();
    struct Alarm {
        explicit Alarm(Handle set) noexcept : handle(std::move(set)) {}
        ~Alarm() { handle.cancel(); }
        Handle handle;
    };
    Future<void> woken{loop};
    const Alarm alarm{loop.call_later(delay, [woken]() mutable {
        if (!woken.done())
            woken.set_result();
    })};
    co_await woken;
}

} // namespace future_design
