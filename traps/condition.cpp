#include "condition.hpp"

#include "outcome.hpp"

namespace trapline {

Coro<void> Condition::wait() {
    const Lock::Holding holding = lock_.holding_;
    lock_.release();
    Waiter waiter;
    waiters_.append(waiter);
    detail::Outcome<void> outcome;
    co_await detail::Attempt{detail::ParkOn{waiter.place}, outcome};
    if (outcome.has_failure()) {
        waiter.unlink();
        if (waiter.notified)
            notify();
        if (!lock_.try_acquire()) {
            const bool previous = co_await SureTrap{traps::Mask{true}};
            co_await lock_.acquire();
            co_await SureTrap{traps::Mask{previous}};
        }
    }
    lock_.holding_ = holding;
    outcome.take();
}

void Condition::notify(std::size_t n) noexcept {
    for (; n > 0; --n) {
        auto* waiter = static_cast<Waiter*>(waiters_.first());
        if (!waiter)
            return;
        waiter->unlink();
        waiter->notified = true;
        if (lock_.try_acquire())
            waiter->place.wake();
        else
            waiter->place.pass_first_to(lock_.waiters_);
    }
}

} // namespace trapline
