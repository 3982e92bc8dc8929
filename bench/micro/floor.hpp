// The floor: what the same work costs in a loop written by hand for it alone. A coroutine leaves
// its one hard-wired request in its task; the loop does it and leaves a number as the answer. No
// variant, no errors, no results, no cancellation, no observer: nobody would ship it, and nothing
// that keeps a promise can be much faster.
#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <queue>
#include <utility>
#include <vector>

#include <trapline/traps/frame_pool.hpp>

namespace bench {

struct FloorRecord;

/// A coroutine of the floor. Its outermost promise is its task.
class FloorCoro {
public:
    struct promise_type {
        std::coroutine_handle<> innermost; ///< null when it has ended
        std::int64_t request = 0;          ///< what it asks, of the one thing that its loop does
        std::int64_t answer = 0;           ///< what came of it
        promise_type* next_ready = nullptr;
        promise_type* joiner = nullptr;
        FloorRecord* record = nullptr;
        promise_type* task = this;
        promise_type* caller = nullptr;
        std::coroutine_handle<> caller_handle;

        static void* operator new(std::size_t bytes) {
            return trapline::detail::FramePool::allocate(bytes);
        }
        static void operator delete(void* memory, std::size_t bytes) noexcept {
            trapline::detail::FramePool::deallocate(memory, bytes);
        }

        struct Final {
            bool await_ready() const noexcept { return false; }
            std::coroutine_handle<> await_suspend(
                std::coroutine_handle<promise_type> self) const noexcept {
                promise_type& promise = self.promise();
                if (promise.caller)
                    return promise.caller_handle;
                promise.innermost = nullptr;
                return std::noop_coroutine();
            }
            void await_resume() const noexcept {}
        };

        FloorCoro get_return_object() noexcept {
            return FloorCoro{std::coroutine_handle<promise_type>::from_promise(*this)};
        }
        std::suspend_always initial_suspend() const noexcept { return {}; }
        Final final_suspend() const noexcept { return {}; }
        void return_void() const noexcept {}
        void unhandled_exception() const noexcept { std::terminate(); }
    };
    using Handle = std::coroutine_handle<promise_type>;

    explicit FloorCoro(Handle handle) noexcept : handle_(handle) {}
    FloorCoro(FloorCoro&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    FloorCoro& operator=(FloorCoro&&) = delete;
    ~FloorCoro() {
        if (handle_)
            handle_.destroy();
    }

    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(Handle caller) noexcept {
        promise_type& promise = handle_.promise();
        promise.caller = &caller.promise();
        promise.caller_handle = caller;
        promise.task = caller.promise().task;
        return handle_;
    }
    void await_resume() const noexcept {}

    Handle handle() const noexcept { return handle_; }
    Handle release() noexcept { return std::exchange(handle_, nullptr); }

private:
    Handle handle_;
};

using FloorTask = FloorCoro::promise_type;

/// The one request: leaves a number, and gives control to the loop.
struct FloorTrap {
    std::int64_t request = 0;
    FloorTask* task = nullptr;
    bool await_ready() const noexcept { return false; }
    void await_suspend(FloorCoro::Handle self) noexcept {
        task = self.promise().task;
        task->innermost = self;
        task->request = request;
    }
    std::int64_t await_resume() const noexcept { return task->answer; }
};

class FloorQueue {
public:
    void start(FloorCoro& coro) noexcept {
        coro.handle().promise().innermost = coro.handle();
        push(coro.handle().promise());
    }

    void push(FloorTask& task) noexcept {
        task.next_ready = nullptr;
        (last_ ? last_->next_ready : first_) = &task;
        last_ = &task;
    }

    FloorTask* pop() noexcept {
        FloorTask* task = first_;
        if (task) {
            first_ = task->next_ready;
            if (!first_)
                last_ = nullptr;
        }
        return task;
    }

private:
    FloorTask* first_ = nullptr;
    FloorTask* last_ = nullptr;
};

// The loops are not inlined: their queues lie in memory, where wakers could reach them.

/// The request means: let the others run.
class YieldLoop : public FloorQueue {
public:
    [[gnu::noinline]] void run() {
        while (FloorTask* task = pop()) {
            task->innermost.resume();
            if (task->innermost) {
                task->answer = 0;
                push(*task);
            }
        }
    }
};

/// A task whose handle may outlive its coroutine.
struct FloorRecord {
    FloorTask* task;             ///< null when it has ended
    FloorTask* joiner = nullptr; ///< who waits for that
    int references = 2;          ///< the handle, and the loop until it has ended

    static void* operator new(std::size_t bytes) {
        return trapline::detail::FramePool::allocate(bytes);
    }
    static void operator delete(void* memory, std::size_t bytes) noexcept {
        trapline::detail::FramePool::deallocate(memory, bytes);
    }
    void drop() noexcept {
        if (--references == 0)
            delete this;
    }
};

/// The request is a record: of a new task, to be run too; of one that runs, to be waited for.
class SpawnJoinLoop : public FloorQueue {
public:
    [[gnu::noinline]] void run() {
        while (FloorTask* task = pop()) {
            for (;;) {
                task->innermost.resume();
                if (!task->innermost) {
                    end(*task);
                    break;
                }
                auto& record = *reinterpret_cast<FloorRecord*>(task->request);
                task->answer = 0;
                if (!record.task)
                    continue;
                if (!record.task->innermost) { // not yet started
                    record.task->record = &record;
                    record.task->innermost = FloorCoro::Handle::from_promise(*record.task);
                    push(*record.task);
                    continue;
                }
                record.joiner = task;
                break;
            }
        }
    }

private:
    void end(FloorTask& task) noexcept {
        if (FloorRecord* record = task.record) {
            FloorCoro::Handle::from_promise(task).destroy();
            record->task = nullptr;
            if (record->joiner)
                push(*record->joiner);
            record->drop();
        }
    }
};

/// The request is a time to sleep. The time jumps; sleepers lie in a binary heap.
class SleepLoop : public FloorQueue {
public:
    void run() {
        for (;;) {
            while (FloorTask* task = pop()) {
                task->innermost.resume();
                if (task->innermost)
                    sleepers_.push({now_ + task->request, order_++, task});
            }
            if (sleepers_.empty())
                return;
            now_ = sleepers_.top().wake;
            while (!sleepers_.empty() && sleepers_.top().wake <= now_) {
                sleepers_.top().task->answer = now_;
                push(*sleepers_.top().task);
                sleepers_.pop();
            }
        }
    }

private:
    struct Sleeper {
        std::int64_t wake;
        std::uint64_t order;
        FloorTask* task;
        bool operator<(const Sleeper& other) const noexcept {
            return wake != other.wake ? wake > other.wake : order > other.order;
        }
    };

    std::priority_queue<Sleeper> sleepers_;
    std::uint64_t order_ = 0;
    std::int64_t now_ = 0;
};

} // namespace bench
