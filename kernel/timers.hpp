// Internal. The timer queue: a hierarchical timing wheel with exact times.
//
// Scheme 7 of Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987), with a tick of
// one nanosecond: level n holds the timers whose time first differs from the wheel's own in the
// n-th digit of base 64, a slot for each value of that digit. Setting and dropping a timer is
// O(1) and leaves no trace. A slot that comes due is dealt out to the levels below, at most ten
// times in a timer's life, and a slot with one timer in it fires without that. Timers fire in
// order of time, equal times in the order in which they were set, never early.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "../traps/time.hpp"

namespace trapline {

class TimerQueue;

/// Embedded in what it wakes; must be dropped before it is destroyed.
class Timer {
public:
    Timer() noexcept {} // the rest is filled in when it is set
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;

    bool set() const noexcept { return level_ != unset; }
    TimePoint time() const noexcept { return time_; }

private:
    friend class TimerQueue;
    static constexpr std::uint8_t unset = 0xff;

    TimePoint time_;
    Timer* previous_;
    Timer* next_;
    std::uint8_t level_ = unset;
    std::uint8_t slot_;
};

class TimerQueue {
public:
    bool empty() const noexcept { return size_ == 0; }
    std::size_t size() const noexcept { return size_; }

    /// The timer must not be set.
    void set(Timer& timer, TimePoint time) noexcept;

    /// Harmless when the timer is not set.
    void drop(Timer& timer) noexcept {
        if (timer.set())
            unlink(timer);
    }

    /// No timer is due before this; `never` when there is none.
    TimePoint next() noexcept;

    /// Takes out the next timer that is due at `now`, null if there is none.
    Timer* pop(TimePoint now) noexcept {
        // The bound stays valid, if too low, when timers are dropped.
        if (bound_known_ && now < bound_) [[likely]]
            return nullptr;
        return pop_due(now);
    }

private:
    static constexpr unsigned digit_bits = 6;
    static constexpr unsigned slots = 1u << digit_bits;
    static constexpr unsigned levels = (64 + digit_bits - 1) / digit_bits;
    static constexpr std::uint8_t due_level = levels;

    struct List {
        Timer* first = nullptr;
        Timer* last = nullptr;
    };

    static std::uint64_t ticks(TimePoint time) noexcept {
        const auto count = time.time_since_epoch().count();
        return count < 0 ? 0 : static_cast<std::uint64_t>(count);
    }

    Timer* pop_due(TimePoint now) noexcept;
    void place(Timer& timer) noexcept;
    void place_due(Timer& timer) noexcept;
    void unlink(Timer& timer) noexcept;
    void clear_slot(unsigned level, unsigned slot) noexcept;
    std::uint64_t slot_start(unsigned level, unsigned slot) const noexcept;
    List& list_of(const Timer& timer) noexcept {
        return timer.level_ == due_level ? due_ : wheel_[timer.level_][timer.slot_];
    }
    static void append(List& list, Timer& timer) noexcept;

    // Invariant: timers at or before cursor_ are in due_, sorted; each other one lies at the level
    // of the highest digit in which it differs from cursor_, where its own digit is the larger.
    std::uint64_t cursor_ = 0;
    std::size_t size_ = 0;
    TimePoint bound_ = never;
    bool bound_known_ = true;
    std::uint32_t used_levels_ = 0;
    std::array<std::uint64_t, levels> used_slots_{};
    List due_;
    std::array<std::array<List, slots>, levels> wheel_{};
};

inline void TimerQueue::append(List& list, Timer& timer) noexcept {
    timer.previous_ = list.last;
    timer.next_ = nullptr;
    (list.last ? list.last->next_ : list.first) = &timer;
    list.last = &timer;
}

inline void TimerQueue::place(Timer& timer) noexcept {
    const std::uint64_t at = ticks(timer.time_);
    if (at <= cursor_) [[unlikely]]
        return place_due(timer);
    const unsigned highest = 63u - static_cast<unsigned>(std::countl_zero(at ^ cursor_));
    const unsigned level = highest / digit_bits;
    const unsigned slot = static_cast<unsigned>(at >> (level * digit_bits)) % slots;
    timer.level_ = static_cast<std::uint8_t>(level);
    timer.slot_ = static_cast<std::uint8_t>(slot);
    append(wheel_[level][slot], timer);
    used_slots_[level] |= std::uint64_t{1} << slot;
    used_levels_ |= 1u << level;
}

inline void TimerQueue::set(Timer& timer, TimePoint time) noexcept {
    timer.time_ = time;
    ++size_;
    if (time < bound_)
        bound_ = time;
    place(timer);
}

inline void TimerQueue::clear_slot(unsigned level, unsigned slot) noexcept {
    used_slots_[level] &= ~(std::uint64_t{1} << slot);
    if (used_slots_[level] == 0)
        used_levels_ &= ~(1u << level);
}

inline void TimerQueue::unlink(Timer& timer) noexcept {
    List& list = list_of(timer);
    (timer.previous_ ? timer.previous_->next_ : list.first) = timer.next_;
    (timer.next_ ? timer.next_->previous_ : list.last) = timer.previous_;
    if (!list.first && timer.level_ != due_level)
        clear_slot(timer.level_, timer.slot_);
    timer.level_ = Timer::unset;
    --size_;
}

} // namespace trapline
