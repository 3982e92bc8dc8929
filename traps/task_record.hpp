// TaskRecord: a task as its handles and its kernel share it. User code sees it through Task<T>
// alone; whoever writes a kernel finds in here what to run and where to keep his own things.
//
//     void run(TaskRecord& task) {
//         task.frame.resume();
//         if (!task.frame.ended())
//             return answer(task);
//         task.finish();
//         task.cancelled = task.failure && is_interrupt(task.failure);
//         task.state = TaskState::terminated;
//         task.joiners.wake_all();
//         task.drop_reference(); // taken for traps::Spawn
//     }
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>

#include "frame.hpp"
#include "wait_queue.hpp"

namespace trapline {

/// As in Linux, who runs and who could are not told apart: it is who asks that runs.
enum class TaskState : std::uint8_t {
    created,    ///< not spawned yet
    ready,      ///< it runs, or its turn will come
    blocked,    ///< its trap is not answered yet
    terminated, ///< its coroutine has ended
};

const char* name_of(TaskState state) noexcept;

struct TaskRecord;

namespace detail {

/// What is done to a task's coroutine and result by one who does not know their types.
struct TaskType {
    void (*finish)(TaskRecord&) noexcept;
    void (*abandon)(TaskRecord&) noexcept;
    void (*destroy)(TaskRecord&) noexcept;
    const std::type_info* result; ///< std::type_identity of its result
};

} // namespace detail

struct TaskRecord {
    /// Room that the kernel in charge furnishes for its own ends, empty before Spawn and after
    /// the task has ended.
    static constexpr std::size_t room_bytes = 144;

    TrapFrame frame;
    TaskState state = TaskState::created;
    bool daemon : 1 = false;
    bool cancelled : 1 = false;         ///< ended by an interrupt
    bool interrupted : 1 = false;       ///< a cancellation was delivered to it
    bool interrupt_pending : 1 = false; ///< one waits for its next interruptible trap
    bool failure_seen : 1 = false;      ///< somebody was told of its exception
    std::uint32_t references = 1;

private:
    // Here, so that what a kernel needs for every trap lies beside the frame: with a hundred tasks
    // a Yield takes 5.5 instead of 7.3 ns (bench/micro/tasks.cpp).
    alignas(void*) std::byte room_[room_bytes];
    const detail::TaskType* type_;

public:
    WaitQueue joiners; ///< who waits for its end
    std::exception_ptr failure;
    std::unique_ptr<const std::string> given_name;
    std::uint64_t id = 0; ///< given by the kernel, from 1 upwards

    TaskRecord(const TaskRecord&) = delete;
    TaskRecord& operator=(const TaskRecord&) = delete;

    std::string name() const;
    void set_name(std::string_view name);
    void* room() noexcept { return room_; }

    /// For kernels: the coroutine has ended, keep its outcome and destroy it. The task's own
    /// destructors run in here.
    void finish() noexcept { type_->finish(*this); }

    /// For kernels: destroys a suspended coroutine that cannot go on.
    void abandon() noexcept { type_->abandon(*this); }

    /// Logs an exception that nobody was told of, once. To be cancelled is none.
    void report_unseen_failure() noexcept {
        if (crashed() && !failure_seen) [[unlikely]]
            log_failure();
    }

    /// It ended by an exception, other than because somebody cancelled it.
    bool crashed() const noexcept { return failure && !(cancelled && interrupted); }

    /// Whether its result is a T.
    template <class T>
    bool holds() const noexcept {
        return *type_->result == typeid(std::type_identity<T>);
    }

    void add_reference() noexcept { ++references; }
    void drop_reference() noexcept {
        if (--references == 0)
            last_reference_gone();
    }

protected:
    explicit TaskRecord(const detail::TaskType& type) noexcept : type_(&type) {}
    ~TaskRecord() = default;

private:
    void last_reference_gone() noexcept {
        report_unseen_failure();
        type_->destroy(*this);
    }
    void log_failure() noexcept;
};

} // namespace trapline
