// Internal. What each operation passes through between its task and the engine, there and back: for
// the compiler to see where traps are answered. All else of I/O is in io.cpp.
#pragma once

#include <memory>

#include "kernel.hpp"

namespace trapline {

namespace detail {

inline Operation& make_operation(TaskRecord& task, const traps::IoRequest& request) noexcept {
    Operation& operation = *std::construct_at(&control(task).operation);
    operation.request = &request;
    operation.task = &task;
    return operation;
}

} // namespace detail

/// `operation` is over: takes it out of the table, and lets go on who waited for that.
inline void Kernel::leave_descriptors(Operation& operation) noexcept {
    descriptors_.leave(operation, [this](Operation& closer) { close_now(closer); });
}

inline void Kernel::reply_io(TaskRecord& task) noexcept {
    const Operation& operation = control(task).operation;
    // The result wins: only what the interrupt really stopped ends by it.
    if (operation.cancel_requested && operation.ended_by_cancel() && may_take_interrupt(task))
        [[unlikely]]
        return reply_interrupted_io(task);
    task.frame.reply = {.value = operation.result, .stopped_by = operation.stopped_by};
}

inline Kernel::Answer Kernel::launch(TaskRecord& task) noexcept {
    Operation& operation = control(task).operation;
    if (engine_->start(operation) == Engine::Started::in_flight) [[likely]] {
        task.state = TaskState::blocked;
        ++awaited_;
        return Answer::later;
    }
    return over_at_once(task);
}

/// `request` lies in the task's trap, and stays there until the operation is over.
inline Kernel::Answer Kernel::start_io(TaskRecord& task, const traps::IoRequest& request) noexcept {
    if (may_take_interrupt(task) && traps::interruptible(request)) [[unlikely]] {
        return reply_pending(task);
    }
    Operation& operation = detail::make_operation(task, request);
    if (const int error = Descriptors::error_of(descriptors_.enter(operation))) [[unlikely]]
        return reply_now(task, {-error});
    return launch(task);
}

inline void Kernel::complete(Operation& operation) noexcept {
    --awaited_;
    if (!operation.task) [[unlikely]]
        return signal_came();
    TaskRecord& task = *operation.task;
    // Before a Close or IoRelease that waits for it: who was ended goes on first.
    task.state = TaskState::ready;
    ready_.push(task);
    reply_io(task);
    leave_descriptors(operation);
}

} // namespace trapline
