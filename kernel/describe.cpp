// What a kernel says of itself: deadlocks, and its few messages.
#include "kernel.hpp"

#include <ranges>

namespace trapline {

namespace {

std::string describe_wait(const TaskRecord& task) {
    std::string text = "  task " + std::to_string(task.id) + " '" + task.name() + "' waits in ";
    const Trap& trap = task.frame.trap;
    text += traps::name_of(trap);
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
    std::vector<const TaskRecord*> newest_first;
    for (TaskRecord* task = tasks_.newest(); task; task = TaskTable::older(*task))
        newest_first.push_back(task);
    std::string text;
    for (const TaskRecord* task : newest_first | std::views::reverse)
        text += "\n" + describe_wait(*task);
    return text;
}

} // namespace trapline
