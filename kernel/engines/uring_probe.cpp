#include "uring_probe.hpp"

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <system_error>
#include <thread>
#include <utility>

#include <sys/utsname.h>

namespace trapline {

namespace {

using Mode = UringOptions::Mode;

constexpr unsigned common_flags = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE;

struct ModeFlags {
    Mode mode;
    unsigned flags;
};

// From the best down. SUBMIT_ALL (5.18): one bad submission does not hold up the rest.
constexpr ModeFlags all_modes[] = {
    {Mode::deferred, IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
                         IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG}, // 6.1
    {Mode::cooperative,
     IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG}, // 5.19
    {Mode::plain, IORING_SETUP_SUBMIT_ALL},                                            // 5.18
    {Mode::plain, 0},
};

/// How long a ring is waited for that gets no memory at any size. Linux gives back that of closed
/// rings late (after 26 ms on Linux 6.18), and counts it for their user until then.
constexpr auto patience = std::chrono::milliseconds(200);

/// 0 or -errno.
int try_ring(io_uring& ring, unsigned entries, unsigned completions, unsigned flags) {
    io_uring_params parameters{};
    parameters.flags = common_flags | flags;
    parameters.cq_entries = std::max(completions, entries * 2);
    return io_uring_queue_init_params(entries, &ring, &parameters);
}

/// The same. Locked memory may be scarce, and a smaller ring fits.
int try_any_size(io_uring& ring, const UringOptions& options, unsigned flags) {
    unsigned entries = options.entries;
    unsigned completions = options.completions;
    int error;
    do {
        error = try_ring(ring, entries, completions, flags);
        entries /= 2;
        completions /= 2;
    } while (error == -ENOMEM && entries >= options.entries_min && entries > 0);
    return error;
}

std::string advice(int error, Mode asked) {
    switch (error) {
    case EPERM:
    case EACCES:
        return "the system forbids it: a container's seccomp profile, or sysctl "
               "kernel.io_uring_disabled; allow io_uring_setup, io_uring_enter and "
               "io_uring_register, or set the sysctl to 0";
    case ENOSYS: return "this Linux has no io_uring, or hides it";
    case ENOMEM: return "not enough lockable memory: raise `ulimit -l` (RLIMIT_MEMLOCK)";
    case EMFILE:
    case ENFILE: return "no descriptors left: raise `ulimit -n` (RLIMIT_NOFILE)";
    case EINVAL:
        return std::string("this Linux is too old for it") +
               (asked == Mode::automatic ? ""
                                         : "; UringOptions::Mode::automatic takes the best there "
                                           "is");
    default: return "see io_uring_setup(2)";
    }
}

[[noreturn]] void refuse(int error, Mode asked = Mode::automatic) {
    throw std::system_error(error, std::system_category(),
                            "io_uring cannot be set up (" + advice(error, asked) + ")");
}

/// 0, or what keeps this ring from being used: an old Linux, or a sandbox that allows only some of
/// the calls.
int error_of_operations(io_uring& ring) {
    constexpr unsigned operations_max = 256;
    alignas(io_uring_probe)
        std::byte memory[sizeof(io_uring_probe) + operations_max * sizeof(io_uring_probe_op)]{};
    auto* const probe = reinterpret_cast<io_uring_probe*>(memory);
    if (const int error = -io_uring_register_probe(&ring, probe, operations_max))
        return error == EINVAL ? ENOSYS : error;
    for (const int operation :
         {IORING_OP_NOP, IORING_OP_POLL_ADD, IORING_OP_ACCEPT, IORING_OP_CONNECT, IORING_OP_RECV,
          IORING_OP_SEND, IORING_OP_RECVMSG, IORING_OP_SENDMSG, IORING_OP_READ, IORING_OP_WRITE,
          IORING_OP_OPENAT, IORING_OP_OPENAT2, IORING_OP_CLOSE, IORING_OP_FSYNC, IORING_OP_STATX,
          IORING_OP_SPLICE, IORING_OP_ASYNC_CANCEL}) {
        if (!io_uring_opcode_supported(probe, operation))
            return ENOSYS;
    }
    return 0;
}

/// Asks for a wait until a time that is past, and answers what came of it: ETIME, or EINVAL of a
/// Linux that does not know the flag.
int try_absolute_timer(io_uring& ring) {
    __kernel_timespec past{0, 1};
    io_uring_getevents_arg argument{};
    argument.ts = reinterpret_cast<std::uintptr_t>(&past);
    return -io_uring_enter2(static_cast<unsigned>(ring.ring_fd), 0, 1,
                            IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | IORING_ENTER_ABS_TIMER,
                            reinterpret_cast<sigset_t*>(&argument), sizeof argument);
}

/// 5.19 takes the hint and tells of TCP, 6.17 also of Unix sockets. Only the version shows that.
DrainedKnown drained_known() {
    utsname system{};
    int major = 0;
    int minor = 0;
    if (uname(&system) != 0 || std::sscanf(system.release, "%d.%d", &major, &minor) != 2)
        return DrainedKnown::never;
    const std::pair version{major, minor};
    if (version >= std::pair{6, 17})
        return DrainedKnown::always;
    return version >= std::pair{5, 19} ? DrainedKnown::if_short : DrainedKnown::never;
}

/// What the ring that was granted can do; refuses one that cannot be used.
UringFeatures probe_ring(io_uring& ring, Mode mode, bool task_run_flag) {
    constexpr unsigned needed =
        IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_EXT_ARG;
    int error = (ring.features & needed) == needed ? error_of_operations(ring) : ENOSYS;
    const int timer = error ? error : try_absolute_timer(ring);
    if (timer == EPERM || timer == EACCES || timer == ENOSYS)
        error = timer;
    if (error) {
        io_uring_queue_exit(&ring);
        refuse(error);
    }
    io_uring_ring_dontfork(&ring);
    UringFeatures features{.mode = mode, .task_run_flag = task_run_flag};
    features.registered_ring = io_uring_register_ring_fd(&ring) == 1;
    features.absolute_timer = timer == ETIME;
    features.drained = drained_known();
    features.no_iowait = (ring.features & IORING_FEAT_NO_IOWAIT) != 0;
    unsigned workers[2] = {8, 32};                      // for files, for all else
    io_uring_register_iowq_max_workers(&ring, workers); // a limit, not a need
    return features;
}

const char* name_of(Mode mode) {
    switch (mode) {
    case Mode::deferred: return "deferred task work";
    case Mode::cooperative: return "cooperative task work";
    case Mode::automatic:
    case Mode::plain: break;
    }
    return "plain task work";
}

} // namespace

UringFeatures make_ring(io_uring& ring, const UringOptions& options) {
    int error = -EINVAL;
    for (const ModeFlags& candidate : all_modes) {
        if (options.mode != Mode::automatic && options.mode != candidate.mode)
            continue;
        const auto patient_until = std::chrono::steady_clock::now() + patience;
        for (;;) {
            error = try_any_size(ring, options, candidate.flags);
            if (error != -ENOMEM || std::chrono::steady_clock::now() >= patient_until)
                break;
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        if (error == -EINVAL) // a flag that the kernel does not know
            continue;
        if (error < 0)
            refuse(-error, options.mode);
        const bool task_run_flag = (candidate.flags & IORING_SETUP_TASKRUN_FLAG) != 0;
        return probe_ring(ring, candidate.mode, task_run_flag);
    }
    refuse(-error, options.mode);
}

std::string describe_ring(const io_uring& ring, const UringFeatures& features) {
    utsname system{};
    uname(&system);
    std::string text = "io_uring on Linux " + std::string(system.release) + ": " +
                       std::to_string(ring.sq.ring_entries) + " entries, " +
                       std::to_string(ring.cq.ring_entries) + " completions, " +
                       name_of(features.mode);
    if (features.registered_ring)
        text += ", registered ring";
    if (features.absolute_timer)
        text += ", absolute timer";
    if (features.no_iowait)
        text += ", no iowait";
    return text;
}

} // namespace trapline
