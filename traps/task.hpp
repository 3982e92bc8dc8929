// Task<T>: a counted handle to a spawned task; spawn() makes one.
//
//     Task<int> t = co_await spawn(work(3), {.name = "worker"});
//     int result = co_await t.join();
//
// A task's result or exception is kept until its last handle is gone; the coroutine itself, with
// its arguments, is destroyed as soon as it has ended. A handle may be dropped at any time: the
// task runs on. If it then crashes, the crash is logged once. Handles belong to the thread of
// their kernel. Task<void> is also the handle of those who do not want the value: every Task<T>
// converts to it.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "awaitable.hpp"
#include "calls.hpp"
#include "coro.hpp"
#include "exceptions.hpp"
#include "outcome.hpp"
#include "task_cell.hpp"

namespace trapline {

struct SpawnOptions {
    std::string_view name{}; ///< copied; default "task-<id>"
    bool daemon = false;     ///< nobody is going to join it: a crash is logged when it happens
};

namespace detail {

/// Keeps the task's record alive: the last handle may go while somebody joins.
class JoinAwaiter : public ReplyAwaiter {
public:
    explicit JoinAwaiter(TaskRecord& record) noexcept : record_(record) { record.add_reference(); }
    JoinAwaiter(const JoinAwaiter& other) noexcept : JoinAwaiter(other.record_) {}
    JoinAwaiter& operator=(const JoinAwaiter&) = delete;
    ~JoinAwaiter() { record_.drop_reference(); }

    bool await_ready() noexcept { return ready(record_.state == TaskState::terminated); }

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        yield<traps::Join>(self, &record_);
    }

protected:
    TaskRecord& joined() {
        // An interrupt is thrown also if the task has ended since: it came before that.
        if (asked() && reply().failed()) [[unlikely]]
            raise_refused();
        return record_;
    }

private:
    [[noreturn]] void raise_refused() const;

    TaskRecord& record_;
};

} // namespace detail

template <class T = void>
class Task;

template <>
class Task<void> {
public:
    Task() noexcept = default;
    /// For spawn and kernels: takes over one reference.
    explicit Task(TaskRecord* record) noexcept : record_(record) {}
    Task(const Task& other) noexcept : record_(other.record_) {
        if (record_)
            record_->add_reference();
    }
    Task(Task&& other) noexcept : record_(std::exchange(other.record_, nullptr)) {}
    Task& operator=(Task other) noexcept {
        std::swap(record_, other.record_);
        return *this;
    }
    ~Task() {
        if (record_)
            record_->drop_reference();
    }

    explicit operator bool() const noexcept { return record_ != nullptr; }
    friend bool operator==(const Task& a, const Task& b) noexcept = default;

    // All that follows throws std::logic_error when the handle is empty.

    std::uint64_t id() const { return get().id; }
    std::string name() const { return get().name(); }
    TaskState state() const { return get().state; }
    bool terminated() const { return state() == TaskState::terminated; }
    /// It ended by an interrupt: TaskCancelled, or a time limit of its own that nobody caught.
    bool cancelled() const { return get().cancelled; }

    class [[nodiscard]] Join : public detail::JoinAwaiter {
    public:
        using JoinAwaiter::JoinAwaiter;
        void await_resume() {
            TaskRecord& record = joined();
            if (record.failure) [[unlikely]]
                detail::raise_task_error(record);
        }
    };
    class [[nodiscard]] Wait : public detail::JoinAwaiter {
    public:
        using JoinAwaiter::JoinAwaiter;
        void await_resume() { (void)joined(); }
    };

    /// Waits until the task has ended, and throws TaskError if that was by an exception. Blocks.
    /// Any number of tasks may join. Interrupting the joiner leaves the task alone. The task
    /// itself, and tasks of other kernels, are refused by std::system_error.
    Join join() const { return Join{get()}; }

    /// Waits until the task has ended, however it did. Blocks. Interrupted and refused like join().
    Wait wait() const { return Wait{get()}; }

    /// Throws what join() would throw, if the task has ended; else std::logic_error.
    void result() const {
        if (ended().failure)
            detail::raise_task_error(get());
    }

    /// Interrupts the task and waits until it has ended. Answers true if the interrupt reached it,
    /// false if it ended first. Harmless twice. The task itself, and tasks of other kernels:
    /// std::system_error. Blocks. If the one who waits is interrupted, the task is cancelled none
    /// the less.
    Coro<bool> cancel() const;

    /// For kernels and primitives.
    TaskRecord* record() const noexcept { return record_; }

protected:
    TaskRecord& get() const {
        if (!record_) [[unlikely]]
            detail::raise_empty_handle();
        return *record_;
    }

