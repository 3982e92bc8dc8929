// Faults the one system call of a ring. The library calls io_uring_enter2 of the shared liburing;
// the definition here, in the test's own executable, comes first, and decides what becomes of
// each call. Include it in one file of a program.
#pragma once

#include <functional>

#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ring.hpp"

namespace ring_test {

struct Enter {
    unsigned fd;
    unsigned to_submit;
    unsigned min_complete;
    unsigned flags;
    void* argument;
    std::size_t size;

    /// The system call itself: a count, or -errno.
    int call() const {
        const long result =
            syscall(__NR_io_uring_enter, fd, to_submit, min_complete, flags, argument, size);
        return result < 0 ? -errno : static_cast<int>(result);
    }
};

/// Decides a call; empty: Linux does.
inline std::function<int(const Enter&)> on_enter;

/// System calls seen so far.
inline long enters = 0;

} // namespace ring_test

extern "C" int io_uring_enter2(unsigned fd, unsigned to_submit, unsigned min_complete,
                               unsigned flags, sigset_t* argument, size_t size) {
    const ring_test::Enter enter{fd, to_submit, min_complete, flags, argument, size};
    ++ring_test::enters;
    return ring_test::on_enter ? ring_test::on_enter(enter) : enter.call();
}
