// A loop for tests that need tasks but no kernel: virtual time, first in, first out, no I/O. It
// shows at the same time that tasks are driven through traps alone. What it does not know it
// answers with -ENOSYS. Nothing in it allocates but setting a sleeper.
#pragma once

#include <algorithm>
#include <cerrno>
#include <map>
#include <new>
#include <stdexcept>

#include <trapline/traps/routine.hpp>
#include <trapline/traps/task.hpp>

namespace trapline {

class HandLoop {
public:
    HandLoop() = default;
    HandLoop(const HandLoop&) = delete;
    HandLoop& operator=(const HandLoop&) = delete;

    template <class T>
    T run(Coro<T> main) {
        const Task<T> task = detail::make_task(std::move(main), {.name = "main"});
        auto& cell = static_cast<detail::TaskCell<T>&>(*task.record());
        adopt(cell);
        while (cell.state != TaskState::terminated)
            step();
        while (first_ || !sleepers_.empty()) // what main has left behind
            step();
        if (cell.failure) {
            cell.failure_seen = true;
            std::rethrow_exception(cell.failure);
        }
        return cell.take_result();
    }

    /// Interrupts a task that is parked, as a kernel does.
    static void interrupt(TaskRecord& task) {
        control(task).node.unlink();
        task.interrupted = true;
        task.frame.reply = {.interrupt = Interrupt::cancelled};
        control(task).loop->push(task);
    }

    TimePoint time{};

private:
    struct Control {
        explicit Control(HandLoop* owner) : loop(owner) {}
        HandLoop* loop;
        TaskRecord* next = nullptr;
        WaitNode node;
    };
    static_assert(sizeof(Control) <= TaskRecord::room_bytes);

    static Control& control(TaskRecord& task) {
        return *std::launder(static_cast<Control*>(task.room()));
    }

    void adopt(TaskRecord& task) {
        ::new (task.room()) Control{this};
        task.id = ++last_id_;
        task.add_reference();
        push(task);
    }

    void push(TaskRecord& task) noexcept {
        task.state = TaskState::ready;
        control(task).next = nullptr;
        (last_ ? control(*last_).next : first_) = &task;
        last_ = &task;
    }

    void step() {
        if (!first_) {
            if (sleepers_.empty())
                throw std::logic_error("HandLoop: nothing can ever happen");
            const auto sleeper = sleepers_.begin();
            time = std::max(time, sleeper->first);
            sleeper->second->frame.reply = Reply::time(time);
            push(*sleeper->second);
            sleepers_.erase(sleeper);
        }
        TaskRecord& task = *first_;
        first_ = control(task).next;
        if (!first_)
            last_ = nullptr;
        do {
            task.frame.resume();
            if (task.frame.ended())
                return end(task);
        } while (answer(task));
    }

    void end(TaskRecord& task) {
        task.finish();
        task.cancelled = task.failure && is_interrupt(task.failure);
        task.state = TaskState::terminated;
        task.joiners.wake_all();
        task.drop_reference();
    }

    /// Whether the task goes on at once.
    bool answer(TaskRecord& task) {
        Reply& reply = task.frame.reply;
        reply = {};
        const Trap& trap = task.frame.trap;
        if (std::holds_alternative<traps::Yield>(trap)) {
            push(task);
            return false;
        }
        if (const auto* sleep = std::get_if<traps::Sleep>(&trap)) {
            task.state = TaskState::blocked;
            sleepers_.emplace(time + sleep->duration, &task);
            return false;
        }
        if (const auto* join = std::get_if<traps::Join>(&trap))
            return wait(task, *join->task);
        if (const auto* park = std::get_if<traps::Park>(&trap))
            return wait(task, *park->queue);
        if (const auto* spawned = std::get_if<traps::Spawn>(&trap))
            adopt(*spawned->task);
        else if (std::holds_alternative<traps::Clock>(trap))
            reply = Reply::time(time);
        else if (std::holds_alternative<traps::Self>(trap))
            reply = {reinterpret_cast<std::intptr_t>(&task)};
        else
            reply = {-ENOSYS};
        return true;
    }

    bool wait(TaskRecord& task, TaskRecord& joined) {
        return joined.state == TaskState::terminated || wait(task, joined.joiners);
    }

    bool wait(TaskRecord& task, WaitQueue& queue) {
        task.state = TaskState::blocked;
        WaitNode& node = control(task).node;
        node.waker = {[](void* context) noexcept {
                          auto& woken = *static_cast<TaskRecord*>(context);
                          control(woken).loop->push(woken);
                      },
                      &task};
        node.task = &task;
        queue.append(node);
        return false;
    }

    TaskRecord* first_ = nullptr;
    TaskRecord* last_ = nullptr;
    std::uint64_t last_id_ = 0;
    std::multimap<TimePoint, TaskRecord*> sleepers_;
};

/// Drives `body` by hand: sleeps pass at once, in virtual time. What else it asks: -ENOSYS.
template <class T>
T drive(Coro<T> body) {
    Routine<T> routine{std::move(body)};
    TimePoint time{};
    for (const Trap* trap = routine.start(); trap;) {
        Reply reply{-ENOSYS};
        if (const auto* sleep = std::get_if<traps::Sleep>(trap))
            reply = Reply::time(time += sleep->duration);
        else if (std::holds_alternative<traps::Clock>(*trap))
            reply = Reply::time(time);
        else if (std::holds_alternative<traps::Yield>(*trap))
            reply = {};
        trap = routine.send(reply);
    }
    return routine.result();
}

} // namespace trapline
