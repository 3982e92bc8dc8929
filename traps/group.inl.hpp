// The inner parts of group.hpp: a group's view of a child, its awaiters, and its templates.
#pragma once

#include "group.hpp"

namespace trapline {

namespace detail {

/// A child as its group sees it. It hears of the child's end by a node among those who join.
struct GroupChild {
    WaitNode end;
    TaskGroup* group = nullptr; ///< until it is taken
    TaskRecord* task;           ///< counted as long as it is the group's
    GroupChild* older;
    GroupChild* newer;
    GroupChild* ended_before;
    GroupChild* ended_after;
    bool (*is_something)(TaskRecord&) noexcept; ///< its result; only if it has one
    ChildState state = ChildState::running;
    bool daemon;
    bool dismissed = false; ///< the group has cancelled it

    GroupChild(TaskRecord& record, bool (*judge)(TaskRecord&) noexcept) noexcept
        : task(&record), is_something(judge) {}
};

/// Whether a task's result is an object in the sense of WaitFor::object. What is no number and
/// can be asked, like optionals and pointers, is asked.
template <class T>
bool is_something(TaskRecord& task) noexcept {
    if constexpr (std::is_void_v<T>) {
        return false;
    } else if constexpr (std::is_constructible_v<bool, const T&> &&
                         !std::is_arithmetic_v<std::remove_cvref_t<T>> &&
                         !std::is_enum_v<std::remove_cvref_t<T>> && !std::is_reference_v<T>) {
        auto& result = static_cast<TaskCell<T>&>(task).result;
        return result.has_value() && static_cast<bool>(result.get());
    } else {
        return true;
    }
}

/// The trap frame of the coroutine that awaits it. Never blocks, asks nobody.
class OwnFrame {
public:
    using trapline_awaitable = void;
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        frame_ = self.promise().frame;
        return false;
    }
    const TrapFrame* await_resume() const noexcept { return frame_; }

private:
    const TrapFrame* frame_ = nullptr;
};

/// Parks the group's own task until what it waits for is reached.
class [[nodiscard]] GroupWait : public ReplyAwaiter {
public:
    using Until = TaskGroup::Until;

    GroupWait(TaskGroup& group, Until until) noexcept : group_(group), until_(until) {}

    bool await_ready() noexcept { return ready(group_.reached(until_)); }

    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        foreign_ = self.promise().frame != group_.owner_;
        if (foreign_)
            return false;
        group_.until_ = until_;
        yield<traps::Park>(self, &group_.waiting_);
        return true;
    }

    void await_resume() {
        if (foreign_) [[unlikely]]
            raise_foreign();
        if (!asked())
            return;
        group_.until_ = Until::woken;
        const Reply& answer = reply();
        if (answer.failed()) [[unlikely]]
            raise_unanswered(trap_index<traps::Park>, answer.error());
    }

    [[noreturn]] static void raise_foreign();

protected:
    TaskGroup& group() const noexcept { return group_; }

private:
    TaskGroup& group_;
    Until until_;
    bool foreign_ = false;
};

class [[nodiscard]] NextDone : public GroupWait {
public:
    explicit NextDone(TaskGroup& group) noexcept : GroupWait(group, Until::next) {}

    Task<> await_resume() {
        GroupWait::await_resume();
        return group().first_ended_ ? group().take(*group().first_ended_) : Task<>{};
    }
};

template <class T>
class [[nodiscard]] NextResult : public GroupWait {
public:
    explicit NextResult(TaskGroup& group) noexcept : GroupWait(group, Until::next) {}

    T await_resume() {
        GroupWait::await_resume();
        GroupChild* child = group().first_ended_;
        if (!child) [[unlikely]]
            TaskGroup::raise_no_result("next_result");
        TaskCell<T>& cell = TaskGroup::cell_of<T>(*child->task);
        const Task<> task = group().take(*child);
        if (cell.failure) [[unlikely]]
            raise(cell);
        return cell.hand_out(cell.references == 1);
    }

private:
    [[noreturn]] void raise(TaskRecord& task) {
        try {
            raise_task_error(task);
        } catch (const TaskError&) {
            group().raised_ = std::current_exception();
            throw;
        }
    }
};

/// A task with its place in a group beside it: one allocation for both.
template <class T>
struct GroupCell final : TaskCell<T> {
    explicit GroupCell(Coro<T>&& coro) noexcept
        : TaskCell<T>(std::move(coro), TaskCell<T>::template type_as<GroupCell>),
          child(*this, &is_something<T>) {}

