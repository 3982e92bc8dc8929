#include "uring_ops.hpp"

#include <algorithm>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace trapline {

namespace {

unsigned length_of(std::size_t size) noexcept {
    return static_cast<unsigned>(std::min(size, transfer_max));
}

std::uint64_t offset_of(std::int64_t offset) noexcept { return static_cast<std::uint64_t>(offset); }

/// Where there is no room, a Unix-domain datagram has been copied by the time Linux finds out, and
/// the ring's own second try sends what is left of it: nothing. So we wait for room, and try again
/// from the beginning (tests/ring/datagram_sent_empty.cpp). Whole transfers are of streams alone.
unsigned flags_of(const traps::SendMsg& request) noexcept {
    const int flags = request.flags | MSG_NOSIGNAL;
    return static_cast<unsigned>(flags & MSG_WAITALL ? flags : flags | MSG_DONTWAIT);
}

/// Linux would wait for more of datagrams, too, and peek at the same again.
unsigned flags_of(const Operation& operation, const traps::RecvMsg& request) noexcept {
    const bool whole = whole_message_size(*operation.request) > 0;
    return static_cast<unsigned>(whole ? request.flags : request.flags & ~MSG_WAITALL);
}

} // namespace

void detail::prepare(io_uring_sqe& sqe, const Operation& operation) noexcept {
    std::visit(
        Overloaded{
            [&](const traps::Nop&) { io_uring_prep_nop(&sqe); },
            [&](const traps::Poll& r) {
                io_uring_prep_poll_add(&sqe, r.fd, static_cast<unsigned short>(r.events));
            },
            [&](const traps::Accept& r) {
                io_uring_prep_accept(&sqe, r.fd, r.address, r.length, r.flags | SOCK_CLOEXEC);
            },
            [&](const traps::Connect& r) {
                io_uring_prep_connect(&sqe, r.fd, r.address, r.length);
            },
            [&](const traps::RecvMsg& r) {
                io_uring_prep_recvmsg(&sqe, r.fd, r.message, flags_of(operation, r));
            },
            [&](const traps::SendMsg& r) {
                io_uring_prep_sendmsg(&sqe, r.fd, r.message, flags_of(r));
            },
            [&](const traps::Read& r) {
                io_uring_prep_read(&sqe, r.fd, r.data, length_of(r.size), offset_of(r.offset));
            },
            [&](const traps::Write& r) {
                io_uring_prep_write(&sqe, r.fd, r.data, length_of(r.size), offset_of(r.offset));
            },
            [&](const traps::OpenAt& r) {
                io_uring_prep_openat(&sqe, r.directory, r.path, r.flags | O_CLOEXEC, r.mode);
            },
            [&](const traps::OpenAt2& r) {
                r.how->flags |= O_CLOEXEC;
                io_uring_prep_openat2(&sqe, r.directory, r.path, r.how);
            },
            [&](const traps::Close& r) { io_uring_prep_close(&sqe, r.fd); },
            [&](const traps::Fsync& r) {
                io_uring_prep_fsync(&sqe, r.fd, r.data_only ? IORING_FSYNC_DATASYNC : 0);
            },
            [&](const traps::Statx& r) {
                io_uring_prep_statx(&sqe, r.directory, r.path, r.flags, r.mask, r.status);
            },
            [&](const traps::Splice& r) {
                io_uring_prep_splice(&sqe, r.from, r.from_offset, r.to, r.to_offset,
                                     length_of(r.size), r.flags);
            },
            // Prepared by the engine, which has the buffers.
            [](const traps::Receive&) {},
            // Prepared in the header.
            [](const traps::Recv&) {},
            [](const traps::Send&) {},
            // Done at once, never submitted.
            [](const traps::Socket&) {},
            [](const traps::Bind&) {},
            [](const traps::Listen&) {},
            [](const traps::SocketName&) {},
            [](const traps::SetOption&) {},
            [](const traps::Shutdown&) {},
        },
        *operation.request);
}

void prepare_wait(io_uring_sqe& sqe, const Operation& operation) noexcept {
    const traps::DescriptorUse use = waited_for(operation);
    const bool reads = use.side == traps::Side::read;
    io_uring_prep_poll_add(&sqe, use.fd, static_cast<unsigned>(reads ? POLLIN : POLLOUT));
}

} // namespace trapline
