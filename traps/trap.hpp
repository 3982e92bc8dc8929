// The traps: everything a coroutine can ask of whatever drives it. A trap is a plain value: it
// holds arguments, never behaviour. `result` names the type of its answer.
//
// "Blocks": the task may have to wait, and others run meanwhile. A trap that does not block is
// answered without giving up the turn. "Interruptible": cancellation and time limits can end it.
// Interrupts that come at another time wait for the next interruptible trap.
//
// A trap can be awaited as it is, and answers std::expected:
//
//     TimePoint woke = (co_await traps::Sleep{5ms}).value();
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <variant>

#include "io_request.hpp"
#include "time.hpp"

namespace trapline {

struct TaskRecord;
class WaitQueue;
class ThreadCompletion;

namespace traps {

/// Lets the other ready tasks run first. Answers nothing. Blocks. Interruptible.
struct Yield {
    using result = void;
};

/// Wakes the task when `duration` has passed; not positive: after the other ready tasks.
/// Answers the time at waking. Blocks. Interruptible.
struct Sleep {
    Duration duration;
    using result = TimePoint;
};

/// Wakes the task at `time`; in the past: after the other ready tasks.
/// Answers the time at waking. Blocks. Interruptible.
struct SleepUntil {
    TimePoint time;
    using result = TimePoint;
};

/// Answers the kernel's time. Does not block.
struct Clock {
    using result = TimePoint;
};

/// Answers the record of the asking task. Does not block.
struct Self {
    using result = TaskRecord*;
};

/// Runs `task` too: it becomes the last of the ready ones. Answers nothing; -EALREADY for one
/// that was spawned before. Does not block.
struct Spawn {
    TaskRecord* task;
    using result = void;
};

/// Waits until `task` has ended; itself: -EDEADLK. Answers nothing. Blocks. Interruptible.
struct Join {
    TaskRecord* task;
    using result = void;
};

enum class CancelReason : std::uint8_t {
    request,  ///< another task asked for it
    shutdown, ///< the kernel shuts down
};

/// What became of a cancellation.
enum class Delivery : std::uint8_t {
    delivered, ///< the task was blocked and will see it
    pending,   ///< it will see it at its next interruptible trap
    over,      ///< it had already ended
};

/// Interrupts `task`; itself: -EDEADLK. Answers what became of it. Does not block.
struct Cancel {
    TaskRecord* task;
    CancelReason reason = CancelReason::request;
    using result = Delivery;
};

/// Puts a deadline on the asking task, unless an earlier one stands. Answers the one that stood
/// before (`never` if none). Does not block.
struct SetTimeout {
    std::variant<Duration, TimePoint> limit;
    using result = TimePoint;
};

/// Takes the deadline off again and restores `previous`. An interrupt by the one taken off that
/// was not delivered yet is forgotten. Answers nothing. Does not block.
struct UnsetTimeout {
    TimePoint previous;
    using result = void;
};

/// Holds interrupts back (on) or lets them through again. Answers whether they were held back
/// before. Does not block.
struct Mask {
    bool on;
    using result = bool;
};

/// Sleeps on `queue` until woken there. Answers nothing. Blocks. Interruptible: a task that was
/// woken is never interrupted by the same Park, and one that was interrupted was not woken.
struct Park {
    WaitQueue* queue;
    using result = void;
};

/// Waits for another thread to complete `completion`. Answers its value, which is an -errno if it
/// is negative. Blocks. Interruptible unless the thread has already completed it. A second task
/// that awaits the same completion: -EBUSY.
struct AwaitThread {
    ThreadCompletion* completion;
    using result = std::int64_t;
};

/// Waits until fd is readable. Answers the poll mask. Blocks. Interruptible; consumes nothing.
/// A second reader on one fd: -EBUSY.
struct ReadWait {
    int fd;
    using result = short;
};

/// Waits until fd is writable. Answers the poll mask. Blocks. Interruptible; consumes nothing.
/// A second writer on one fd: -EBUSY.
struct WriteWait {
    int fd;
    using result = short;
};

/// Ends what is in flight on fd (its tasks get -ECANCELED), and forgets what was kept for it.
/// For descriptors that are closed elsewhere. While it waits, others get -EBADF as if fd were
/// closed. Answers nothing. Blocks. Not interruptible.
struct IoRelease {
    int fd;
    using result = void;
};

/// One I/O operation. Answers bytes, a descriptor or 0, or -errno. Blocks. Interruptible where
/// the request says so; a result that came first is delivered, and the interrupt waits.
struct Io {
    IoRequest request;
    using result = std::int64_t;
};

} // namespace traps

using Trap = std::variant<traps::Yield, traps::Sleep, traps::SleepUntil, traps::Clock, traps::Self,
                          traps::Spawn, traps::Join, traps::Cancel, traps::SetTimeout,
                          traps::UnsetTimeout, traps::Mask, traps::Park, traps::AwaitThread,
                          traps::ReadWait, traps::WriteWait, traps::IoRelease, traps::Io>;

static_assert(std::is_trivially_copyable_v<Trap> && sizeof(Trap) <= 64);

namespace traps {

/// The trap's name as in "ReadWait", for messages.
const char* name_of(const Trap& trap) noexcept;

/// The name of the trap with that index.
const char* name_of(std::size_t index) noexcept;

} // namespace traps

namespace detail {

template <class T, class Variant>
inline constexpr bool is_alternative = false;
template <class T, class... Ts>
inline constexpr bool is_alternative<T, std::variant<Ts...>> = (std::is_same_v<T, Ts> || ...);

/// Position of T among the alternatives, for switches over `trap.index()`.
template <class T, class... Ts>
consteval std::size_t index_among(const std::variant<Ts...>*) noexcept {
    std::size_t index = 0;
    (void)((std::is_same_v<T, Ts> || (++index, false)) || ...);
    return index;
}

} // namespace detail

/// T is one of the traps.
template <class T>
concept TrapType = detail::is_alternative<T, Trap>;

template <TrapType T>
inline constexpr std::size_t trap_index = detail::index_among<T>(static_cast<Trap*>(nullptr));

} // namespace trapline
