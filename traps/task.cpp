#include "task.hpp"

#include <cerrno>
#include <cstdio>

namespace trapline {

const char* name_of(TaskState state) noexcept {
    switch (state) {
    case TaskState::created: return "created";
    case TaskState::ready: return "ready";
    case TaskState::blocked: return "blocked";
    case TaskState::terminated: return "terminated";
    }
    return "?";
}

std::string TaskRecord::name() const {
    return given_name ? *given_name : "task-" + std::to_string(id);
}

void TaskRecord::set_name(std::string_view name) {
    given_name = std::make_unique<const std::string>(name);
}

void TaskRecord::log_failure() noexcept {
    failure_seen = true;
    try {
        std::string text = "trapline: task '" + name() +
                           "' crashed and nobody can join it: " + message_of(failure) + "\n";
        if (frame.extras) {
            for (const std::source_location& at : frame.extras->failure_began)
                text += "    at " + describe(at) + "\n";
        }
        std::fputs(text.c_str(), stderr);
    } catch (const std::bad_alloc&) {
        std::fputs("trapline: a task crashed, and there is no memory to say more\n", stderr);
    }
}

namespace detail {

void raise_empty_handle() { throw std::logic_error("an empty Task handle was used"); }

void raise_task_error(TaskRecord& record) {
    record.failure_seen = true;
    throw TaskError("task '" + record.name() +
                        "' ended by an exception: " + message_of(record.failure),
                    record.failure);
}

void JoinAwaiter::raise_refused() const {
    const int error = reply().error();
    if (error == ENOSYS)
        raise_unanswered(trap_index<traps::Join>, ENOSYS);
    throw std::system_error(error_of(error), "join of task '" + record_.name() + "'");
}

} // namespace detail

Coro<bool> Task<void>::cancel() const {
    return [](Task<void> task) -> Coro<bool> {
        if (task.terminated())
            co_return false;
        const auto delivery = co_await traps::Cancel{task.record()};
        if (!delivery && delivery.error() == std::errc::function_not_supported)
            detail::raise_unanswered(trap_index<traps::Cancel>, ENOSYS);
        if (!delivery)
            throw std::system_error(delivery.error(), "cancel of task '" + task.name() + "'");
        co_await task.wait();
        const bool reached = task.record()->interrupted;
        co_return reached;
    }(*this);
}

} // namespace trapline
