// Internal. Operations that are tried again after a while: for want of descriptors, or because what
// is said to be ready never is.
#pragma once

#include <algorithm>
#include <chrono>

#include "../engine.hpp"
#include "requests.hpp"

namespace trapline {

class Paused {
public:
    static constexpr Duration for_descriptors = std::chrono::milliseconds{50};
    static constexpr Duration for_a_moment = std::chrono::milliseconds{5};

    bool empty() const noexcept { return descriptors_.empty() && moment_.empty(); }

    void push(Operation& operation, Judgement why, TimePoint now) noexcept {
        const bool moment = why == Judgement::wait_a_moment;
        operation.retry_at = now + (moment ? for_a_moment : for_descriptors);
        (moment ? moment_ : descriptors_).push(operation);
    }

    void remove(Operation& operation) noexcept {
        if (!moment_.remove(operation))
            descriptors_.remove(operation);
    }

    /// When the first is to be tried again.
    TimePoint next() const noexcept { return std::min(first_of(descriptors_), first_of(moment_)); }

    /// Takes out who is to be tried now. `closed`: there may be descriptors again.
    OperationList take_due(TimePoint now, bool closed) noexcept {
        OperationList due;
        while (!descriptors_.empty() && (closed || first_of(descriptors_) <= now))
            due.push(*descriptors_.pop());
        while (first_of(moment_) <= now)
            due.push(*moment_.pop());
        return due;
    }

private:
    static TimePoint first_of(const OperationList& list) noexcept {
        return list.empty() ? never : list.front()->retry_at;
    }

    OperationList descriptors_; // each in the order of time
    OperationList moment_;
};

} // namespace trapline
