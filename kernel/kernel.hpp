// Kernel: answers the traps of tasks. A loop around resume(), a ready queue, a timer queue, and
// an engine for the time and I/O.
//
//     int result = run(answer_everybody()); // a kernel for one call
//
//     Kernel kernel; // one that keeps its tasks over several
//     kernel.run(set_up());
//     kernel.run(serve());
//     kernel.shutdown();
//
// A kernel belongs to the thread that made it. Tasks are served first in, first out; a turn looks
// at I/O and timers, then runs those that are ready, and what they make ready waits for the next.
#pragma once

#include <atomic>
#include <concepts>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "../traps/cancel.hpp"
#include "../traps/policy.hpp"
#include "../traps/task.hpp"
#include "../traps/thread.hpp"
#include "descriptors.hpp"
#include "engine.hpp"
#include "observer.hpp"
#include "options.hpp"
#include "tasks.hpp"
#include "timers.hpp"

namespace trapline {

class Follower;
class StopSignals;

namespace detail {
class OnlyRun;
} // namespace detail

class Kernel {
public:
    struct Counters {
        std::uint64_t traps = 0;   ///< answered
        std::uint64_t turns = 0;   ///< of the loop
        std::uint64_t spawned = 0; ///< tasks, main ones included
        Engine::Counters engine;
    };

    /// Throws std::system_error when the engine cannot be had, with the likely cause and remedy, or
    /// a file to record into; in a replay what replay.hpp says.
    explicit Kernel(KernelOptions options = {});
    Kernel(const Kernel&) = delete;
    Kernel& operator=(const Kernel&) = delete;
    /// Shuts down.
    ~Kernel();

    /// Runs until `main` ends; answers its result or throws its exception. Other tasks stay, and
    /// go on with the next run. Throws Deadlock when nothing can ever happen again, and
    /// std::logic_error from within a running task, from another thread and after shutdown().
    template <class T>
    T run(Coro<T> main) {
        const Task<T> task = detail::make_task(std::move(main), {.name = "main"}, "run");
        auto& cell = static_cast<detail::TaskCell<T>&>(*task.record());
        run_main(cell);
        if (cell.failure) {
            cell.failure_seen = true;
            std::rethrow_exception(cell.failure);
        }
        return cell.take_result();
    }

    /// The same with a callable that returns a coroutine; it lives as long as that runs.
    template <class F>
        requires detail::CoroFunction<std::decay_t<F>>
    auto run(F&& function) {
        return run(detail::call_and_keep<std::decay_t<F>>(std::forward<F>(function)));
    }

    // For a kernel that lives inside another loop, the host; see kernel/README.md. All of it
    // belongs to the kernel's thread, and throws std::logic_error on others and after shutdown().

    /// Runs `body` as a task of this kernel: from the next turn on, whoever runs that. From plain
    /// code, where co_await spawn() cannot be, and from within tasks.
    template <class T>
    Task<T> spawn(Coro<T> body, const SpawnOptions& options = {}) {
        Task<T> task = detail::make_task(std::move(body), options);
        adopt_from_outside(*task.record());
        return task;
    }

    /// The same with a callable that returns a coroutine; both live as long as the task runs.
    template <class F, class... Args>
        requires detail::CoroFunction<std::decay_t<F>, std::decay_t<Args>...>
    auto spawn(F&& function, Args&&... args) {
        return spawn(detail::call_and_keep<std::decay_t<F>, std::decay_t<Args>...>(
            std::forward<F>(function), std::forward<Args>(args)...));
    }
    template <class F>
        requires detail::CoroFunction<std::decay_t<F>>
    auto spawn(F&& function, const SpawnOptions& options) {
        return spawn(detail::call_and_keep<std::decay_t<F>>(std::forward<F>(function)), options);
    }

    /// Interrupts a task as Task::cancel() does, but cannot wait for its end: it sees that in a
    /// turn to come. Answers false if it has ended already. Harmless twice. A task of another
    /// kernel: std::system_error. In a replay this, and spawn(), also throw what run() does.
    bool cancel(const Task<void>& task);

    /// Runs a turn: looks at I/O, timers and threads, and if nobody is ready waits for them, at
    /// most `max_wait`; then runs those who are ready. What they start is under way when it
    /// returns, and what of that is over at once has its turn as well, a few times. Answers whether
    /// anything is left to come: false when no task is left, or (task_count() tells) all wait for
    /// what only the host can do, such as event.set(), which is no Deadlock here. What tasks throw
    /// stays theirs. Refused within a running kernel, as run() is. In virtual time the clock goes
    /// on by `max_wait` at most, and stands still without.
    bool run_once(Duration max_wait = {});

