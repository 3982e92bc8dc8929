#include "requests.hpp"

#include <algorithm>
#include <cerrno>
#include <type_traits>

#include <fcntl.h>
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

} // namespace

std::size_t whole_size(const traps::IoRequest& request) noexcept {
    if (const auto* recv = std::get_if<traps::Recv>(&request)) // a peek cannot go on behind itself
        return (recv->flags & (MSG_WAITALL | MSG_PEEK)) == MSG_WAITALL ? recv->size : 0;
    if (const auto* send = std::get_if<traps::Send>(&request))
        return send->flags & MSG_WAITALL ? send->size : 0;
    return 0;
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
    if (result >= 0) [[likely]] {
        const std::size_t wanted = whole_size(request);
        if (wanted == 0) {
            finish(operation, result);
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
        if (++operation.retries > retries_max) {
            if (error == EINTR || !may_wait)
                break;
            operation.retries = 0; // somebody else is always faster
            return unless_cancelled(Judgement::wait_a_moment);
        }
        return unless_cancelled(error == EAGAIN && may_wait ? Judgement::wait_ready
                                                            : Judgement::again);
    case ENOBUFS:
        if (std::holds_alternative<traps::Receive>(request))
            return unless_cancelled(Judgement::wait_buffers);
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
