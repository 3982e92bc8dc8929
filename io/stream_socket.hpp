// StreamSocket: what connected stream sockets have in common, of whatever family: TcpStream and
// UnixStream are made of it.
//
//     Coro<std::size_t> count(StreamSocket& from) {
//         std::array<std::byte, 4096> buffer;
//         std::size_t bytes = 0;
//         while (std::size_t n = co_await from.recv(buffer))
//             bytes += n;
//         co_return bytes;
//     }
//
// Operations throw std::system_error, whose text names the operation and the peer; interrupts
// throw `Cancelled` and its kin. Buffers stay the caller's and must live until the answer, also
// when the operation is cancelled: it is over then. One task may receive while another sends; a
// second one on the same side gets device_or_resource_busy. The object must outlive what it does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <sys/uio.h>

#include "../traps/calls.hpp"
#include "../traps/coro.hpp"
#include "address.hpp"
#include "close.hpp"
#include "descriptor.hpp"
#include "errors.hpp"
#include "peer_address.hpp"
#include "traffic.hpp"

namespace trapline {

/// A part of what a vectored send sends: `part(header), part(body)`.
inline iovec part(std::span<const std::byte> data) noexcept {
    return {const_cast<std::byte*>(data.data()), data.size()};
}
inline iovec part(std::string_view text) noexcept { return part(std::as_bytes(std::span(text))); }

class StreamSocket {
public:
    StreamSocket() noexcept = default;

    /// Takes over a connected socket. Throws std::bad_alloc, and has closed it, when there is no
    /// memory for a peer's path.
    StreamSocket(Descriptor socket, const SocketAddress& peer)
        : socket_(std::move(socket)), peer_(peer) {}

    class Recv;
    class RecvExactly;
    class Receive;
    class Send;
    class SendAll;

    /// Receives what there is, at least one byte; answers how many, 0 at the end of the stream
    /// (and for an empty buffer). Blocks. A cancelled one has taken nothing from the stream.
    Recv recv(std::span<std::byte> buffer) noexcept;

    /// Fills the buffer. Answers its size, or 0 if the stream had ended before the first byte;
    /// throws EndOfStream if it ends in between, TransferError on failure. Blocks. Cancelled
    /// half way, the exception's progress() bytes are in the buffer.
    RecvExactly recv_exactly(std::span<std::byte> buffer) noexcept;

    /// Receives what there is into a buffer that is lent for as long as the answer is kept, see
    /// lease.hpp: an idle connection holds none. Empty at the end of the stream. Blocks, also while
    /// all buffers are lent. A cancelled one has taken nothing.
    Receive receive() noexcept;

    /// Sends some of the data, at least one byte; answers how many. Blocks.
    Send send(std::span<const std::byte> data) noexcept;
    Send send(std::string_view text) noexcept;

    /// Sends all of the data. Throws TransferError on failure. Blocks. Cancelled half way, the
    /// exception's progress() bytes are on their way.
    SendAll send_all(std::span<const std::byte> data) noexcept;
    SendAll send_all(std::string_view text) noexcept;

    /// Sends all parts, one behind the other, as if they lay in one piece. Otherwise as above.
    Coro<void> send_all(std::span<const iovec> parts);

    /// Ends sending: the peer sees the end of the stream, and may still send. Or what `how` says,
    /// as in shutdown(2). Never blocks.
    Coro<void> shutdown(int how = SHUT_WR);

    /// Ends what other tasks do on the stream (they get operation_canceled), then closes it.
    /// Blocks. Not interruptible. Harmless twice.
    detail::CloseAwaiter close() noexcept {
        traffic_.end();
        return {socket_, "close of stream to ", &peer_};
    }

    /// Closes so that the peer sees a reset: what was not sent yet is dropped. Otherwise as
    /// close().
    Coro<void> abort();

    /// Sets a socket option. `what` is for the error's text. Never blocks.
    template <class T>
    Coro<void> set_option(int level, int name, T value, const char* what = "setsockopt") {
        const auto answer = co_await traps::set_option(fd(), level, name, value);
        if (!answer)
            raise(answer.error().value(), (std::string(what) + " of stream to ").c_str());
    }

    SocketAddress peer_address() const noexcept { return peer_.get(); }

    /// This end's address. Throws std::system_error when the stream is closed; not_connected in a
    /// replay, which does not know it. traps::socket_name(fd(), ...) asks so that one does.
    SocketAddress local_address() const;

    /// False when it was closed or moved from.
    explicit operator bool() const noexcept { return static_cast<bool>(socket_); }

    /// The descriptor, still owned; -1 when closed.
    int fd() const noexcept { return socket_.get(); }

    /// Gives the descriptor up without closing it.
    Descriptor release() noexcept {
        traffic_.end();
        return std::move(socket_);
    }

