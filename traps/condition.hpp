// Condition: tasks that have a lock wait until another one says that something has changed.
//
//     Condition changed;
//
//     const auto held = co_await changed.hold();
//     co_await changed.wait_for([&] { return !shelf.empty(); });
//     shelf.pop_back();
//
// wait() gives the lock back, and has it again before it ends, however it ends. A notification
// passes its waiter on to those who wait for the lock, without waking it: a waiter runs once, when
// it has both. One that is interrupted after it was notified passes the notification on to the
// next. Belongs to one thread.
#pragma once

#include <cstddef>
#include <utility>

#include "attempt.hpp"
#include "coro.hpp"
#include "lock.hpp"
#include "park.hpp"

namespace trapline {

class Condition;

namespace detail {

/// The coroutines of a condition. What is in here is not shown where a task's awaits are listed, so
/// that the first place is its own.
struct ConditionWait {
    static Coro<void> wait(Condition& condition);
    template <class Predicate>
    static Coro<void> wait_for(Condition& condition, Predicate predicate) {
        while (!predicate())
            co_await wait(condition);
    }
};

} // namespace detail

class Condition {
public:
    /// With a lock of its own.
    Condition() noexcept : lock_(own_) {}
    /// Over a lock that others use, too; it must outlive the condition.
    explicit Condition(Lock& lock) noexcept : lock_(lock) {}
    Condition(const Condition&) = delete;
    Condition& operator=(const Condition&) = delete;
    /// Nobody may be waiting.
    ~Condition() { waiters_.expect_empty("a Condition"); }

    /// The lock that it is over, its own or the one that it was made with.
    Lock& lock() noexcept { return lock_; }

    /// As the lock's: acquires it, answered by a guard that releases it. Blocks. Interruptible.
    Lock::Hold hold() noexcept { return lock_.hold(); }

    /// Gives the lock back, waits for a notification, and takes the lock again. Blocks. Throws
    /// std::logic_error if the lock was not locked. Interruptible; the lock is taken again none the
    /// less, while interrupts are held back, and no notification is lost.
    Coro<void> wait() { return detail::ConditionWait::wait(*this); }

    /// Waits until predicate() holds, looking at once and after each notification. Blocks, as long
    /// as it does not hold. Throws what wait() and the predicate throw; with the lock held.
    template <class Predicate>
    Coro<void> wait_for(Predicate predicate) {
        return detail::ConditionWait::wait_for(*this, std::move(predicate));
    }

    /// The n longest waiters go on, each when it has the lock; nobody, if nobody waits. The caller
    /// need not have the lock. Never blocks.
    void notify(std::size_t n = 1) noexcept;

    /// notify(), for all who wait now.
    void notify_all() noexcept { notify(static_cast<std::size_t>(-1)); }

private:
    friend detail::ConditionWait;

    struct Waiter : detail::Waiter {
        bool notified = false;
    };

    Lock own_;
    Lock& lock_;
    detail::WaiterList waiters_;
};

} // namespace trapline