    GroupChild child;
};

template <class T>
class [[nodiscard]] GroupSpawn : public SpawnAwaiter<T> {
public:
    GroupSpawn(TaskGroup& group, Coro<T>&& body, const SpawnOptions& options)
        : SpawnAwaiter<T>(make_task<T, GroupCell<T>>(std::move(body), options)), group_(group) {}

    Task<T> await_resume() {
        Task<T> task = SpawnAwaiter<T>::await_resume();
        group_.add(static_cast<GroupCell<T>&>(*task.record()).child);
        return task;
    }

private:
    TaskGroup& group_;
};

} // namespace detail

/// The task has been spawned.
inline void TaskGroup::add(detail::GroupChild& child) noexcept {
    TaskRecord& task = *child.task;
    task.add_reference();
    child.group = this;
    child.daemon = task.daemon;
    child.older = newest_;
    child.newer = nullptr;
    (newest_ ? newest_->newer : oldest_) = &child;
    newest_ = &child;
    ++(child.daemon ? daemons_ : running_);
    child.end.waker = {&TaskGroup::child_ended, &child};
    if (task.state == TaskState::terminated) [[unlikely]] // with a loop that runs it at once
        return child_ended(&child);
    task.joiners.append(child.end);
    if (until_ == Until::over) [[unlikely]] // the group is being cancelled: this one, too
        waiting_.wake();
}

template <class T>
detail::GroupSpawn<T> TaskGroup::spawn(Coro<T> body, const SpawnOptions& options) {
    return {*this, std::move(body), options};
}

template <class F, class... Args>
    requires detail::CoroFunction<std::decay_t<F>, std::decay_t<Args>...>
auto TaskGroup::spawn(F&& function, Args&&... args) {
    return spawn(detail::call_and_keep<std::decay_t<F>, std::decay_t<Args>...>(
        std::forward<F>(function), std::forward<Args>(args)...));
}

template <class F>
    requires detail::CoroFunction<std::decay_t<F>>
auto TaskGroup::spawn(F&& function, const SpawnOptions& options) {
    return spawn(detail::call_and_keep<std::decay_t<F>>(std::forward<F>(function)), options);
}

inline detail::NextDone TaskGroup::next_done() noexcept { return detail::NextDone{*this}; }

template <class T>
detail::NextResult<T> TaskGroup::next_result() noexcept {
    return detail::NextResult<T>{*this};
}

/// The task with its result, which must be a T.
template <class T>
detail::TaskCell<T>& TaskGroup::cell_of(TaskRecord& task) {
    if (!task.holds<T>()) [[unlikely]]
        raise_other_type(task);
    return static_cast<detail::TaskCell<T>&>(task);
}

template <class T>
    requires std::is_object_v<T>
Coro<std::vector<T>> TaskGroup::results() {
    co_await join();
    for (const detail::GroupChild* child = oldest_; child; child = child->newer) {
        if (cell_of<T>(*child->task).failure)
            detail::raise_task_error(*child->task);
    }
    std::vector<T> results;
    results.reserve(ended_);
    while (detail::GroupChild* child = oldest_) {
        const Task<> task = take(*child);
        auto& cell = cell_of<T>(*task.record());
        results.push_back(cell.hand_out(cell.references == 1));
    }
    co_return results;
}

template <class T>
Coro<T> TaskGroup::result() {
    co_await join();
    detail::GroupChild* child = winner();
    if (!child)
        raise_no_result("result");
    detail::TaskCell<T>& cell = cell_of<T>(*child->task);
    const Task<> task = take(*child);
    co_return cell.hand_out(cell.references == 1);
}

template <class Body>
    requires std::invocable<Body&, TaskGroup&>
Coro<detail::group_result_t<Body>> task_group(WaitFor wait_for, Body body) {
    TaskGroup group{wait_for};
    group.owner_ = co_await detail::OwnFrame{};
    // Made now: once there are children, there must be memory to wait for them.
    Coro<void> leaving = group.leave();
    detail::Outcome<detail::group_result_t<Body>> outcome;
    co_await detail::Attempt{std::invoke(body, group), outcome};
    if (outcome.has_failure())
        group.failure_ = outcome.failure();
    co_await std::move(leaving);
    co_return outcome.take();
}

} // namespace trapline