    TaskRecord& ended() const {
        if (!terminated()) [[unlikely]]
            throw std::logic_error("the task has not ended, so it has no result yet");
        return get();
    }

    TaskRecord* record_ = nullptr;
};

template <class T>
class Task : public Task<void> {
public:
    Task() noexcept = default;
    explicit Task(detail::TaskCell<T>* cell) noexcept : Task<void>(cell) {}

    class [[nodiscard]] Join : public detail::JoinAwaiter {
    public:
        Join(TaskRecord& record, bool temporary) noexcept
            : JoinAwaiter(record), temporary_(temporary) {}
        T await_resume() {
            TaskRecord& record = joined();
            const bool last = temporary_ && record.references <= 2; // the handle, and this
            return static_cast<detail::TaskCell<T>&>(record).hand_out(last);
        }

    private:
        bool temporary_; // the handle goes when the join is over
    };

    /// Waits until the task has ended; answers its result, or throws TaskError if that was by an
    /// exception. Blocks. Any number of tasks may join: each gets a copy of the result. It is
    /// moved out on a temporary handle that is the last one, and when T cannot be copied: then a
    /// second join throws std::logic_error. A struct that holds a container of what cannot be
    /// copied must declare its move constructor, so that the compiler knows it cannot be either.
    Join join() const& { return Join{get(), false}; }
    Join join() && { return Join{get(), true}; }

    /// What join() would answer or throw, if the task has ended; else std::logic_error. For those
    /// who are no task.
    T result() const { return static_cast<detail::TaskCell<T>&>(ended()).hand_out(false); }
};

namespace detail {

/// A task that no kernel runs yet.
template <class T, class Cell = TaskCell<T>>
Task<T> make_task(Coro<T>&& body, const SpawnOptions& options = {}, const char* use = "spawn") {
    if (!body) [[unlikely]]
        raise_empty_coro(use);
    Task<T> task{new Cell(std::move(body))};
    if (!options.name.empty()) [[unlikely]]
        task.record()->set_name(options.name);
    task.record()->daemon = options.daemon;
    return task;
}

template <class T>
class [[nodiscard]] SpawnAwaiter : public ReplyAwaiter {
public:
    explicit SpawnAwaiter(Task<T>&& task) noexcept : task_(std::move(task)) {}
    SpawnAwaiter(SpawnAwaiter&&) noexcept = default; // moves the task: it is spawned once

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) {
        if (!task_) [[unlikely]]
            raise_empty_handle();
        task_.record()->frame.inherit(*self.promise().frame);
        yield<traps::Spawn>(self, task_.record());
    }
    Task<T> await_resume() {
        SureTrap<traps::Spawn>::answer(reply());
        return std::move(task_);
    }

private:
    Task<T> task_;
};

} // namespace detail

/// Runs `body` as a task of its own, beside this one, which goes on at once. Never blocks.
/// Throws std::bad_alloc when there is no memory for it, std::logic_error if it is empty.
template <class T>
detail::SpawnAwaiter<T> spawn(Coro<T> body, const SpawnOptions& options = {}) {
    return detail::SpawnAwaiter<T>{detail::make_task(std::move(body), options)};
}

/// Runs `function(args...)`, which returns a coroutine, as a task of its own. The callable and
/// its arguments are moved into the task and live as long as it runs: so a lambda may capture.
template <class F, class... Args>
    requires detail::CoroFunction<std::decay_t<F>, std::decay_t<Args>...>
auto spawn(F&& function, Args&&... args) {
    return spawn(detail::call_and_keep<std::decay_t<F>, std::decay_t<Args>...>(
        std::forward<F>(function), std::forward<Args>(args)...));
}

/// The same for a callable without arguments, with options.
template <class F>
    requires detail::CoroFunction<std::decay_t<F>>
auto spawn(F&& function, const SpawnOptions& options) {
    return spawn(detail::call_and_keep<std::decay_t<F>>(std::forward<F>(function)), options);
}

namespace detail {

class [[nodiscard]] CurrentTask : public TrapAwaiter<traps::Self> {
public:
    CurrentTask() noexcept : TrapAwaiter<traps::Self>(traps::Self{}) {}
    Task<void> await_resume() {
        TaskRecord* record = SureTrap<traps::Self>::answer(reply());
        record->add_reference();
        return Task<void>{record};
    }
};

} // namespace detail

/// A handle to the asking task. Never blocks.
inline detail::CurrentTask current_task() noexcept { return {}; }

} // namespace trapline
