#include "requests.hpp"

#include <algorithm>
#include <cerrno>
#include <type_traits>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace trapline {

namespace {

/// A request that is refused again and again without waiting has something odd behind it.
constexpr std::uint8_t retries_max = 100;

/// Codes for "restart the system call", which Linux keeps from programs as a rule. Completions of
/// io-wq workers show them: on 6.18 a splice that is cancelled while it waits ends with 512.
int without_restart_codes(int error) noexcept {
    const bool restart = (error >= 512 && error <= 514) || error == 516; // ERESTARTSYS and its kin
    return restart ? EINTR : error;
}

template <class R>
constexpr bool socket_request =
    std::is_same_v<R, traps::Recv> || std::is_same_v<R, traps::Receive> ||
    std::is_same_v<R, traps::Send> || std::is_same_v<R, traps::RecvMsg> ||
    std::is_same_v<R, traps::SendMsg>;

void finish(Operation& operation, std::int64_t result) noexcept {
    operation.result = result;
    // A whole transfer that was stopped half way tells both: how much, and why.
    if (operation.transferred > 0) {
        if (result < 0)
            operation.stopped_by = static_cast<std::uint16_t>(-result);
        operation.result = static_cast<std::int64_t>(operation.transferred);
    }
}

std::size_t size_of(const msghdr& message) noexcept {
    std::size_t size = 0;
    for (std::size_t i = 0; i < message.msg_iovlen; ++i)
        size += message.msg_iov[i].iov_len;
    return size;
}

bool is_stream(int fd) noexcept {
    int type = 0;
    socklen_t length = sizeof type;
    return ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM;
}

/// Of what a poll has seen; -EAGAIN for nothing of it. A ring's also ends when the peer will send
/// no more, asked for or not.
int what_was_asked(const traps::Poll& poll, int seen) noexcept {
    const int asked = seen & (static_cast<std::uint16_t>(poll.events) | POLLERR | POLLHUP);
    return asked != 0 ? asked : -EAGAIN;
}

/// All buffers are lent. Who waits for one has something to receive: so nobody takes the place of
/// another who has, and the end of a stream needs none.
Judgement without_buffer(Operation& operation, const traps::Receive& r) noexcept {
    std::byte byte{};
    const int flags = (r.flags & ~MSG_WAITALL) | MSG_DONTWAIT;
    std::int64_t there = result_of_call(::recv(r.fd, &byte, 1, flags | MSG_PEEK));
    if (there == 0) // the end, or an empty datagram, which goes with this
        there = result_of_call(::recv(r.fd, &byte, 0, flags));
    const bool waits = there > 0 || there == -EAGAIN;
    if (waits && operation.cancel_requested)
        there = -ECANCELED;
    else if (waits && !must_not_wait(*operation.request))
        return there == -EAGAIN ? Judgement::wait_ready : Judgement::wait_buffers;
    finish(operation, waits && there > 0 ? -EAGAIN : there);
    return Judgement::over;
}

} // namespace

std::size_t whole_size(const traps::IoRequest& request) noexcept {
    if (const auto* recv = std::get_if<traps::Recv>(&request)) // a peek cannot go on behind itself
        return (recv->flags & (MSG_WAITALL | MSG_PEEK)) == MSG_WAITALL ? recv->size : 0;
    if (const auto* send = std::get_if<traps::Send>(&request))
        return send->flags & MSG_WAITALL ? send->size : 0;
    return 0;
}

std::size_t whole_message_size(const traps::IoRequest& request) noexcept {
    if (const auto* send = std::get_if<traps::SendMsg>(&request)) // a datagram is never cut
        return send->flags & MSG_WAITALL ? size_of(*send->message) : 0;
    const auto* recv = std::get_if<traps::RecvMsg>(&request);
    const bool whole = recv && (recv->flags & (MSG_WAITALL | MSG_PEEK)) == MSG_WAITALL &&
                       !recv->message->msg_control && is_stream(recv->fd);
    return whole ? size_of(*recv->message) : 0;
}

bool must_not_wait(const traps::IoRequest& request) noexcept {
    return std::visit(
        []<class R>(const R& r) {
            if constexpr (socket_request<R>)
                return (r.flags & MSG_DONTWAIT) != 0;
            else
                return false;
        },
        request);
}

traps::DescriptorUse waited_for(const Operation& operation) noexcept {
    const traps::DescriptorUses uses = traps::descriptors_of(*operation.request);
    const bool second = uses.first.side == traps::Side::none || operation.retries % 2 == 0;
    return second && uses.second.side != traps::Side::none ? uses.second : uses.first;
}

