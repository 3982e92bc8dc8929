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

    /// A cancelled one has put nothing.
    Coroutine<> put(T item) {
        while (full())
            co_await WaitsForTurn{loop_, putters_, [this] { return !full(); }};
        put_nowait(std::move(item));
    }
    /// A cancelled one has taken nothing.
    Coroutine<T> get() {
        while (empty())
            co_await WaitsForTurn{loop_, getters_, [this] { return !empty(); }};
        co_return get_nowait();
    }

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

} // namespace future_design
