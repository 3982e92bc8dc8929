// Barrier: tasks wait for each other, until as many have come as it was made for.
//
//     Barrier start{3};
//
//     const std::size_t place = co_await start.wait(); // 0 came first, 2 last
//
// Then all go on, and it can be used again. A waiter that is interrupted has not come: the barrier
// stays whole, and waits for another one in its place. Belongs to one thread.
#pragma once

#include <coroutine>
#include <cstddef>

#include "park.hpp"

namespace trapline {

class Barrier {
public:
    /// Throws std::logic_error if `parties` is 0.
    explicit Barrier(std::size_t parties);
    Barrier(const Barrier&) = delete;
    Barrier& operator=(const Barrier&) = delete;
    /// Nobody may be waiting.
    ~Barrier() { waiters_.expect_empty("a Barrier"); }

    class Wait;

    /// Waits until all have come; answers the place among them in order of arrival, from 0 on. The
    /// last one does not block, it lets the others go. Interruptible.
    Wait wait() noexcept;

    /// How many it takes.
    std::size_t parties() const noexcept { return parties_; }

    /// How many are waiting now. O(waiting).
    std::size_t waiting() const noexcept { return waiters_.size(); }

private:
    struct Waiter : detail::Waiter {
        std::size_t place_of_arrival = 0;
    };

    /// Lets all go if only one was missing, and says whether it was.
    bool complete() noexcept;

    std::size_t parties_;
    detail::WaiterList waiters_;
};

class [[nodiscard]] Barrier::Wait : public detail::ParkAwaiter {
public:
    explicit Wait(Barrier& barrier) noexcept : barrier_(barrier) {}
    Wait(const Wait& other) noexcept : Wait(other.barrier_) {} // before it waits
    Wait& operator=(const Wait&) = delete;

    bool await_ready() noexcept {
        waiter_.place_of_arrival = barrier_.parties_ - 1;
        return ready(barrier_.complete());
    }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        barrier_.waiters_.append(waiter_);
        park(self, waiter_.place);
    }
    std::size_t await_resume() {
        waiter_.unlink();
        end_wait();
        return waiter_.place_of_arrival;
    }

private:
    Barrier& barrier_;
    Waiter waiter_;
};

inline Barrier::Wait Barrier::wait() noexcept { return Wait{*this}; }

} // namespace trapline
