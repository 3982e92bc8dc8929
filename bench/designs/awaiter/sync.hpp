// What chains share, in the awaiter design: Event, Mutex, Queue. First come, first served; whoever
// is woken has what it waited for.
//
//     const Mutex::Guard held = co_await mutex.lock();
//     co_await queue.put(1);
//     std::optional<int> n = co_await queue.get();
#pragma once

#include <coroutine>
#include <cstddef>
#include <optional>
#include <utility>

#include <trapline/traps/ring_buffer.hpp>

#include "scheduler.hpp"

namespace awaiter_design {

class Event {
public:
    class Wait : public Waiter {
    public:
        explicit Wait(Event& event) noexcept : event_(&event) {}
        bool await_ready() const noexcept { return event_->set_; }
        template <class P>
        bool await_suspend(std::coroutine_handle<P> self) noexcept {
            if (!begin_wait(self))
                return false;
            event_->waiting_.push(*this);
            return true;
        }
        void await_resume() const { throw_if_stopped(); }
        void stop() noexcept override {
            event_->waiting_.remove(*this);
            wake_stopped();
        }

    private:
        Event* event_;
    };

    /// Throws Stopped.
    [[nodiscard]] Wait wait() noexcept { return Wait{*this}; }
    void set() noexcept {
        set_ = true;
        while (Waiter* waiter = waiting_.pop())
            waiter->wake();
    }

private:
    WaitList waiting_;
    bool set_ = false;
};

class Mutex {
public:
    /// Holds it as long as it lives. Move-only.
    class Guard {
    public:
        explicit Guard(Mutex& mutex) noexcept : mutex_(&mutex) {}
        Guard(Guard&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
        Guard& operator=(Guard&&) = delete;
        ~Guard() {
            if (mutex_)
                mutex_->unlock();
        }

    private:
        Mutex* mutex_;
    };

    class Lock : public Waiter {
    public:
        explicit Lock(Mutex& mutex) noexcept : mutex_(&mutex) {}
        bool await_ready() const noexcept { return !std::exchange(mutex_->locked_, true); }
        template <class P>
        bool await_suspend(std::coroutine_handle<P> self) noexcept {
            if (!begin_wait(self))
                return false;
            mutex_->waiting_.push(*this);
            return true;
        }
        Guard await_resume() const {
            throw_if_stopped();
            return Guard{*mutex_};
        }
        void stop() noexcept override {
            mutex_->waiting_.remove(*this);
            wake_stopped();
        }

    private:
        Mutex* mutex_;
    };

    /// Throws Stopped.
    [[nodiscard]] Lock lock() noexcept { return Lock{*this}; }

private:
    void unlock() noexcept {
        if (Waiter* waiter = waiting_.pop())
            waiter->wake(); // it is locked by that one now
        else
            locked_ = false;
    }

    WaitList waiting_;
    bool locked_ = false;
};

template <class T>
class Queue {
public:
    explicit Queue(std::size_t capacity) noexcept : capacity_(capacity) {} ///< at least 1

    class Get : public Waiter {
    public:
        explicit Get(Queue& queue) noexcept : queue_(&queue) {}
        bool await_ready() { return queue_->take(item_) || queue_->closed_; }
        template <class P>
        bool await_suspend(std::coroutine_handle<P> self) noexcept {
            if (!begin_wait(self))
                return false;
            queue_->getters_.push(*this);
            return true;
        }
        std::optional<T> await_resume() {
            throw_if_stopped();
            return std::move(item_);
        }
        void stop() noexcept override {
            queue_->getters_.remove(*this);
            wake_stopped();
        }

    private:
        friend Queue;
        Queue* queue_;
        std::optional<T> item_;
    };

    class Put : public Waiter {
    public:
        Put(Queue& queue, T item) noexcept : queue_(&queue), item_(std::move(item)) {}
        bool await_ready() { return queue_->give(item_); }
        template <class P>
        bool await_suspend(std::coroutine_handle<P> self) noexcept {
            if (!begin_wait(self))
                return false;
            queue_->putters_.push(*this);
            return true;
        }
        void await_resume() const { throw_if_stopped(); }
        void stop() noexcept override {
            queue_->putters_.remove(*this);
            wake_stopped();
        }

    private:
        friend Queue;
        Queue* queue_;
        T item_;
    };

    /// Answers nothing once the queue is closed and empty. Throws Stopped.
    [[nodiscard]] Get get() noexcept { return Get{*this}; }
    /// Waits for room. Throws Stopped; the item is not in the queue then. Not after close().
    [[nodiscard]] Put put(T item) noexcept { return Put{*this, std::move(item)}; }

    void close() noexcept {
        closed_ = true;
        while (Waiter* getter = getters_.pop())
            getter->wake();
    }

private:
    bool give(T& item) {
        if (Waiter* getter = getters_.pop()) {
            static_cast<Get*>(getter)->item_.emplace(std::move(item));
            getter->wake();
            return true;
        }
        if (items_.size() == capacity_)
            return false;
        items_.push(std::move(item));
        return true;
    }
    bool take(std::optional<T>& to) {
        if (items_.size() == 0)
            return false;
        items_.pop(to);
        if (Waiter* putter = putters_.pop()) {
            items_.push(std::move(static_cast<Put*>(putter)->item_));
            putter->wake();
        }
        return true;
    }

    std::size_t capacity_;
    trapline::detail::RingBuffer<T> items_;
    WaitList getters_;
    WaitList putters_;
    bool closed_ = false;
};

} // namespace awaiter_design
