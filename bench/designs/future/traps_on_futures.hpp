// A kernel made of futures: each trap becomes a future of the loop in loop.hpp, and its task goes
// on in the future's callback. Coroutines that were compiled for any other kernel run on it as they
// are, and see the same: I/O, time limits, cancellation, policies, wake-ups, other threads.
//
//     FutureKernel kernel{make_uring_engine({})};
//     int result = kernel.run(work());
//
// It exists to compare designs, and to show that a kernel is a loop around TrapFrame::resume().
// It has no observers, no recordings and no patience: who goes on after a cancellation may take as
// long as it likes.
#pragma once

#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include <trapline/kernel/descriptors.hpp>
#include <trapline/traps/policy.hpp>
#include <trapline/traps/task.hpp>

#include "future.hpp"

namespace future_design {

class FutureKernel {
public:
    /// On io_uring. Throws std::system_error where the system refuses it.
    FutureKernel();
    explicit FutureKernel(std::unique_ptr<Engine> engine) noexcept;
    FutureKernel(const FutureKernel&) = delete;
    FutureKernel& operator=(const FutureKernel&) = delete;
    /// Shuts down.
    ~FutureKernel();

    /// Runs until `main` ends; answers its result or throws its exception. Throws
    /// std::runtime_error when nothing is left that could end it.
    template <class T>
    T run(trapline::Coro<T> main) {
        const trapline::Task<T> task =
            trapline::detail::make_task(std::move(main), {.name = "main"});
        auto& cell = static_cast<trapline::detail::TaskCell<T>&>(*task.record());
        run_main(cell);
        if (cell.failure) {
            cell.failure_seen = true;
            std::rethrow_exception(cell.failure);
        }
        return cell.take_result();
    }

    /// Cancels all tasks that are left, newest first, and waits until they have ended. One that can
    /// never go on, parked with interrupts held back, is destroyed; the loop's exception handler is
    /// told.
    void shutdown();

    Loop& loop() noexcept { return loop_; }
    std::uint64_t traps() const noexcept { return traps_; }

private:
    struct Running;
    using Reply = trapline::Reply;

    void run_main(trapline::TaskRecord& main);
    void adopt(trapline::TaskRecord& record);
    // Where they would throw, for want of memory, a task would be lost: then the process ends.
    void step(Running& task) noexcept;
    void terminate(Running& task) noexcept;
    void abandon(Running& task) noexcept;
    void retire(Running& task) noexcept;

    /// Has the trap in the task's frame answered: true if the reply is there now.
    bool ask(Running& task);
    bool go_on(Running& task, trapline::detail::Policing::Step step);
    bool ask_policies(Running& task);
    bool reply_came(Running& task);
    void end_held(int fd);
    /// Starts what the task's trap asks. Answers the reply if that is there at once.
    std::optional<Reply> answer(Running& task);
    void wait_for(Running& task);
    std::optional<Reply> sleep_until(Running& task, TimePoint when);
    std::optional<Reply> park(Running& task, trapline::WaitQueue& queue);
    std::optional<Reply> join(Running& task, trapline::TaskRecord& joined);
    std::optional<Reply> await_thread(Running& task, trapline::ThreadCompletion& completion);

    std::optional<Reply> start_io(Running& task, const trapline::traps::IoRequest& request);
    std::optional<Reply> start_closing(Running& task, int fd);
    void launch(Running& task);
    void over(Running& task, const Completion& completion) noexcept;
    void end_in_flight(int fd);
    void end_operation(Operation& operation);

    std::int64_t cancel(trapline::TaskRecord& record);
    void interrupt(Running& task);
    Reply interrupt_reply(Running& task);
    Reply set_timeout(Running& task, TimePoint deadline);
    void unset_timeout(Running& task, TimePoint previous);
    void limit_ran_out(Running& task, TimePoint deadline) noexcept;

    static Running& running(trapline::TaskRecord& record) noexcept;
    static trapline::detail::Policing* policing(const Running& task) noexcept;
    bool owns(const trapline::TaskRecord& record) const noexcept;
    static trapline::TimePoint time_of(void* kernel) noexcept;

    Loop loop_;
    const trapline::KernelTime time_{&FutureKernel::time_of, this};
    trapline::Descriptors descriptors_;
    trapline::detail::HeldTraps held_;                        ///< by policies
    std::map<std::uint64_t, std::unique_ptr<Running>> tasks_; ///< by number
    std::uint64_t last_id_ = 0;
    std::uint64_t traps_ = 0;
    bool shutting_down_ = false;
};

} // namespace future_design
