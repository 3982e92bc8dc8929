// Internal. What has to be added to liburing: constants of newer kernels that the oldest supported
// one (2.3) does not define, each used only after the running kernel was asked whether it knows it
// (uring_probe.cpp), and a word to ThreadSanitizer.
#pragma once

#include <liburing.h>

#include "../../traps/sanitizers.hpp"

// liburing maps and unmaps by system calls of its own, of which ThreadSanitizer knows nothing: it
// takes a ring that lies where another thread's has been for the same memory. So it is told that
// the one was gone before the other came.
#if TRAPLINE_THREAD_SANITIZER
extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
namespace trapline {
inline char ring_memory;
inline void ring_comes() noexcept { __tsan_acquire(&ring_memory); }
inline void ring_goes() noexcept { __tsan_release(&ring_memory); }
} // namespace trapline
#else
namespace trapline {
inline void ring_comes() noexcept {}
inline void ring_goes() noexcept {}
} // namespace trapline
#endif

#ifndef IORING_ENTER_ABS_TIMER
#define IORING_ENTER_ABS_TIMER (1U << 5) // Linux 6.12: the wait's timeout is a time of day
#endif

#ifndef IORING_ENTER_NO_IOWAIT
#define IORING_ENTER_NO_IOWAIT (1U << 7) // Linux 6.15: waiting does not count as iowait
#endif

#ifndef IORING_FEAT_NO_IOWAIT
#define IORING_FEAT_NO_IOWAIT (1U << 17)
#endif
