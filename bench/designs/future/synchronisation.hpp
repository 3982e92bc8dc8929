// Event and Lock as asyncio has them. Who waits is a future in a list, first in, first out.
//
//     Coroutine<> adds(Lock& lock, int& sum) {
//         const auto held = co_await lock.hold();
//         sum = 1 + co_await other_sum();
//     }
//
// They belong to one loop's thread, and outlive those who wait. acquire() and hold() answer
// awaiters; create_task() makes a task of one, for wait_for() and the like.
#pragma once

#include <coroutine>
#include <stdexcept>
#include <utility>

#include "task.hpp"

namespace future_design {

namespace detail {

class WaiterList;

/// One who waits. It leaves the list when it is cancelled, or goes.
class ListedWaiter final : public ResultState<void> {
public:
    using ResultState::ResultState;
    bool cancel() override {
        leave();
        return FutureState::cancel();
    }
    void leave() noexcept;

private:
    friend WaiterList;
    ~ListedWaiter() override { leave(); }

    WaiterList* list_ = nullptr;
    ListedWaiter* previous_ = nullptr;
    ListedWaiter* next_ = nullptr;
};

/// First in, first out. Those who wait keep themselves.
class WaiterList {
public:
    WaiterList() noexcept = default;
    WaiterList(const WaiterList&) = delete;
    WaiterList& operator=(const WaiterList&) = delete;
    ~WaiterList() {
        while (first_)
            first_->leave();
    }

    bool empty() const noexcept { return first_ == nullptr; }
    void push(ListedWaiter& waiter) noexcept {
        waiter.list_ = this;
        waiter.previous_ = last_;
        (last_ ? last_->next_ : first_) = &waiter;
        last_ = &waiter;
    }
    /// Wakes the first one, who stays first. Once is enough.
    void wake_first() {
        if (first_ && !first_->done())
            first_->set_result({});
    }
    /// Wakes the first one that was not woken, and forgets it.
    void release_first() {
        while (first_) {
            const Ref<ListedWaiter> waiter{first_};
            waiter->leave();
            if (waiter->done())
                continue;
            waiter->set_result({});
            return;
        }
    }
    void release_all() {
        while (first_)
            release_first();
    }

private:
    friend ListedWaiter;
    ListedWaiter* first_ = nullptr;
    ListedWaiter* last_ = nullptr;
};

inline void ListedWaiter::leave() noexcept {
    WaiterList* const list = std::exchange(list_, nullptr);
    if (!list)
        return;
    (previous_ ? previous_->next_ : list->first_) = next_;
    (next_ ? next_->previous_ : list->last_) = previous_;
    previous_ = next_ = nullptr;
}

} // namespace detail

/// asyncio.Event.
class Event {
public:
    explicit Event(Loop& loop) noexcept : loop_(loop) {}

    bool is_set() const noexcept { return set_; }
    /// Wakes all who wait now, in their order.
    void set() {
        if (!std::exchange(set_, true))
            waiters_.release_all();
    }
    void clear() noexcept { set_ = false; }

    /// Done at once if it is set, else with the next set(); also when it is cleared right after.
    /// Cancelling the future leaves no trace.
    Future<void> wait() {
        auto waiter = detail::make<detail::ListedWaiter>(loop_);
        if (set_)
            waiter->set_result({});
        else
            waiters_.push(*waiter);
        return Future<void>{std::move(waiter)};
    }

private:
    Loop& loop_;
    bool set_ = false;
    detail::WaiterList waiters_;
};

/// asyncio.Lock. Whoever is woken by a release takes the lock when it runs; nobody can take it
/// before, for somebody is in the list until then. One that is cancelled after it was woken wakes
/// the next.
class Lock {
public:
    class Acquire;
    class Hold;
    class Held;

    bool locked() const noexcept { return locked_; }
    /// Waits if somebody has it, or waits for it.
    Acquire acquire() noexcept;
    /// The same, and answers who releases it when it goes.
    Hold hold() noexcept;
    /// Throws std::runtime_error if nobody has it.
    void release() {
        if (!locked_)
            throw std::runtime_error("the lock is not acquired");
        locked_ = false;
        waiters_.wake_first();
    }

private:
    bool locked_ = false;
    detail::WaiterList waiters_;
};

class Lock::Acquire {
public:
    explicit Acquire(Lock& lock) noexcept : lock_(&lock) {}
    Acquire(Acquire&& other) noexcept : lock_(other.lock_) {} // before it is awaited
    ~Acquire() {
        if (waiter_)
            waiter_->leave();
    }
    bool await_ready() const noexcept {
        if (lock_->locked_ || !lock_->waiters_.empty())
            return false;
        return lock_->locked_ = true;
    }
    template <class Parent>
    void await_suspend(std::coroutine_handle<Parent> self) {
        task_ = self.promise().task;
        waiter_ = detail::make<detail::ListedWaiter>(task_->loop());
        lock_->waiters_.push(*waiter_);
        task_->wait_for(*waiter_, self);
    }
    void await_resume() {
        if (!waiter_)
            return;
        waiter_->leave();
        try {
            task_->throw_if_cancelled();
            waiter_->result();
        } catch (const CancelledError&) {
            if (!lock_->locked_)
                lock_->waiters_.wake_first();
            throw;
        }
        lock_->locked_ = true;
    }

protected:
    Lock* lock_;

private:
    detail::TaskCore* task_ = nullptr;
    detail::Ref<detail::ListedWaiter> waiter_; ///< if it waited
};

/// Releases the lock when it goes.
class [[nodiscard]] Lock::Held {
public:
    explicit Held(Lock& lock) noexcept : lock_(&lock) {}
    Held(Held&& other) noexcept : lock_(std::exchange(other.lock_, nullptr)) {}
    Held& operator=(Held&& other) noexcept {
        std::swap(lock_, other.lock_);
        return *this;
    }
    ~Held() {
        if (lock_)
            lock_->release();
    }

private:
    Lock* lock_;
};

class Lock::Hold : public Lock::Acquire {
public:
    using Acquire::Acquire;
    Held await_resume() {
        Acquire::await_resume();
        return Held{*lock_};
    }
};

inline Lock::Acquire Lock::acquire() noexcept { return Acquire{*this}; }
inline Lock::Hold Lock::hold() noexcept { return Hold{*this}; }

} // namespace future_design
