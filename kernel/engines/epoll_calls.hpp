// Internal. Each request as a system call that does not wait: what the epoll engine tries on the
// spot, and when a descriptor is ready. No descriptor is left in another mode than it was given in.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <sys/epoll.h>
#include <sys/socket.h>

#include "../engine.hpp"
#include "requests.hpp"

namespace trapline {

struct EpollPhases {
    /// Where an operation is.
    enum Phase : std::uint8_t {
        idle,
        reading,    ///< waits for input
        writing,    ///< waits for room
        connecting, ///< waits for the end of its connect
        polling,    ///< waits for what it asks
        at_thread,
        again,    ///< in again_: to be tried in the next turn
        paused,   ///< waits in paused_ for descriptors to be had, or just for a while
        starved,  ///< waits in starved_ for a buffer to come back
        finished, ///< in finished_: over, to be handed back
    };

    /// What it waits for.
    static std::uint32_t wanted_by(const Operation& operation) noexcept {
        switch (operation.phase) {
        case reading: return EPOLLIN;
        case polling:
            return static_cast<std::uint16_t>(std::get_if<traps::Poll>(operation.request)->events);
        default: return EPOLLOUT;
        }
    }
};

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
    int fd = -1;
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
