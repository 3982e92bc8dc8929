// The bad news that traps bring, in three families. Trap calls answer std::expected<T,
// std::error_code>; io/ objects throw std::system_error with the operation and the peer or path;
// interrupts throw `Cancelled` and its kin, which are no std::exception on purpose: a handler for
// errors does not swallow a cancellation.
//
//     try {
//         co_await work();
//     } catch (const std::exception& error) { // no interrupt comes here
//         note = error.what();
//     } catch (const Cancelled&) { // to clean up; throw it on
//         note = "interrupted";
//         throw;
//     }
//
// What goes wrong with tasks themselves (TaskError, UncaughtTimeout, Deadlock) is a runtime_error.
#pragma once

#include <cstddef>
#include <exception>
#include <source_location>
#include <stdexcept>
#include <string>

#include "time.hpp"

namespace trapline {

/// Base of all interrupts. Let it pass, or catch it to clean up and throw it on.
class Cancelled {
public:
    virtual ~Cancelled() = default;

    virtual const char* what() const noexcept { return "cancelled"; }

    /// Bytes that a transfer of many (send_all, recv_exactly, ...) had moved when it was stopped.
    std::size_t progress() const noexcept { return progress_; }
    void set_progress(std::size_t bytes) noexcept { progress_ = bytes; }

protected:
    Cancelled() = default;
    Cancelled(const Cancelled&) = default;
    Cancelled& operator=(const Cancelled&) = default;

private:
    std::size_t progress_ = 0;
};

/// Somebody cancelled the task (Task::cancel, the kernel's shutdown).
class TaskCancelled final : public Cancelled {
public:
    const char* what() const noexcept override { return "task cancelled"; }
};

/// The time limit of the innermost scope ran out. Outside of the scope: that scope's own report.
class TaskTimeout final : public Cancelled {
public:
    /// @param reported the scope with this deadline has been left, this is its report
    explicit TaskTimeout(TimePoint deadline, bool reported = false) noexcept
        : deadline_(deadline), reported_(reported) {}

    const char* what() const noexcept override { return "time limit exceeded"; }
    TimePoint deadline() const noexcept { return deadline_; }
    bool reported() const noexcept { return reported_; }

private:
    TimePoint deadline_;
    bool reported_;
};

/// The time limit of an outer scope ran out: it passes the inner ones as a cancellation.
class TimeoutCancellation final : public Cancelled {
public:
    explicit TimeoutCancellation(TimePoint deadline) noexcept : deadline_(deadline) {}

    const char* what() const noexcept override { return "cancelled by an outer time limit"; }
    TimePoint deadline() const noexcept { return deadline_; }

private:
    TimePoint deadline_;
};

/// A scope's TaskTimeout was not caught and reached another time-limit scope, whose limit has
/// not run out: the code between the two forgot to handle it.
class UncaughtTimeout : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// join(): the task ended by an exception, `cause()`.
class TaskError : public std::runtime_error {
public:
    TaskError(const std::string& text, std::exception_ptr cause)
        : std::runtime_error(text), cause_(std::move(cause)) {}

    const std::exception_ptr& cause() const noexcept { return cause_; }
    [[noreturn]] void rethrow_cause() const { std::rethrow_exception(cause_); }

private:
    std::exception_ptr cause_;
};

/// run(): no task can ever go on. The text lists each one, its trap and where it waits.
class Deadlock : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// A source location as "file:line (function)".
std::string describe(const std::source_location& at);

/// Whether it is one of the `Cancelled` family.
bool is_interrupt(const std::exception_ptr& failure) noexcept;

/// What an exception says of itself, for messages: what(), or its type's name.
std::string message_of(const std::exception_ptr& failure);

} // namespace trapline
