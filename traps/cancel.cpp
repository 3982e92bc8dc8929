#include "cancel.hpp"

namespace trapline::detail {

void LimitScope::enter(TrapFrame& frame, TimePoint previous) noexcept {
    limit_.previous = previous;
    limit_.sooner = limit_.deadline < previous;
    limit_.outer = frame.limit;
    frame.limit = &limit_;
    frame_ = &frame;
}

void LimitScope::leave() noexcept {
    if (frame_)
        frame_->limit = limit_.outer;
    frame_ = nullptr;
}

std::exception_ptr LimitScope::judge(const Cancelled& interrupt) noexcept {
    const auto own = [this](TimePoint deadline) {
        return limit_.sooner && limit_.deadline == deadline;
    };
    progress_ = interrupt.progress();
    if (const auto* timeout = dynamic_cast<const TaskTimeout*>(&interrupt)) {
        if (timeout->reported())
            return std::make_exception_ptr(UncaughtTimeout(
                "a time limit's TaskTimeout was not caught inside of the limit around it"));
        expired_ = own(timeout->deadline());
        if (!expired_) {
            TimeoutCancellation passed{timeout->deadline()};
            passed.set_progress(progress_);
            return std::make_exception_ptr(passed);
        }
    } else if (const auto* passing = dynamic_cast<const TimeoutCancellation*>(&interrupt)) {
        expired_ = own(passing->deadline());
    }
    return expired_ ? nullptr : std::current_exception();
}

TaskTimeout LimitScope::report() const noexcept {
    TaskTimeout timeout{limit_.deadline, true};
    timeout.set_progress(progress_);
    return timeout;
}

} // namespace trapline::detail
