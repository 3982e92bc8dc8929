// UniversalQueue<T>: items on their way between tasks, of one kernel or of several, and plain
// threads. Tasks await put() and get(); threads call put_sync() and get_sync(), which block them.
//
//     UniversalQueue<int> queue{1000}; // of at most 1000 items; without a number it is unbounded
//     std::jthread producer{[&] {
//         for (int i = 1; i <= 4; ++i)
//             queue.put_sync(i);
//         queue.close();
//     }};
//     int sum = 0;
//     while (std::optional<int> item = co_await queue.next())
//         sum += *item;
//
// It does what Queue does: first come, first served on both sides, be it tasks or threads; an item
// goes to the longest waiting at once. Nothing is lost by an interrupt, which may come while
// another thread hands over an item: either the task has the item, or it is interrupted and the
// item goes to the next; the item of an interrupted put was not put.
//
// Only who waits is woken, and once: of a burst of items the first wakes a waiting consumer, who
// finds the others there without waiting. Tasks of one kernel that are woken at the same time
// interrupt its wait once.
//
// Everything may be called on any thread. "Never blocks" means: no longer than it takes others to
// move an item. An item must be movable without throwing. The queue must outlive all calls, also
// those that are about to return. To destroy it while somebody waits stops the program in debug
// builds, with a message that names both.
#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>

#include "queue.hpp"
#include "ring_buffer.hpp"
#include "thread.hpp"
#include "trap_call.hpp"

namespace trapline {

namespace detail {

/// Who waits in a UniversalQueue, task or thread. All but `done` is for who has the queue's lock,
/// until `done` is completed; then for who waited.
template <class T>
struct UniversalWaiter {
    UniversalWaiter() noexcept = default;
    explicit UniversalWaiter(T&& given) noexcept : item(std::move(given)) {}
    UniversalWaiter(UniversalWaiter&& other) noexcept // not while it is in line
        : item(std::move(other.item)) {}
    UniversalWaiter& operator=(UniversalWaiter&&) = delete;

    std::optional<T> item; ///< a get's once it has one; a put's until it is put
    ThreadCompletion done;

    bool queued = false;
    UniversalWaiter* previous;
    UniversalWaiter* next;
};

/// First come, first served.
template <class T>
class UniversalLine {
public:
    UniversalWaiter<T>* first() const noexcept { return first_; }

    void append(UniversalWaiter<T>& waiter) noexcept {
        waiter.queued = true;
        waiter.previous = last_;
        waiter.next = nullptr;
        (last_ ? last_->next : first_) = &waiter;
        last_ = &waiter;
    }
    void remove(UniversalWaiter<T>& waiter) noexcept {
        (waiter.previous ? waiter.previous->next : first_) = waiter.next;
        (waiter.next ? waiter.next->previous : last_) = waiter.previous;
        waiter.queued = false;
    }
    /// Takes the first one out, null if there is none.
    UniversalWaiter<T>* pop() noexcept {
        UniversalWaiter<T>* first = first_;
        if (first)
            remove(*first);
        return first;
    }

private:
    UniversalWaiter<T>* first_ = nullptr;
    UniversalWaiter<T>* last_ = nullptr;
};

/// Ends the program: a queue is destroyed while a task, or (null) a thread, waits on it.
[[noreturn]] void abort_destroyed_universal(const TaskRecord* waiting) noexcept;

} // namespace detail

template <class T>
class UniversalQueue {
    static_assert(std::is_nothrow_move_constructible_v<T>,
                  "an item whose move may throw could be lost on its way: pass a pointer to it");
    using Waiter = detail::UniversalWaiter<T>;
    using Line = detail::UniversalLine<T>;

public:
    using value_type = T;

    /// @param capacity how many items it holds before put waits; 0: any number
    explicit UniversalQueue(std::size_t capacity = 0) noexcept : capacity_(capacity) {}
    UniversalQueue(const UniversalQueue&) = delete;
    UniversalQueue& operator=(const UniversalQueue&) = delete;
    /// Nobody may be waiting, task or thread.
    ~UniversalQueue();

