// Lock: mutual exclusion of tasks that may wait inside. RLock: one that its owner may take again.
//
//     Lock lock;
//
//     const auto held = co_await lock.hold(); // until the end of the scope
//
// A release hands the lock to the longest waiter, who owns it from then on, before it runs: nobody
// overtakes. A waiter that is interrupted was not given it. Belongs to one thread.
//
// Tasks switch at co_await only: what does not wait in the middle needs no lock.
#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "guard.hpp"
#include "park.hpp"

namespace trapline {

namespace detail {
struct ConditionWait;
}

class Lock {
public:
    Lock() = default;
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
    /// Nobody may be waiting.
    ~Lock() { detail::expect_nobody_waits(waiters_, "a Lock"); }

    class Acquire;
    class Hold;
    class Guard;

    /// Takes the lock. Blocks while somebody has it, the asking task included; one that is free is
    /// taken without a trap. Interruptible: then it was not taken.
    Acquire acquire() noexcept;

    /// acquire(), answered by a guard that releases the lock.
    Hold hold() noexcept;

    /// Takes the lock if it is free, and says whether it did. Never blocks.
    bool try_acquire() noexcept {
        if (holding_ != 0)
            return false;
        holding_ = ++last_holding_;
        return true;
    }

    /// The longest waiter has it now, or nobody. Throws std::logic_error if it was not locked. Who
    /// releases is not asked for its name. Never blocks.
    void release() {
        if (holding_ == 0) [[unlikely]]
            raise_not_locked();
        hand_over();
    }

    bool locked() const noexcept { return holding_ != 0; }

private:
    friend class Condition;
    friend detail::ConditionWait;

    /// A number for each time that it was acquired, 0 for none. Condition::wait() goes on with the
    /// one it came with. So a guard knows whether the lock is still its own to release: it is not
    /// if the task is destroyed in the middle of such a wait.
    using Holding = std::uint64_t;

    void hand_over() noexcept { holding_ = waiters_.wake() == 1 ? ++last_holding_ : 0; }
    [[noreturn]] static void raise_not_locked();

    Holding holding_ = 0;
    Holding last_holding_ = 0;
    WaitQueue waiters_;
};

class [[nodiscard]] Lock::Acquire : public detail::ParkAwaiter {
public:
    explicit Acquire(Lock& lock) noexcept : lock_(lock) {}
    bool await_ready() noexcept { return ready(lock_.try_acquire()); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        park(self, lock_.waiters_);
    }
    void await_resume() const { end_wait(); }

protected:
    Lock& lock_;
};

/// Releases the lock when it goes out of scope. Movable; the lock must outlive it. It releases only
/// what it took: not what somebody else acquired since, after a release() by hand.
class [[nodiscard("it releases at once when it is dropped")]] Lock::Guard {
public:
    /// Holds nothing.
    Guard() noexcept = default;
    Guard(Guard&& other) noexcept
        : lock_(std::exchange(other.lock_, nullptr)), holding_(other.holding_) {}
    /// Releases what it held before.
    Guard& operator=(Guard&& other) noexcept {
        Guard taken{std::move(other)};
        std::swap(lock_, taken.lock_);
        std::swap(holding_, taken.holding_);
        return *this;
    }
    ~Guard() { release(); }

    /// Whether it holds a lock.
    explicit operator bool() const noexcept { return lock_ && lock_->holding_ == holding_; }

    /// Releases now. Harmless when it holds nothing. Never blocks.
    void release() noexcept {
        if (*this)
            lock_->hand_over();
        lock_ = nullptr;
    }

private:
    friend class Hold;
    explicit Guard(Lock& lock) noexcept : lock_(&lock), holding_(lock.holding_) {}

    Lock* lock_ = nullptr;
    Holding holding_ = 0;
};

class [[nodiscard]] Lock::Hold : public Acquire {
public:
    using Acquire::Acquire;
    Guard await_resume() const {
        end_wait();
        return Guard{lock_};
    }
};

inline Lock::Acquire Lock::acquire() noexcept { return Acquire{*this}; }

inline Lock::Hold Lock::hold() noexcept { return Hold{*this}; }

/// A lock that the task which has it may acquire again. It is free after as many releases.
class RLock {
public:
    RLock() = default;
    RLock(const RLock&) = delete;
    RLock& operator=(const RLock&) = delete;
    /// Nobody may be waiting.
    ~RLock() { detail::expect_nobody_waits(waiters_, "an RLock"); }

    class Acquire;
    class Hold;

    /// Takes the lock, once more if this task has it already. Blocks while another one has it, else
    /// it goes on without a trap. Interruptible: then it was not taken.
    Acquire acquire() noexcept;

    /// acquire(), answered by a guard that releases the lock once.
    Hold hold() noexcept;

    /// Undoes one acquire(); after the first of them the longest waiter has the lock, or nobody.
    /// For the owner; another one that calls it is not noticed. Throws std::logic_error if it was
    /// not locked. Never blocks.
    void release() {
        if (depth_ == 0) [[unlikely]]
            raise_not_locked();
        if (--depth_ == 0) {
            owner_ = nullptr;
            depth_ = waiters_.wake();
        }
    }

    bool locked() const noexcept { return depth_ != 0; }

    /// How often it was acquired and not released yet.
    std::size_t depth() const noexcept { return depth_; }

private:
    [[noreturn]] static void raise_not_locked();

    /// The task that has it; null also while the one it was handed to has not run yet.
    const TrapFrame* owner_ = nullptr;
    std::size_t depth_ = 0;
    WaitQueue waiters_;
};

class [[nodiscard]] RLock::Acquire : public detail::ParkAwaiter {
public:
    explicit Acquire(RLock& lock) noexcept : lock_(lock) {}

    bool await_ready() noexcept { return ready(false); }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        const TrapFrame* asking = self.promise().frame;
        if (lock_.depth_ == 0) {
            lock_.owner_ = asking;
        } else if (lock_.owner_ != asking) {
            park(self, lock_.waiters_);
            return true;
        }
        ++lock_.depth_;
        return false;
    }

    void await_resume() const {
        end_wait();
        if (asked())
            lock_.owner_ = &frame();
    }

protected:
    RLock& lock_;
};

class [[nodiscard]] RLock::Hold : public Acquire {
public:
    using Acquire::Acquire;
    Guard<RLock> await_resume() const {
        Acquire::await_resume();
        return Guard<RLock>{lock_};
    }
};

inline RLock::Acquire RLock::acquire() noexcept { return Acquire{*this}; }

inline RLock::Hold RLock::hold() noexcept { return Hold{*this}; }

} // namespace trapline
