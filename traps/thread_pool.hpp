// ThreadPool, run_in_thread: functions that block or compute for long run on other threads, and the
// task that asked waits for the result while other tasks go on.
//
//     std::string name = co_await run_in_thread([] { return std::string("a slow look-up"); });
//
//     ThreadPool pool{2}; // at most two of them at a time
//     const auto power = [](int base, int n) { return n == 0 ? 1 : base * base; };
//     int square = co_await pool.run(power, 7, 2);
//
// A thread cannot be interrupted. When the task is, a function that has not begun never runs; one
// that has goes on to its end, and its result or exception is dropped. So pass by value whatever
// the task may leave behind, or hold interrupts back (disable_cancellation) and refer to it.
//
// Functions begin in the order in which they were asked for. Tasks of any number of kernels may
// share a pool. A function that waits for another one of its own pool may wait for ever. After
// fork() the child has none of the threads.
//
// The destructor blocks its thread. If functions of the pool come back to this kernel (through a
// Portal, a UniversalQueue), a task of it must not wait for them so: await close() before.
#pragma once

#include <atomic>
#include <concepts>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "coro.hpp"
#include "outcome.hpp"
#include "thread.hpp"
#include "trap_call.hpp"

namespace trapline {

namespace detail {

class ThreadJob;
template <class R>
class ThreadRun;

/// Throws std::logic_error: what ThreadPool::run answered is awaited a second time.
[[noreturn]] void raise_run_twice();

/// Throws std::logic_error: a policy answered for a function whose result nobody can make up.
[[noreturn]] void raise_not_run();

/// What std::thread would call: `function` and its arguments, both moved.
template <class F, class... Args>
using thread_result_t = std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>;

} // namespace detail

class ThreadPool {
public:
    /// Threads are started when there is something to do for them, and stay.
    /// @param size how many at most; 0: std::invalid_argument
    explicit ThreadPool(std::size_t size);
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;
    /// Blocks the calling thread until all functions that tasks wait for have been run, and those
    /// that run have ended.
    ~ThreadPool();

    /// Runs `function(args...)` on a thread of the pool; they are moved there, and destroyed there
    /// when it has returned. Answers its result, or throws its exception, or std::system_error if
    /// no thread can be had at all. Throws std::bad_alloc, and what copying the arguments throws,
    /// at the call; std::logic_error when awaited twice. Blocks the task, not its kernel.
    /// Interrupted: see above. Refused by a policy it never runs; where one answers it instead, the
    /// result is R() if there is such, else std::logic_error.
    template <class F, class... Args>
        requires std::invocable<std::decay_t<F>, std::decay_t<Args>...>
    auto run(F&& function, Args&&... args)
        -> detail::ThreadRun<detail::thread_result_t<F, Args...>>;

    /// What the destructor waits for, without blocking the kernel: functions that tasks wait for
    /// are run, those that run end, and the threads with them. Nothing more is taken: run() throws
    /// std::logic_error. Blocks. Interrupted: the pool goes on ending, and close() can be awaited
    /// again. Harmless twice; two at the same time: std::system_error.
    Coro<void> close();

    /// How many threads it has at most.
    std::size_t size() const noexcept { return size_; }

private:
    template <class R>
    friend class detail::ThreadRun;

    friend detail::ThreadJob;

    void submit(detail::ThreadJob& job) noexcept;
    void withdraw(detail::ThreadJob& job) noexcept;
    void start_thread();
    void work() noexcept;
    void unlink(detail::ThreadJob& job) noexcept;

    const std::size_t size_;
    std::mutex mutex_; // for all that follows
    std::condition_variable work_;
    detail::ThreadJob* first_ = nullptr; ///< those that have not begun
    detail::ThreadJob* last_ = nullptr;
    std::size_t queued_ = 0;
    std::size_t idle_ = 0; ///< threads that wait for work
    bool ending_ = false;
    std::size_t alive_ = 0; ///< threads that have not ended
    std::vector<std::thread> threads_;
    ThreadCompletion ended_; ///< completed by the last of them
};

/// How many functions of run_in_thread run at the same time, in the whole process; more wait.
inline constexpr std::size_t run_in_thread_max = 64;

namespace detail {

// The one pool behind run_in_thread. Threads belong to the process, and a bound on their number
// that every kernel had for itself would be none; nor does a coroutine know its kernel, or traps/
// any. So this is the one object of the library that nobody owns. It is made by the first call, and
// never destroyed: a function that hangs must not keep the process from its end, which cuts off
// whatever runs then. Who wants his own bound, or an orderly end, has a ThreadPool.
ThreadPool& shared_thread_pool();

} // namespace detail

/// Runs `function(args...)` on another thread, one of at most run_in_thread_max; otherwise the same
/// as ThreadPool::run.
template <class F, class... Args>
    requires std::invocable<std::decay_t<F>, std::decay_t<Args>...>
auto run_in_thread(F&& function, Args&&... args) {
    return detail::shared_thread_pool().run(std::forward<F>(function), std::forward<Args>(args)...);
}

namespace detail {

/// A function on its way through a pool. The task that waits owns it together with the pool.
class ThreadJob {
public:
    ThreadJob(const ThreadJob&) = delete;
    ThreadJob& operator=(const ThreadJob&) = delete;