    // --- for tasks ---

    class [[nodiscard]] Put;
    /// Puts an item in; blocks while the queue is full. Throws QueueClosed if it is closed, also
    /// while waiting, and std::bad_alloc. Interrupted: the item was not put.
    Put put(T item) noexcept { return Put{*this, std::move(item)}; }

    class [[nodiscard]] Get;
    /// Takes an item out; blocks while there is none. Throws QueueClosed once the queue is closed
    /// and all that was put has been got. Interrupted: nothing was taken.
    Get get() noexcept { return Get{*this}; }

    class [[nodiscard]] Next;
    /// Like get(), but empty where that throws: for loops.
    Next next() noexcept { return Next{*this}; }

    class [[nodiscard]] Join;
    /// Waits until task_done() has been called for every item that was put; blocks until then. Does
    /// not end by close(). Interrupting it changes nothing for others.
    Join join() noexcept { return Join{*this}; }

    // --- for threads that run no kernel: these block the thread, and nothing interrupts them ---

    void put_sync(T item);        ///< as put()
    T get_sync();                 ///< as get()
    std::optional<T> next_sync(); ///< as next()
    void join_sync();             ///< as join()

    // --- for both: never block ---

    /// Puts the item in if that can be at once. Otherwise, and if the queue is closed, answers
    /// false and leaves the item alone. Throws std::bad_alloc.
    bool try_put(T&& item) {
        const std::scoped_lock lock{mutex_};
        return give(item);
    }
    bool try_put(const T& item) {
        T copy = item;
        return try_put(std::move(copy));
    }

    /// Takes an item out if there is one.
    std::optional<T> try_get() noexcept {
        std::optional<T> item;
        const std::scoped_lock lock{mutex_};
        take(item);
        return item;
    }

    /// Says that an item that was got has been dealt with. Throws std::logic_error if that was said
    /// of all that were put.
    void task_done();

    /// Nothing can be put any more. What is in can still be got. Who waits to put or to get sees
    /// QueueClosed. Harmless twice.
    void close() noexcept;

    // What the following answer may have changed by the time it is looked at.

    bool closed() const noexcept {
        const std::scoped_lock lock{mutex_};
        return closed_;
    }
    /// Items that are in. Those of waiting puts are not.
    std::size_t size() const noexcept {
        const std::scoped_lock lock{mutex_};
        return store_.size();
    }
    bool empty() const noexcept { return size() == 0; }
    /// A put would have to wait.
    bool full() const noexcept { return size() >= room(); }
    /// 0 if it is unbounded.
    std::size_t capacity() const noexcept { return capacity_; }
    /// How many times somebody who waited was woken.
    std::uint64_t wakeups() const noexcept {
        const std::scoped_lock lock{mutex_};
        return wakeups_;
    }

private:
    class Awaiter;

    std::size_t room() const noexcept {
        return capacity_ == 0 ? std::numeric_limits<std::size_t>::max() : capacity_;
    }

    // With the lock.
    bool give(T& item);
    bool hand_over(T& item) noexcept;
    bool take(std::optional<T>& item) noexcept;
    void refill() noexcept;
    bool wake(Waiter& waiter) noexcept;

    // Each takes the lock and answers whether it is over; if not, the waiter stands in line.
    bool put_or_wait(Waiter& waiter);
    bool get_or_wait(Waiter& waiter) noexcept;
    bool join_or_wait(Waiter& waiter) noexcept;

    /// Out of line. False if it is in none: it has been served.
    bool leave(Waiter& waiter, Line& line) noexcept;

    const std::size_t capacity_;
    mutable std::mutex mutex_; // for all that follows
    detail::RingBuffer<T> store_;
    Line putters_; ///< empty unless the store is full
    Line getters_; ///< empty unless the store is
    Line joiners_;
    std::uint64_t given_ = 0;
    std::uint64_t done_ = 0;
    std::uint64_t wakeups_ = 0;
    bool closed_ = false;
};

} // namespace trapline

#include "universal_queue.inl.hpp"
