// Internal. A ring's queues and the call that enters it: what liburing does not offer, or not for
// so little.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "clock.hpp"
#include "uring_compat.hpp"
#include "uring_probe.hpp"

namespace trapline {

/// Nothing is to be handed over, and nothing has come that Linux says of.
inline bool is_quiet(const io_uring& ring) noexcept {
    const unsigned flags = IO_URING_READ_ONCE(*ring.sq.kflags);
    // What Linux was shown and did not take counts, too: a call may have been refused.
    return ring.sq.sqe_tail == io_uring_smp_load_acquire(ring.sq.khead) &&
           io_uring_cq_ready(&ring) == 0 &&
           (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) == 0;
}

/// The submission queue has no place left.
inline bool is_full(const io_uring& ring) noexcept {
    return ring.sq.sqe_tail - *ring.sq.khead >= ring.sq.ring_entries;
}

/// The next place in the submission queue, which is not full, with zeros in it: what liburing's
/// io_uring_prep_* leave alone differs from version to version. The ring has neither places of
/// double size nor a thread in Linux that takes them.
inline io_uring_sqe& next_submission(io_uring& ring) noexcept {
    io_uring_sqe& sqe = ring.sq.sqes[ring.sq.sqe_tail++ & ring.sq.ring_mask];
    std::memset(&sqe, 0, sizeof sqe);
    return sqe;
}

/// Shows Linux the queued submissions; answers how many it has not taken yet.
inline unsigned show_submissions(io_uring& ring) noexcept {
    io_uring_sq& queue = ring.sq;
    if (queue.sqe_head != queue.sqe_tail) {
        // Older liburing maps each place through an array, by hand; newer ones need none.
        for (unsigned at = *queue.ktail; queue.array && at != queue.sqe_tail; ++at)
            queue.array[at & queue.ring_mask] = at & queue.ring_mask;
        queue.sqe_head = queue.sqe_tail;
        io_uring_smp_store_release(queue.ktail, queue.sqe_tail);
    }
    return queue.sqe_tail - io_uring_smp_load_acquire(queue.khead);
}

/// One system call: hands over what is queued, has completions worked off, and waits for one if it
/// may, until `deadline`. Answers what io_uring_enter(2) does.
inline int enter_ring(io_uring& ring, const UringFeatures& features, bool may_wait,
                      TimePoint deadline) noexcept {
    const unsigned queued = show_submissions(ring);
    unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
    auto descriptor = static_cast<unsigned>(ring.ring_fd);
    if (features.registered_ring) {
        flags |= IORING_ENTER_REGISTERED_RING;
        descriptor = static_cast<unsigned>(ring.enter_ring_fd);
    }
    if (may_wait && features.no_iowait)
        flags |= IORING_ENTER_NO_IOWAIT;
    io_uring_getevents_arg argument{};
    __kernel_timespec timeout{};
    if (may_wait && deadline != never) {
        // Linux takes no negative times; a deadline may lie before its clock began.
        Duration wait = std::max(Duration{0}, deadline.time_since_epoch());
        if (features.absolute_timer)
            flags |= IORING_ENTER_ABS_TIMER;
        else
            wait = std::max(Duration{0}, wait - monotonic_now().time_since_epoch());
        timeout.tv_sec = wait / std::chrono::seconds{1};
        timeout.tv_nsec = (wait % std::chrono::seconds{1}).count();
        argument.ts = reinterpret_cast<std::uintptr_t>(&timeout);
    }
    return io_uring_enter2(descriptor, queued, may_wait ? 1 : 0, flags,
                           reinterpret_cast<sigset_t*>(&argument), sizeof argument);
}

} // namespace trapline
