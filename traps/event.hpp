// Event: tasks wait until somebody says that it has happened.
//
//     Event ready;
//     Task<> server = co_await spawn(serve(ready));
//     co_await ready.wait();
//
// It stays set until it is cleared; while it is set nobody waits. Belongs to one thread.
#pragma once

#include <coroutine>

#include "park.hpp"

namespace trapline {

class Event {
public:
    Event() = default;
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
    /// Nobody may be waiting.
    ~Event() { detail::expect_nobody_waits(waiters_, "an Event"); }

    /// All who wait go on, even if it is cleared before they run. Harmless twice. Never blocks.
    void set() noexcept {
        set_ = true;
        waiters_.wake_all();
    }

    /// Whoever comes from now on waits for the next set(). Never blocks.
    void clear() noexcept { set_ = false; }

    bool is_set() const noexcept { return set_; }

    class [[nodiscard]] Wait : public detail::ParkAwaiter {
    public:
        explicit Wait(Event& event) noexcept : event_(event) {}
        bool await_ready() noexcept { return ready(event_.set_); }
        template <class Promise>
        void await_suspend(std::coroutine_handle<Promise> self) noexcept {
            park(self, event_.waiters_);
        }
        void await_resume() const { end_wait(); }

    private:
        Event& event_;
    };

    /// Waits until it is set. Blocks, unless it is set already: then it goes on without a trap.
    /// Interruptible: one who was waiting when it was set is not interrupted any more.
    Wait wait() noexcept { return Wait{*this}; }

private:
    bool set_ = false;
    WaitQueue waiters_;
};

} // namespace trapline
