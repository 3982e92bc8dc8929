// Structured concurrency: tasks that never outlive the scope that spawned them.
//
//     int sum = co_await task_group([](TaskGroup& group) -> Coro<int> {
//         for (int i = 1; i <= 3; ++i)
//             co_await group.spawn(square, i);
//         int total = 0;
//         for (int result : co_await group.results<int>())
//             total += result;
//         co_return total;
//     });
//
// The body runs in the task that called task_group. When it has ended, the group waits for its
// children as WaitFor says, cancels those that still run, and waits until they have ended too. The
// first failure of a child ends the waiting early; TaskGroupError holds every failure. If the body
// throws, or an interrupt (cancellation, time limit) ends it or the waiting, the children are
// cancelled and waited for, with interrupts held back, before that passes on. Groups nest.
//
// A child's failure does not interrupt the body while that waits for something else than its
// group: what waits long is better a child itself. A child that somebody else cancelled has no
// result, but is no failure. Not thread-safe.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "attempt.hpp"
#include "coro.hpp"
#include "frame_pool.hpp"
#include "task.hpp"
#include "wait_queue.hpp"

namespace trapline {

/// What a group waits for before it cancels the rest. A failure always ends the waiting.
enum class WaitFor : std::uint8_t {
    all,    ///< all children
    any,    ///< the first that ends with a result, void included
    object, ///< the first whose result is something: not void, nor an empty optional or pointer
    none,   ///< nobody
};

/// Children of a group, or its body and children, ended by exceptions. The text lists them.
class TaskGroupError : public std::runtime_error {
public:
    TaskGroupError(const std::string& text, std::vector<std::exception_ptr> errors)
        : std::runtime_error(text), errors_(std::move(errors)) {}

    /// All of them: the body's, if it failed, then the children's in the order in which they ended.
    const std::vector<std::exception_ptr>& errors() const noexcept { return errors_; }

private:
    std::vector<std::exception_ptr> errors_;
};

class TaskGroup;

namespace detail {

struct GroupChild;
class GroupWait;
class NextDone;
template <class T>
class NextResult;
template <class T>
class GroupSpawn;
template <class Body>
using group_result_t = await_result_t<std::invoke_result_t<Body&, TaskGroup&>>;

/// How a child stands.
enum class ChildState : std::uint8_t { running, cancelled, failed, nothing, something };

} // namespace detail

/// The children of one task_group. Spawning is open to everyone who has a reference; the rest is
/// for the task that called task_group, and throws std::logic_error elsewhere when it would block.
class TaskGroup {
public:
    TaskGroup(const TaskGroup&) = delete;
    TaskGroup& operator=(const TaskGroup&) = delete;

    /// Like trapline::spawn: runs `body` as a child, and answers its handle. Never blocks. Throws
    /// std::bad_alloc. A child that comes while the group cancels the rest is cancelled too. A
    /// daemon child is not waited for: it is cancelled when the others have ended; its crash is
    /// logged and fails nobody, and its record is given up when it ends, where others are kept
    /// until they are taken or the group ends.
    template <class T>
    detail::GroupSpawn<T> spawn(Coro<T> body, const SpawnOptions& options = {});
    template <class F, class... Args>
        requires detail::CoroFunction<std::decay_t<F>, std::decay_t<Args>...>
    auto spawn(F&& function, Args&&... args);
    template <class F>
        requires detail::CoroFunction<std::decay_t<F>>
    auto spawn(F&& function, const SpawnOptions& options);

    /// Takes the child that ended first of those not taken yet, however it ended: a failure that
    /// is taken is the caller's, and not the group's any more. Answers an empty handle if no child
    /// is left. Blocks until there is one. An interrupt takes nothing.
    detail::NextDone next_done() noexcept;

    /// The same, and answers the child's result. Throws TaskError if it ended by an exception
    /// (which, if the body lets it out, leaves the group as TaskGroupError), std::logic_error if
    /// no child is left or its result is no T.
    template <class T>
    detail::NextResult<T> next_result() noexcept;

    /// Waits as WaitFor says, cancels the rest, and waits for its end. Throws TaskGroupError with
    /// the failures of children that were not taken, and takes them. Blocks. An interrupt leaves
    /// the children alone. Harmless twice.
    Coro<void> join();

