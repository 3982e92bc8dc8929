#include "group.hpp"

#include "trap.hpp"

namespace trapline {

using detail::ChildState;
using detail::GroupChild;
using detail::GroupWait;

namespace {

/// What a TaskError holds; null for another exception, and for none.
std::exception_ptr cause_of(const std::exception_ptr& failure) {
    if (!failure)
        return nullptr;
    try {
        std::rethrow_exception(failure);
    } catch (const TaskError& error) {
        return error.cause();
    } catch (...) {
        return nullptr;
    }
}

} // namespace

// --- children come and end -----------------------------------------------------------------

/// Only the end of its kernel destroys a group that has children: a task that could never go on.
TaskGroup::~TaskGroup() {
    while (newest_)
        forget(*newest_);
}

void TaskGroup::child_ended(void* context) noexcept {
    auto& child = *static_cast<GroupChild*>(context);
    TaskGroup& group = *child.group;
    TaskRecord& task = *child.task;
    --(child.daemon ? group.daemons_ : group.running_);
    if (task.crashed())
        child.state = ChildState::failed;
    else if (task.failure)
        child.state = ChildState::cancelled;
    else if (group.wait_for_ == WaitFor::object && !child.is_something(task))
        child.state = ChildState::nothing;
    else
        child.state = ChildState::something;
    if (child.daemon || (child.dismissed && child.state == ChildState::cancelled)) {
        group.forget(child);
    } else {
        ++group.counts_[static_cast<std::size_t>(child.state)];
        // When the body has ended nobody takes results any more.
        if (group.leaving_ && child.state != ChildState::failed)
            group.forget(child);
        else
            group.append_ended(child);
    }
    if (group.until_ != Until::woken && group.reached(group.until_))
        group.waiting_.wake();
}

void TaskGroup::append_ended(GroupChild& child) noexcept {
    child.ended_before = last_ended_;
    child.ended_after = nullptr;
    (last_ended_ ? last_ended_->ended_after : first_ended_) = &child;
    last_ended_ = &child;
    ++ended_;
}

void TaskGroup::forget(GroupChild& child) noexcept {
    (child.older ? child.older->newer : oldest_) = child.newer;
    (child.newer ? child.newer->older : newest_) = child.older;
    child.end.unlink();
    child.task->drop_reference(); // the child may be gone with it
}

/// One that has ended.
Task<> TaskGroup::take(GroupChild& child) noexcept {
    (child.ended_before ? child.ended_before->ended_after : first_ended_) = child.ended_after;
    (child.ended_after ? child.ended_after->ended_before : last_ended_) = child.ended_before;
    --ended_;
    --counts_[static_cast<std::size_t>(child.state)];
    child.task->add_reference();
    Task<> task{child.task};
    forget(child);
    return task;
}

// --- waiting -------------------------------------------------------------------------------

bool TaskGroup::reached(Until until) const noexcept {
    switch (until) {
    case Until::woken: return true;
    case Until::next: return first_ended_ || running_ == 0;
    case Until::over: return running() == 0;
    case Until::settled: break;
    }
    if (running_ == 0 || failed())
        return true;
    switch (wait_for_) {
    case WaitFor::all: return false;
    case WaitFor::any:
    case WaitFor::object: return count(ChildState::something) > 0;
    case WaitFor::none: return true;
    }
    __builtin_unreachable(); // it knows them all
}

GroupChild* TaskGroup::winner() const noexcept {
    GroupChild* result = nullptr;
    for (GroupChild* child = first_ended_; child; child = child->ended_after) {
        if (child->state == ChildState::something)
            return child;
        if (child->state == ChildState::nothing && !result)
            result = child;
    }
    return result;
}

Task<> TaskGroup::completed() const {
    const GroupChild* child = winner();
    if (!child)
        return {};
    child->task->add_reference();
    return Task<>{child->task};
}

Coro<void> TaskGroup::join() {
    while (!reached(Until::settled))
        co_await GroupWait{*this, Until::settled};
    co_await cancel_remaining();
    if (failed())
        throw take_failures();
}

Coro<void> TaskGroup::cancel_remaining() {
    if (co_await detail::OwnFrame{} != owner_)
        GroupWait::raise_foreign();
    while (running() > 0) {
        // Nobody else runs between these traps: none of them gives up the turn.
        for (GroupChild* child = newest_; child; child = child->older) {
            if (child->state != ChildState::running || std::exchange(child->dismissed, true))
                continue;
            const auto delivery = co_await traps::Cancel{child->task};
            if (!delivery)
                detail::raise_unanswered(trap_index<traps::Cancel>, delivery.error().value());
        }
        co_await GroupWait{*this, Until::over};
    }
}

// --- the end -------------------------------------------------------------------------------

/// The body has ended, by `failure_` if that is set.
Coro<void> TaskGroup::leave() {
    Coro<void> cancelling = cancel_remaining(); // made beforehand, see task_group
    leaving_ = true;
    while (!failure_ && !reached(Until::settled)) {
        detail::Outcome<void> settled;
        co_await detail::Attempt{GroupWait{*this, Until::settled}, settled};
        if (settled.has_failure())
            failure_ = settled.failure();
    }
    if (running() > 0) {
        const bool masked = co_await SureTrap{traps::Mask{true}};
        co_await std::move(cancelling);
        co_await SureTrap{traps::Mask{masked}};
    }
    if (failure_ && (is_interrupt(failure_) || (failure_ != raised_ && !failed())))
        std::rethrow_exception(failure_);
    if (failure_ || failed())
        throw take_failures();
}

bool TaskGroup::is_of_child(const std::exception_ptr& failure) const noexcept {
    for (const GroupChild* child = first_ended_; child; child = child->ended_after) {
        if (child->state == ChildState::failed && child->task->failure == failure)
            return true;
    }
    return false;
}

/// What failed and was not taken: the body, and children, which are taken now.
TaskGroupError TaskGroup::take_failures() {
    std::vector<std::exception_ptr> errors;
    std::string text;
    const std::exception_ptr cause = cause_of(failure_);
    if (failure_ && failure_ == raised_) {
        errors.push_back(cause);
        text = ": " + message_of(failure_);
    } else if (failure_ && !(cause && is_of_child(cause))) { // a joined child's comes below
        errors.push_back(failure_);
        text = ": the body ended by an exception: " + message_of(failure_);
    }
    for (GroupChild* child = first_ended_; child;) {
        GroupChild& ended = *std::exchange(child, child->ended_after);
        if (ended.state != ChildState::failed)
            continue;
        const Task<> task = take(ended);
        task.record()->failure_seen = true;
        errors.push_back(task.record()->failure);
        text += (errors.size() == 1 ? ": task '" : "; task '") + task.name() +
                "' ended by an exception: " + message_of(errors.back());
    }
    const std::string count = std::to_string(errors.size());
    return {count + (errors.size() == 1 ? " failure" : " failures") + " in a task group" + text,
            std::move(errors)};
}

void TaskGroup::raise_no_result(const char* what) {
    throw std::logic_error(std::string(what) + " of a task group that has no child with a result");
}

void TaskGroup::raise_other_type(const TaskRecord& task) {
    throw std::logic_error("the result of task '" + task.name() +
                           "' is of another type than what is asked of its group");
}

namespace detail {

void GroupWait::raise_foreign() {
    throw std::logic_error("a task group is waited for by a task that did not open it");
}

} // namespace detail

} // namespace trapline
