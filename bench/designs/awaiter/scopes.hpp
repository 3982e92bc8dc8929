// Limits, and several tasks at once, in the awaiter design.
//
//     std::optional<std::size_t> n = co_await timeout(1s, recv(fd, buffer));
//     std::optional<Page> page = co_await timeout(1s, fetch(url));
//     std::vector<Page> pages = co_await when_all(std::move(fetches));
//
// A limit around one wait lies beside it in the awaiter. Tasks in a scope are chains of their own,
// which are stopped by the limit, by each other's failure, or with the chain around them.
#pragma once

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "scheduler.hpp"

namespace awaiter_design {

namespace detail {

struct LimitAlarm : Alarm {
    using Alarm::Alarm;
};

/// What a limited wait answers: nothing, or false, when the limit ran out first.
template <class T>
using InTime = std::conditional_t<std::is_void_v<T>, bool, std::optional<T>>;

} // namespace detail

/// One wait under a limit.
template <std::derived_from<Waiter> A>
class [[nodiscard]] Timed final : public A, detail::LimitAlarm {
public:
    Timed(Duration limit, A&& what) noexcept
        : A(std::move(what)), LimitAlarm(&Timed::fired), limit_(limit) {}

    template <class P>
    bool await_suspend(std::coroutine_handle<P> self) noexcept {
        if (!A::await_suspend(self))
            return false;
        this->scheduler().set(limit(), trapline::later(this->scheduler().now(), limit_));
        return true;
    }
    auto await_resume() -> detail::InTime<decltype(std::declval<A&>().await_resume())> {
        if (limit().set())
            this->scheduler().drop(limit());
        if (ran_out_ && this->stopped())
            return {};
        if constexpr (std::is_void_v<decltype(A::await_resume())>) {
            A::await_resume();
            return true;
        } else {
            return A::await_resume();
        }
    }

private:
    detail::LimitAlarm& limit() noexcept { return *this; }
    static void fired(Alarm& alarm) noexcept {
        auto& timed = static_cast<Timed&>(static_cast<detail::LimitAlarm&>(alarm));
        if (std::exchange(timed.chain().waiting, nullptr) != nullptr) { // else it has ended
            timed.ran_out_ = true;
            timed.stop();
        }
    }

    Duration limit_;
    bool ran_out_ = false;
};

template <std::derived_from<Waiter> A>
Timed<A> timeout(Duration limit, A what) noexcept {
    return {limit, std::move(what)};
}

/// A task under a limit. When that runs out the task is stopped; what it answers all the same
/// counts.
template <class T>
class [[nodiscard]] TimedTask final : public Waiter, detail::LimitAlarm {
public:
    TimedTask(Duration limit, Task<T> what) noexcept
        : LimitAlarm(&TimedTask::fired), limit_(limit), what_(std::move(what)) {}
    TimedTask(TimedTask&&) = delete;

    bool await_ready() const noexcept { return false; }
    template <class P>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<P> self) noexcept {
        if (!begin_wait(self))
            return self;
        inner_.scheduler = &scheduler();
        scheduler().set(*this, trapline::later(scheduler().now(), limit_));
        what_.handle().promise().chain = &inner_;
        what_.handle().promise().awaited_by = self; // it hands back to us
        return what_.handle();
    }
    detail::InTime<T> await_resume() {
        if (this->set())
            scheduler().drop(*this);
        chain().waiting = nullptr;
        throw_if_stopped();
        try {
            if constexpr (std::is_void_v<T>) {
                what_.handle().promise().take();
                return true;
            } else {
                return what_.handle().promise().take();
            }
        } catch (const Stopped&) {
            if (chain().stop_requested || !ran_out_)
                throw;
            return {};
        }
    }
    void stop() noexcept override { inner_.request_stop(); }

private:
    static void fired(Alarm& alarm) noexcept {
        auto& timed = static_cast<TimedTask&>(static_cast<detail::LimitAlarm&>(alarm));
        timed.ran_out_ = true;
        timed.inner_.request_stop();
    }

    Chain inner_{nullptr}; // its outermost coroutine is awaited by ours
    Duration limit_;
    Task<T> what_;
    bool ran_out_ = false;
};

template <class T>
TimedTask<T> timeout(Duration limit, Task<T> what) noexcept {
    return {limit, std::move(what)};
}

/// Runs all of them; answers their results in order. Each begins at once and runs until it first
/// waits. When one fails, the others are stopped, and the first failure is thrown when all have
/// ended.
template <class T>
class [[nodiscard]] WhenAll final : public Waiter {
public:
    explicit WhenAll(std::vector<Task<T>> tasks)
        : tasks_(std::move(tasks)), chains_(std::make_unique<Child[]>(tasks_.size())) {}
    WhenAll(WhenAll&&) = delete;

    bool await_ready() const noexcept { return tasks_.empty(); }
    template <class P>
    bool await_suspend(std::coroutine_handle<P> self) noexcept {
        if (!begin_wait(self))
            return false;
        left_ = tasks_.size() + 1; // and us
        for (std::size_t i = 0; i < tasks_.size(); ++i) {
            auto child = tasks_[i].handle();
            chains_[i].scheduler = &scheduler();
            chains_[i].all = this;
            chains_[i].promise = &child.promise();
            chains_[i].stop_requested = stop_children_;
            child.promise().chain = &chains_[i];
            child.resume();
        }
        if (--left_ == 0) {
            chain().waiting = nullptr;
            return false;
        }
        return true;
    }
    auto await_resume() {
        throw_if_stopped();
        if (failure_)
            std::rethrow_exception(failure_);
        if constexpr (!std::is_void_v<T>) {
            std::vector<T> results;
            results.reserve(tasks_.size());
            for (Task<T>& task : tasks_)
                results.push_back(task.handle().promise().take());
            return results;
        }
    }
    void stop() noexcept override { stop_children(); }

private:
    struct Child : Chain {
        Child() noexcept : Chain(&Child::has_ended) {}
        static void has_ended(Chain& chain) noexcept {
            auto& child = static_cast<Child&>(chain);
            child.done = true;
            child.all->child_ended(*child.promise);
        }
        WhenAll* all = nullptr;
        detail::PromiseBase* promise = nullptr;
        bool done = false;
    };

    void child_ended(detail::PromiseBase& promise) noexcept {
        if (promise.failure && !failure_) {
            failure_ = promise.failure;
            stop_children();
        }
        if (--left_ == 0)
            wake();
    }
    void stop_children() noexcept {
        stop_children_ = true;
        for (std::size_t i = 0; i < tasks_.size(); ++i) {
            if (chains_[i].scheduler && !chains_[i].done) // the others begin stopped
                chains_[i].request_stop();
        }
    }

    std::vector<Task<T>> tasks_;
    std::unique_ptr<Child[]> chains_;
    std::exception_ptr failure_;
    std::size_t left_ = 0;
    bool stop_children_ = false;
};

template <class T>
WhenAll<T> when_all(std::vector<Task<T>> tasks) {
    return WhenAll<T>{std::move(tasks)};
}

} // namespace awaiter_design
