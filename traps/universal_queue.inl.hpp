// The bodies of UniversalQueue. Hand-over is direct, and its judge is the waiter's
// ThreadCompletion: whoever takes a waiter out of line with the lock held completes it, or finds
// that its task was interrupted meanwhile and passes it over. So an item changes hands only if
// try_complete() says so; until then it can be taken back.
#pragma once

#include "universal_queue.hpp"

namespace trapline {

template <class T>
UniversalQueue<T>::~UniversalQueue() {
#ifndef NDEBUG
    const std::scoped_lock lock{mutex_};
    for (const Line* line : {&putters_, &getters_, &joiners_}) {
        if (line->first()) [[unlikely]]
            detail::abort_destroyed_universal(line->first()->done.task());
    }
#endif
}

// --- handing over, with the lock -----------------------------------------------------------

/// The waiter is out of line and has what it waited for. False if it waits no more.
template <class T>
bool UniversalQueue<T>::wake(Waiter& waiter) noexcept {
    const bool woken = waiter.done.try_complete(); // the waiter may be gone now
    wakeups_ += woken;
    return woken;
}

/// Moves the item to the longest waiting getter. False, and the item is there again, if none waits.
template <class T>
bool UniversalQueue<T>::hand_over(T& item) noexcept {
    while (Waiter* getter = getters_.pop()) {
        getter->item.emplace(std::move(item));
        if (wake(*getter))
            return true;
        std::destroy_at(&item);
        std::construct_at(&item, std::move(*getter->item));
        getter->item.reset();
    }
    return false;
}

/// Moves the item to a getter, or into the store. False, and the item is left alone, if there is
/// neither, or it is closed.
template <class T>
bool UniversalQueue<T>::give(T& item) {
    if (closed_) [[unlikely]]
        return false;
    if (!hand_over(item)) {
        if (store_.size() >= room())
            return false;
        store_.push(std::move(item));
    }
    ++given_;
    return true;
}

template <class T>
bool UniversalQueue<T>::take(std::optional<T>& item) noexcept {
    if (store_.size() == 0)
        return false;
    store_.pop(item);
    refill();
    return true;
}

/// There is room for one: the longest waiting putter's item moves in. It allocates nothing.
template <class T>
void UniversalQueue<T>::refill() noexcept {
    while (Waiter* putter = putters_.pop()) {
        T item = std::move(*putter->item);
        putter->item.reset();
        if (wake(*putter)) {
            store_.push(std::move(item));
            ++given_;
            return;
        }
        putter->item.emplace(std::move(item));
    }
}

template <class T>
void UniversalQueue<T>::close() noexcept {
    const std::scoped_lock lock{mutex_};
    closed_ = true;
    for (Line* line : {&putters_, &getters_}) {
        while (Waiter* waiter = line->pop())
            wake(*waiter);
    }
}

template <class T>
void UniversalQueue<T>::task_done() {
    const std::scoped_lock lock{mutex_};
    if (done_ == given_) [[unlikely]]
        detail::raise_task_done_too_often("UniversalQueue");
    if (++done_ != given_)
        return;
    while (Waiter* joiner = joiners_.pop())
        wake(*joiner);
}

// --- waiting -------------------------------------------------------------------------------

template <class T>
bool UniversalQueue<T>::put_or_wait(Waiter& waiter) {
    const std::scoped_lock lock{mutex_};
    if (give(*waiter.item)) {
        waiter.item.reset();
        return true;
    }
    if (closed_) [[unlikely]]
        return true;
    putters_.append(waiter);
    return false;
}

template <class T>
bool UniversalQueue<T>::get_or_wait(Waiter& waiter) noexcept {
    const std::scoped_lock lock{mutex_};
    if (take(waiter.item) || closed_)
        return true;
    getters_.append(waiter);
    return false;
}

template <class T>
bool UniversalQueue<T>::join_or_wait(Waiter& waiter) noexcept {
    const std::scoped_lock lock{mutex_};
    if (done_ == given_)
        return true;
    joiners_.append(waiter);
    return false;
}

template <class T>
bool UniversalQueue<T>::leave(Waiter& waiter, Line& line) noexcept {
    const std::scoped_lock lock{mutex_};
    if (!waiter.queued)
        return false;
    line.remove(waiter);
    return true;
}

/// A waiter in the frame of a task.
template <class T>
class UniversalQueue<T>::Awaiter : public ReplyAwaiter {
public:
    Awaiter(Awaiter&&) noexcept = default; // before it is awaited
    Awaiter& operator=(Awaiter&&) = delete;
    ~Awaiter() {
        if (waiting_)
            queue_.leave(waiter_, line_);
    }

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        this->template yield<traps::AwaitThread>(self, &waiter_.done);
    }

protected:
    template <class... Item>
    explicit Awaiter(UniversalQueue& queue, Line& line, Item&&... item) noexcept
        : queue_(queue), line_(line), waiter_(std::forward<Item>(item)...) {}

