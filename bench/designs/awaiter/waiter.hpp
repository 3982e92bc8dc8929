// A wait of the awaiter design: what lies in an awaiter while its chain waits, lists of such, and
// timers.
//
//     class Wait : public Waiter {
//         bool await_ready() const noexcept { return event_->set_; }
//         template <class P>
//         bool await_suspend(std::coroutine_handle<P> self) noexcept {
//             if (!begin_wait(self))
//                 return false;
//             event_->waiting_.push(*this); // somebody calls wake()
//             return true;
//         }
//         void await_resume() const { throw_if_stopped(); }
//         void stop() noexcept override {
//             event_->waiting_.remove(*this);
//             wake_stopped();
//         }
//     };
#pragma once

#include <coroutine>
#include <utility>

#include <trapline/kernel/timers.hpp>

#include "task.hpp"

namespace awaiter_design {

/// A wait, in its awaiter: whom to resume. In a list of those who wait for the same, and after that
/// in the scheduler's of those who can go on.
class Waiter : public Stoppable {
public:
    Waiter() noexcept = default;
    Waiter(Waiter&&) noexcept {} // before it waits: there is nothing to move
    Waiter& operator=(Waiter&&) = delete;

    /// It goes on in its turn.
    void wake() noexcept;
    /// The wait ended because the chain was stopped.
    bool stopped() const noexcept { return stopped_; }

protected:
    ~Waiter() = default;

    /// From await_suspend. False: the chain was stopped, and does not wait.
    template <class P>
    bool begin_wait(std::coroutine_handle<P> self) noexcept {
        handle_ = self;
        chain_ = self.promise().chain;
        if (chain_->stop_requested) {
            stopped_ = true;
            return false;
        }
        chain_->waiting = this;
        return true;
    }
    /// From stop(), when what it waited for knows it no more.
    void wake_stopped() noexcept {
        stopped_ = true;
        wake();
    }
    /// From await_resume. What it waited for, if that came, is its own although the chain was
    /// stopped meanwhile: the next wait throws.
    void throw_if_stopped() const {
        if (stopped_)
            throw Stopped{};
    }
    Scheduler& scheduler() const noexcept { return *chain_->scheduler; }
    Chain& chain() const noexcept { return *chain_; }

    void belongs_to(std::coroutine_handle<> handle, Chain& chain) noexcept {
        handle_ = handle;
        chain_ = &chain;
    }

private:
    friend class WaitList;
    friend class Scheduler;
    std::coroutine_handle<> handle_;
    Chain* chain_ = nullptr;
    Waiter* previous_;
    Waiter* next_;
    bool stopped_ = false;
};

/// Those who wait for the same, the first one first.
class WaitList {
public:
    bool empty() const noexcept { return !first_; }

    void push(Waiter& waiter) noexcept {
        waiter.previous_ = last_;
        waiter.next_ = nullptr;
        (last_ ? last_->next_ : first_) = &waiter;
        last_ = &waiter;
    }
    Waiter* pop() noexcept {
        Waiter* waiter = first_;
        if (waiter)
            remove(*waiter);
        return waiter;
    }
    /// The first one, from which next() leads to the others; leaves none.
    Waiter* take_all() noexcept {
        last_ = nullptr;
        return std::exchange(first_, nullptr);
    }
    static Waiter* next(const Waiter& waiter) noexcept { return waiter.next_; }
    void remove(Waiter& waiter) noexcept {
        (waiter.previous_ ? waiter.previous_->next_ : first_) = waiter.next_;
        (waiter.next_ ? waiter.next_->previous_ : last_) = waiter.previous_;
    }

private:
    Waiter* first_ = nullptr;
    Waiter* last_ = nullptr;
};

/// A timer and what it does.
class Alarm : public trapline::Timer {
public:
    using Fired = void (*)(Alarm&) noexcept;
    explicit Alarm(Fired fired) noexcept : fired_(fired) {}
    Alarm(Alarm&& unset) noexcept : fired_(unset.fired_) {}

private:
    friend class Scheduler;
    Fired fired_;
};

} // namespace awaiter_design
