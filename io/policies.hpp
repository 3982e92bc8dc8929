// Policies that are ready to use, for with_policy().
//
//     Coro<void> converse(TcpStream client); // may talk to its client and do nothing else
//
//     const auto fence = allow_only({.descriptors = {client.fd()}});
//     co_await spawn(with_policy(fence, converse(std::move(client))));
//
// Each makes a policy that may serve several tasks of one kernel, which then share it: they have
// one quota, one rate. All throw std::bad_alloc; nothing of them blocks.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "../traps/policy.hpp"

namespace trapline {

/// What a task may do besides computing, sleeping, and waiting for other tasks.
struct Permissions {
    /// All operations on these, closing included, and handing them to others by a message.
    /// Descriptors that it then gets by a trap, by accept() or socket or open or a message, are
    /// added; those that it closes by one are taken out. So close() what is not needed any more: a
    /// destructor asks nobody, and the number stays permitted. What it makes without a trap
    /// (Pipe::open, UnixStream::pair, SignalSet) is not its own; closed by close(), it is refused
    /// and stays the object's.
    std::vector<int> descriptors{};

    bool sockets = false; ///< make sockets of its own, and so connect and listen
    bool files = false;   ///< open files, ask for the status of paths, write_file() and truncate()
    bool tasks = false;   ///< spawn tasks, which stand under the same policy
    /// Wait for other threads, as run_in_thread and UniversalQueue do, and resolve() where the
    /// library is built without c-ares. What a thread or a Portal does then is not seen.
    bool threads = false;
};

/// Refuses all that is not permitted: "send to 127.0.0.1:9: Operation not permitted". A fence
/// against bugs, not a sandbox: what its code calls without a trap is not seen.
std::shared_ptr<Policy> allow_only(Permissions permissions);

/// I/O operations a second, evenly spaced; `burst` may come at once after a pause. Those in excess
/// are delayed; who gives up meanwhile has taken nothing. Waiting until a descriptor is ready
/// counts, too: it is what recv_many() and splice() ask for, and they do the rest without a trap.
/// Operations that cannot be interrupted (closing and the like) are not counted. Throws
/// std::invalid_argument unless both are positive.
std::shared_ptr<Policy> rate_limit(double operations_per_second, unsigned burst = 1);

/// At most so many bytes received, sent, read and written, all in all. A transfer is cut to what is
/// left; after that it is EDQUOT, "Disk quota exceeded", also where a stream has ended just there.
/// A message, a vectored send or a lent buffer is not cut: the last one may go beyond, and so may
/// transfers that are under way at the same time. A splice counts when it leaves its pipe. Not
/// seen: what recv_many() receives, and all of a send_many() but its first message.
std::shared_ptr<Policy> byte_quota(std::uint64_t bytes);

struct RetryOptions {
    unsigned attempts = 3; ///< the first one included
    Duration first = std::chrono::milliseconds{100};
    double factor = 2; ///< by which each pause is longer than the one before
    Duration longest = std::chrono::seconds{10};
    /// Errnos, of whatever operation. None: those of is_passing(), where something is opened: by
    /// Connect, Accept, Socket, OpenAt. A connection that has broken stays broken, and to ask again
    /// would hide it: Linux tells an error of a socket once.
    std::vector<int> errors{};
};

/// An operation that failed by one of the errors is asked again after a pause. Of two that stand
/// around a task each counts the attempts of both.
std::shared_ptr<Policy> retry(RetryOptions options = {});

/// What may be otherwise soon: refused, unreachable or timed-out connections, and want of
/// descriptors, buffers or memory.
bool is_passing(int error) noexcept;

/// No file changes, and all seems to: what is written to regular files goes to /dev/null, files are
/// neither created nor cut when they are opened (one that is not there yet is one in memory),
/// fsync has nothing to do, and write_file() and truncate() no effect. What was written cannot be
/// read back. Functions of run_in_thread do what they do, and a Unix-domain listener has its path.
/// To open a file for writing may block for as long as the disk takes. Throws std::system_error
/// when /dev/null cannot be opened.
std::shared_ptr<Policy> dry_run();

} // namespace trapline