    /// Joins, and takes all children. Answers their results in the order in which they were
    /// spawned. Throws as join() does, and TaskError if one was cancelled, std::logic_error if a
    /// result is no T: then none is taken. Blocks. Interrupts as with join().
    template <class T>
        requires std::is_object_v<T>
    Coro<std::vector<T>> results();

    /// Joins, takes completed(), and answers its result. Throws as join() does, and
    /// std::logic_error if there is none or its result is no T. Blocks. Interrupts as with join().
    template <class T>
    Coro<T> result();

    /// Cancels the children that still run, newest first, and waits until they have ended. Those
    /// that end by it are gone, as if they were taken. Blocks. If the caller is interrupted, they
    /// are cancelled none the less.
    Coro<void> cancel_remaining();

    // Plain questions.

    /// The child that WaitFor looks for: of those that ended with a result and were not taken the
    /// first, or with WaitFor::object the first whose result is something, if there is one. Empty
    /// if there is none.
    Task<> completed() const;

    /// Children that next_done has still to give: those that run, and those not taken.
    std::size_t size() const noexcept { return running_ + ended_; }
    bool empty() const noexcept { return size() == 0; }

    /// Children that have not ended, daemons included.
    std::size_t running() const noexcept { return running_ + daemons_; }

    /// A child has failed and was not taken.
    bool failed() const noexcept { return count(detail::ChildState::failed) > 0; }

private:
    friend class detail::GroupWait;
    friend class detail::NextDone;
    template <class T>
    friend class detail::NextResult;
    template <class T>
    friend class detail::GroupSpawn;
    template <class Body>
        requires std::invocable<Body&, TaskGroup&>
    friend Coro<detail::group_result_t<Body>> task_group(WaitFor wait_for, Body body);

    /// What the group's own task waits for.
    enum class Until : std::uint8_t {
        woken,   ///< nothing: it does not wait
        next,    ///< there is a child to take, or none will come
        settled, ///< what WaitFor says
        over,    ///< all have ended
    };

    explicit TaskGroup(WaitFor wait_for) noexcept : wait_for_(wait_for) {}
    ~TaskGroup();

    std::size_t count(detail::ChildState state) const noexcept {
        return counts_[static_cast<std::size_t>(state)];
    }
    bool reached(Until until) const noexcept;
    void add(detail::GroupChild& child) noexcept;
    static void child_ended(void* context) noexcept;
    void append_ended(detail::GroupChild& child) noexcept;
    void forget(detail::GroupChild& child) noexcept;
    detail::GroupChild* winner() const noexcept;
    Task<> take(detail::GroupChild& child) noexcept;
    bool is_of_child(const std::exception_ptr& failure) const noexcept;
    TaskGroupError take_failures();
    Coro<void> leave();
    [[noreturn]] static void raise_no_result(const char* what);
    [[noreturn]] static void raise_other_type(const TaskRecord& task);
    template <class T>
    static detail::TaskCell<T>& cell_of(TaskRecord& task);

    WaitFor wait_for_;
    Until until_ = Until::woken;
    bool leaving_ = false; // the body has ended
    const TrapFrame* owner_ = nullptr;
    WaitQueue waiting_; // the owner alone
    // All children but those taken, in the order in which they came, and of these those that have
    // ended, in that order.
    detail::GroupChild* oldest_ = nullptr;
    detail::GroupChild* newest_ = nullptr;
    detail::GroupChild* first_ended_ = nullptr;
    detail::GroupChild* last_ended_ = nullptr;
    std::size_t running_ = 0; // without daemons
    std::size_t daemons_ = 0;
    std::size_t ended_ = 0;
    std::array<std::size_t, 5> counts_{}; // of those ended, by their state
    std::exception_ptr failure_;          // what ended the body
    std::exception_ptr raised_;           // the TaskError that next_result threw last
};

/// Runs `body(group)`, which returns a coroutine, and answers its result. When it is over, every
/// child has ended. Throws TaskGroupError if children failed and nobody took them; the body's own
/// exception if it alone failed; an interrupt as it is. Failures that an interrupt pushes aside are
/// logged as crashes. Blocks.
template <class Body>
    requires std::invocable<Body&, TaskGroup&>
Coro<detail::group_result_t<Body>> task_group(WaitFor wait_for, Body body);
template <class Body>
    requires std::invocable<Body&, TaskGroup&>
Coro<detail::group_result_t<Body>> task_group(Body body) {
    return task_group(WaitFor::all, std::move(body));
}

} // namespace trapline

#include "group.inl.hpp"
