#include <trapline/traps/task_record.hpp>

#include <deque>
#include <string>

#include <doctest/doctest.h>

#include <trapline/traps/task.hpp>

using namespace trapline;

namespace {

/// As little as can be called a kernel: its tasks spawn others and take turns.
class LeastKernel {
public:
    void adopt(TaskRecord& task) {
        task.add_reference();
        make_ready(task);
    }

    void run_all() {
        while (!ready_.empty()) {
            TaskRecord& task = *ready_.front();
            ready_.pop_front();
            run(task);
        }
    }

private:
    void run(TaskRecord& task) {
        task.frame.resume();
        if (!task.frame.ended())
            return answer(task);
        task.finish();
        task.cancelled = task.failure && is_interrupt(task.failure);
        task.state = TaskState::terminated;
        task.joiners.wake_all();
        task.drop_reference(); // taken for traps::Spawn
    }

    void answer(TaskRecord& task) {
        if (const auto* spawn = std::get_if<traps::Spawn>(&task.frame.trap))
            adopt(*spawn->task);
        task.frame.reply = {};
        make_ready(task);
    }

    void make_ready(TaskRecord& task) {
        task.state = TaskState::ready;
        ready_.push_back(&task);
    }

    std::deque<TaskRecord*> ready_;
};

Coro<void> takes_turns(std::string& log, std::string name) {
    for (int turn = 1; turn < 3; ++turn) {
        log += name + std::to_string(turn) + " ";
        co_await yield_now();
    }
}

Coro<void> spawns(std::string& log) {
    co_await spawn(takes_turns(log, "a"));
    co_await takes_turns(log, "b");
}

} // namespace

TEST_CASE("a kernel runs a task from trap to trap, keeps its outcome, and wakes who joins it") {
    std::string log;
    Task<> task = detail::make_task(spawns(log));
    WaitNode joiner;
    joiner.waker = {[](void* text) noexcept { *static_cast<std::string*>(text) += "joined"; },
                    &log};
    task.record()->joiners.append(joiner);
    LeastKernel kernel;
    kernel.adopt(*task.record());
    kernel.run_all();
    CHECK(log == "a1 b1 a2 b2 joined");
    CHECK(task.terminated());
    CHECK_FALSE(task.cancelled());
    CHECK(task.record()->references == 1); // this handle
}

TEST_CASE("a task that ended by an interrupt was cancelled, one that failed was not") {
    const auto body = [](bool interrupted) -> Coro<void> {
        co_await yield_now();
        if (interrupted)
            throw TaskCancelled{};
        throw std::runtime_error("broken");
    };
    for (const bool interrupted : {true, false}) {
        Task<> task = detail::make_task(body(interrupted));
        LeastKernel kernel;
        kernel.adopt(*task.record());
        kernel.run_all();
        CHECK(task.cancelled() == interrupted);
        CHECK(message_of(task.record()->failure) == (interrupted ? "task cancelled" : "broken"));
        task.record()->failure_seen = true;
    }
}
