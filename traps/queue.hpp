// Queue<T>, LifoQueue<T>, PriorityQueue<T, Compare>: items on their way from tasks to tasks.
//
//     Queue<int> queue{16}; // of at most 16 items; without a number it is unbounded
//     auto consume = [](Queue<int>& q, int& sum) -> Coro<void> {
//         while (std::optional<int> item = co_await q.next()) {
//             sum += *item;
//             q.task_done();
//         }
//     };
//     int sum = 0;
//     auto consumer = co_await spawn(consume(queue, sum));
//     for (int i = 1; i <= 4; ++i)
//         co_await queue.put(i);
//     co_await queue.join(); // all items are done
//     queue.close();
//     co_await consumer.join();
//
// First come, first served, on both sides: an item goes to the task that waits longest, into its
// hands, and room in a full queue to the longest waiting put. Nothing is lost by an interrupt: a
// get that is interrupted has taken nothing, and the item of an interrupted put was not put (it is
// destroyed, as the argument that it is). What need not wait does not trap; the queue allocates
// only while it grows beyond the most items that it ever held.
//
// An item must be movable without throwing. A queue belongs to the thread of its tasks. It must not
// be destroyed while tasks wait on it: debug builds stop the program and name the place of one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <limits>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "exchange.hpp"
#include "ring_buffer.hpp"

namespace trapline {

/// put or get of a queue that is closed.
class QueueClosed : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

namespace detail {

template <class T>
struct FirstInFirstOut : RingBuffer<T> {
    static constexpr const char* name = "a Queue";
};

template <class T>
class LastInFirstOut {
public:
    static constexpr const char* name = "a LifoQueue";

    std::size_t size() const noexcept { return items_.size(); }
    void push(T&& item) { items_.push_back(std::move(item)); }
    void pop(std::optional<T>& item) noexcept {
        item.emplace(std::move(items_.back()));
        items_.pop_back();
    }

private:
    std::vector<T> items_;
};

template <class T, class Compare>
class SmallestFirst {
public:
    static constexpr const char* name = "a PriorityQueue";

    SmallestFirst() = default;
    SmallestFirst(Compare compare) : later_{std::move(compare)} {}

    std::size_t size() const noexcept { return items_.size(); }
    void push(T&& item) {
        items_.push_back(std::move(item));
        sift_up();
    }
    void pop(std::optional<T>& item) noexcept {
        std::pop_heap(items_.begin(), items_.end(), later_);
        item.emplace(std::move(items_.back()));
        items_.pop_back();
    }

private:
    void sift_up() noexcept { std::push_heap(items_.begin(), items_.end(), later_); }

    struct Later {
        [[no_unique_address]] Compare compare;
        bool operator()(const T& a, const T& b) { return compare(b, a); }
    };
    std::vector<T> items_;
    [[no_unique_address]] Later later_;
};

[[noreturn]] void raise_queue_closed(const char* queue, const char* operation);
[[noreturn]] void raise_task_done_too_often(const char* queue);

} // namespace detail

/// What the three queues have in common, which is all but the order of their items.
template <class T, class Order>
class BasicQueue {
    using Exchange = detail::Exchange<T, Order>;

public:
    using value_type = T;

    /// @param capacity how many items it holds before put waits; 0: any number
    explicit BasicQueue(std::size_t capacity = 0, Order order = {})
        : exchange_(capacity == 0 ? unbounded : capacity, std::move(order)) {}
    BasicQueue(const BasicQueue&) = delete;
    BasicQueue& operator=(const BasicQueue&) = delete;
    /// Nobody may be waiting.
    ~BasicQueue() {
        exchange_.expect_nobody(Order::name);
        joiners_.expect_empty(Order::name);
    }

    class [[nodiscard]] Put;
    /// Puts an item in; blocks while the queue is full. Throws QueueClosed if it is closed, also
    /// while waiting, and std::bad_alloc. Interrupted: the item was not put.
    Put put(T item) { return Put{exchange_, std::move(item)}; }

    class [[nodiscard]] Get;
    /// Takes an item out; blocks while there is none. Throws QueueClosed once the queue is closed
    /// and all that was put has been got. Interrupted: nothing was taken.
    Get get() { return Get{exchange_}; }

    class [[nodiscard]] Next;
    /// Like get(), but empty where that throws: for loops.
    Next next() { return Next{exchange_}; }

    /// Puts the item in if that can be at once. Otherwise, and if the queue is closed, answers
    /// false and leaves the item alone. Throws std::bad_alloc. Never blocks.
    bool try_put(T&& item) { return exchange_.give(item); }
    bool try_put(const T& item) {
        T copy = item;
        return exchange_.give(copy);
    }

