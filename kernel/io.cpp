// I/O between tasks and the engine: who may use a descriptor, what ends before it is closed, and
// what a completion means to the task that waits for it.
#include "kernel.hpp"

#include <algorithm>
#include <cerrno>
#include <limits>
#include <memory>

namespace trapline {

namespace {

Operation& make_operation(TaskRecord& task, const traps::IoRequest& request) noexcept {
    Operation& operation = *std::construct_at(&control(task).operation);
    operation.request = request;
    operation.task = &task;
    return operation;
}

int error_of(Descriptors::Admission refusal) noexcept {
    switch (refusal) {
    case Descriptors::Admission::busy: return EBUSY;
    case Descriptors::Admission::closing: return EBADF;
    case Descriptors::Admission::no_memory: return ENOMEM;
    case Descriptors::Admission::granted:
    case Descriptors::Admission::waits: break;
    }
    return 0;
}

} // namespace

Kernel::Answer Kernel::start_io(TaskRecord& task, const traps::IoRequest& request) noexcept {
    if (may_take_interrupt(task) && traps::interruptible(request)) [[unlikely]] {
        return reply_pending(task);
    }
    Operation& operation = make_operation(task, request);
    if (const int error = error_of(descriptors_.enter(operation))) [[unlikely]]
        return reply_now(task, {-error});
    return launch(task);
}

/// A Close, or an IoRelease, which is a Close without the closing.
Kernel::Answer Kernel::start_closing(TaskRecord& task, int fd) noexcept {
    Operation& operation = make_operation(task, traps::Close{fd});
    const Descriptors::Admission admission = descriptors_.enter_closing(operation, fd);
    if (const int error = error_of(admission)) [[unlikely]]
        return reply_now(task, {-error});
    if (admission == Descriptors::Admission::granted) return launch(task);
    task.state = TaskState::blocked;
    ++awaited_;
    descriptors_.for_each_in_flight(fd, [this](Operation& other) {
        if (!std::exchange(other.cancel_requested, true)) engine_->cancel(other);
    });
    return Answer::later;
}

Kernel::Answer Kernel::launch(TaskRecord& task) noexcept {
    Operation& operation = control(task).operation;
    const bool release = std::holds_alternative<traps::IoRelease>(task.frame.trap);
    // From here Linux keeps the order. It may carry out a Close, and give the number to another
    // file, long before the completion is seen (tests/ring/closed_and_reused_descriptor.cpp).
    if (const auto* close = std::get_if<traps::Close>(&operation.request))
        descriptors_.closed(close->fd);
    if (!release && engine_->start(operation) == Engine::Started::in_flight) {
        task.state = TaskState::blocked;
        ++awaited_;
        return Answer::later;
    }
    leave_descriptors(operation);
    return reply_now(task, io_reply(task));
}

/// `operation` is over: takes it out of the table, and lets go on who waited for that.
void Kernel::leave_descriptors(Operation& operation) noexcept {
    descriptors_.leave(operation, [this](Operation& closer) {
        --awaited_; // launch() counts it again
        if (launch(*closer.task) == Answer::now) ready_.push(*closer.task);
    });
}

void Kernel::complete(Operation& operation) noexcept {
    --awaited_;
    TaskRecord& task = *operation.task;
    leave_descriptors(operation);
    make_ready(task, io_reply(task));
}

Reply Kernel::io_reply(TaskRecord& task) noexcept {
    const Operation& operation = control(task).operation;
    // The result wins: only what the interrupt really stopped ends by it.
    if (operation.cancel_requested && operation.ended_by_cancel() && may_take_interrupt(task)) {
        Reply reply = interrupt_reply(task);
        reply.progress = static_cast<std::uint32_t>(std::min<std::size_t>(
            operation.transferred, std::numeric_limits<std::uint32_t>::max()));
        return reply;
    }
    return {.value = operation.result, .stopped_by = operation.stopped_by};
}

} // namespace trapline
