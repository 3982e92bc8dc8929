#include "timers.hpp"

#include <algorithm>

namespace trapline {

std::uint64_t TimerQueue::slot_start(unsigned level, unsigned slot) const noexcept {
    const unsigned shift = level * digit_bits;
    const std::uint64_t above =
        shift + digit_bits < 64 ? ~std::uint64_t{0} << (shift + digit_bits) : 0;
    return (cursor_ & above) | (std::uint64_t{slot} << shift);
}

void TimerQueue::place_due(Timer& timer) noexcept {
    // Nearly always the latest so far. Behind those of the same time, so that they keep their
    // order.
    Timer* before = due_.last;
    while (before && before->time_ > timer.time_)
        before = before->previous_;
    timer.level_ = due_level;
    timer.previous_ = before;
    timer.next_ = before ? before->next_ : due_.first;
    (timer.next_ ? timer.next_->previous_ : due_.last) = &timer;
    (before ? before->next_ : due_.first) = &timer;
}

TimePoint TimerQueue::next() noexcept {
    if (size_ == 0)
        return never;
    if (bound_known_)
        return bound_;
    if (due_.first) {
        bound_ = due_.first->time_;
    } else {
        const auto level = static_cast<unsigned>(std::countr_zero(used_levels_));
        const auto slot = static_cast<unsigned>(std::countr_zero(used_slots_[level]));
        // The exact minimum where it is cheap; else the slot's start, where it is dealt out.
        constexpr int looked_at_max = 16;
        bound_ = never;
        int looked_at = 0;
        for (Timer* timer = wheel_[level][slot].first; timer; timer = timer->next_) {
            if (++looked_at > looked_at_max) {
                bound_ = TimePoint{Duration{static_cast<Duration::rep>(slot_start(level, slot))}};
                break;
            }
            bound_ = std::min(bound_, timer->time_);
        }
    }
    bound_known_ = true;
    return bound_;
}

Timer* TimerQueue::pop_due(TimePoint now) noexcept {
    const std::uint64_t now_ticks = ticks(now);
    for (;;) {
        if (Timer* timer = due_.first) {
            if (timer->time_ > now) // the caller's clock went back
                return nullptr;
            unlink(*timer);
            return timer;
        }
        bound_ = never;
        bound_known_ = size_ == 0;
        if (used_levels_ == 0) {
            cursor_ = std::max(cursor_, now_ticks);
            return nullptr;
        }
        const auto level = static_cast<unsigned>(std::countr_zero(used_levels_));
        const auto slot = static_cast<unsigned>(std::countr_zero(used_slots_[level]));
        const std::uint64_t start = slot_start(level, slot);
        if (start > now_ticks) {
            cursor_ = std::max(cursor_, now_ticks);
            return nullptr;
        }
        Timer* timer = wheel_[level][slot].first;
        if (!timer->next_) {
            if (timer->time_ > now)
                return nullptr;
            unlink(*timer);
            return timer;
        }
        wheel_[level][slot] = {};
        clear_slot(level, slot);
        cursor_ = start;
        while (timer) {
            Timer* following = timer->next_;
            place(*timer);
            timer = following;
        }
    }
}

} // namespace trapline
