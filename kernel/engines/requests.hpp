// Internal. What all engines that ask Linux have in common: which requests are done on the spot,
// and what each result means. One place turns errno into behaviour.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <variant>

#include <sys/socket.h>

#include "../engine.hpp"

namespace trapline {

/// What the result of a try means.
enum class Judgement : std::uint8_t {
    over,             ///< the result is the operation's
    again,            ///< try the rest once more
    wait_ready,       ///< wait until the descriptor is ready, then again
    wait_descriptors, ///< no descriptors left: some time later, again
    wait_buffers,     ///< all buffers are lent: again when one comes back
    wait_a_moment,    ///< ready, they say, but it never is: some time later, again
};

/// Linux moves at most this much in one call, and a length in a submission has 32 bits.
inline constexpr std::size_t transfer_max = 0x7ffff000;

template <class... Cases>
struct Overloaded : Cases... {
    using Cases::operator()...;
};

inline std::int64_t result_of_call(std::int64_t result) noexcept {
    return result < 0 ? -errno : result;
}

/// Bytes of a whole transfer, 0 for operations that are none.
std::size_t whole_size(const traps::IoRequest& request) noexcept;

/// Bytes of a message that the engine moves as a whole, 0 for others: of what came with a part of a
/// message, descriptors for instance, and of datagrams each part is for itself.
std::size_t whole_message_size(const traps::IoRequest& request) noexcept;

/// Whether the request itself asks for EAGAIN instead of waiting.
bool must_not_wait(const traps::IoRequest& request) noexcept;

/// What is waited for before another try. EAGAIN does not tell which side of a splice was not
/// ready: each in turn.
traps::DescriptorUse waited_for(const Operation& operation) noexcept;

/// Its result, or -errno.
std::int64_t splice_now(const traps::Splice& request, unsigned more_flags) noexcept;

/// Calls f(fd) for each descriptor that came of `operation`, which had `result`: its number may
/// have been another file's.
template <class F>
void for_each_new_descriptor(const Operation& operation, std::int64_t result, F&& f) {
    const traps::IoRequest& request = *operation.request;
    if (result < 0)
        return;
    if (std::holds_alternative<traps::Accept>(request) ||
        std::holds_alternative<traps::Socket>(request) ||
        std::holds_alternative<traps::OpenAt>(request) ||
        std::holds_alternative<traps::OpenAt2>(request))
        return f(static_cast<int>(result));
    const auto* received = std::get_if<traps::RecvMsg>(&request);
    if (!received || !received->message->msg_control)
        return;
    msghdr& message = *received->message;
    for (cmsghdr* part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= part->cmsg_len; at += sizeof(int)) {
            int fd;
            std::memcpy(&fd, reinterpret_cast<const char*>(part) + at, sizeof fd);
            f(fd);
        }
    }
}

// Recv and Send are nearly all that a server does. What is said of them stands here, for the
// compiler to see; what is said of all others is in requests.cpp.
namespace detail {
bool done_at_once(Operation& operation) noexcept;
Judgement judge(Operation& operation, int result) noexcept;
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

/// The descriptor of a Recv, a Receive or a Send; -1 of others.
inline int stream_of(const traps::IoRequest& request) noexcept {
    switch (request.index()) {
    case traps::request_index<traps::Recv>: return std::get_if<traps::Recv>(&request)->fd;
    case traps::request_index<traps::Receive>: return std::get_if<traps::Receive>(&request)->fd;
    case traps::request_index<traps::Send>: return std::get_if<traps::Send>(&request)->fd;
    default: return -1;
    }
}

/// Judges `result`, a count or -errno, and notes in the operation what came of it.
inline Judgement judge(Operation& operation, int result) noexcept {
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
    return Judgement::over;
}

} // namespace trapline
