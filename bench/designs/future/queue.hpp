// Queue as asyncio has it: put() waits while it is full, get() while it is empty, first in, first
// out. Who is cancelled after being woken wakes the next, so that nothing lies there unseen.
//
//     Coroutine<> doubles(Queue<int>& from, Queue<int>& to) {
//         for (;;)
//             co_await to.put(2 * co_await from.get());
//     }
#pragma once

#include <cstddef>
#include <deque>
#include <stdexcept>
#include <utility>

#include "synchronisation.hpp"

namespace future_design {

class QueueEmpty : public std::runtime_error {
public:
    QueueEmpty() : runtime_error("the queue is empty") {}
};
class QueueFull : public std::runtime_error {
public:
    QueueFull() : runtime_error("the queue is full") {}
};

template <class T>
class Queue {
public:
    /// A size of 0 is no limit.
    explicit Queue(Loop& loop, std::size_t size_max = 0) noexcept
        : loop_(loop), size_max_(size_max), finished_(loop) {
        finished_.set();
    }

    std::size_t qsize() const noexcept { return items_.size(); }
    std::size_t maxsize() const noexcept { return size_max_; }
    bool empty() const noexcept { return items_.empty(); }
    bool full() const noexcept { return size_max_ > 0 && items_.size() >= size_max_; }

    class Put;
    class Get;
    /// Waits while it is full. A cancelled one has put nothing.
    Put put(T item) { return Put{*this, std::move(item)}; }
    /// Waits while it is empty. A cancelled one has taken nothing.
    Get get() noexcept { return Get{*this}; }

    /// Throws QueueFull.
    void put_nowait(T item) {
        if (full())
            throw QueueFull{};
        items_.push_back(std::move(item));
        ++unfinished_;
        finished_.clear();
        getters_.release_first();
    }
    /// Throws QueueEmpty.
    T get_nowait() {
        if (empty())
            throw QueueEmpty{};
        T item = std::move(items_.front());
        items_.pop_front();
        putters_.release_first();
        return item;
    }

    /// What one get() gave is worked off. Throws std::invalid_argument for more than were put.
    void task_done() {
        if (unfinished_ == 0)
            throw std::invalid_argument("task_done() was called too many times");
        if (--unfinished_ == 0)
            finished_.set();
    }
    /// Until all that was put is worked off.
    Future<void> join() { return finished_.wait(); }

private:
    Coroutine<> put_when_possible(T item) {
        while (full())
            co_await WaitsForTurn{loop_, putters_, [this] { return !full(); }};
        put_nowait(std::move(item));
    }
    Coroutine<T> get_when_possible() {
        while (empty())
            co_await WaitsForTurn{loop_, getters_, [this] { return !empty(); }};
        co_return get_nowait();
    }

    /// Waits in a list to be woken.
    template <class Possible>
    class WaitsForTurn {
    public:
        WaitsForTurn(Loop& loop, detail::WaiterList& list, Possible possible)
            : list_(list), possible_(possible), waiter_(detail::make<detail::ListedWaiter>(loop)) {
            list.push(*waiter_);
        }
        WaitsForTurn(const WaitsForTurn&) = delete;
        WaitsForTurn& operator=(const WaitsForTurn&) = delete;
        ~WaitsForTurn() { waiter_->leave(); }
        bool await_ready() const noexcept { return false; }
        template <class Parent>
        void await_suspend(std::coroutine_handle<Parent> self) {
            task_ = self.promise().task;
            task_->wait_for(*waiter_, self);
        }
        void await_resume() {
            try {
                task_->throw_if_cancelled();
                waiter_->result();
            } catch (const CancelledError&) {
                if (possible_() && !waiter_->cancelled())
                    list_.release_first(); // we were woken, and cannot use it
                throw;
            }
        }

    private:
        detail::WaiterList& list_;
        Possible possible_;
        detail::Ref<detail::ListedWaiter> waiter_;
        detail::TaskCore* task_ = nullptr;
    };
    Loop& loop_;
    std::size_t size_max_;
    std::deque<T> items_;
    std::size_t unfinished_ = 0;
    Event finished_;
    detail::WaiterList getters_;
    detail::WaiterList putters_;
};

/// What put() answers, to be awaited once. A coroutine if it has to wait.
template <class T>
class Queue<T>::Put {
public:
    Put(Queue& queue, T&& item) : queue_(&queue), item_(std::move(item)) {}
    bool await_ready() const noexcept { return !queue_->full(); }
    template <class Parent>
    void await_suspend(std::coroutine_handle<Parent> self) {
        waiting_ = queue_->put_when_possible(std::move(item_));
        detail::ChildAwaiter{waiting_.handle()}.await_suspend(self);
        waits_ = true;
    }
    void await_resume() {
        if (waits_)
            return waiting_.handle().promise().take();
        queue_->put_nowait(std::move(item_));
    }

private:
    Queue* queue_;
    T item_;
    Coroutine<> waiting_;
    bool waits_ = false;
};

/// What get() answers, to be awaited once. A coroutine if it has to wait.
template <class T>
class Queue<T>::Get {
public:
    explicit Get(Queue& queue) noexcept : queue_(&queue) {}
    bool await_ready() const noexcept { return !queue_->empty(); }
    template <class Parent>
    void await_suspend(std::coroutine_handle<Parent> self) {
        waiting_ = queue_->get_when_possible();
        detail::ChildAwaiter{waiting_.handle()}.await_suspend(self);
        waits_ = true;
    }
    T await_resume() { return waits_ ? waiting_.handle().promise().take() : queue_->get_nowait(); }

private:
    Queue* queue_;
    Coroutine<T> waiting_;
    bool waits_ = false;
};

} // namespace future_design
