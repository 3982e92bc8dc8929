// What a kernel needs of the world: the time, I/O, and a way to be woken from another thread.
// Here is a world without I/O or threads whose time is a number, for tasks that only sleep:
//
//     class VirtualTime final : public Engine {
//         TimePoint now() noexcept override { return time_; }
//         Started start(Operation& operation) noexcept override {
//             operation.result = -ENOSYS;
//             return Started::done;
//         }
//         void cancel(Operation&) noexcept override {}
//         void wait(TimePoint deadline, OperationList&) noexcept override {
//             time_ = std::max(time_, deadline);
//         }
//         void interrupt() noexcept override {}
//         std::string describe() const override { return "virtual time"; }
//
//         TimePoint time_{};
//     };
//
// Tasks that sleep for ever, or wait for threads (run_in_thread), need more: virtual_time(), and a
// wait() that looks at threads_awaited and ends with interrupt(), for time must not jump meanwhile.
// An engine is driven by one thread, its kernel's. `start` begins an operation; `wait` carries out
// what was begun, waits for the first completions and hands them over; `cancel` asks for an end.
// An operation that was started is over only when `wait` has handed it back: until then the
// engine may use the memory it points to, cancelled or not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "../traps/io_request.hpp"
#include "../traps/time.hpp"

namespace trapline {

struct TaskRecord;

/// An I/O operation under way. The kernel owns it; it does not move while it is in flight.
struct Operation {
    Operation() noexcept {}

    const traps::IoRequest* request = nullptr; ///< stays where it is while this is in flight

    // What comes of it; the engine fills this in.
    union {
        std::int64_t result = 0; ///< bytes, a descriptor, a mask or 0; or -errno
        TimePoint retry_at;      ///< the engine's, until there is a result
    };
    std::size_t transferred = 0;  ///< of a whole transfer (MSG_WAITALL): bytes done so far
    std::uint16_t stopped_by = 0; ///< errno that ended a whole transfer early; result is its bytes

    /// Somebody wants it to end. The engine then takes EINTR and the like for the end.
    bool cancel_requested = false;

    // The engine's.
    std::uint8_t phase = 0;
    std::uint8_t retries = 0;
    std::uint32_t slot = 0;

    Operation* next = nullptr; ///< in the list that holds it: the engine's own or the completions

    TaskRecord* task = nullptr; ///< the kernel's

    bool ended_by_cancel() const noexcept;
};

/// Operations in a row, first in, first out.
class OperationList {
public:
    bool empty() const noexcept { return first_ == nullptr; }

    void push(Operation& operation) noexcept {
        operation.next = nullptr;
        (last_ ? last_->next : first_) = &operation;
        last_ = &operation;
    }

    Operation* pop() noexcept {
        Operation* operation = first_;
        if (operation) {
            first_ = operation->next;
            if (!first_)
                last_ = nullptr;
        }
        return operation;
    }

    Operation* front() const noexcept { return first_; }

    /// O(n): for lists that are short or seldom searched.
    bool remove(Operation& operation) noexcept;

private:
    Operation* first_ = nullptr;
    Operation* last_ = nullptr;
};

class Engine {
public:
    enum class Started : std::uint8_t {
        in_flight, ///< wait() hands it back
        done,      ///< its result is there already
    };

    struct Counters {
        std::uint64_t system_calls = 0;  ///< made by the engine itself
        std::uint64_t operations = 0;    ///< started
        std::uint64_t accept_pauses = 0; ///< accepts put off for want of descriptors
        std::uint64_t overflows = 0;     ///< turns in which completions had overflowed
    };

    Engine() = default;
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;
    virtual ~Engine() = default;

    virtual TimePoint now() noexcept = 0;

    /// Begins `operation`. Never throws; failure is a result.
    virtual Started start(Operation& operation) noexcept = 0;

    /// Asks for the end of an operation in flight. Once for each; it comes back through wait(). If
    /// it completed after all, its result stands; else that is -ECANCELED.
    virtual void cancel(Operation& operation) noexcept = 0;

    /// Carries out what was started, and appends what has completed. With nothing completed it
    /// waits until something is, `deadline` or interrupt(); a deadline in the past just looks.
    /// May return early with nothing.
    virtual void wait(TimePoint deadline, OperationList& completed) noexcept = 0;

    /// Nothing is in flight on `fd`, and it will be used elsewhere.
    virtual void forget([[maybe_unused]] int fd) noexcept {}

    /// Makes wait() return. Any thread, any time.
    virtual void interrupt() noexcept = 0;

    /// For a kernel inside another loop: a descriptor that is readable as long as wait() would not
    /// wait, kept so from rest_until() on. The engine's. Throws std::system_error when it cannot be
    /// had, or (operation_not_supported) when the engine never has one: then this is the default.
    virtual int pollable_fd();

    /// The kernel goes back to the loop around it. Carries out what was started, and makes the
    /// descriptor, if it was asked for, readable when `deadline` has come: at once if that is
    /// TimePoint::min(). Holds until the next wait() or rest_until(). Never waits.
    virtual void rest_until(TimePoint /*deadline*/) noexcept {}

    /// Whether the clock jumps to the deadline where another engine would wait for it. Not to
    /// `never`: who sleeps for ever is a Deadlock then.
    virtual bool virtual_time() const noexcept { return false; }

    /// What it is and what it found, in a line.
    virtual std::string describe() const = 0;

    const Counters& counters() const noexcept { return counters_; }

    /// Tasks that other threads are going to wake. The kernel counts, for engines whose time jumps.
    std::uint64_t threads_awaited = 0;

protected:
    Counters counters_;
};

} // namespace trapline
