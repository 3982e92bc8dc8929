// Cancellation and time limits. An interrupt waits in the task's control until the task is blocked
// in, or comes to, a trap that can be interrupted. What has been answered stays answered: a woken
// task, a finished operation keep their result, and the interrupt waits for the next trap.
#include "kernel.hpp"

#include <algorithm>

namespace trapline {

using traps::Delivery;

/// The interrupt that the task takes now.
Reply Kernel::interrupt_reply(TaskRecord& task) noexcept {
    TaskControl& own = control(task);
    Reply reply{.interrupt = own.pending};
    if (own.pending == Interrupt::timed_out)
        reply.value = own.pending_deadline.time_since_epoch().count();
    else
        task.interrupted = true;
    own.pending = Interrupt::none;
    task.interrupt_pending = false;
    return reply;
}

/// At an interruptible trap: answers it with the interrupt that waits.
Kernel::Answer Kernel::reply_pending(TaskRecord& task) noexcept {
    return reply_now(task, interrupt_reply(task));
}

/// Ends what the task is blocked in, if that can be. An I/O operation is asked to end, and the
/// task waits until it has.
void Kernel::interrupt_if_blocked(TaskRecord& task) noexcept {
    if (task.state != TaskState::blocked || !may_take_interrupt(task))
        return;
    const Trap& trap = task.frame.trap;
    TaskControl& own = control(task);
    if (is_asleep(task)) {
        timers_.drop(own.sleep);
    } else if (is_parked(task)) {
        own.node.unlink();
    } else if (const auto* thread = std::get_if<traps::AwaitThread>(&trap)) {
        if (!thread->completion->forget())
            return; // completed this moment: the value is on its way
        --awaited_;
        --engine_->threads_awaited;
    } else {
        if (traps::interruptible(*own.operation.request) &&
            !std::exchange(own.operation.cancel_requested, true))
            engine_->cancel(own.operation);
        return;
    }
    if (observer_) [[unlikely]]
        observer_->interrupted(task);
    make_ready(task, interrupt_reply(task));
}

Delivery Kernel::send_cancel(TaskRecord& task) noexcept {
    TaskControl& own = control(task);
    if (!std::exchange(own.cancel_sent, true)) {
        // Its cleanup is not to be interrupted a second time, by a limit that it set before.
        timers_.drop(own.limit);
        for (TimeLimit* limit = task.frame.limit; limit; limit = limit->outer)
            limit->disarmed = true;
        own.pending = Interrupt::cancelled;
        task.interrupt_pending = true;
        if (observer_) [[unlikely]]
            observer_->cancelled(task);
        interrupt_if_blocked(task);
    }
    return own.pending == Interrupt::none ? Delivery::delivered : Delivery::pending;
}

// --- time limits ---------------------------------------------------------------------------

Kernel::Answer Kernel::set_timeout(TaskRecord& task, const traps::SetTimeout& trap) noexcept {
    TaskControl& own = control(task);
    const Duration* duration = std::get_if<Duration>(&trap.limit);
    TimePoint deadline =
        duration ? later(read_clock(), *duration) : *std::get_if<TimePoint>(&trap.limit);
    deadline = std::max(deadline, TimePoint{}); // replies count times from zero upwards
    // One that has run out, and is yet to be delivered, stands as well: a tie goes to it.
    TimePoint previous = own.deadline();
    if (own.pending == Interrupt::timed_out)
        previous = std::min(previous, own.pending_deadline);
    if (deadline < previous) { // a tie goes to the outer one
        timers_.drop(own.limit);
        if (deadline <= now_) {
            limit_ran_out(task, deadline);
        } else {
            timers_.set(own.limit, deadline);
        }
    }
    return reply_now(task, Reply::time(previous));
}

Kernel::Answer Kernel::unset_timeout(TaskRecord& task, TimePoint previous) noexcept {
    TaskControl& own = control(task);
    if (own.pending == Interrupt::timed_out) [[unlikely]] {
        // It ran out, but was not delivered: forgotten, unless it was an outer one.
        const TimeLimit* scope = task.frame.limit;
        const bool own_limit = scope ? scope->sooner && scope->deadline == own.pending_deadline
                                     : own.pending_deadline < previous;
        if (own_limit) {
            own.pending = Interrupt::none;
            task.interrupt_pending = false;
        }
    }
    // The one before may have run out inside of this scope: then what stood before that.
    for (const TimeLimit* at = task.frame.limit; at; at = at->outer) {
        if (at->ran_out && at->sooner && at->deadline == previous)
            previous = at->previous;
    }
    if (own.deadline() != previous) {
        timers_.drop(own.limit);
        if (previous != never)
            timers_.set(own.limit, previous);
    }
    return reply_now(task, {});
}

/// Whether the scope with the limit `inner` lies inside of the one with `outer`. A scope that is
/// being entered is not in the chain yet: no other lies inside of it.
static bool lies_inside(const TaskRecord& task, TimePoint inner, TimePoint outer) noexcept {
    bool inside = false;
    for (const TimeLimit* limit = task.frame.limit; limit; limit = limit->outer) {
        if (!limit->sooner)
            continue;
        if (limit->deadline == outer)
            return inside;
        inside = inside || limit->deadline == inner;
    }
    return false;
}

void Kernel::limit_ran_out(TaskRecord& task, TimePoint deadline) noexcept {
    TaskControl& own = control(task);
    // The next one outwards is in force now.
    TimePoint outer = never;
    for (TimeLimit* limit = task.frame.limit; limit; limit = limit->outer) {
        if (!limit->sooner || limit->disarmed)
            continue;
        if (limit->deadline > deadline)
            outer = std::min(outer, limit->deadline);
        if (limit->deadline == deadline)
            limit->ran_out = true;
    }
    if (outer != never)
        timers_.set(own.limit, outer);

    if (own.pending == Interrupt::cancelled)
        return;
    if (own.pending == Interrupt::timed_out && !lies_inside(task, own.pending_deadline, deadline))
        return; // the outer one of two that wait to be delivered is the one to report
    own.pending = Interrupt::timed_out;
    own.pending_deadline = deadline;
    task.interrupt_pending = true;
    interrupt_if_blocked(task);
}

void Kernel::timer_fired(TaskTimer& timer) noexcept {
    if (!timer.task)
        return interrupt_the_rest(true);
    TaskRecord& task = *timer.task;
    if (&timer == &control(task).limit)
        limit_ran_out(task, timer.time());
    else
        make_ready(task, Reply::time(now_));
}

} // namespace trapline