    /// The waiter, which has been served. An interrupt is thrown: then it was not.
    Waiter& served() {
        // A kernel that does not know the trap: it may have been served all the same.
        if (waiting_ && reply().failed() && queue_.leave(waiter_, line_)) [[unlikely]]
            detail::raise_unanswered(trap_index<traps::AwaitThread>, reply().error());
        waiting_ = false;
        return waiter_;
    }

    UniversalQueue& queue_;
    Line& line_;
    Waiter waiter_;
    bool waiting_ = false;
};

template <class T>
class UniversalQueue<T>::Put : public Awaiter {
public:
    Put(UniversalQueue& queue, T&& item) noexcept
        : Awaiter(queue, queue.putters_, std::move(item)) {}

    bool await_ready() {
        this->waiting_ = !this->queue_.put_or_wait(this->waiter_);
        return !this->waiting_;
    }
    void await_resume() {
        if (this->served().item) [[unlikely]]
            detail::raise_queue_closed("UniversalQueue", "put");
    }
};

template <class T>
class UniversalQueue<T>::Next : public Awaiter {
public:
    explicit Next(UniversalQueue& queue) noexcept : Awaiter(queue, queue.getters_) {}

    bool await_ready() noexcept {
        this->waiting_ = !this->queue_.get_or_wait(this->waiter_);
        return !this->waiting_;
    }
    std::optional<T> await_resume() { return std::move(this->served().item); }
};

template <class T>
class UniversalQueue<T>::Get : public Next {
public:
    using Next::Next;
    T await_resume() {
        std::optional<T>& item = this->served().item;
        if (!item) [[unlikely]]
            detail::raise_queue_closed("UniversalQueue", "get");
        return std::move(*item);
    }
};

template <class T>
class UniversalQueue<T>::Join : public Awaiter {
public:
    explicit Join(UniversalQueue& queue) noexcept : Awaiter(queue, queue.joiners_) {}

    bool await_ready() noexcept {
        this->waiting_ = !this->queue_.join_or_wait(this->waiter_);
        return !this->waiting_;
    }
    void await_resume() { (void)this->served(); }
};

template <class T>
void UniversalQueue<T>::put_sync(T item) {
    Waiter self{std::move(item)};
    if (!put_or_wait(self))
        self.done.wait();
    if (self.item) [[unlikely]]
        detail::raise_queue_closed("UniversalQueue", "put_sync");
}

template <class T>
std::optional<T> UniversalQueue<T>::next_sync() {
    Waiter self;
    if (!get_or_wait(self))
        self.done.wait();
    return std::move(self.item);
}

template <class T>
T UniversalQueue<T>::get_sync() {
    std::optional<T> item = next_sync();
    if (!item) [[unlikely]]
        detail::raise_queue_closed("UniversalQueue", "get_sync");
    return std::move(*item);
}

template <class T>
void UniversalQueue<T>::join_sync() {
    Waiter self;
    if (!join_or_wait(self))
        self.done.wait();
}

} // namespace trapline
