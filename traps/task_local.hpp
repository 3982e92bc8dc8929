// TaskLocal<T>: a value that each task has for itself, and that its children begin with.
//
//     const TaskLocal<std::string> request_id{"none"}; // at namespace scope: it outlives all tasks
//
//     Coro<std::string> label() { co_return "request " + co_await request_id.get(); }
//
//     Coro<std::string> handle(std::string id) {
//         co_await request_id.set(std::move(id));
//         auto worker = co_await spawn(label());
//         co_return co_await std::move(worker).join();
//     }
//
// A child starts with the values its parent has when it spawns it; what either sets later is its
// own. The values belong to the whole chain of awaits of a task, whichever coroutine set them, and
// are gone with the task. A coroutine that a Routine drives has values as well.
//
// Setting copies a list of as many pointers as the task has values; the values themselves are
// shared. Asking never allocates.
#pragma once

#include <coroutine>
#include <memory>
#include <type_traits>
#include <utility>

#include "attempt.hpp"
#include "frame.hpp"

namespace trapline {

namespace detail {

/// Answers the value that the frame has for `key`, or null.
const void* local_value(const TrapFrame& frame, const void* key) noexcept;

/// Sets it. A null value takes it away. Throws std::bad_alloc, and then nothing has changed.
std::shared_ptr<const void> exchange_local_value(TrapFrame& frame, const void* key,
                                                 std::shared_ptr<const void> value);

/// Awaits the frame of the coroutine that asks. Goes on at once, without a trap.
class FrameAwaiter {
public:
    using trapline_awaitable = void;

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        frame_ = self.promise().frame;
        return false;
    }

protected:
    TrapFrame& frame() const noexcept { return *frame_; }

private:
    TrapFrame* frame_ = nullptr;
};

} // namespace detail

/// Its address is its name: it neither copies nor moves, and must outlive the tasks that use it.
template <class T>
class TaskLocal {
    static_assert(std::is_object_v<T> && !std::is_const_v<T>);

public:
    TaskLocal() = default;
    /// What a task sees that has no value of its own.
    explicit TaskLocal(T initial) : initial_(std::move(initial)) {}
    TaskLocal(const TaskLocal&) = delete;
    TaskLocal& operator=(const TaskLocal&) = delete;

    class [[nodiscard]] Get : public detail::FrameAwaiter {
    public:
        explicit Get(const TaskLocal& local) noexcept : local_(local) {}
        T await_resume() const {
            const void* own = detail::local_value(frame(), &local_);
            return own ? *static_cast<const T*>(own) : local_.initial_;
        }

    private:
        const TaskLocal& local_;
    };

    class [[nodiscard]] Set : public detail::FrameAwaiter {
    public:
        Set(const TaskLocal& local, std::shared_ptr<const void> value) noexcept
            : local_(local), value_(std::move(value)) {}
        void await_resume() { detail::exchange_local_value(frame(), &local_, std::move(value_)); }

    private:
        const TaskLocal& local_;
        std::shared_ptr<const void> value_;
    };

    /// Answers a copy of the task's value. Never blocks.
    Get get() const noexcept { return Get{*this}; }

    /// Sets the task's value. Never blocks. Throws std::bad_alloc.
    Set set(T value) const { return {*this, std::make_shared<const T>(std::move(value))}; }

    /// Takes the task's value away: it sees the initial one again. Never blocks.
    Set reset() const noexcept { return {*this, nullptr}; }

    /// Answers the result of `what`, which runs with `value`; the value before is then restored,
    /// however `what` ended. Blocks as `what` does; an interrupt passes through.
    template <detail::Body W>
    auto with(T value, W what) const -> Coro<detail::body_result_t<W>> {
        detail::Outcome<detail::body_result_t<W>> outcome;
        auto&& body = detail::begin(what);
        detail::Attempt attempt{std::move(body), outcome}; // first: it refuses an empty coroutine
        auto before = co_await Exchange{*this, std::make_shared<const T>(std::move(value))};
        co_await attempt;
        co_await Set{*this, std::move(before)};
        co_return outcome.take();
    }

private:
    class Exchange : public detail::FrameAwaiter {
    public:
        Exchange(const TaskLocal& local, std::shared_ptr<const void> value) noexcept
            : local_(local), value_(std::move(value)) {}
        std::shared_ptr<const void> await_resume() {
            return detail::exchange_local_value(frame(), &local_, std::move(value_));
        }

    private:
        const TaskLocal& local_;
        std::shared_ptr<const void> value_;
    };

    T initial_{};
};

} // namespace trapline
