// Internal. A task as a handle keeps it: its record, with the coroutine and the result of one type.
#pragma once

#include <concepts>
#include <cstddef>
#include <exception>
#include <stdexcept>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "coro.hpp"
#include "frame_pool.hpp"
#include "outcome.hpp"
#include "task_record.hpp"

namespace trapline::detail {

/// A task together with its coroutine and, later, its result.
template <class T>
struct TaskCell : TaskRecord {
    /// A type derived from this one, to keep more beside the task, gives its own `type_as`.
    explicit TaskCell(Coro<T>&& coro, const TaskType& type = type_as<TaskCell>) noexcept
        : TaskRecord(type), body(std::move(coro)) {
        frame.innermost = body.handle();
        body.handle().promise().frame = &frame;
    }

    static void* operator new(std::size_t bytes) { return FramePool::allocate(bytes); }
    static void operator delete(void* memory, std::size_t bytes) noexcept {
        FramePool::deallocate(memory, bytes);
    }

    Coro<T> body;
    struct Nothing {};
    [[no_unique_address]] std::conditional_t<std::is_void_v<T>, Nothing, Outcome<T>>
        result; ///< of one that has ended; an exception is the record's

    /// Moves the result out. Only if it ended without an exception.
    T take_result() {
        if constexpr (!std::is_void_v<T>)
            return result.take();
    }

    /// The result for one who joins: a copy, but moved out for the last one and where T cannot be
    /// copied. Throws TaskError if it ended by an exception. Only if it has ended.
    T hand_out(bool last);

private:
    static void finish(TaskRecord& record) noexcept {
        auto& cell = static_cast<TaskCell&>(record);
        Outcome<T>& outcome = cell.body.handle().promise().outcome;
        if (outcome.has_failure()) [[unlikely]] {
            cell.failure = outcome.failure();
            return cell.body.reset();
        }
        if (cell.frame.extras) [[unlikely]]
            cell.frame.extras = nullptr;
        if constexpr (!std::is_void_v<T>) {
            try {
                outcome.move_to(cell.result);
            } catch (...) { // T's move constructor
                cell.failure = std::current_exception();
            }
        }
        cell.body.reset();
    }
    static void abandon(TaskRecord& record) noexcept {
        static_cast<TaskCell&>(record).body.reset();
    }
    template <class Cell>
    static void destroy(TaskRecord& record) noexcept {
        delete &static_cast<Cell&>(record);
    }

protected:
    template <class Cell>
    static constexpr TaskType type_as{&finish, &abandon, &destroy<Cell>,
                                      &typeid(std::type_identity<T>)};
};

// There are many: five cache lines each.
static_assert(sizeof(void*) != 8 || FramePool::rounded(sizeof(TaskCell<void>)) < 5 * 64);

/// Throws std::logic_error: somebody uses a handle without a task.
[[noreturn]] void raise_empty_handle();

/// T can be copied. A container says so of itself even if what it holds cannot be.
template <class T>
inline constexpr bool copyable = std::is_copy_constructible_v<T>;
template <class T>
    requires requires { typename T::value_type; } && (!std::same_as<typename T::value_type, T>)
inline constexpr bool copyable<T> =
    std::is_copy_constructible_v<T> && copyable<typename T::value_type>;

/// Throws TaskError about `record`, which ended by an exception.
[[noreturn]] void raise_task_error(TaskRecord& record);

template <class T>
T TaskCell<T>::hand_out(bool last) {
    if (failure) [[unlikely]]
        raise_task_error(*this);
    if constexpr (!std::is_void_v<T>) {
        if (!result.has_value()) [[unlikely]]
            throw std::logic_error("the task's result was moved out by an earlier join");
        if constexpr (std::is_lvalue_reference_v<T> || copyable<T>) {
            if (!last || std::is_lvalue_reference_v<T>)
                return result.copy();
        }
        return result.move_out();
    }
}

} // namespace trapline::detail
