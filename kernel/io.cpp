// I/O between tasks and the engine: who may use a descriptor, what ends before it is closed, and
// what a completion means to the task that waits for it.
#include "io.inl.hpp"

#include <algorithm>
#include <cerrno>
#include <limits>

namespace trapline {

namespace {

/// What an IoRelease waits for as a Close would. It never reaches the engine.
constexpr traps::IoRequest release = traps::Close{-1};

} // namespace

[[gnu::noinline]] Kernel::Answer Kernel::over_at_once(TaskRecord& task) noexcept {
    leave_descriptors(control(task).operation);
    reply_io(task);
    return Answer::now;
}

/// A ReadWait or WriteWait is short for a Poll, and becomes it where it lies.
Kernel::Answer Kernel::start_poll(TaskRecord& task, const traps::Poll& poll) noexcept {
    return start_io(task, task.frame.trap.emplace<traps::Io>(traps::IoRequest{poll}).request);
}

/// The descriptor of a Close, or of an IoRelease, which is a Close without the closing.
int Kernel::closing(const TaskRecord& task) noexcept {
    const Trap& trap = task.frame.trap;
    if (const auto* io = std::get_if<traps::Io>(&trap))
        return std::get_if<traps::Close>(&io->request)->fd;
    return std::get_if<traps::IoRelease>(&trap)->fd;
}

Kernel::Answer Kernel::start_closing(TaskRecord& task) noexcept {
    const auto* io = std::get_if<traps::Io>(&task.frame.trap);
    Operation& operation = detail::make_operation(task, io ? io->request : release);
    const int fd = closing(task);
    end_held(fd);
    const Descriptors::Admission admission = descriptors_.enter_closing(operation, fd);
    if (const int error = Descriptors::error_of(admission)) [[unlikely]]
        return reply_now(task, {-error});
    if (admission == Descriptors::Admission::granted)
        return launch_closing(task);
    task.state = TaskState::blocked;
    ++awaited_;
    end_in_flight(fd);
    return Answer::later;
}

void Kernel::end_in_flight(int fd) noexcept {
    const auto end = [this](Operation& operation) {
        if (!std::exchange(operation.cancel_requested, true))
            engine_->cancel(operation);
    };
    descriptors_.for_each_on_a_side(fd, end);
    // Seldom: a look at all tasks is cheaper than a list that each operation has room for.
    std::size_t others = descriptors_.others_on(fd);
    for (TaskRecord* task = tasks_.newest(); task && others > 0; task = TaskTable::older(*task)) {
        const auto* io = std::get_if<traps::Io>(&task->frame.trap);
        if (io && task->state == TaskState::blocked &&
            Descriptors::occupies_no_side(io->request, fd)) {
            --others;
            end(control(*task).operation);
        }
    }
}

/// What a policy delays is not to find another file under its number.
void Kernel::end_held(int fd) noexcept {
    held_.end(fd, [this](TaskRecord& task) {
        if (task.state != TaskState::blocked)
            return; // the delay is over
        timers_.drop(control(task).sleep);
        make_ready(task, {});
    });
}

/// Nothing is in flight on the descriptor any more.
Kernel::Answer Kernel::launch_closing(TaskRecord& task) noexcept {
    // From here Linux keeps the order. It may carry out a Close, and give the number to another
    // file, long before the completion is seen (tests/ring/closed_and_reused_descriptor.cpp).
    descriptors_.closed(closing(task));
    if (std::holds_alternative<traps::IoRelease>(task.frame.trap)) {
        engine_->forget(closing(task));
        return over_at_once(task);
    }
    return launch(task);
}

[[gnu::noinline]] void Kernel::close_now(Operation& closer) noexcept {
    --awaited_; // launch() counts it again
    if (launch_closing(*closer.task) == Answer::now)
        make_ready(*closer.task, closer.task->frame.reply);
}

[[gnu::noinline]] void Kernel::reply_interrupted_io(TaskRecord& task) noexcept {
    Reply reply = interrupt_reply(task);
    reply.progress = static_cast<std::uint32_t>(std::min<std::size_t>(
        control(task).operation.transferred, std::numeric_limits<std::uint32_t>::max()));
    task.frame.reply = reply;
}

} // namespace trapline
