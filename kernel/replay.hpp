// Replays: a program runs again as a recording says, without the network, the clock or an engine.
//
//     // Throws ReplayDiverged, which names the trap, the task, where it awaits, and what it did.
//     run(work(), {.replay = path});
//
// KernelOptions::replay does it for a kernel, TRAPLINE_REPLAY=FILE for any program, kernel by
// kernel as TRAPLINE_RECORD numbers them. The recording says which task goes on next, and with
// what reply; what Linux had written into memory is written there again. Each trap must be the one
// that was recorded. Nothing is received, sent, read or written by traps, and no time passes.
//
// But the program's own system calls, and functions of run_in_thread, are carried out. Descriptors
// are stand-ins under the numbers they had: they can be closed, and little else. What depends on
// such calls, random numbers, the environment, the wall clock, or on a thread's being faster than
// a task, can differ, and then the replay stops at the first trap that does; so it is with TLS,
// whose keys are random. Signals cancel nobody but as recorded: SIGINT ends the replay. Policies
// are not asked. Refused, by operation_not_supported, are run_once() and pollable_fd(). What is not
// in a recording, and how that of a started or forked program (FILE-PID) is replayed, is in
// kernel/RECORDING.md.
//
// KernelOptions::replay_until (TRAPLINE_REPLAY_UNTIL=N) stops before trap N: under a debugger by
// SIGTRAP, before the task that will trap is resumed, with the text of ReplayStopped in the log;
// else by that. A program that was built anew is refused, unless TRAPLINE_REPLAY_ANYWAY=1. One with
// more rights than its user (setuid) heeds none of these variables.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace trapline {

/// The file is no recording, or one of another version or program, or it is damaged. Thrown when
/// the kernel is made, and by run() and shutdown() where its events cannot be, or the file has been
/// changed since. A file that cannot be read at all: std::system_error.
class RecordingError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// What run() and shutdown() throw when the replay cannot go on. All its tasks are destroyed then.

/// The program did something else than was recorded. The text names the trap by its number, the
/// task, where it awaits, what was recorded and what came.
class ReplayDiverged : public std::runtime_error {
public:
    ReplayDiverged(const std::string& text, std::uint64_t trap)
        : std::runtime_error(text), trap_(trap) {}

    /// Its number, from 1: what KernelOptions::replay_until counts.
    std::uint64_t trap() const noexcept { return trap_; }

private:
    std::uint64_t trap_;
};

/// The recording ends before the program: it was killed, or its disk was full. The text lists what
/// each task waits in.
class ReplayEnded : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// KernelOptions::replay_until was reached. The text says who would go on, with what, and lists
/// what each task waits in.
class ReplayStopped : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

} // namespace trapline
