// The trap frame: what passes between a chain of coroutines and whatever drives it.
//
// An operating system saves a trap frame when user code enters the kernel. So do we: a coroutine
// that traps leaves here who it is and what it asks; the driver reads that, does it, leaves the
// reply and resumes. One frame serves a whole chain of coroutines that await each other, and
// resuming goes straight to the innermost, however deep it lies.
//
//     TrapFrame frame; // outlives the coroutine
//     Coro<int> coro = work();
//     coro.handle().promise().frame = &frame;
//     frame.innermost = coro.handle();
//     for (frame.resume(); !frame.ended(); frame.resume())
//         frame.reply = answer(frame.trap);
//
// Routine and Task have their frames, and connect them so.
#pragma once

#include <coroutine>
#include <cstdint>
#include <exception>
#include <memory>
#include <source_location>
#include <utility>
#include <vector>

#include "reply.hpp"
#include "trap.hpp"

namespace trapline {

/// One time-limit scope of a chain. Lives in the scope's own coroutine; the frame points to the
/// innermost, so that an interrupt is reported by the scope it belongs to.
struct TimeLimit {
    TimePoint deadline{};       ///< when it runs out
    TimePoint previous = never; ///< the deadline that stood before, restored on leaving
    TimeLimit* outer = nullptr;
    bool sooner = false;   ///< sooner than every outer one: if anything runs out, it is this
    bool disarmed = false; ///< by the kernel, when the task was cancelled inside
    bool ran_out = false;  ///< noted by the kernel: it interrupts once
};

/// Where coroutines of a chain were when an exception passed them, innermost first.
using AwaitChain = std::vector<std::source_location>;

/// The values of a task's TaskLocals, by their addresses. Shared with children until one changes.
using LocalValues = std::vector<std::pair<const void*, std::shared_ptr<const void>>>;

namespace detail {
class Policing;
}

/// The part of a frame that few tasks need.
struct FrameExtras {
    std::exception_ptr thrown;  ///< with Interrupt::thrown: what to throw
    std::exception_ptr failure; ///< the last one that left a coroutine
    AwaitChain failure_began;   ///< and where
    std::shared_ptr<const LocalValues> locals;
    std::shared_ptr<detail::Policing> policing; ///< what stands before the kernel, see policy.hpp
};

struct TrapFrame {
    // What every trap touches, close together.
    Trap trap;                         ///< what the innermost coroutine asks
    std::coroutine_handle<> innermost; ///< who asks; null when the outermost has ended
    Reply reply;                       ///< what it will see when it is resumed

    std::coroutine_handle<> next;        ///< hand-over that is left to the driver, see resume()
    TimeLimit* limit = nullptr;          ///< innermost time-limit scope
    std::unique_ptr<FrameExtras> extras; ///< made when it is first needed

    TrapFrame() = default;
    TrapFrame(const TrapFrame&) = delete;
    TrapFrame& operator=(const TrapFrame&) = delete;

    bool ended() const noexcept { return !innermost; }

    /// Mostly it is the one who asked before. To look costs less than to write
    /// (bench/micro/tasks.cpp).
    void asked_by(std::coroutine_handle<> self) noexcept {
        if (innermost != self)
            innermost = self;
    }

    /// Runs the chain until its next trap, or to its end. The reply must be in place.
    void resume() {
        innermost.resume();
        // Coroutines compiled without symmetric transfer leave the next one here: see hand_over().
        while (!innermost && next) [[unlikely]]
            std::exchange(next, nullptr).resume();
    }

    /// The source line of each await on the way in, innermost first, without those of the library's
    /// own coroutines. Only while it is suspended.
    AwaitChain where() const;

    void forget_failure() noexcept;

    /// Begins with the local values of `parent`, and under its policies. Throws std::bad_alloc.
    void inherit(const TrapFrame& parent) {
        if (parent.extras) [[unlikely]]
            inherit(*parent.extras);
    }

    /// Makes the extras if there are none yet.
    FrameExtras& with_extras() {
        if (!extras)
            extras = std::make_unique<FrameExtras>();
        return *extras;
    }

private:
    void inherit(const FrameExtras& parent);
};

namespace detail {

// One coroutine continues with another (a caller with its callee, and back) in one of two ways.
// Symmetric transfer jumps there directly: fastest, but it needs a guaranteed tail call, which
// clang gives on x86-64 and AArch64 at every level of optimisation. Elsewhere (g++ promises it
// only when optimising without sanitizers) a loop of a million awaits would overflow the stack,
// so the next handle is left in the frame and the driver goes on with it. Object files of both
// kinds can be linked together. tests/traps/coro_test.cpp awaits a million deep.
#if defined(__clang__) && (defined(__x86_64__) || defined(__aarch64__)) && \
    !defined(TRAPLINE_TRAMPOLINE)
inline namespace by_transfer { // names of their own, for programs that link both
using HandOver = std::coroutine_handle<>;
inline HandOver hand_over(TrapFrame&, std::coroutine_handle<> next) noexcept { return next; }
inline HandOver hand_to_driver() noexcept { return std::noop_coroutine(); }
} // namespace by_transfer
#else
inline namespace by_trampoline {
using HandOver = void;
inline HandOver hand_over(TrapFrame& frame, std::coroutine_handle<> next) noexcept {
    frame.innermost = nullptr;
    frame.next = next;
}
inline HandOver hand_to_driver() noexcept {}
} // namespace by_trampoline
#endif

/// Throws what the reply's interrupt stands for.
[[noreturn]] void raise_interrupt(TrapFrame& frame);

} // namespace detail

} // namespace trapline
