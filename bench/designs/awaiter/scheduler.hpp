// The scheduler of the awaiter design: the chains that can go on, the timers, and an engine for
// I/O.
//
//     Scheduler scheduler{trapline::make_uring_engine({})};
//     int n = scheduler.run(length(fd));
//
// One thread's. What waits lies in the awaiters; the scheduler only links them.
#pragma once

#include <coroutine>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <utility>

#include <trapline/kernel/engine.hpp>
#include <trapline/kernel/timers.hpp>

#include "task.hpp"
#include "waiter.hpp"

namespace awaiter_design {

using trapline::Duration;
using trapline::TimePoint;

namespace detail {

/// The outermost coroutine of a chain that the scheduler runs, until that has ended and nobody asks
/// for its result any more.
class Root : public Chain {
public:
    explicit Root(std::coroutine_handle<> coroutine) noexcept
        : Chain(&Root::has_ended), coroutine_(coroutine) {}

    static void* operator new(std::size_t bytes) {
        return trapline::detail::FramePool::allocate(bytes);
    }
    static void operator delete(void* memory, std::size_t bytes) noexcept {
        trapline::detail::FramePool::deallocate(memory, bytes);
    }

    bool ended() const noexcept { return ended_; }
    Waiter* joiner = nullptr; ///< who waits for the end

    void drop_handle() noexcept {
        has_handle_ = false;
        if (ended_)
            destroy();
    }

private:
    friend Scheduler;
    struct Start final : Waiter {
        using Waiter::belongs_to;
        void stop() noexcept override {}
    };

    static void has_ended(Chain& chain) noexcept;
    void destroy() noexcept {
        coroutine_.destroy();
        delete this;
    }

    std::coroutine_handle<> coroutine_;
    Start start_;
    Root* previous_ = nullptr; ///< among those that have not ended
    Root* next_ = nullptr;
    bool ended_ = false;
    bool has_handle_ = true;
};

} // namespace detail

template <class T>
class JoinHandle;

class Scheduler {
public:
    explicit Scheduler(std::unique_ptr<trapline::Engine> engine) noexcept;
    Scheduler(const Scheduler&) = delete;
    Scheduler& operator=(const Scheduler&) = delete;

    /// Answers its result or throws its exception. Chains that have not ended then are stopped.
    /// Throws std::runtime_error when nothing is left that could end it.
    template <class T>
    T run(Task<T> main);

    /// Begins in its turn. Ends on its own if the handle goes.
    template <class T>
    JoinHandle<T> spawn(Task<T> task);

    TimePoint now() noexcept { return engine_->now(); }
    const trapline::Engine& engine() const noexcept { return *engine_; }

    // For awaiters.
    void ready(Waiter& waiter) noexcept { ready_.push(waiter); }
    void set(Alarm& alarm, TimePoint when) noexcept { timers_.set(alarm, when); }
    void drop(Alarm& alarm) noexcept { timers_.drop(alarm); }
    /// An operation in flight is a Waiter's whom its completion resumes. False: it is over already.
    bool start(trapline::Operation& operation, Waiter& waiter) noexcept {
        operation.task = reinterpret_cast<trapline::TaskRecord*>(&waiter);
        if (engine_->start(operation) == trapline::Engine::Started::done)
            return false;
        ++in_flight_;
        return true;
    }
    void cancel(trapline::Operation& operation) noexcept { engine_->cancel(operation); }
    void forget(int fd) noexcept { engine_->forget(fd); }

private:
    friend detail::Root;
    detail::Root& begin(std::coroutine_handle<> coroutine, Chain*& chain);
    void run_until_ended(const detail::Root& main);
    bool turn();
    void serve_engine();
    static Waiter& waiter_of(const trapline::Operation& operation) noexcept;
    void stop_the_rest();
    void leave(detail::Root& root) noexcept;

