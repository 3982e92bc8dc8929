// Internal. The two switches of the io_uring engine: how each request becomes a submission, and
// what each result means. One place turns errno into behaviour.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <variant>

#include <sys/socket.h>

#include "../engine.hpp"
#include "uring_compat.hpp"

namespace trapline {

/// What a completion means.
enum class Verdict : std::uint8_t {
    over,             ///< the result is the operation's
    again,            ///< submit the rest once more
    wait_ready,       ///< wait until the descriptor is ready, then again
    wait_descriptors, ///< no descriptors left: some time later, again
    wait_buffers,     ///< all buffers are lent: again when one comes back
    wait_a_moment,    ///< ready, they say, but it never is: some time later, again
};

/// Linux moves at most this much in one call, and a length in a submission has 32 bits.
inline constexpr std::size_t transfer_max = 0x7ffff000;

// Recv and Send are nearly all that a server does. What the switches say of them stands here, for
// the compiler to see; what they say of all others is in uring_ops.cpp.
namespace detail {
bool done_at_once(Operation& operation) noexcept;
void prepare(io_uring_sqe& sqe, const Operation& operation) noexcept;
Verdict judge(Operation& operation, int result) noexcept;
} // namespace detail

/// Operations that never block are done by their system call, on the spot. Answers whether
/// `operation` is one; its result is there then.
inline bool done_at_once(Operation& operation) noexcept {
    switch (operation.request->index()) {
    case traps::request_index<traps::Recv>:
    case traps::request_index<traps::Receive>:
    case traps::request_index<traps::Send>: return false;
    default: return detail::done_at_once(operation);
    }
}

/// Fills in a submission, but for its user_data.
inline void prepare(io_uring_sqe& sqe, const Operation& operation) noexcept {
    const std::size_t done = operation.transferred;
    const auto length = [&](std::size_t size) {
        return static_cast<unsigned>(std::min(size - done, transfer_max));
    };
    switch (operation.request->index()) {
    case traps::request_index<traps::Recv>: {
        const auto& r = *std::get_if<traps::Recv>(operation.request);
        // Whole transfers are put together in judge(). With MSG_WAITALL Linux answers one that a
        // reset stops half way by its short count, and the error is gone.
        return io_uring_prep_recv(&sqe, r.fd, static_cast<char*>(r.data) + done, length(r.size),
                                  r.flags & ~MSG_WAITALL);
    }
    case traps::request_index<traps::Send>: {
        const auto& r = *std::get_if<traps::Send>(operation.request);
        return io_uring_prep_send(&sqe, r.fd, static_cast<const char*>(r.data) + done,
                                  length(r.size), r.flags | MSG_NOSIGNAL);
    }
    default: return detail::prepare(sqe, operation);
    }
}

/// A submission that waits until the operation's descriptor is ready for another try.
void prepare_wait(io_uring_sqe& sqe, const Operation& operation) noexcept;

/// Judges the completion `result`, and notes in the operation what came of it.
inline Verdict judge(Operation& operation, int result) noexcept {
    // All that was asked, at the first try.
    const auto ends = [&](const auto& r) {
        return result >= 0 && operation.transferred == 0 &&
               (!(r.flags & MSG_WAITALL) || static_cast<std::size_t>(result) == r.size);
    };
    const traps::IoRequest& request = *operation.request;
    bool over = false;
    switch (request.index()) {
    case traps::request_index<traps::Recv>: over = ends(*std::get_if<traps::Recv>(&request)); break;
    case traps::request_index<traps::Send>: over = ends(*std::get_if<traps::Send>(&request)); break;
    case traps::request_index<traps::Receive>: over = result >= 0; break;
    default: break;
    }
    if (!over) [[unlikely]]
        return detail::judge(operation, result);
    operation.result = result;
    return Verdict::over;
}

} // namespace trapline