    /// Takes an item out if there is one. Never blocks.
    std::optional<T> try_get() noexcept {
        std::optional<T> item;
        exchange_.take(item);
        return item;
    }

    /// Says that an item that was got has been dealt with. Throws std::logic_error if that was said
    /// of all that were put. Never blocks.
    void task_done() {
        if (done_ == exchange_.given()) [[unlikely]]
            detail::raise_task_done_too_often(Order::name);
        if (++done_ != exchange_.given())
            return;
        while (detail::Offer* first = joiners_.first())
            first->meet();
    }

    class [[nodiscard]] Join;
    /// Waits until task_done() has been called for every item that was put; blocks until then. Does
    /// not end by close(). Interrupting it changes nothing for others.
    Join join() { return Join{*this}; }

    /// Nothing can be put any more. What is in can still be got. Tasks that wait to put or to get
    /// see QueueClosed. Never blocks. Harmless twice.
    void close() noexcept { exchange_.close(); }
    bool closed() const noexcept { return exchange_.closed(); }

    /// Items that are in. Those of waiting puts are not.
    std::size_t size() const noexcept { return exchange_.size(); }
    bool empty() const noexcept { return size() == 0; }
    /// A put would have to wait.
    bool full() const noexcept { return size() >= exchange_.room(); }
    /// 0 if it is unbounded.
    std::size_t capacity() const noexcept {
        return exchange_.room() == unbounded ? 0 : exchange_.room();
    }

private:
    static constexpr std::size_t unbounded = std::numeric_limits<std::size_t>::max();

    class Taker;

    Exchange exchange_;
    std::size_t done_ = 0;
    detail::OfferLine joiners_;
};

/// First in, first out.
template <class T>
using Queue = BasicQueue<T, detail::FirstInFirstOut<T>>;

/// Last in, first out.
template <class T>
using LifoQueue = BasicQueue<T, detail::LastInFirstOut<T>>;

/// The smallest of those that are in comes out first; equal ones in any order. Compare must not
/// throw: if it does, the program ends.
template <class T, class Compare = std::less<T>>
using PriorityQueue = BasicQueue<T, detail::SmallestFirst<T, Compare>>;

template <class T, class Order>
class BasicQueue<T, Order>::Put : public detail::OfferAwaiter<detail::Giving<T>> {
public:
    Put(Exchange& exchange, T&& item) noexcept : exchange_(exchange), item_(std::move(item)) {}

    bool await_ready() {
        this->offer_.accepted = exchange_.give(item_);
        return this->ready(this->offer_.accepted || exchange_.closed());
    }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        this->offer_.item = &item_;
        exchange_.wait_to_give(this->offer_);
        this->park_on_offer(self);
    }
    void await_resume() {
        this->end_wait();
        if (!this->offer_.accepted) [[unlikely]]
            detail::raise_queue_closed(Order::name, "put");
    }

private:
    Exchange& exchange_;
    T item_;
};

template <class T, class Order>
class BasicQueue<T, Order>::Taker : public detail::OfferAwaiter<detail::Taking<T>> {
public:
    explicit Taker(Exchange& exchange) noexcept : exchange_(exchange) {}

    bool await_ready() noexcept {
        return this->ready(exchange_.take(this->offer_.item) || exchange_.closed());
    }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        exchange_.wait_to_take(this->offer_);
        this->park_on_offer(self);
    }

protected:
    /// What was got; empty: closed.
    std::optional<T>& taken() {
        this->end_wait();
        return this->offer_.item;
    }

private:
    Exchange& exchange_;
};

template <class T, class Order>
class BasicQueue<T, Order>::Get : public Taker {
public:
    using Taker::Taker;
    T await_resume() {
        std::optional<T>& item = this->taken();
        if (!item) [[unlikely]]
            detail::raise_queue_closed(Order::name, "get");
        return std::move(*item);
    }
};

template <class T, class Order>
class BasicQueue<T, Order>::Next : public Taker {
public:
    using Taker::Taker;
    std::optional<T> await_resume() { return std::move(this->taken()); }
};

template <class T, class Order>
class BasicQueue<T, Order>::Join : public detail::OfferAwaiter<detail::Offer> {
public:
    explicit Join(BasicQueue& queue) noexcept : queue_(queue) {}

    bool await_ready() noexcept { return this->ready(queue_.done_ == queue_.exchange_.given()); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        queue_.joiners_.append(this->offer_);
        this->park_on_offer(self);
    }
    void await_resume() { this->end_wait(); }

private:
    BasicQueue& queue_;
};

} // namespace trapline
