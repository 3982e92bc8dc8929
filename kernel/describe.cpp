// What a kernel says of itself: deadlocks, and its few messages.
#include "follower.hpp"
#include "kernel.hpp"
#include "trap_note.hpp"

#include <ranges>

namespace trapline {

namespace {

/// A frame that has ended is gone, and with it what its last trap refers to.
std::string describe_wait(const TaskRecord& task, bool has_begun) {
    std::string text = "  task " + std::to_string(task.id) + " '" + task.name() + "' ";
    if (task.frame.ended())
        return text + "has ended";
    if (!has_begun)
        return text + "has not begun";
    const Trap& trap = task.frame.trap;
    text += "waits in " + name_of_wait(trap);
    if (const auto* join = std::get_if<traps::Join>(&trap))
        text += " of task " + std::to_string(join->task->id) + " '" + join->task->name() + "'";
    const char* preposition = " at ";
    for (const std::source_location& at : task.frame.where()) {
        text += preposition + describe(at);
        preposition = ", awaited at ";
    }
    return text;
}

} // namespace

std::string Kernel::describe_deadlock() const {
    return "deadlock: main has not ended, and nothing can ever happen again" + describe_waits();
}

/// A line a task, the oldest first, each begun by its line feed.
std::string Kernel::describe_waits() const {
    std::vector<TaskRecord*> newest_first;
    for (TaskRecord* task = tasks_.newest(); task; task = TaskTable::older(*task))
        newest_first.push_back(task);
    std::string text;
    // Those that nobody replays have all begun: who has not is ready, and that is no deadlock.
    for (TaskRecord* task : newest_first | std::views::reverse)
        text += "\n" + describe_wait(*task, !follower_ || control(*task).started);
    return text;
}

} // namespace trapline
