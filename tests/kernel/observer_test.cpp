#include <trapline/kernel/observer.hpp>

#include <string>

#include <doctest/doctest.h>

#include <trapline/kernel/kernel.hpp>

#include "manual_engine.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

Coro<void> work() {
    co_await now();
    co_await yield_now();
}

/// Writes down what it sees, a word a call.
class Noting : public Observer {
public:
    void created(const TaskRecord& task) noexcept override { note(task, "created"); }
    void running(const TaskRecord& task) noexcept override { note(task, "running"); }
    void trapped(const TaskRecord& task, const Trap& trap) noexcept override {
        note(task, traps::name_of(trap));
    }
    void replied(const TaskRecord& task, const Reply& reply) noexcept override {
        note(task, reply.interrupt == Interrupt::none ? "replied" : "interrupted");
    }
    void terminated(const TaskRecord& task) noexcept override { note(task, "terminated"); }

    std::string seen; ///< separated by commas

private:
    void note(const TaskRecord& task, const char* what) {
        seen += (seen.empty() ? "" : ", ") + task.name() + " " + what;
    }
};

} // namespace

TEST_CASE("a tracer writes down each trap of each task") {
    struct Tracer final : Observer {
        void trapped(const TaskRecord& task, const Trap& trap) noexcept override {
            text += task.name() + ": " + traps::name_of(trap) + "\n";
        }
        std::string text;
    };

    Tracer tracer;
    run(work(), {.observer = &tracer});
    CHECK(tracer.text == "main: Clock\nmain: Yield\n");
}

TEST_CASE("an observer sees every step in order") {
    Noting noting;
    KernelOptions options = manual();
    options.observer = &noting;
    const auto child = []() -> Coro<void> { co_await sleep(1s); };
    run(
        [&]() -> Coro<void> {
            Task<> task = co_await spawn(child(), {.name = "child"});
            co_await now();
            co_await task.join();
        },
        options);
    CHECK(noting.seen == "main created, main running, main Spawn, child created, main replied, "
                         "main Clock, main replied, main Join, child running, child Sleep, "
                         "child replied, child running, child terminated, main replied, "
                         "main running, main terminated");
}

TEST_CASE("an observer sees interrupts, and the end of tasks that are shut down") {
    Noting noting;
    KernelOptions options = manual();
    options.observer = &noting;
    {
        Kernel kernel{options};
        kernel.run([]() -> Coro<void> {
            co_await spawn([]() -> Coro<void> { co_await sleep(1h); }(), {.name = "left"});
            co_await yield_now();
        });
        noting.seen.clear();
    }
    CHECK(noting.seen == "left interrupted, left running, left terminated");
}
