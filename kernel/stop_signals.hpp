// Internal. The signals of KernelOptions::cancel_on: blocked while a main runs, and waited for by
// an operation of the kernel's own, which is nobody's task. See kernel/README.md.
#pragma once

#include <csignal>
#include <vector>

#include "engine.hpp"

#include "kernel.hpp"

namespace trapline {

class StopSignals {
public:
    /// Throws std::system_error for what is no signal, or cannot be blocked.
    explicit StopSignals(const std::vector<int>& signals);
    StopSignals(const StopSignals&) = delete;
    StopSignals& operator=(const StopSignals&) = delete;
    /// Lets the signals through.
    ~StopSignals();

    /// Blocks the signals in this thread. Harmless twice.
    void block();

    /// As the thread's mask was before. Where a signal has been taken since block(), those that
    /// came after it are repetitions, and dropped; else they now do what the program has set up.
    void let_through() noexcept;

    /// Takes a signal off, if one has come. Never blocks.
    bool take() noexcept;

    /// Whether a signal was taken since block().
    bool taken() const noexcept { return taken_; }

    /// The wait for a signal, to be started with the engine. It belongs to no task.
    Operation operation;
    bool in_flight = false;

private:
    sigset_t signals_;
    sigset_t freed_; ///< those of them to let through again
    int fd_ = -1;
    bool blocking_ = false;
    bool taken_ = false;
    traps::IoRequest request_;
};

/// While a kernel runs main.
class Kernel::SignalScope {
public:
    explicit SignalScope(Kernel& kernel);
    SignalScope(const SignalScope&) = delete;
    SignalScope& operator=(const SignalScope&) = delete;
    ~SignalScope();

    void cancel(TaskRecord& main) noexcept; ///< when one comes

private:
    Kernel& kernel_;
    bool came_ = false;
};

} // namespace trapline