std::int64_t splice_now(const traps::Splice& r, unsigned more_flags) noexcept {
    off64_t from_offset = r.from_offset;
    off64_t to_offset = r.to_offset;
    return result_of_call(::splice(r.from, r.from_offset < 0 ? nullptr : &from_offset, r.to,
                                   r.to_offset < 0 ? nullptr : &to_offset,
                                   std::min(r.size, transfer_max), r.flags | more_flags));
}

bool detail::done_at_once(Operation& operation) noexcept {
    const auto call = [&](std::int64_t result) {
        operation.result = result_of_call(result);
        return true;
    };
    return std::visit(
        Overloaded{
            [&](const traps::Socket& r) {
                return call(::socket(r.domain, r.type | SOCK_CLOEXEC, r.protocol));
            },
            [&](const traps::Bind& r) { return call(::bind(r.fd, r.address, r.length)); },
            [&](const traps::Listen& r) { return call(::listen(r.fd, r.backlog)); },
            [&](const traps::SocketName& r) {
                return call(r.peer ? ::getpeername(r.fd, r.address, r.length)
                                   : ::getsockname(r.fd, r.address, r.length));
            },
            [&](const traps::SetOption& r) {
                return call(::setsockopt(r.fd, r.level, r.name, r.value, r.length));
            },
            [&](const traps::Shutdown& r) { return call(::shutdown(r.fd, r.how)); },
            [&](const traps::Splice& r) {
                // Handed to Linux through a ring it would go to a worker thread, always.
                if (!(r.flags & SPLICE_F_NONBLOCK))
                    return false;
                operation.result = splice_now(r, 0);
                return true;
            },
            [](const auto&) { return false; },
        },
        *operation.request);
}

Judgement detail::judge(Operation& operation, int result) noexcept {
    const traps::IoRequest& request = *operation.request;
    const auto* poll = std::get_if<traps::Poll>(&request);
    if (poll && result > 0)
        result = what_was_asked(*poll, result);
    if (result >= 0) [[likely]] {
        const std::size_t wanted = whole_size(request);
        if (wanted == 0) {
            std::int64_t outcome = result;
            if (operation.cancel_requested && result > 0 &&
                static_cast<std::size_t>(result) < whole_message_size(request)) {
                operation.transferred = static_cast<std::size_t>(result);
                outcome = -ECANCELED;
            }
            finish(operation, outcome);
            return Judgement::over;
        }
        operation.transferred += static_cast<std::size_t>(result);
        operation.retries = 0;
        const bool end_of_stream = result == 0;
        if (operation.transferred == wanted || end_of_stream) {
            operation.result = static_cast<std::int64_t>(operation.transferred);
            return Judgement::over;
        }
        if (!operation.cancel_requested)
            return Judgement::again;
        finish(operation, -ECANCELED);
        return Judgement::over;
    }

    // What would be tried once more ends here when it was cancelled meanwhile.
    const auto unless_cancelled = [&](Judgement verdict) {
        if (!operation.cancel_requested)
            return verdict;
        finish(operation, -ECANCELED);
        return Judgement::over;
    };
    const bool accepts = std::holds_alternative<traps::Accept>(request);
    const bool may_wait = waited_for(operation).side != traps::Side::none;
    const int error = without_restart_codes(-result);
    switch (error) {
    case EINTR:  // a signal, or an io-wq worker that was cancelled
    case EAGAIN: // a descriptor in non-blocking mode, or a file system that will not wait
        if (std::holds_alternative<traps::Close>(request))
            break; // the number is free by now
        if (error == EAGAIN && must_not_wait(request))
            break;
        // A full backlog, see unix(7); or a poll that would end at once, and again.
        if (error == EAGAIN && (poll || std::holds_alternative<traps::Connect>(request)))
            return unless_cancelled(Judgement::wait_a_moment);
        if (++operation.retries > retries_max) {
            if (error == EINTR || !may_wait)
                break;
            operation.retries = retries_max - 2; // somebody else is always faster
            return unless_cancelled(Judgement::wait_a_moment);
        }
        return unless_cancelled(error == EAGAIN && may_wait ? Judgement::wait_ready
                                                            : Judgement::again);
    case ENOBUFS:
        if (const auto* receive = std::get_if<traps::Receive>(&request))
            return without_buffer(operation, *receive);
        [[fallthrough]];
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        if (accepts)
            return unless_cancelled(Judgement::wait_descriptors);
        break;
    case ECONNABORTED: // accept(2), "Error handling": these come from a connection that died in
    case EPROTO:       // the queue, and the next one may be well
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH:
        if (accepts)
            return unless_cancelled(Judgement::again);
        break;
    default: // ECANCELED, the peer's doing, or the user's own mistake: his to see
        break;
    }
    finish(operation, -error);
    return Judgement::over;
}

} // namespace trapline
