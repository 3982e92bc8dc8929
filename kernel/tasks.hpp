// What a kernel keeps for each task, and its lists of tasks.
#pragma once

#include <cstddef>
#include <new>

#include "../traps/task.hpp"
#include "engine.hpp"
#include "timers.hpp"

namespace trapline {

class Kernel;

/// A timer that belongs to a task.
struct TaskTimer : Timer {
    TaskRecord* task = nullptr;
    bool is_limit = false; ///< its time limit; else its sleep
};

/// The kernel's part of a task, in the room that the task's record has for it.
struct TaskControl {
    TaskControl(Kernel& owner, TaskRecord& record) noexcept : kernel(&owner) {
        operation.task = sleep.task = limit.task = &record;
        limit.is_limit = true;
    }

    Kernel* kernel;
    TaskRecord* next_ready = nullptr;

    // An interrupt that waits until the task can take it.
    Interrupt pending = Interrupt::none;
    bool masked = false;
    bool cancel_sent = false;   ///< it has been cancelled; a second time is no news
    bool shutdown_sent = false; ///< and by the shutdown
    TimePoint pending_deadline{};

    TimePoint deadline = never; ///< the time limit in force; `limit` is set to it
    TaskTimer limit;
    TaskTimer sleep;
    Operation operation;

    TaskRecord* older = nullptr; ///< in the table
    TaskRecord* newer = nullptr;
    TaskRecord* next_in_inbox = nullptr;
};

static_assert(sizeof(TaskControl) <= TaskRecord::room_bytes && alignof(TaskControl) <= 16);

inline TaskControl& control(TaskRecord& task) noexcept {
    return *std::launder(static_cast<TaskControl*>(task.room()));
}

/// Tasks that are ready, first in, first out. `TaskRecord::state` says whether a task is in here.
class ReadyQueue {
public:
    bool empty() const noexcept { return first_ == nullptr; }

    void push(TaskRecord& task) noexcept {
        task.state = TaskState::ready;
        control(task).next_ready = nullptr;
        (last_ ? control(*last_).next_ready : first_) = &task;
        last_ = &task;
    }

    TaskRecord* pop() noexcept {
        TaskRecord* task = first_;
        if (task) {
            first_ = control(*task).next_ready;
            if (!first_) last_ = nullptr;
        }
        return task;
    }

    /// All that are ready now; leaves this one empty.
    ReadyQueue take() noexcept { return std::exchange(*this, ReadyQueue{}); }

private:
    TaskRecord* first_ = nullptr;
    TaskRecord* last_ = nullptr;
};

/// All tasks that have not ended, in the order in which they came.
class TaskTable {
public:
    bool empty() const noexcept { return newest_ == nullptr; }
    std::size_t size() const noexcept { return size_; }
    TaskRecord* newest() const noexcept { return newest_; }
    static TaskRecord* older(TaskRecord& task) noexcept { return control(task).older; }

    void insert(TaskRecord& task) noexcept {
        control(task).older = newest_;
        if (newest_) control(*newest_).newer = &task;
        newest_ = &task;
        ++size_;
    }

    void remove(TaskRecord& task) noexcept {
        TaskControl& own = control(task);
        (own.newer ? control(*own.newer).older : newest_) = own.older;
        if (own.older) control(*own.older).newer = own.newer;
        --size_;
    }

private:
    TaskRecord* newest_ = nullptr;
    std::size_t size_ = 0;
};

} // namespace trapline
