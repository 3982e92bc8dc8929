#include "scheduler.hpp"

namespace awaiter_design {

using trapline::Operation;
using trapline::OperationList;

Scheduler::Scheduler(std::unique_ptr<trapline::Engine> engine) noexcept
    : engine_(std::move(engine)) {}

inline Waiter& Scheduler::waiter_of(const Operation& operation) noexcept {
    return *reinterpret_cast<Waiter*>(operation.task);
}

detail::Root& Scheduler::begin(std::coroutine_handle<> coroutine, Chain*& chain) {
    detail::Root& root = *new detail::Root{coroutine};
    root.scheduler = this;
    root.next_ = newest_;
    if (newest_)
        newest_->previous_ = &root;
    newest_ = &root;
    chain = &root;
    root.start_.belongs_to(coroutine, root);
    ready(root.start_);
    return root;
}

void detail::Root::has_ended(Chain& chain) noexcept {
    auto& root = static_cast<Root&>(chain);
    root.scheduler->leave(root);
    root.ended_ = true;
    if (root.joiner)
        root.joiner->wake();
    else if (!root.has_handle_)
        root.destroy();
}

void Scheduler::leave(detail::Root& root) noexcept {
    (root.previous_ ? root.previous_->next_ : newest_) = root.next_;
    if (root.next_)
        root.next_->previous_ = root.previous_;
}

void Scheduler::run_until_ended(const detail::Root& main) {
    while (!main.ended()) {
        if (!turn())
            throw std::runtime_error("nothing is left that could end the main task");
    }
}

/// Runs those that are ready now; what they make ready runs in the next turn. False if nothing is
/// left that could make anybody ready.
bool Scheduler::turn() {
    if (in_flight_ != 0 || !timers_.empty())
        serve_engine();
    else if (ready_.empty())
        return false;
    for (Waiter* waiter = ready_.take_all(); waiter;) {
        Waiter& now = *std::exchange(waiter, WaitList::next(*waiter));
        now.handle_.resume();
    }
    return true;
}

void Scheduler::serve_engine() {
    if (in_flight_ != 0 || ready_.empty()) {
        OperationList completed;
        engine_->wait(ready_.empty() ? timers_.next() : TimePoint::min(), completed);
        // All of them are over, and not to be stopped any more by those that go on first.
        for (const Operation* operation = completed.front(); operation; operation = operation->next)
            waiter_of(*operation).chain_->waiting = nullptr;
        while (const Operation* operation = completed.pop()) {
            --in_flight_;
            waiter_of(*operation).handle_.resume(); // nobody stands between
        }
    }
    if (!timers_.empty()) {
        const TimePoint now = engine_->now();
        while (trapline::Timer* timer = timers_.pop(now)) {
            auto& alarm = static_cast<Alarm&>(*timer);
            alarm.fired_(alarm);
        }
    }
}

/// Whoever can never go on, since it waits for what its own cleanup holds, stays.
void Scheduler::stop_the_rest() {
    while (newest_) {
        for (detail::Root* root = newest_; root; root = root->next_)
            root->request_stop();
        if (!turn())
            return;
    }
}

} // namespace awaiter_design
