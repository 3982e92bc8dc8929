// Trap calls: the thin layer over traps. Each answers std::expected<T, std::error_code> and
// throws nothing but interrupts (`Cancelled` and its kin).
//
//     std::expected<std::size_t, std::error_code> n = co_await traps::recv(fd, buffer);
//     short events = (co_await traps::read_wait(fd)).value();
//
// Any trap can be awaited as it is, `co_await traps::ReadWait{fd}`, with the same answer. All of
// these are awaiters: they allocate nothing.
#pragma once

#include <cstddef>
#include <expected>
#include <span>
#include <system_error>

#include "lease.hpp"
#include "trap_call.hpp"

namespace trapline {

namespace traps {

/// One I/O operation as an awaitable of `R`. Blocks.
template <class R>
class [[nodiscard]] IoCall : public TrapAwaiter<Io> {
public:
    using plain_call = IoCall;

    explicit IoCall(const IoRequest& request) noexcept : TrapAwaiter<Io>(Io{request}) {}

    static std::expected<R, std::error_code> answer(const Reply& reply) noexcept {
        return detail::expected_of<R>(reply);
    }
    std::expected<R, std::error_code> await_resume() { return answer(reply()); }
};

// --- descriptors: never block unless they say so -------------------------------------------

inline TrapCall<ReadWait> read_wait(int fd) noexcept { return TrapCall{ReadWait{fd}}; }
inline TrapCall<WriteWait> write_wait(int fd) noexcept { return TrapCall{WriteWait{fd}}; }
inline TrapCall<IoRelease> io_release(int fd) noexcept { return TrapCall{IoRelease{fd}}; }

/// Passes through the engine and back. Blocks.
inline IoCall<void> nop() noexcept { return IoCall<void>{Nop{}}; }

/// Answers a new socket, close-on-exec.
inline IoCall<int> socket(int domain, int type, int protocol = 0) noexcept {
    return IoCall<int>{Socket{domain, type, protocol}};
}
inline IoCall<void> bind(int fd, const sockaddr* address, socklen_t length) noexcept {
    return IoCall<void>{Bind{fd, address, length}};
}
inline IoCall<void> listen(int fd, int backlog = SOMAXCONN) noexcept {
    return IoCall<void>{Listen{fd, backlog}};
}
inline IoCall<void> socket_name(int fd, sockaddr* address, socklen_t* length) noexcept {
    return IoCall<void>{SocketName{fd, false, address, length}};
}
inline IoCall<void> peer_name(int fd, sockaddr* address, socklen_t* length) noexcept {
    return IoCall<void>{SocketName{fd, true, address, length}};
}
/// `value` stays the caller's and must live until the answer.
template <class T>
IoCall<void> set_option(int fd, int level, int name, const T& value) noexcept {
    return IoCall<void>{SetOption{fd, level, name, &value, sizeof value}};
}

// --- sockets: all block --------------------------------------------------------------------

/// Answers the accepted descriptor, close-on-exec. Out of descriptors: waits for one.
inline IoCall<int> accept(int fd, sockaddr* address = nullptr,
                          socklen_t* length = nullptr) noexcept {
    return IoCall<int>{Accept{fd, 0, address, length}};
}
inline IoCall<void> connect(int fd, const sockaddr* address, socklen_t length) noexcept {
    return IoCall<void>{Connect{fd, address, length}};
}
/// Answers the bytes received, 0 at the end of the stream. With MSG_WAITALL a short count does not
/// tell whether the stream has ended or broken: that is in the reply alone.
inline IoCall<std::size_t> recv(int fd, std::span<std::byte> buffer, int flags = 0) noexcept {
    return IoCall<std::size_t>{Recv{fd, flags, buffer.data(), buffer.size()}};
}
/// Receives into a buffer that is lent for as long as the answer is kept; that is empty at the end
/// of the stream.
class [[nodiscard]] ReceiveCall : public ReplyAwaiter {
public:
    explicit ReceiveCall(int fd, int flags = 0) noexcept : fd_(fd), flags_(flags) {}

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        this->template yield<Io>(self, Receive{fd_, flags_, &lease_});
    }
    std::expected<BufferLease, std::error_code> await_resume() {
        if (reply().failed()) [[unlikely]]
            return std::unexpected(trapline::detail::error_of(reply().error()));
        return std::move(lease_);
    }

private:
    int fd_;
    int flags_;
    BufferLease lease_;
};

inline ReceiveCall receive(int fd, int flags = 0) noexcept { return ReceiveCall{fd, flags}; }

/// Answers the bytes sent, possibly fewer than given.
inline IoCall<std::size_t> send(int fd, std::span<const std::byte> data, int flags = 0) noexcept {
    return IoCall<std::size_t>{Send{fd, flags, data.data(), data.size()}};
}
inline IoCall<std::size_t> recv_message(int fd, msghdr& message, int flags = 0) noexcept {
    return IoCall<std::size_t>{RecvMsg{fd, flags, &message}};
}
inline IoCall<std::size_t> send_message(int fd, const msghdr& message, int flags = 0) noexcept {
    return IoCall<std::size_t>{SendMsg{fd, flags, &message}};
}
inline IoCall<void> shutdown(int fd, int how) noexcept { return IoCall<void>{Shutdown{fd, how}}; }

// --- files and pipes: all block ------------------------------------------------------------

inline IoCall<std::size_t> read(int fd, std::span<std::byte> buffer,
                                std::int64_t offset = -1) noexcept {
    return IoCall<std::size_t>{Read{fd, buffer.data(), buffer.size(), offset}};
}
inline IoCall<std::size_t> write(int fd, std::span<const std::byte> data,
                                 std::int64_t offset = -1) noexcept {
    return IoCall<std::size_t>{Write{fd, data.data(), data.size(), offset}};
}
/// `path` stays the caller's. Answers the descriptor, close-on-exec.
inline IoCall<int> open_at(int directory, const char* path, int flags, mode_t mode = 0) noexcept {
    return IoCall<int>{OpenAt{directory, path, flags, mode}};
}
/// The same as `how` says, which stays the caller's; O_CLOEXEC is added to it.
inline IoCall<int> open_at2(int directory, const char* path, open_how& how) noexcept {
    return IoCall<int>{OpenAt2{directory, path, &how}};
}
inline IoCall<void> fsync(int fd, bool data_only = false) noexcept {
    return IoCall<void>{Fsync{fd, data_only}};
}
inline IoCall<void> stat_at(int directory, const char* path, int flags, unsigned mask,
                            struct ::statx& status) noexcept {
    return IoCall<void>{Statx{directory, path, flags, mask, &status}};
}
inline IoCall<std::size_t> splice(int from, int to, std::size_t size, std::int64_t from_offset = -1,
                                  std::int64_t to_offset = -1, unsigned flags = 0) noexcept {
    return IoCall<std::size_t>{Splice{from, to, from_offset, to_offset, size, flags}};
}

/// Ends the operations in flight on fd, waits for them, closes it. Not interruptible.
inline IoCall<void> close(int fd) noexcept { return IoCall<void>{Close{fd}}; }

} // namespace traps

// --- time and turns ------------------------------------------------------------------------

// All but now() are interruptible.

/// Lets the other ready tasks run first. Blocks.
inline SureTrap<traps::Yield> yield_now() noexcept { return SureTrap{traps::Yield{}}; }

/// Wakes after `duration`, never early; answers the time at waking. Blocks.
inline SureTrap<traps::Sleep> sleep(Duration duration) noexcept {
    return SureTrap{traps::Sleep{duration}};
}

/// The same for fractions, as in 0.5s.
template <FractionalDuration D>
SureTrap<traps::Sleep> sleep(D duration) noexcept {
    return sleep(detail::whole(duration));
}

/// Wakes at `time`, at once if it is past; answers the time at waking. Blocks.
inline SureTrap<traps::SleepUntil> sleep_until(TimePoint time) noexcept {
    return SureTrap{traps::SleepUntil{time}};
}

/// The kernel's time. Never blocks.
inline SureTrap<traps::Clock> now() noexcept { return SureTrap{traps::Clock{}}; }

} // namespace trapline
