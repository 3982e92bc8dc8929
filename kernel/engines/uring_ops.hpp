// Internal. How each request becomes a submission of the io_uring engine.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <variant>

#include <sys/socket.h>

#include "../engine.hpp"
#include "requests.hpp"
#include "uring_compat.hpp"
#include "uring_drained.hpp"

namespace trapline {

// Recv and Send are nearly all that a server does: they stand here, for the compiler to see.
namespace detail {
void prepare(io_uring_sqe& sqe, const Operation& operation) noexcept;
} // namespace detail

/// Fills in a submission, but for its flags and user_data.
inline void prepare(io_uring_sqe& sqe, const Operation& operation,
                    const DrainedSockets& drained) noexcept {
    const std::size_t done = operation.transferred;
    const auto length = [&](std::size_t size) {
        return static_cast<unsigned>(std::min(size - done, transfer_max));
    };
    const traps::IoRequest& request = *operation.request;
    switch (request.index()) {
    case traps::request_index<traps::Recv>: {
        const auto& r = *std::get_if<traps::Recv>(&request);
        // Whole transfers are put together in judge(). With MSG_WAITALL Linux answers one that a
        // reset stops half way by its short count, and the error is gone.
        io_uring_prep_recv(&sqe, r.fd, static_cast<char*>(r.data) + done, length(r.size),
                           r.flags & ~MSG_WAITALL);
        return drained.guess(sqe, r, operation);
    }
    case traps::request_index<traps::Send>: {
        const auto& r = *std::get_if<traps::Send>(&request);
        return io_uring_prep_send(&sqe, r.fd, static_cast<const char*>(r.data) + done,
                                  length(r.size), r.flags | MSG_NOSIGNAL);
    }
    default: return detail::prepare(sqe, operation);
    }
}

/// A submission that waits until the operation's descriptor is ready for another try.
void prepare_wait(io_uring_sqe& sqe, const Operation& operation) noexcept;

} // namespace trapline
