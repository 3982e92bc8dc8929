// Internal. Two looks at a ring's queues that liburing does not offer.
#pragma once

#include "uring_compat.hpp"

namespace trapline {

/// Nothing is to be handed over, and nothing has come that Linux says of.
inline bool is_quiet(const io_uring& ring) noexcept {
    const unsigned flags = IO_URING_READ_ONCE(*ring.sq.kflags);
    // What Linux was shown and did not take counts, too: a call may have been refused.
    return ring.sq.sqe_tail == io_uring_smp_load_acquire(ring.sq.khead) &&
           io_uring_cq_ready(&ring) == 0 &&
           (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) == 0;
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

} // namespace trapline
