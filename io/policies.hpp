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
    /// All operations on these, closing included. Descriptors that it then gets by a trap, by
    /// accept() or socket or open, are added; those that it closes by one are taken out. What it
    /// makes without a trap (Pipe::open, UnixStream::pair, SignalSet) is not its own.
    std::vector<int> descriptors{};

    bool sockets = false; ///< make sockets of its own, and so connect and listen
    bool files = false;   ///< open files, and ask for the status of paths
    bool tasks = false;   ///< spawn tasks, which stand under the same policy, and cancel tasks
    bool threads = false; ///< wait for other threads, as run_in_thread and UniversalQueue do
};

/// Refuses all that is not permitted: "send to 127.0.0.1:9: Operation not permitted". A fence
/// against bugs, not a sandbox: what its code calls without a trap is not seen.
std::shared_ptr<Policy> allow_only(Permissions permissions);

/// I/O operations a second, evenly spaced; `burst` may come at once after a pause. Those in excess
/// are delayed. Operations that cannot be interrupted (closing and the like) are not counted.
/// Throws std::invalid_argument unless both are positive.
std::shared_ptr<Policy> rate_limit(double operations_per_second, unsigned burst = 1);

/// At most so many bytes received, sent, read and written, all in all. A transfer is cut to what is
/// left; after that it is EDQUOT, "Disk quota exceeded". A message or a lent buffer is not cut: the
/// last one may go beyond, and so may transfers that are under way at the same time.
std::shared_ptr<Policy> byte_quota(std::uint64_t bytes);

struct RetryOptions {
    unsigned attempts = 3; ///< the first one included
    Duration first = std::chrono::milliseconds{100};
    double factor = 2; ///< by which each pause is longer than the one before
    Duration longest = std::chrono::seconds{10};
    std::vector<int> errors{}; ///< errnos; none: those that pass, see is_passing()
};

/// An operation that failed by one of the errors is asked again after a pause.
std::shared_ptr<Policy> retry(RetryOptions options = {});

/// What may be otherwise soon: refused, unreachable or timed-out connections, and want of
/// descriptors, buffers or memory.
bool is_passing(int error) noexcept;

/// Nothing changes in the file system, and all seems to: what is written to regular files goes to
/// /dev/null, files are neither created nor cut when they are opened (one that is not there yet
/// stands for /dev/null), and fsync has nothing to do. What was written cannot be read back.
/// Throws std::system_error when /dev/null cannot be opened.
std::shared_ptr<Policy> dry_run();

} // namespace trapline
