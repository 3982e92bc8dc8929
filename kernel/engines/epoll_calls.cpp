#include "epoll_calls.hpp"

#include <array>
#include <cerrno>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "file_threads.hpp"

namespace trapline {

namespace {

using Next = Tried::Next;

/// accept4(2) and connect(2) know no MSG_DONTWAIT: a blocking descriptor is switched for the length
/// of that one call. Who shares a listener with us may be told EAGAIN in that moment, as in a race
/// for a connection; a socket that is not connected yet is shared with nobody.
class NotWaiting {
public:
    explicit NotWaiting(int fd, int flags) noexcept : fd_(fd), flags_(flags) {
        if (!(flags & O_NONBLOCK))
            ::fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    }
    ~NotWaiting() {
        const int error = errno;
        if (!(flags_ & O_NONBLOCK))
            ::fcntl(fd_, F_SETFL, flags_);
        errno = error;
    }
    NotWaiting(const NotWaiting&) = delete;
    NotWaiting& operator=(const NotWaiting&) = delete;

private:
    int fd_;
    int flags_;
};

bool listens(int fd) noexcept {
    int listening = 0;
    socklen_t length = sizeof listening;
    return ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == 0 && listening != 0;
}

Tried try_accept(const traps::Accept& r, bool ready) noexcept {
    const int flags = ::fcntl(r.fd, F_GETFL);
    if (flags < 0)
        return Tried::with(-errno);
    // Switched only when there is likely to be somebody. What does not listen never tells of one,
    // and accept4() says why at once.
    if (!ready && !(flags & O_NONBLOCK) && listens(r.fd))
        return {Next::wait_read, r.fd};
    const NotWaiting not_waiting{r.fd, flags};
    return Tried::with(
        result_of_call(::accept4(r.fd, r.address, r.length, r.flags | SOCK_CLOEXEC)));
}

bool connects_at_once(int fd) noexcept {
    int type = 0;
    socklen_t length = sizeof type;
    return ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 &&
           (type == SOCK_DGRAM || type == SOCK_RAW);
}

Tried try_connect(const traps::Connect& r) noexcept {
    int flags = ::fcntl(r.fd, F_GETFL);
    if (flags < 0)
        return Tried::with(-errno);
    if (!(flags & O_NONBLOCK) && connects_at_once(r.fd))
        flags |= O_NONBLOCK; // as it is
    const NotWaiting not_waiting{r.fd, flags};
    const std::int64_t result = result_of_call(::connect(r.fd, r.address, r.length));
    if (result == -EINPROGRESS)
        return {Next::connecting, r.fd};
    return Tried::with(result);
}

// --- messages ------------------------------------------------------------------------------

/// A message without what is done of it already. As many parts as fit here; the rest comes with
/// the next call.
class RestOfMessage {
public:
    RestOfMessage(const msghdr& message, std::size_t done) noexcept {
        for (std::size_t i = 0; i < message.msg_iovlen; ++i) {
            iovec part = message.msg_iov[i];
            left_ += part.iov_len;
            if (done >= part.iov_len) {
                done -= part.iov_len;
                left_ -= part.iov_len;
                continue;
            }
            part.iov_base = static_cast<char*>(part.iov_base) + done;
            part.iov_len -= done;
            left_ -= done;
            done = 0;
            if (header.msg_iovlen < parts_.size())
                parts_[header.msg_iovlen++] = part;
        }
        header.msg_iov = parts_.data();
    }

    /// Bytes, also of the parts that did not fit.
    std::size_t left() const noexcept { return left_; }

