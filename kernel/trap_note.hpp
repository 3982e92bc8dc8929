// Internal. What of a trap can be compared in another process: its kind and its arguments, but no
// pointer; and the memory that Linux wrote for it. kernel/RECORDING.md lists both.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include <sys/socket.h>
#include <sys/uio.h>

#include "../traps/lease.hpp"
#include "../traps/reply.hpp"
#include "../traps/trap.hpp"

namespace trapline {

/// A trap as it is written down. `text` points into the trap's memory, or a recording's.
struct TrapNote {
    static constexpr std::uint8_t requests = 32; ///< an Io trap's kind: this, and its request's

    enum class Kind : std::uint8_t { number, flags, descriptor, duration, time, task };
    enum class Text : std::uint8_t { none, path, address, bytes };
    struct Argument {
        const char* name;
        Kind kind;
    };
    struct Shape {
        std::array<Argument, 6> arguments;
        std::uint8_t count;
        Text text;
    };

    std::uint8_t kind = 0;
    std::array<std::int64_t, 6> values{};
    std::string_view text;

    /// Null for a kind that there is not.
    static const Shape* shape_of(std::uint8_t kind) noexcept;
    const Shape& shape() const noexcept { return *shape_of(kind); }
};

/// The arguments of a trap that nobody has answered yet.
TrapNote note_of(const Trap& trap) noexcept;

/// "recv(fd 7, flags 0x100, size 4096)".
std::string describe(const TrapNote& note);

/// "Sleep", "recv".
std::string name_of_wait(const Trap& trap);

/// What a message's parts hold, or have room for.
std::size_t bytes_in(const msghdr& message) noexcept;

/// How much room for an address a trap gives. Linux writes there what it would have needed.
socklen_t address_room(const Trap& trap) noexcept;

namespace detail {

template <class F>
void written_address(sockaddr* address, socklen_t& length, socklen_t room, F& part) {
    part(std::as_writable_bytes(std::span(&length, 1)));
    if (address)
        part(std::as_writable_bytes(
            std::span(reinterpret_cast<char*>(address), std::min(length, room))));
}

template <class F>
void written_message(msghdr& message, std::size_t bytes, socklen_t room, F& part) {
    const std::size_t control_room = message.msg_controllen;
    if (message.msg_name)
        written_address(static_cast<sockaddr*>(message.msg_name), message.msg_namelen, room, part);
    part(std::as_writable_bytes(std::span(&message.msg_flags, 1)));
    part(std::as_writable_bytes(std::span(&message.msg_controllen, 1)));
    if (message.msg_control)
        part(std::span(static_cast<std::byte*>(message.msg_control),
                       std::min(message.msg_controllen, control_room)));
    for (std::size_t i = 0; i < message.msg_iovlen && bytes > 0; ++i) {
        const iovec& at = message.msg_iov[i];
        const std::size_t here = std::min(bytes, at.iov_len);
        if (here > 0)
            part(std::span(static_cast<std::byte*>(at.iov_base), here));
        bytes -= here;
    }
}

inline std::span<std::byte> bytes_at(void* data, std::size_t size) noexcept {
    return {static_cast<std::byte*>(data), size};
}

} // namespace detail

/// Bytes of an I/O operation that came to its memory, whole or stopped half way.
inline std::size_t bytes_moved(const Reply& reply) noexcept {
    if (reply.interrupt != Interrupt::none)
        return reply.progress;
    return reply.value > 0 ? static_cast<std::size_t>(reply.value) : 0;
}

/// Calls part(span) for each piece of memory that the answer to `trap` was written to, in order. A
/// piece may be written before the next is asked for: what it says counts then. `room` is what
/// address_room() said before the trap was answered.
template <class F>
void for_each_written(const Trap& trap, const Reply& reply, socklen_t room, F part) {
    using namespace traps;
    const Io* io = std::get_if<Io>(&trap);
    if (!io)
        return;
    const std::size_t bytes = bytes_moved(reply);
    const bool failed = reply.interrupt != Interrupt::none || reply.failed();
    const IoRequest& request = io->request;
    switch (request.index()) {
    case request_index<Recv>: {
        const auto& r = *std::get_if<Recv>(&request);
        if (bytes > 0)
            part(detail::bytes_at(r.data, std::min(bytes, r.size)));
        return;
    }
    case request_index<Read>: {
        const auto& r = *std::get_if<Read>(&request);
        if (bytes > 0)
            part(detail::bytes_at(r.data, std::min(bytes, r.size)));
        return;
    }
    case request_index<Receive>:
        if (BufferLease& lease = *std::get_if<Receive>(&request)->lease; !lease.empty())
            part(lease.bytes());
        return;
    default: break;
    }
    if (failed)
        return;
    if (const auto* accept = std::get_if<Accept>(&request)) {
        if (accept->length)
            detail::written_address(accept->address, *accept->length, room, part);
    } else if (const auto* name = std::get_if<SocketName>(&request)) {
        if (name->length)
            detail::written_address(name->address, *name->length, room, part);
    } else if (const auto* message = std::get_if<RecvMsg>(&request)) {
        detail::written_message(*message->message, bytes, room, part);
    } else if (const auto* status = std::get_if<Statx>(&request)) {
        part(detail::bytes_at(status->status, 256)); // sizeof(struct statx), for ever
    }
}

} // namespace trapline
