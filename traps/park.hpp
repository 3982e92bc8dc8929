// Internal. What primitives that park their waiters are made of: the awaiter, waiters that others
// find, and the check that nobody waits on what is destroyed.
#pragma once

#include <coroutine>
#include <cstddef>
#include <string>

#include "trap_call.hpp"
#include "wait_queue.hpp"

namespace trapline::detail {

/// An awaiter that parks, unless its await_ready() or await_suspend() finds that it need not.
class ParkAwaiter : public ReplyAwaiter {
protected:
    template <class Promise>
    void park(std::coroutine_handle<Promise> self, WaitQueue& queue) noexcept {
        yield<traps::Park>(self, &queue);
    }

    /// First thing in await_resume(): throws what interrupted the wait. Who was woken goes on.
    void end_wait() const {
        if (asked() && reply().failed()) [[unlikely]]
            raise_unanswered(trap_index<traps::Park>, reply().error());
    }
};

/// Parks on a queue, always.
class [[nodiscard]] ParkOn : public ParkAwaiter {
public:
    explicit ParkOn(WaitQueue& queue) noexcept : queue_(queue) {}

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        park(self, queue_);
    }
    void await_resume() const { end_wait(); }

private:
    WaitQueue& queue_;
};

/// Says on stderr that `primitive` ("an Event") is destroyed while tasks wait on it, and which they
/// are; then lets them go without being woken. Where asserts are on the process ends there, unless
/// an exception is on its way.
void report_deserted(WaitQueue& queue, const char* primitive) noexcept;

/// A waiting task in a message: its name, and where it is.
std::string describe_waiter(const TaskRecord& task);

/// For destructors.
inline void expect_nobody_waits(WaitQueue& queue, const char* primitive) noexcept {
    if (!queue.empty()) [[unlikely]]
        report_deserted(queue, primitive);
}

class WaiterList;

/// A waiter that is told something before it is woken, or that is sent on to another queue: it
/// parks in a place of its own. Lives in a coroutine frame; leaves its list when it is destroyed.
class Waiter {
public:
    Waiter() = default;
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;
    ~Waiter() { unlink(); }

    WaitQueue place;

    bool linked() const noexcept { return list_ != nullptr; }
    void unlink() noexcept;

private:
    friend class WaiterList;
    WaiterList* list_ = nullptr;
    Waiter* previous_ = nullptr;
    Waiter* next_ = nullptr;
};

/// Waiters, first come, first served. One who was interrupted stays linked until it is resumed, but
/// its place is empty: those are passed over.
class WaiterList {
public:
    WaiterList() = default;
    WaiterList(const WaiterList&) = delete;
    WaiterList& operator=(const WaiterList&) = delete;

    void append(Waiter& waiter) noexcept {
        waiter.list_ = this;
        waiter.previous_ = last_;
        waiter.next_ = nullptr;
        (last_ ? last_->next_ : first_) = &waiter;
        last_ = &waiter;
    }

    /// The longest waiting; null if nobody waits.
    Waiter* first() noexcept {
        while (first_ && first_->place.empty())
            first_->unlink();
        return first_;
    }

    /// How many wait. O(n).
    std::size_t size() const noexcept {
        std::size_t count = 0;
        for (const Waiter* waiter = first_; waiter; waiter = waiter->next_)
            count += !waiter->place.empty();
        return count;
    }

    /// For destructors.
    void expect_empty(const char* primitive) noexcept {
        while (Waiter* waiter = first()) {
            waiter->unlink();
            report_deserted(waiter->place, primitive);
        }
    }

private:
    friend class Waiter;
    Waiter* first_ = nullptr;
    Waiter* last_ = nullptr;
};

inline void Waiter::unlink() noexcept {
    if (!list_)
        return;
    (previous_ ? previous_->next_ : list_->first_) = next_;
    (next_ ? next_->previous_ : list_->last_) = previous_;
    list_ = nullptr;
}

} // namespace trapline::detail
