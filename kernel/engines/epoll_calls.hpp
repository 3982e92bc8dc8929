// Internal. Each request as a system call that does not wait: what the epoll engine tries on the
// spot, and when a descriptor is ready. No descriptor is left in another mode than it was given in.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <sys/socket.h>

#include "../engine.hpp"
#include "requests.hpp"

namespace trapline {

/// What a try came to.
struct Tried {
    enum class Next : std::uint8_t {
        judge,      ///< `result` is the call's, or -errno; -EAGAIN: it was not ready
        wait_read,  ///< to be tried when `fd` is readable, which it may be
        wait_write, ///< to be tried when `fd` is writable, which it may be
        connecting, ///< under way: when `fd` is writable it has come to an end
        thread,     ///< a thread has to make the call
    };
    Next next;
    int fd = -1; ///< that is waited for
    std::int64_t result = 0;

    static Tried with(std::int64_t result) noexcept { return {Next::judge, -1, result}; }
};

/// Tries `operation`. `ready`: readiness was reported just before.
Tried try_call(Operation& operation, bool ready) noexcept;

/// How a connect that was under way has ended.
Tried try_connected(const traps::Connect& request) noexcept;

inline std::int64_t try_recv(const traps::Recv& r, std::size_t done) noexcept {
    // Whole transfers are put together in judge().
    return result_of_call(::recv(r.fd, static_cast<char*>(r.data) + done,
                                 std::min(r.size - done, transfer_max),
                                 (r.flags & ~MSG_WAITALL) | MSG_DONTWAIT));
}

inline std::int64_t try_send(const traps::Send& r, std::size_t done) noexcept {
    return result_of_call(::send(r.fd, static_cast<const char*>(r.data) + done,
                                 std::min(r.size - done, transfer_max),
                                 (r.flags & ~MSG_WAITALL) | MSG_DONTWAIT | MSG_NOSIGNAL));
}

} // namespace trapline
