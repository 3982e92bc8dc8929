// DatagramSocket: what sockets for single messages have in common: UdpSocket and UnixDatagram are
// made of it.
//
//     Coro<void> echo(DatagramSocket& socket) {
//         std::array<std::byte, 65536> buffer;
//         for (;;) {
//             Datagram message = co_await socket.recv_from(buffer);
//             co_await socket.send_to(message.data, message.from);
//         }
//     }
//
// Operations throw std::system_error, whose text names the operation and the address; interrupts
// throw `Cancelled` and its kin, and have taken or sent nothing. Buffers stay the caller's. One
// task may receive while another sends; a second one on the same side gets device_or_resource_busy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "../traps/calls.hpp"
#include "../traps/coro.hpp"
#include "address.hpp"
#include "close.hpp"
#include "descriptor.hpp"

namespace trapline {

/// A message that was received.
struct Datagram {
    std::span<std::byte> data; ///< in the buffer that was given; may be empty
    SocketAddress from;        ///< unspecified if the sender has no address
    bool truncated = false;    ///< the buffer was too small, and the rest is lost
};

class DatagramSocket {
public:
    DatagramSocket() noexcept = default;

    /// Takes over a socket; `peer` is the address that it is connected to, if it is, `local` its
    /// own, if that is known.
    explicit DatagramSocket(Descriptor socket, const SocketAddress& peer = {},
                            const SocketAddress& local = {}) noexcept
        : socket_(std::move(socket)), peer_(peer), local_(local) {}

    class RecvFrom;
    class SendTo;

    /// Receives the next message. Blocks.
    RecvFrom recv_from(std::span<std::byte> buffer) noexcept;

    /// Sends a message; all of it, or it throws. Blocks only while the socket's buffer is full.
    SendTo send_to(std::span<const std::byte> data, const SocketAddress& to) noexcept;
    SendTo send_to(std::string_view text, const SocketAddress& to) noexcept;

    /// The same with the peer it is connected to.
    SendTo send(std::span<const std::byte> data) noexcept;
    SendTo send(std::string_view text) noexcept;

    /// Receives the next message, and answers how many bytes of the buffer it filled. Blocks.
    Coro<std::size_t> recv(std::span<std::byte> buffer);

    /// Receives as many messages as there are, at least one, with one system call: fills in a
    /// Datagram of `messages` for each, whose `data` says where it is to go. Answers how many.
    /// Blocks.
    Coro<std::size_t> recv_many(std::span<Datagram> messages);

    /// Sends `messages`, each to its `from`, the address that it came from, or to the peer if that
    /// is unspecified. Answers how many went: all, or those before the first that failed; if that
    /// is the first of all it throws. Blocks. Interrupted half way, the exception's progress()
    /// messages went.
    Coro<std::size_t> send_many(std::span<const Datagram> messages);

    /// Ends what other tasks do on the socket (they get operation_canceled), then closes it.
    /// Blocks. Not interruptible. Harmless twice.
    detail::CloseAwaiter close() noexcept { return {socket_, "close of a datagram socket"}; }

    /// Unspecified if it is connected to none.
    const SocketAddress& peer_address() const noexcept { return peer_; }

    /// Where it receives. Throws std::system_error when it is closed.
    SocketAddress local_address() const;

    /// False when it was closed or moved from.
    explicit operator bool() const noexcept { return static_cast<bool>(socket_); }

    /// The descriptor, still owned; -1 when closed.
    int fd() const noexcept { return socket_.get(); }

    /// Gives the descriptor up without closing it.
    Descriptor release() noexcept { return std::move(socket_); }

protected:
    [[noreturn]] void raise(int error, const std::string& operation) const;

private:
    [[noreturn]] void raise_recv(int error) const;
    [[noreturn]] void raise_send(int error, const SocketAddress& to) const;

    Descriptor socket_;
    SocketAddress peer_;
    SocketAddress local_; ///< unspecified: Linux is asked
};

class [[nodiscard]] DatagramSocket::RecvFrom : public ReplyAwaiter {
public:
    RecvFrom(const DatagramSocket& socket, std::span<std::byte> buffer) noexcept
        : socket_(&socket), buffer_(buffer) {}

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        part_ = {buffer_.data(), buffer_.size()};
        message_.msg_name = from_.fill();
        message_.msg_namelen = *from_.fill_size();
        message_.msg_iov = &part_;
        message_.msg_iovlen = 1;
        yield<traps::Io>(self, traps::RecvMsg{socket_->fd(), 0, &message_});
    }
    Datagram await_resume() {
        const Reply& answer = reply();
        if (answer.failed()) [[unlikely]]
            socket_->raise_recv(answer.error());
        *from_.fill_size() = message_.msg_namelen;
        return {buffer_.first(static_cast<std::size_t>(answer.value)), from_,
                (message_.msg_flags & MSG_TRUNC) != 0};
    }

private:
    const DatagramSocket* socket_;
    std::span<std::byte> buffer_;
    SocketAddress from_;
    iovec part_{};
    msghdr message_{};
};

class [[nodiscard]] DatagramSocket::SendTo : public ReplyAwaiter {
public:
    SendTo(const DatagramSocket& socket, std::span<const std::byte> data,
           const SocketAddress& to) noexcept
        : socket_(&socket), data_(data), to_(to) {}

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        part_ = {const_cast<std::byte*>(data_.data()), data_.size()};
        message_.msg_name = to_.size() > 0 ? const_cast<sockaddr*>(to_.data()) : nullptr;
        message_.msg_namelen = to_.size();
        message_.msg_iov = &part_;
        message_.msg_iovlen = 1;
        yield<traps::Io>(self, traps::SendMsg{socket_->fd(), 0, &message_});
    }
    void await_resume() const {
        const Reply& answer = reply();
        if (answer.failed()) [[unlikely]]
            socket_->raise_send(answer.error(), to_);
    }

private:
    const DatagramSocket* socket_;
    std::span<const std::byte> data_;
    SocketAddress to_;
    iovec part_{};
    msghdr message_{};
};

inline DatagramSocket::RecvFrom DatagramSocket::recv_from(std::span<std::byte> buffer) noexcept {
    return {*this, buffer};
}
inline DatagramSocket::SendTo DatagramSocket::send_to(std::span<const std::byte> data,
                                                      const SocketAddress& to) noexcept {
    return {*this, data, to};
}
inline DatagramSocket::SendTo DatagramSocket::send_to(std::string_view text,
                                                      const SocketAddress& to) noexcept {
    return send_to(std::as_bytes(std::span(text)), to);
}
inline DatagramSocket::SendTo DatagramSocket::send(std::span<const std::byte> data) noexcept {
    return {*this, data, {}};
}
inline DatagramSocket::SendTo DatagramSocket::send(std::string_view text) noexcept {
    return send(std::as_bytes(std::span(text)));
}

} // namespace trapline
