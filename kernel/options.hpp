// What can be chosen when a kernel is made, each with its default, and all limits in one place.
//
//     Kernel kernel{{
//         .uring = {.entries = 128, .completions = 1024},
//         .cancel_on = stop_signals,
//         .shutdown_patience = 1s,
//         .log = [&](std::string_view line) { journal.emplace_back(line); },
//     }};
#pragma once

#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine.hpp"
#include "observer.hpp"

namespace trapline {

/// How a ring is set up. Less is taken, step by step, where the system does not grant it.
struct UringOptions {
    /// When completions are worked off. `automatic` takes the first that the running Linux has.
    enum class Mode : std::uint8_t {
        automatic,
        deferred,    ///< when the kernel asks for completions: SINGLE_ISSUER, DEFER_TASKRUN
        cooperative, ///< at the task's next system call: COOP_TASKRUN
        plain,       ///< at once, interrupting the program
    };

    unsigned entries = 512;      ///< submissions queued for one system call
    unsigned completions = 4096; ///< room for completions; more are kept by Linux, slower
    unsigned entries_min = 64;   ///< with less than this the ring counts as refused
    unsigned reaped_max = 4096;  ///< completions taken off the ring in one turn
    Mode mode = Mode::automatic;

    /// Buffers that receive() lends, rounded up to a power of two; made when it is first used. More
    /// than 64 take memory when so many are lent at a time. With 0, and on Linux before 5.19, each
    /// receive() takes one of its own before it waits.
    unsigned receive_buffers = 256;
    unsigned receive_buffer_bytes = 4096;
};

/// The engine for where io_uring is not to be had.
struct EpollOptions {
    unsigned events = 512; ///< readiness reports taken in one turn
    /// At most so many threads, made when they are first needed, for what no readiness tells of:
    /// mostly operations on files. Nothing interrupts what one has begun with: an open of a FIFO
    /// without a writer, a write to a terminal that nobody reads or of more than fits into a
    /// blocking eventfd. It keeps its thread, and shutdown waits for it. When all are kept so,
    /// other files wait; they can be cancelled then, and a Close is done on the spot.
    unsigned threads = 4;

    /// Buffers that receive() lends; made when it is first used. With 0 each lease has its own.
    unsigned receive_buffers = 256;
    unsigned receive_buffer_bytes = 4096;
};

/// What asks a program to end, from the keyboard and from a service manager: for `cancel_on`.
inline constexpr std::initializer_list<int> stop_signals{SIGINT, SIGTERM};

struct KernelOptions {
    /// "uring" or "epoll"; or "simulation", where nothing is behind the kernel but a clock: it
    /// begins at a million seconds, stands still while tasks run, and jumps to the next deadline
    /// when nobody is ready (with a thread awaited, not before the deadline has really come). All
    /// I/O is refused there: function_not_supported. Empty: the environment variable
    /// TRAPLINE_ENGINE, else uring. Where nobody chose, and the system refuses io_uring, it is
    /// epoll, and the log says why.
    std::string engine{};

    /// Makes another engine instead.
    std::function<std::unique_ptr<Engine>()> make_engine{};

    UringOptions uring{};
    EpollOptions epoll{};

    /// Sees every step. Not owned; outlives the kernel.
    Observer* observer = nullptr;

    /// Records all that happens into this file, see recorder.hpp. Empty: the environment variable
    /// TRAPLINE_RECORD, else nothing is recorded.
    std::string record{};

    /// Plays the recording in this file again instead of doing anything, see replay.hpp: there is
    /// no engine then. Empty: the environment variable TRAPLINE_REPLAY, else it is no replay.
    std::string replay{};

    /// A replay stops before this trap, counted from 1; the log says if there is none. 0: in a
    /// program's first kernel the environment variable TRAPLINE_REPLAY_UNTIL, else it goes on to
    /// the end.
    std::uint64_t replay_until = 0;

    /// Shuffles the ready tasks of each turn, to show that nothing depends on their order.
    std::optional<std::uint64_t> shuffle_seed{};

    /// Ignores SIGPIPE from now on if the program left it at its default, which would end it
    /// when a peer closes.
    bool ignore_sigpipe = true;

    /// Signals that cancel main, as Task::cancel would: it sees TaskCancelled at its next blocking
    /// trap, cleans up, and run() throws what it then throws. Further ones change nothing, and are
    /// dropped when run() is over.
    ///
    /// The signals are blocked in the kernel's thread during run(), and in threads that start from
    /// there meanwhile; trapline::run() with a main that a signal has cancelled keeps them blocked
    /// until it has shut down, too. A thread from before that does not block them may still be
    /// killed by one. Each signal cancels the main of one kernel: of several that ask for it, on as
    /// many threads, whichever takes it first. A SignalSet takes other signals beside it, of the
    /// same ones some. As a signal can always come, there is no Deadlock before one has. A kernel
    /// is refused with std::system_error for what is no signal, SIGKILL and SIGSTOP.
    std::vector<int> cancel_on{};

    /// How long shutdown() waits for the tasks that it cancelled before it names those that are
    /// left in the log and interrupts them once more. And again, until all have ended. In a replay
    /// also how long a thread may keep a task waiting before the log says so; after twelve times
    /// that, and four times what it took when it was recorded, the replay gives up.
    Duration shutdown_patience = std::chrono::seconds{5};

    /// Where the kernel's own few messages go, one line each; stderr by default. Crashes that
    /// nobody can be told of are logged when a task's last handle goes, which may outlive the
    /// kernel: those always go to stderr.
    std::function<void(std::string_view)> log{};
};

} // namespace trapline
