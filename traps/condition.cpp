#include "condition.hpp"

#include "outcome.hpp"

namespace trapline {

Coro<void> detail::ConditionWait::wait(Condition& condition) {
    Lock& lock = condition.lock_;
    const Lock::Holding holding = lock.holding_;
    lock.release();
    Condition::Waiter waiter;
    condition.waiters_.append(waiter);
    Outcome<void> outcome;
    co_await Attempt{ParkOn{waiter.place}, outcome};
    if (outcome.has_failure()) {
        waiter.unlink();
        if (waiter.notified)
            condition.notify();
        if (!lock.try_acquire()) {
            const bool previous = co_await SureTrap{traps::Mask{true}};
            co_await lock.acquire();
            co_await SureTrap{traps::Mask{previous}};
        }
    }
    lock.holding_ = holding;
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