    /// A descriptor that is readable whenever run_once() has something to do: the host waits for it
    /// beside its own, and calls run_once() then. It may be readable for nothing, once. Ready tasks
    /// count, woken by the host's own code or spawned, too. The kernel's: not to be read or closed,
    /// and to be taken out of the host's loop before the kernel goes. Throws std::system_error: no
    /// descriptors left; operation_not_supported, the engine has none; device_or_resource_busy, a
    /// ring that defers its work has some in flight already, so ask before the first I/O.
    int pollable_fd();

    /// Cancels all tasks that are left, newest first, and waits until they have ended. One that
    /// can never go on is destroyed where it stands. Harmless twice.
    void shutdown();

    /// Tasks that have not ended.
    std::size_t task_count() const noexcept { return tasks_.size(); }

    Counters counters() const noexcept;

    /// The engine and what it found, in a line.
    std::string describe() const { return engine_->describe(); }

private:
    friend detail::OnlyRun;
    friend Follower;

    /// Whether a trap was answered on the spot, so that the task goes on within its turn.
    enum class Answer : bool { later, now };

    // Running (kernel.cpp).
    void run_main(TaskRecord& main);
    void check_may_run(const char* call) const;

    // Inside another loop (inside.cpp).
    class HostBusy;
    void adopt_from_outside(TaskRecord& task);
    void rest() noexcept;
    void tell_host() noexcept;
    void check_thread() const;
    void check_no_replay(const char* call);

    // Signals that cancel main (stop_signals.cpp).
    class SignalScope;
    enum class SignalWait : std::uint8_t { waiting, came, failed };
    SignalWait wait_for_signal() noexcept;
    void signal_came() noexcept;
    void end_signal_wait() noexcept;

    // The turn of the loop (dispatch.cpp).
    void run_until_ended(const TaskRecord& main);
    template <bool observed>
    [[gnu::always_inline]] void run_turns_until_ended(const TaskRecord& main);
    bool turn_once();
    [[noreturn]] void raise_deadlock();
    template <bool observed>
    [[gnu::always_inline]] bool turn();
    enum class World : std::uint8_t { someone_ready, nobody_ready, stuck };
    World look_at_world();
    bool stuck() noexcept;
    void interrupt_the_rest(bool once_more) noexcept;
    void serve_world(bool may_wait);
    bool take_completions(TimePoint deadline);
    void serve_threads_and_timers();
    bool turn_for_host(Duration max_wait);
    template <bool observed>
    [[gnu::always_inline]] void run_ready();
    template <bool observed>
    [[gnu::always_inline]] void run_task(TaskRecord& task);
    void observe_running(TaskRecord& task) noexcept;
    void shuffle_ready();

    // Tasks.
    void adopt(TaskRecord& task);
    void terminate(TaskRecord& task) noexcept;
    void abandon(TaskRecord& task) noexcept;
    [[gnu::always_inline]] void retire(TaskRecord& task) noexcept;
    void make_ready(TaskRecord& task, Reply reply) noexcept;
    void run_again(TaskRecord& task, Reply reply) noexcept;
    static bool is_parked(const TaskRecord& task) noexcept;
    static bool is_asleep(const TaskRecord& task) noexcept;
    static void wake_parked(void* task) noexcept;
    static void wake_from_thread(void* task) noexcept;
    void empty_inbox() noexcept;

    // Dispatch (dispatch.cpp).
    [[gnu::always_inline]] Answer answer(TaskRecord& task) noexcept;
    static detail::Policing* policing(const TaskRecord& task) noexcept;
    Answer answer_policed(TaskRecord& task, detail::Policing& policing) noexcept;
    Answer resume_policed(TaskRecord& task, detail::Policing& policing) noexcept;
    Answer reply_now(TaskRecord& task, Reply reply) noexcept;
    Answer spawn(TaskRecord& task, TaskRecord& child) noexcept;
    Answer sleep_until(TaskRecord& task, TimePoint time) noexcept;
    Answer join(TaskRecord& task, TaskRecord& joined) noexcept;
    Answer cancel(TaskRecord& task, const traps::Cancel& trap) noexcept;
    Answer park(TaskRecord& task, WaitQueue& queue) noexcept;
    Answer await_thread(TaskRecord& task, ThreadCompletion& completion) noexcept;
    static TimePoint time_of(void* kernel) noexcept;
    TimePoint read_clock() noexcept { return now_ = engine_->now(); }

    // Interrupts and time limits (interrupts.cpp).
    static bool may_take_interrupt(TaskRecord& task) noexcept;
    Answer reply_pending(TaskRecord& task) noexcept;
    Reply interrupt_reply(TaskRecord& task) noexcept;
    traps::Delivery send_cancel(TaskRecord& task) noexcept;
    void interrupt_if_blocked(TaskRecord& task) noexcept;
    Answer set_timeout(TaskRecord& task, const traps::SetTimeout& trap) noexcept;
    Answer unset_timeout(TaskRecord& task, TimePoint previous) noexcept;
    void limit_ran_out(TaskRecord& task, TimePoint deadline) noexcept;
    void timer_fired(TaskTimer& timer) noexcept;

