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

#include "../traps/reply.hpp"
#include "../traps/task.hpp"
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
};

} // namespace trapline
