// Observer: sees each step of each task. Costs one predictable branch where nobody observes.
//
//     struct Tracer final : Observer {
//         void trapped(const TaskRecord& task, const Trap& trap) noexcept override {
//             text += task.name() + ": " + traps::name_of(trap) + "\n";
//         }
//         std::string text;
//     };
//
//     Tracer tracer;
//     run(work(), {.observer = &tracer});
//
// The calls come from within the kernel: look, note, count, but do not throw, and do not spawn or
// wake anything. A trap that is answered at once shows as trapped and replied in a row.
#pragma once

#include <string_view>

#include "../traps/reply.hpp"
#include "../traps/task.hpp"
#include "../traps/time.hpp"
#include "../traps/trap.hpp"

namespace trapline {

class Observer {
public:
    virtual ~Observer() = default;

    /// The kernel took the task over.
    virtual void created(const TaskRecord&) noexcept {}
    /// It is about to run, with the reply that `replied` has just shown (the first time: none).
    virtual void running(const TaskRecord&) noexcept {}
    /// It yielded a trap.
    virtual void trapped(const TaskRecord&, const Trap&) noexcept {}
    /// It gets the answer to its trap.
    virtual void replied(const TaskRecord&, const Reply&) noexcept {}
    /// It has ended; its coroutine is destroyed.
    virtual void terminated(const TaskRecord&) noexcept {}

    /// Somebody cancels the task; the interrupt waits until it can take it.
    virtual void cancelled(const TaskRecord&) noexcept {}
    /// What it was blocked in has been ended by an interrupt: it is ready. I/O shows as replied.
    virtual void interrupted(const TaskRecord&) noexcept {}

    /// The kernel has looked at the world, and runs now those that are ready.
    virtual void turn(TimePoint) noexcept {}
    /// Nobody is ready: it is going to wait for the world.
    virtual void waiting(TimePoint) noexcept {}
    /// run() is going to throw Deadlock with this text.
    virtual void deadlock(std::string_view) noexcept {}
};

} // namespace trapline