    // I/O (io.inl.hpp, io.cpp).
    Answer start_io(TaskRecord& task, const traps::IoRequest& request) noexcept;
    Answer start_poll(TaskRecord& task, const traps::Poll& poll) noexcept;
    Answer start_closing(TaskRecord& task) noexcept;
    static int closing(const TaskRecord& task) noexcept;
    Answer launch(TaskRecord& task) noexcept;
    Answer launch_closing(TaskRecord& task) noexcept;
    Answer over_at_once(TaskRecord& task) noexcept;
    void close_now(Operation& closer) noexcept;
    void end_held(int fd) noexcept;
    void end_in_flight(int fd) noexcept;
    [[gnu::always_inline]] void complete(Operation& operation) noexcept;
    void leave_descriptors(Operation& operation) noexcept;
    void reply_io(TaskRecord& task) noexcept;
    void reply_interrupted_io(TaskRecord& task) noexcept;

    // Describing (describe.cpp).
    std::string describe_deadlock() const;
    std::string describe_waits() const;
    void log(std::string_view line) const;

    std::unique_ptr<Engine> engine_;
    Observer* observer_ = nullptr;
    ReadyQueue ready_;
    TaskTable tasks_;
    TimerQueue timers_;
    Descriptors descriptors_;

    /// What will come from outside: operations in flight, Closes that wait for such, and tasks
    /// that another thread will wake.
    std::uint64_t awaited_ = 0;
    TimePoint now_{};                               ///< when the clock was last read
    const KernelTime time_{&Kernel::time_of, this}; ///< for policies
    detail::HeldTraps held_;                        ///< by them
    std::uint64_t traps_ = 0;
    std::uint64_t turns_ = 0;
    Duration shutdown_patience_;
    TaskTimer patience_; ///< set while shutdown() waits
    bool shut_down_ = false;
    bool virtual_time_;
    bool pollable_ = false;          ///< a host has asked for the descriptor
    bool host_waits_ = false;        ///< for it, and nobody is ready
    bool told_host_records_ = false; ///< what no replay can follow

    std::unique_ptr<StopSignals> stop_;  ///< null without KernelOptions::cancel_on
    TaskRecord* main_to_stop_ = nullptr; ///< while a signal may cancel it
    bool only_run_ = false;              ///< shutdown() follows at once

    std::atomic<TaskRecord*> inbox_ = nullptr; ///< woken by other threads, the last one first
    std::atomic<unsigned> threads_inside_ = 0; ///< wakers that have not let go of the kernel yet

    std::unique_ptr<std::mt19937_64> shuffler_;
    std::vector<TaskRecord*> shuffled_;
    std::function<void(std::string_view)> log_;

    std::unique_ptr<Observer> recorder_; ///< null without KernelOptions::record
    std::unique_ptr<Follower> follower_; ///< null unless this is a replay: then it does all

    std::thread::id thread_ = std::this_thread::get_id();
};

// --- what nearly every trap passes through -------------------------------------------------

inline void Kernel::make_ready(TaskRecord& task, Reply reply) noexcept {
    task.state = TaskState::ready;
    run_again(task, reply);
}

/// For one that is ready all the time.
inline void Kernel::run_again(TaskRecord& task, Reply reply) noexcept {
    task.frame.reply = reply;
    ready_.push(task);
}

inline Kernel::Answer Kernel::reply_now(TaskRecord& task, Reply reply) noexcept {
    task.frame.reply = reply;
    return Answer::now;
}

inline bool Kernel::may_take_interrupt(TaskRecord& task) noexcept {
    return control(task).pending != Interrupt::none && !control(task).masked;
}

// --- run -----------------------------------------------------------------------------------

namespace detail {

/// A kernel for one run. What a signal has begun to stop, it stops in peace: to the shutdown's end.
class OnlyRun {
public:
    explicit OnlyRun(KernelOptions&& options) : kernel_(std::move(options)) {
        kernel_.only_run_ = true;
    }
    Kernel* operator->() noexcept { return &kernel_; }

private:
    Kernel kernel_;
};

} // namespace detail

/// Makes a kernel, runs `main` on it and shuts it down.
template <class T>
T run(Coro<T> main, KernelOptions options = {}) {
    detail::OnlyRun kernel{std::move(options)};
    return kernel->run(std::move(main));
}

template <class F>
    requires detail::CoroFunction<std::decay_t<F>>
auto run(F&& function, KernelOptions options = {}) {
    detail::OnlyRun kernel{std::move(options)};
    return kernel->run(std::forward<F>(function));
}

} // namespace trapline
