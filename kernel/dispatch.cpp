// Dispatch: what each trap does. Nothing in here throws or allocates; what a trap cannot have is
// an error in its reply.
#include "kernel.hpp"

#include <cerrno>

#include <poll.h>

namespace trapline {

Kernel::Answer Kernel::reply_now(TaskRecord& task, const Reply& reply) noexcept {
    task.frame.reply = reply;
    if (observer_) [[unlikely]]
        observer_->replied(task, reply);
    return Answer::now;
}

Kernel::Answer Kernel::answer(TaskRecord& task) noexcept {
    using namespace traps;
    const Trap& trap = task.frame.trap;
    switch (trap.index()) {
    case trap_index<Yield>:
        if (take_pending(task)) return Answer::now;
        make_ready(task, Reply{});
        return Answer::later;
    case trap_index<Sleep>:
        return sleep_until(task, later(read_clock(), std::get_if<Sleep>(&trap)->duration));
    case trap_index<SleepUntil>: return sleep_until(task, std::get_if<SleepUntil>(&trap)->time);
    case trap_index<Clock>: return reply_now(task, Reply::time(read_clock()));
    case trap_index<Self>: return reply_now(task, {reinterpret_cast<std::intptr_t>(&task)});
    case trap_index<Spawn>: adopt(*std::get_if<Spawn>(&trap)->task); return reply_now(task, {});
    case trap_index<Join>: return join(task, *std::get_if<Join>(&trap)->task);
    case trap_index<Cancel>: return cancel(task, *std::get_if<Cancel>(&trap));
    case trap_index<SetTimeout>: return set_timeout(task, *std::get_if<SetTimeout>(&trap));
    case trap_index<UnsetTimeout>:
        return unset_timeout(task, std::get_if<UnsetTimeout>(&trap)->previous);
    case trap_index<Mask>:
        return reply_now(task, {std::exchange(control(task).masked, std::get_if<Mask>(&trap)->on)});
    case trap_index<Park>: return park(task, *std::get_if<Park>(&trap)->queue);
    case trap_index<AwaitThread>:
        return await_thread(task, *std::get_if<AwaitThread>(&trap)->completion);
    case trap_index<ReadWait>:
        return start_io(task, Poll{std::get_if<ReadWait>(&trap)->fd, POLLIN, Side::read});
    case trap_index<WriteWait>:
        return start_io(task, Poll{std::get_if<WriteWait>(&trap)->fd, POLLOUT, Side::write});
    case trap_index<IoRelease>: return start_closing(task, std::get_if<IoRelease>(&trap)->fd);
    case trap_index<Io>: {
        const IoRequest& request = std::get_if<Io>(&trap)->request;
        const Close* close = std::get_if<Close>(&request);
        return close ? start_closing(task, close->fd) : start_io(task, request);
    }
    default: return reply_now(task, {-ENOSYS});
    }
}

Kernel::Answer Kernel::sleep_until(TaskRecord& task, TimePoint time) noexcept {
    if (take_pending(task)) return Answer::now;
    if (time <= now_ || time <= read_clock()) {
        make_ready(task, Reply::time(now_));
        return Answer::later;
    }
    task.state = TaskState::blocked;
    timers_.set(control(task).sleep, time);
    return Answer::later;
}

Kernel::Answer Kernel::join(TaskRecord& task, TaskRecord& joined) noexcept {
    if (joined.state == TaskState::terminated) return reply_now(task, {});
    if (&joined == &task) return reply_now(task, {-EDEADLK});
    if (control(joined).kernel != this) return reply_now(task, {-EXDEV});
    return park(task, joined.joiners);
}

Kernel::Answer Kernel::park(TaskRecord& task, WaitQueue& queue) noexcept {
    if (take_pending(task)) return Answer::now;
    task.state = TaskState::blocked;
    task.node.waker = {&Kernel::wake_parked, &task};
    queue.append(task.node);
    return Answer::later;
}

Kernel::Answer Kernel::cancel(TaskRecord& task, const traps::Cancel& trap) noexcept {
    TaskRecord& target = *trap.task;
    if (&target == &task) return reply_now(task, {-EDEADLK});
    if (target.state == TaskState::terminated)
        return reply_now(task, {static_cast<std::int64_t>(traps::Delivery::over)});
    if (control(target).kernel != this) return reply_now(task, {-EXDEV});
    return reply_now(task, {static_cast<std::int64_t>(send_cancel(target))});
}

Kernel::Answer Kernel::await_thread(TaskRecord& task, ThreadCompletion& completion) noexcept {
    if (completion.completed()) return reply_now(task, {completion.value()});
    if (take_pending(task)) return Answer::now;
    // Blocked before the other thread can see it: it may complete at any moment from here.
    task.state = TaskState::blocked;
    ++thread_waits_;
    if (completion.await({&Kernel::wake_from_thread, &task})) return Answer::later;
    --thread_waits_;
    task.state = TaskState::running;
    return reply_now(task, {completion.value()});
}

} // namespace trapline