    virtual void work() noexcept = 0;
    virtual void fail(std::exception_ptr failure) noexcept = 0;

    void share() noexcept { owners_.store(2, std::memory_order_relaxed); }
    void drop() noexcept {
        if (owners_.fetch_sub(1, std::memory_order_acq_rel) == 1)
            delete this;
    }

    /// Awaited, it is submitted: not before a policy has let the task wait for a thread.
    ThreadCompletion done{{&ThreadJob::submit, this}};
    bool submitted = false;

    // The pool's, under its lock.
    bool queued = false;
    ThreadJob* previous;
    ThreadJob* next;

protected:
    explicit ThreadJob(ThreadPool& pool) noexcept : pool_(pool) {}
    virtual ~ThreadJob() = default;

private:
    static void submit(void* job) noexcept;

    ThreadPool& pool_;
    std::atomic<int> owners_ = 1;
};

template <class R>
class ThreadJobOf : public ThreadJob {
public:
    void fail(std::exception_ptr failure) noexcept override {
        outcome.set_failure(std::move(failure));
    }

    Outcome<R> outcome;

protected:
    using ThreadJob::ThreadJob;
};

template <class R, class F, class... Args>
class ThreadCall final : public ThreadJobOf<R> {
public:
    template <class... From>
    explicit ThreadCall(ThreadPool& pool, From&&... from)
        : ThreadJobOf<R>(pool), call_(std::in_place, std::forward<From>(from)...) {}

    void work() noexcept override {
        try {
            const auto invoke = [](F& function, Args&... args) -> R {
                return std::invoke(std::move(function), std::move(args)...);
            };
            if constexpr (std::is_void_v<R>) {
                std::apply(invoke, *call_);
                this->outcome.set_value();
            } else if constexpr (std::is_lvalue_reference_v<R>) {
                this->outcome.set_value(std::addressof(std::apply(invoke, *call_)));
            } else {
                this->outcome.set_value(std::apply(invoke, *call_));
            }
        } catch (...) {
            this->outcome.set_failure(std::current_exception());
        }
        call_.reset(); // before the task goes on, and with it what the function may refer to
    }

private:
    std::optional<std::tuple<F, Args...>> call_;
};

template <class R>
class [[nodiscard]] ThreadRun : public ReplyAwaiter {
public:
    ThreadRun(ThreadPool& pool, ThreadJobOf<R>* job) noexcept : pool_(&pool), job_(job) {}
    ThreadRun(ThreadRun&& other) noexcept
        : pool_(other.pool_), job_(std::exchange(other.job_, nullptr)) {}
    ThreadRun& operator=(ThreadRun&&) = delete;
    ~ThreadRun() {
        if (!job_)
            return;
        if (job_->submitted && !job_->done.completed()) // the pool need not live longer than that
            pool_->withdraw(*job_);
        job_->drop();
    }

    bool await_ready() {
        if (std::exchange(asked_, true)) [[unlikely]]
            raise_run_twice();
        return false;
    }

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        this->template yield<traps::AwaitThread>(self, &job_->done);
    }

    R await_resume() {
        if (reply().failed()) [[unlikely]]
            raise_unanswered(trap_index<traps::AwaitThread>, reply().error());
        if (!job_->done.completed()) [[unlikely]] // answered by a policy
            return instead();
        // Nothing of it is left to the thread, which may be the one who destroys the job.
        if (job_->outcome.has_value()) [[likely]]
            return job_->outcome.move_out();
        Outcome<R> failed;
        job_->outcome.move_to(failed);
        return failed.take();
    }

    /// For policies: says what it does.
    ThreadRun&& changing_files() && noexcept {
        job_->done.changes_files = true;
        return std::move(*this);
    }

private:
    static R instead() {
        if constexpr (std::is_void_v<R> || std::is_default_constructible_v<R>)
            return R();
        else
            raise_not_run();
    }

    ThreadPool* pool_;
    ThreadJobOf<R>* job_;
    bool asked_ = false;
};

} // namespace detail

template <class F, class... Args>
    requires std::invocable<std::decay_t<F>, std::decay_t<Args>...>
auto ThreadPool::run(F&& function, Args&&... args)
    -> detail::ThreadRun<detail::thread_result_t<F, Args...>> {
    using R = detail::thread_result_t<F, Args...>;
    using Call = detail::ThreadCall<R, std::decay_t<F>, std::decay_t<Args>...>;
    return {*this, new Call(*this, std::forward<F>(function), std::forward<Args>(args)...)};
}

} // namespace trapline