    std::unique_ptr<trapline::Engine> engine_;
    detail::Root* newest_ = nullptr;
    WaitList ready_;
    trapline::TimerQueue timers_;
    std::uint64_t in_flight_ = 0;
};

inline void Waiter::wake() noexcept {
    chain_->waiting = nullptr;
    chain_->scheduler->ready(*this);
}

/// A chain that runs by itself. To drop this leaves the chain alone. Move-only.
template <class T = void>
class [[nodiscard]] JoinHandle {
public:
    JoinHandle(JoinHandle&& other) noexcept
        : root_(std::exchange(other.root_, nullptr)), task_(other.task_) {}
    JoinHandle& operator=(JoinHandle&& other) noexcept {
        std::swap(root_, other.root_);
        std::swap(task_, other.task_);
        return *this;
    }
    ~JoinHandle() {
        if (root_)
            root_->drop_handle();
    }

    void request_stop() const noexcept { root_->request_stop(); }

    /// Waits for the end; answers the result or throws the exception. Once.
    auto join() const noexcept { return Join{*root_, task_}; }

private:
    friend class Scheduler;
    using TaskHandle = Task<T>::Handle;

    class Join final : public Waiter {
    public:
        Join(detail::Root& root, TaskHandle task) noexcept : root_(root), task_(task) {}
        bool await_ready() const noexcept { return root_.ended(); }
        template <class P>
        bool await_suspend(std::coroutine_handle<P> self) noexcept {
            if (!begin_wait(self))
                return false;
            root_.joiner = this;
            return true;
        }
        T await_resume() const {
            throw_if_stopped();
            return task_.promise().take();
        }
        void stop() noexcept override {
            root_.joiner = nullptr;
            wake_stopped();
        }

    private:
        detail::Root& root_;
        TaskHandle task_;
    };

    JoinHandle(detail::Root& root, TaskHandle task) noexcept : root_(&root), task_(task) {}

    detail::Root* root_;
    TaskHandle task_;
};

template <class T>
JoinHandle<T> Scheduler::spawn(Task<T> task) {
    const auto handle = task.release();
    return JoinHandle<T>{begin(handle, handle.promise().chain), handle};
}

template <class T>
T Scheduler::run(Task<T> main) {
    const JoinHandle<T> running = spawn(std::move(main));
    struct Rest {
        Scheduler& scheduler;
        ~Rest() { scheduler.stop_the_rest(); }
    } const rest{*this};
    run_until_ended(*running.root_);
    return running.task_.promise().take();
}

// --- what a coroutine awaits ---------------------------------------------------------------

/// Lets the others run. Throws Stopped.
class [[nodiscard]] Yield final : public Waiter {
public:
    bool await_ready() const noexcept { return false; }
    template <class P>
    bool await_suspend(std::coroutine_handle<P> self) noexcept {
        if (!begin_wait(self))
            return false;
        wake();
        return true;
    }
    void await_resume() const { throw_if_stopped(); }
    void stop() noexcept override {}
};
inline Yield yield() noexcept { return {}; }

/// The scheduler that runs the coroutine. Does not wait.
class [[nodiscard]] FindScheduler {
public:
    bool await_ready() const noexcept { return false; }
    template <class P>
    bool await_suspend(std::coroutine_handle<P> self) noexcept {
        found_ = self.promise().chain->scheduler;
        return false;
    }
    Scheduler& await_resume() const noexcept { return *found_; }

private:
    Scheduler* found_;
};
inline FindScheduler scheduler() noexcept { return {}; }

/// Waits. Throws Stopped.
class [[nodiscard]] Sleep : public Waiter, Alarm {
public:
    explicit Sleep(Duration delay) noexcept : Alarm(&Sleep::fired), delay_(delay) {}

    bool await_ready() const noexcept { return false; }
    template <class P>
    bool await_suspend(std::coroutine_handle<P> self) noexcept {
        if (!begin_wait(self))
            return false;
        scheduler().set(*this, trapline::later(scheduler().now(), delay_));
        return true;
    }
    void await_resume() const { throw_if_stopped(); }
    void stop() noexcept override {
        scheduler().drop(*this);
        wake_stopped();
    }

private:
    static void fired(Alarm& alarm) noexcept { static_cast<Sleep&>(alarm).wake(); }

    Duration delay_;
};
inline Sleep sleep(Duration delay) noexcept { return Sleep{delay}; }

} // namespace awaiter_design
