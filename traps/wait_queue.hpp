// Where parked tasks wait: an intrusive queue, first come, first served, and the waker.
//
//     struct Gate {
//         WaitQueue queue;
//         bool is_open = false;
//
//         Coro<void> pass() {
//             while (!is_open)
//                 co_await SureTrap{traps::Park{&queue}};
//         }
//         void open() noexcept {
//             is_open = true;
//             queue.wake_all();
//         }
//     };
//
// The trap Park sleeps on the queue; waking is a plain function, callable from destructors,
// because it never blocks. When a kernel parks a task it leaves a waker in the task's node: a
// function and a context. So no primitive knows its kernel. Not thread-safe: a queue belongs to
// the thread of the tasks that park on it (see thread.hpp for others).
#pragma once

#include <cstddef>

namespace trapline {

class WaitQueue;
struct TaskRecord;

/// How to tell a kernel that one of its tasks was woken.
struct Waker {
    void (*wake)(void* context) noexcept = nullptr;
    void* context = nullptr;
};

/// A task's place in a wait queue. The kernel owns it; one that is destroyed unlinks itself.
class WaitNode {
public:
    WaitNode() = default;
    WaitNode(Waker how, const TaskRecord* who) noexcept : waker(how), task(who) {}
    WaitNode(const WaitNode&) = delete;
    WaitNode& operator=(const WaitNode&) = delete;
    ~WaitNode() { unlink(); }

    Waker waker;
    const TaskRecord* task = nullptr; ///< who waits, if it is a task; for messages

    bool queued() const noexcept { return queue_ != nullptr; }

    /// Leaves the queue without being woken. Harmless when it is in none. O(1).
    void unlink() noexcept;

private:
    friend class WaitQueue;
    WaitQueue* queue_ = nullptr;
    WaitNode* previous_; // while it is queued
    WaitNode* next_;
};

class WaitQueue {
public:
    WaitQueue() = default;
    WaitQueue(const WaitQueue&) = delete;
    WaitQueue& operator=(const WaitQueue&) = delete;
    /// Nobody may wait on it any more; those who do are let go without being woken.
    ~WaitQueue() {
        while (first_)
            first_->unlink();
    }

    bool empty() const noexcept { return first_ == nullptr; }

    /// Wakes up to n tasks, the longest waiting first. Answers how many. Never blocks.
    std::size_t wake(std::size_t n = 1) noexcept {
        std::size_t woken = 0;
        for (; woken < n && first_; ++woken)
            wake_first();
        return woken;
    }

    std::size_t wake_all() noexcept {
        std::size_t woken = 0;
        for (; first_; ++woken)
            wake_first();
        return woken;
    }

    /// The longest waiting; null if nobody waits.
    WaitNode* first() const noexcept { return first_; }

    /// The longest waiting goes on waiting, as the last one of `other`. Only if somebody waits.
    void pass_first_to(WaitQueue& other) noexcept {
        WaitNode& node = *first_;
        node.unlink();
        other.append(node);
    }

    /// For kernels: `node` waits here now, as the last one.
    void append(WaitNode& node) noexcept {
        node.queue_ = this;
        node.previous_ = last_;
        node.next_ = nullptr;
        (last_ ? last_->next_ : first_) = &node;
        last_ = &node;
    }

private:
    friend class WaitNode;

    void wake_first() noexcept {
        WaitNode& node = *first_;
        first_ = node.next_;
        (first_ ? first_->previous_ : last_) = nullptr;
        node.queue_ = nullptr;
        node.waker.wake(node.waker.context);
    }

    WaitNode* first_ = nullptr;
    WaitNode* last_ = nullptr;
};

inline void WaitNode::unlink() noexcept {
    if (!queue_)
        return;
    (previous_ ? previous_->next_ : queue_->first_) = next_;
    (next_ ? next_->previous_ : queue_->last_) = previous_;
    queue_ = nullptr;
}

} // namespace trapline
