// Semaphore: a number of permits. Who finds none waits, first come, first served.
//
//     Semaphore connections{10};
//
//     const auto permit = co_await connections.hold(); // until the end of the scope
//
// A release hands the permit to the longest waiter, who owns it from then on, before it runs:
// nobody overtakes. A waiter that is interrupted was given none. Belongs to one thread.
// BoundedSemaphore refuses to be released more often than it was acquired.
#pragma once

#include <coroutine>
#include <cstddef>

#include "guard.hpp"
#include "park.hpp"

namespace trapline {

class Semaphore {
public:
    /// @param permits how many are free at first
    explicit Semaphore(std::size_t permits = 1) noexcept : free_(permits) {}
    Semaphore(const Semaphore&) = delete;
    Semaphore& operator=(const Semaphore&) = delete;
    /// Nobody may be waiting.
    ~Semaphore() { expect_nobody_waits("a Semaphore"); }

    class Acquire;
    template <class S>
    class Hold;

    /// Takes a permit. Blocks while there is none; takes one that is free without a trap.
    /// Interruptible: then no permit was taken.
    Acquire acquire() noexcept;

    /// acquire(), answered by a guard that releases the permit.
    Hold<Semaphore> hold() noexcept;

    /// Takes a permit if one is free, and says whether it did. Never blocks.
    bool try_acquire() noexcept {
        if (free_ == 0)
            return false;
        --free_;
        return true;
    }

    /// Gives back `n` permits: to the longest waiters, what remains is free. Anybody may, also who
    /// has acquired none. Never blocks.
    void release(std::size_t n = 1) noexcept { free_ += n - waiters_.wake(n); }

    /// The number of free permits. While it is not 0 nobody waits.
    std::size_t value() const noexcept { return free_; }

protected:
    void expect_nobody_waits(const char* primitive) noexcept {
        detail::expect_nobody_waits(waiters_, primitive);
    }

private:
    std::size_t free_;
    WaitQueue waiters_;
};

class [[nodiscard]] Semaphore::Acquire : public detail::ParkAwaiter {
public:
    explicit Acquire(Semaphore& semaphore) noexcept : semaphore_(semaphore) {}
    bool await_ready() noexcept { return ready(semaphore_.try_acquire()); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        park(self, semaphore_.waiters_);
    }
    void await_resume() const { end_wait(); }

private:
    Semaphore& semaphore_;
};

template <class S>
class [[nodiscard]] Semaphore::Hold : public Acquire {
public:
    Hold(Semaphore& semaphore, S& held) noexcept : Acquire(semaphore), held_(held) {}
    Guard<S> await_resume() const {
        Acquire::await_resume();
        return Guard<S>{held_};
    }

private:
    S& held_;
};

inline Semaphore::Acquire Semaphore::acquire() noexcept { return Acquire{*this}; }

inline Semaphore::Hold<Semaphore> Semaphore::hold() noexcept { return {*this, *this}; }

/// A semaphore that never has more free permits than it was made with.
class BoundedSemaphore : private Semaphore {
public:
    /// @param permits how many there are, all of them free at first
    explicit BoundedSemaphore(std::size_t permits = 1) noexcept
        : Semaphore(permits), bound_(permits) {}
    /// Nobody may be waiting.
    ~BoundedSemaphore() { expect_nobody_waits("a BoundedSemaphore"); }

    using Semaphore::acquire;
    using Semaphore::try_acquire;
    using Semaphore::value;

    /// acquire(), answered by a guard that releases the permit.
    Hold<BoundedSemaphore> hold() noexcept { return {*this, *this}; }

    /// As Semaphore's. Throws std::logic_error, and gives back nothing, when more than bound()
    /// permits would be free.
    void release(std::size_t n = 1) {
        if (n > bound_ - value()) [[unlikely]]
            raise_released_too_often();
        Semaphore::release(n);
    }

    /// How many permits there are.
    std::size_t bound() const noexcept { return bound_; }

private:
    [[noreturn]] static void raise_released_too_often();

    std::size_t bound_;
};

} // namespace trapline
