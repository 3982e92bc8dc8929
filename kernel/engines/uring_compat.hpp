// Internal. Constants of newer kernels that the oldest supported liburing (2.3) does not define.
// Each is used only after the running kernel was asked whether it knows it (uring_probe.cpp).
#pragma once

#include <liburing.h>

#ifndef IORING_ENTER_ABS_TIMER
#define IORING_ENTER_ABS_TIMER (1U << 5) // Linux 6.12: the wait's timeout is a time of day
#endif

#ifndef IORING_ENTER_NO_IOWAIT
#define IORING_ENTER_NO_IOWAIT (1U << 7) // Linux 6.15: waiting does not count as iowait
#endif

#ifndef IORING_FEAT_NO_IOWAIT
#define IORING_FEAT_NO_IOWAIT (1U << 17)
#endif
