// Internal. What a kernel keeps for each task, and its lists of tasks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "../traps/task.hpp"
#include "engine.hpp"
#include "timers.hpp"

namespace trapline {

class Kernel;

/// A timer that belongs to a task, or, without one, to the kernel's shutdown.
struct TaskTimer : Timer {
    explicit TaskTimer(TaskRecord* owner = nullptr) noexcept : task(owner) {}

    TaskRecord* task;
};

/// The kernel's part of a task, in the room that the task's record has for it.
struct TaskControl {
    TaskControl(Kernel& owner, TaskRecord& task) noexcept : kernel(&owner), limit(&task) {}
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

/// Tasks that are ready and do not run, first in, first out.
class ReadyQueue {
public:
    bool empty() const noexcept { return first_ == nullptr; }

    void push(TaskRecord& task) noexcept {
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

    /// What was ready when a turn began. Each task's `next` leads to the one behind it.
    struct Batch {
        TaskRecord* first;
        TaskRecord** end;
        bool is_last(TaskRecord& task) const noexcept { return &control(task).next == end; }
    };
    Batch take_all() noexcept {
        return {std::exchange(first_, nullptr), std::exchange(end_, &first_)};
    }

private:
    TaskRecord* first_ = nullptr;
    TaskRecord** end_ = &first_;
};

/// All tasks that have not ended, in the order in which they came. It numbers them.
class TaskTable {
public:
    bool empty() const noexcept { return newest_ == nullptr; }
    std::size_t size() const noexcept { return static_cast<std::size_t>(last_id_ - removed_); }
    std::uint64_t last_id() const noexcept { return last_id_; }
    TaskRecord* newest() const noexcept { return newest_; }
    static TaskRecord* older(TaskRecord& task) noexcept { return control(task).older; }

    void insert(TaskRecord& task) noexcept {
        task.id = ++last_id_;
        control(task).older = newest_;
        control(task).newer = nullptr;
        if (newest_)
            control(*newest_).newer = &task;
        newest_ = &task;
    }

    void remove(TaskRecord& task) noexcept {
        TaskControl& own = control(task);
        (own.newer ? control(*own.newer).older : newest_) = own.older;
        if (own.older)
            control(*own.older).newer = own.newer;
        ++removed_;
    }

private:
    TaskRecord* newest_ = nullptr;
    std::uint64_t last_id_ = 0; ///< so many have come
    std::uint64_t removed_ = 0; ///< so many are gone
};

} // namespace trapline