    /// For servers: counts what goes through from now on.
    const detail::TrafficPointer& count_traffic() { return traffic_.begin(fd()); }

protected:
    /// Throws std::system_error(error, operation + peer).
    [[noreturn]] void raise(int error, const char* operation) const;

private:
    std::string about(const char* operation) const;

    std::size_t received(std::int64_t bytes) const noexcept {
        if (traffic_) [[unlikely]]
            traffic_->received += static_cast<std::uint64_t>(bytes);
        return static_cast<std::size_t>(bytes);
    }
    std::size_t sent(std::int64_t bytes) const noexcept {
        if (traffic_) [[unlikely]]
            traffic_->sent += static_cast<std::uint64_t>(bytes);
        return static_cast<std::size_t>(bytes);
    }

    Descriptor socket_;
    detail::PeerAddress peer_;
    detail::TrafficShare traffic_; ///< if somebody watches
};

static_assert(sizeof(StreamSocket) <= 40); // there are many

class [[nodiscard]] StreamSocket::Recv : public ReplyAwaiter {
public:
    Recv(const StreamSocket& stream, std::span<std::byte> buffer, int flags) noexcept
        : stream_(&stream), buffer_(buffer), flags_(flags) {}

    /// Linux would wait until there is something to put into no buffer.
    bool await_ready() noexcept { return ready(buffer_.empty()); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        yield<traps::Io>(self, traps::Recv{stream_->fd(), flags_, buffer_.data(), buffer_.size()});
    }
    std::size_t await_resume() const {
        if (!asked()) [[unlikely]]
            return 0;
        const Reply& answer = reply();
        if (answer.failed()) [[unlikely]]
            stream_->raise(answer.error(), "recv from ");
        return stream_->received(answer.value);
    }

protected:
    const StreamSocket* stream_;
    std::span<std::byte> buffer_;

private:
    int flags_;
};

class [[nodiscard]] StreamSocket::RecvExactly : public StreamSocket::Recv {
public:
    RecvExactly(const StreamSocket& stream, std::span<std::byte> buffer) noexcept
        : Recv(stream, buffer, MSG_WAITALL) {}
    std::size_t await_resume() const {
        const std::size_t received = Recv::await_resume();
        if (received != buffer_.size()) [[unlikely]]
            check_short(received);
        return received;
    }

private:
    void check_short(std::size_t received) const;
};

class [[nodiscard]] StreamSocket::Receive : public ReplyAwaiter {
public:
    explicit Receive(const StreamSocket& stream) noexcept : stream_(&stream) {}

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        yield<traps::Io>(self, traps::Receive{stream_->fd(), 0, &lease_});
    }
    BufferLease await_resume() {
        const Reply& answer = reply();
        if (answer.failed()) [[unlikely]]
            stream_->raise(answer.error(), "recv from ");
        (void)stream_->received(answer.value);
        return std::move(lease_);
    }

private:
    const StreamSocket* stream_;
    BufferLease lease_;
};

class [[nodiscard]] StreamSocket::Send : public ReplyAwaiter {
public:
    Send(const StreamSocket& stream, std::span<const std::byte> data, int flags) noexcept
        : stream_(&stream), data_(data), flags_(flags) {}

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        yield<traps::Io>(self, traps::Send{stream_->fd(), flags_, data_.data(), data_.size()});
    }
    std::size_t await_resume() const {
        const Reply& answer = reply();
        if (answer.failed()) [[unlikely]]
            stream_->raise(answer.error(), "send to ");
        return stream_->sent(answer.value);
    }

protected:
    const StreamSocket* stream_;
    std::span<const std::byte> data_;

private:
    int flags_;
};

class [[nodiscard]] StreamSocket::SendAll : public StreamSocket::Send {
public:
    SendAll(const StreamSocket& stream, std::span<const std::byte> data) noexcept
        : Send(stream, data, MSG_WAITALL) {}
    void await_resume() const {
        const std::size_t sent = Send::await_resume();
        if (sent != data_.size()) [[unlikely]]
            raise_short(sent);
    }

private:
    [[noreturn]] void raise_short(std::size_t sent) const;
};

inline StreamSocket::Recv StreamSocket::recv(std::span<std::byte> buffer) noexcept {
    return {*this, buffer, 0};
}
inline StreamSocket::RecvExactly StreamSocket::recv_exactly(std::span<std::byte> buffer) noexcept {
    return {*this, buffer};
}
inline StreamSocket::Receive StreamSocket::receive() noexcept { return Receive{*this}; }
inline StreamSocket::Send StreamSocket::send(std::span<const std::byte> data) noexcept {
    return {*this, data, 0};
}
inline StreamSocket::Send StreamSocket::send(std::string_view text) noexcept {
    return send(std::as_bytes(std::span(text)));
}
inline StreamSocket::SendAll StreamSocket::send_all(std::span<const std::byte> data) noexcept {
    return {*this, data};
}
inline StreamSocket::SendAll StreamSocket::send_all(std::string_view text) noexcept {
    return send_all(std::as_bytes(std::span(text)));
}

} // namespace trapline
