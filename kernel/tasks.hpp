// Internal. What a kernel keeps for each task, and its lists of tasks.
#pragma once

#include <cstddef>
#include <new>

#include "../traps/task.hpp"
#include "engine.hpp"
#include "timers.hpp"

namespace trapline {

class Kernel;

/// A timer that belongs to a task, or, without one, to the kernel's shutdown.
struct TaskTimer : Timer {
    TaskTimer() noexcept : is_limit(false), task(nullptr) {}
    TaskTimer(TaskRecord& owner, bool limit) noexcept : is_limit(limit), task(&owner) {}

    bool is_limit; ///< its time limit; else its sleep
    TaskRecord* task;
};

/// The kernel's part of a task, in the room that the task's record has for it.
struct TaskControl {
    TaskControl(Kernel& owner, TaskRecord& task) noexcept : kernel(&owner), limit(task, true) {}
    ~TaskControl() {}

    TaskRecord* next; ///< in the ready queue or in the inbox

    // An interrupt that waits until the task can take it.
    Interrupt pending = Interrupt::none;
    bool masked = false;
    bool cancel_sent = false;   ///< it has been cancelled; a second time is no news
    bool started = false;       ///< observers have seen it run
    TimePoint pending_deadline; ///< of a time limit

    Kernel* kernel;
    TaskTimer limit; ///< set to the time limit in force

    TaskRecord* older; ///< in the table
    TaskRecord* newer;

    /// The time limit in force.
    TimePoint deadline() const noexcept { return limit.set() ? limit.time() : never; }

    // What the task is blocked in, one at a time, made when it blocks. Its trap says which:
    union {
        WaitNode node;       ///< Park, Join
        TaskTimer sleep;     ///< Sleep, SleepUntil
        Operation operation; ///< all I/O
    };
};

static_assert(sizeof(TaskControl) <= TaskRecord::room_bytes);
static_assert(alignof(TaskControl) <= alignof(void*));

inline TaskControl& control(TaskRecord& task) noexcept {
    return *std::launder(static_cast<TaskControl*>(task.room()));
}

/// Tasks that are ready, first in, first out. `TaskRecord::state` says whether a task is in here.
class ReadyQueue {
public:
    bool empty() const noexcept { return first_ == nullptr; }

    void push(TaskRecord& task) noexcept {
        task.state = TaskState::ready;
        control(task).next = nullptr;
        *end_ = &task;
        end_ = &control(task).next;
    }

    /// Has the next task's hot part fetched while another one runs: with thousands of tasks it lies
    /// far from the processor (a quarter less time for each trap with 10,000).
    static void prefetch(const TaskRecord& task) noexcept {
        const auto* hot = reinterpret_cast<const std::byte*>(&task);
        __builtin_prefetch(hot, 1);
        __builtin_prefetch(hot + 64, 1);
    }

    /// Empties the queue; answers its first task, or null. Each task's `next` leads on.
    TaskRecord* take_all() noexcept {
        end_ = &first_;
        return std::exchange(first_, nullptr);
    }

private:
    TaskRecord* first_ = nullptr;
    TaskRecord** end_ = &first_;
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
        control(task).newer = nullptr;
        if (newest_)
            control(*newest_).newer = &task;
        newest_ = &task;
        ++size_;
    }

    void remove(TaskRecord& task) noexcept {
        TaskControl& own = control(task);
        (own.newer ? control(*own.newer).older : newest_) = own.older;
        if (own.older)
            control(*own.older).newer = own.newer;
        --size_;
    }

private:
    TaskRecord* newest_ = nullptr;
    std::size_t size_ = 0;
};

} // namespace trapline