    msghdr header{};

private:
    std::size_t left_ = 0;
    std::array<iovec, 64> parts_;
};

/// A whole message of `size`: `call(message)` until nothing is left of it. Names and ancillary data
/// go with the first part.
template <class Message, class Call>
Tried try_whole_message(Operation& operation, Message& message, std::size_t size, Tried later,
                        Call call) noexcept {
    std::int64_t result;
    std::size_t left = size;
    if (operation.transferred == 0) {
        result = call(message);
    } else {
        RestOfMessage rest{message, operation.transferred};
        left = rest.left();
        result = call(rest.header);
    }
    if (result <= 0)
        return Tried::with(result);
    const bool all = static_cast<std::size_t>(result) >= left;
    if (all && operation.transferred == 0)
        return Tried::with(result);
    operation.transferred += static_cast<std::size_t>(result);
    return all ? Tried::with(0) : later;
}

/// `R` is RecvMsg or SendMsg, and `system_call` what it is named after.
template <class R, class Call>
Tried try_message(Operation& operation, const R& r, int more_flags, Next wait,
                  Call system_call) noexcept {
    const int flags = (r.flags & ~MSG_WAITALL) | MSG_DONTWAIT | more_flags;
    const auto call = [&](auto& message) {
        return result_of_call(system_call(r.fd, &message, flags));
    };
    if (const std::size_t size = whole_message_size(*operation.request))
        return try_whole_message(operation, *r.message, size, {wait, r.fd}, call);
    return Tried::with(call(*r.message));
}

// --- read and write ------------------------------------------------------------------------

bool is_regular(int fd) noexcept {
    struct ::stat status{};
    return ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

/// `now` is the call that does not wait, where the file knows such; `plain` is read or write.
template <class R, class Now, class Plain>
Tried try_stream(Operation& operation, const R& r, bool ready, Next wait, Now now,
                 Plain plain) noexcept {
    const std::size_t left = r.size - operation.transferred;
    const std::int64_t result = now();
    if (result >= 0) {
        // Of a regular file a short count tells what is cached, not what there is.
        const bool all = result == 0 || static_cast<std::size_t>(result) == left;
        const bool more = !all && (r.offset != -1 || is_regular(r.fd));
        if (more || operation.transferred > 0)
            operation.transferred += static_cast<std::size_t>(result);
        return more ? Tried{Next::thread} : Tried::with(result);
    }
    if (result != -EAGAIN && result != -EOPNOTSUPP)
        return Tried::with(result);
    if (r.offset != -1)
        return {Next::thread};
    if (result == -EAGAIN)
        return Tried::with(result);
    if (!ready)
        return {wait, r.fd};
    // It is ready, and knows no call that does not wait.
    const int flags = ::fcntl(r.fd, F_GETFL);
    if (flags < 0 || !(flags & O_NONBLOCK))
        return {Next::thread};
    return Tried::with(plain());
}

Tried try_read(Operation& operation, const traps::Read& r, bool ready) noexcept {
    const iovec part{static_cast<char*>(r.data) + operation.transferred,
                     std::min(r.size - operation.transferred, transfer_max)};
    const std::int64_t at =
        r.offset == -1 ? -1 : r.offset + static_cast<std::int64_t>(operation.transferred);
    return try_stream(
        operation, r, ready, Next::wait_read,
        [&] { return result_of_call(::preadv2(r.fd, &part, 1, at, RWF_NOWAIT)); },
        [&] { return result_of_call(::read(r.fd, part.iov_base, part.iov_len)); });
}

Tried try_write(Operation& operation, const traps::Write& r, bool ready) noexcept {
    if (r.offset != -1)
        return {Next::thread}; // files wait for their disk, or for memory
    const iovec part{const_cast<char*>(static_cast<const char*>(r.data)) + operation.transferred,
                     std::min(r.size - operation.transferred, transfer_max)};
    return try_stream(
        operation, r, ready, Next::wait_write,
        [&] { return result_of_call(::pwritev2(r.fd, &part, 1, -1, RWF_NOWAIT)); },
        [&] { return result_of_call(::write(r.fd, part.iov_base, part.iov_len)); });
}

/// When both ends are ready a thread makes the call: a socket in blocking mode may still wait, and
/// a file for its disk.
Tried try_splice(const traps::Splice& r) noexcept {
    std::array<pollfd, 2> ends{pollfd{r.from, POLLIN, 0}, pollfd{r.to, POLLOUT, 0}};
    if (::poll(ends.data(), ends.size(), 0) < 0)
        return Tried::with(-errno);
    if ((ends[0].revents | ends[1].revents) & POLLNVAL)
        return Tried::with(-EBADF);
    if (ends[0].revents == 0)
        return {Next::wait_read, r.from};
    if (ends[1].revents == 0)
        return {Next::wait_write, r.to};
    return {Next::thread};
}

/// Whether close(2) of `fd` may take its time: files that write out, sockets that linger.
bool close_may_wait(int fd) noexcept {
    struct ::stat status{};
    if (::fstat(fd, &status) != 0)
        return false; // close() says why
    switch (status.st_mode & S_IFMT) {
    case S_IFSOCK: {
        linger option{};
        socklen_t length = sizeof option;
        return ::getsockopt(fd, SOL_SOCKET, SO_LINGER, &option, &length) == 0 &&
               option.l_onoff != 0 && option.l_linger > 0;
    }
    case S_IFREG:
    case S_IFDIR:
    case S_IFBLK:
    case S_IFCHR: return true;
    default: return false; // pipes, eventfds and their kin
    }
}

Tried try_close(int fd) noexcept {
    if (close_may_wait(fd))
        return {Next::thread};
    return Tried::with(result_of_call(::close(fd)));
}

} // namespace

Tried try_connected(const traps::Connect& r) noexcept {
    // Asking for SO_ERROR would leave the socket as connecting: another try could not begin.
    const int flags = ::fcntl(r.fd, F_GETFL);
    if (flags < 0)
        return Tried::with(-errno);
    const NotWaiting not_waiting{r.fd, flags};
    const std::int64_t result = result_of_call(::connect(r.fd, r.address, r.length));
    if (result == -EALREADY || result == -EINPROGRESS)
        return {Next::connecting, r.fd};
    return Tried::with(result == -EISCONN ? 0 : result);
}

Tried try_call(Operation& operation, bool ready) noexcept {
    return std::visit(
        Overloaded{
            [&](const traps::Accept& r) { return try_accept(r, ready); },
            [](const traps::Connect& r) { return try_connect(r); },
            [&](const traps::RecvMsg& r) {
                return try_message(operation, r, 0, Next::wait_read, &::recvmsg);
            },
            [&](const traps::SendMsg& r) {
                return try_message(operation, r, MSG_NOSIGNAL, Next::wait_write, &::sendmsg);
            },
            [&](const traps::Read& r) { return try_read(operation, r, ready); },
            [&](const traps::Write& r) { return try_write(operation, r, ready); },
            [](const traps::Splice& r) { return try_splice(r); },
            [](const traps::Close& r) { return try_close(r.fd); },
            [](const traps::OpenAt&) { return Tried{Next::thread}; },
            [](const traps::OpenAt2&) { return Tried{Next::thread}; },
            [](const traps::Fsync&) { return Tried{Next::thread}; },
            [](const traps::Statx&) { return Tried{Next::thread}; },
            [](const traps::Nop&) { return Tried::with(0); },
            [](const auto&) { return Tried::with(-ENOSYS); }, // the engine's own, or done at once
        },
        *operation.request);
}

} // namespace trapline
