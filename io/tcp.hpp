// TCP: TcpListener and TcpStream.
//
//     Coro<void> echo(TcpStream client) {
//         std::array<std::byte, 4096> buffer;
//         while (std::size_t n = co_await client.recv(buffer))
//             co_await client.send_all(std::span(buffer).first(n));
//     }
//
// Operations throw std::system_error, whose text names the operation and the peer; interrupts
// throw `Cancelled` and its kin. Buffers stay the caller's and must live until the answer, also
// when the operation is cancelled: it is over then. One task may receive while another sends; a
// second one on the same side gets device_or_resource_busy. The object must outlive what it does.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "../traps/calls.hpp"
#include "../traps/coro.hpp"
#include "address.hpp"
#include "descriptor.hpp"
#include "errors.hpp"

namespace trapline {

namespace detail {

/// Close of an object that owns a descriptor: takes the descriptor when it is awaited.
class [[nodiscard]] CloseAwaiter : public ReplyAwaiter {
public:
    CloseAwaiter(Descriptor& owner, const char* what, const SocketAddress& address) noexcept
        : owner_(owner), what_(what), address_(address) {}

    bool await_ready() noexcept { return ready(!owner_); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        yield<traps::Io>(self, traps::Close{owner_.release()});
    }
    void await_resume();

private:
    Descriptor& owner_;
    const char* what_;
    const SocketAddress& address_;
};

} // namespace detail

class TcpStream {
public:
    TcpStream() noexcept = default;

    /// Takes over a connected socket.
    TcpStream(Descriptor socket, const SocketAddress& peer) noexcept
        : socket_(std::move(socket)), peer_(peer) {}

    /// Connects to `peer`. Blocks. Cancelled half way, the socket is closed.
    static Coro<TcpStream> connect(SocketAddress peer);

    /// Looks the host up, see io/resolve.hpp, and connects to the first of its addresses that
    /// answers, see io/happy_eyeballs.hpp. Throws as these do. Blocks. Cancelled half way, all
    /// sockets are closed.
    static Coro<TcpStream> connect(std::string host, std::uint16_t port);

    class Recv;
    class RecvExactly;
    class Send;
    class SendAll;

    /// Receives what there is, at least one byte; answers how many, 0 at the end of the stream
    /// (and for an empty buffer). Blocks. A cancelled one has taken nothing from the stream.
    Recv recv(std::span<std::byte> buffer) noexcept;

    /// Fills the buffer. Answers its size, or 0 if the stream had ended before the first byte;
    /// throws EndOfStream if it ends in between, TransferError on failure. Blocks. Cancelled
    /// half way, the exception's progress() bytes are in the buffer.
    RecvExactly recv_exactly(std::span<std::byte> buffer) noexcept;

    /// Sends some of the data, at least one byte; answers how many. Blocks.
    Send send(std::span<const std::byte> data) noexcept;
    Send send(std::string_view text) noexcept;

    /// Sends all of the data. Throws TransferError on failure. Blocks. Cancelled half way, the
    /// exception's progress() bytes are on their way.
    SendAll send_all(std::span<const std::byte> data) noexcept;
    SendAll send_all(std::string_view text) noexcept;

    /// Ends sending: the peer sees the end of the stream, and may still send. Or what `how` says,
    /// as in shutdown(2). Never blocks.
    Coro<void> shutdown(int how = SHUT_WR);

    /// Ends what other tasks do on the stream (they get operation_canceled), then closes it.
    /// Blocks. Not interruptible. Harmless twice.
    detail::CloseAwaiter close() noexcept { return {socket_, "close of stream to ", peer_}; }

    const SocketAddress& peer_address() const noexcept { return peer_; }

    /// This end's address. Throws std::system_error when the stream is closed.
    SocketAddress local_address() const;

    /// False when it was closed or moved from.
    explicit operator bool() const noexcept { return static_cast<bool>(socket_); }

    /// The descriptor, still owned; -1 when closed.
    int fd() const noexcept { return socket_.get(); }

private:
    [[noreturn]] void raise(int error, const char* operation) const;
    std::string about(const char* operation) const;

    Descriptor socket_;
    SocketAddress peer_;
};

class [[nodiscard]] TcpStream::Recv : public ReplyAwaiter {
public:
    Recv(const TcpStream& stream, std::span<std::byte> buffer, int flags) noexcept
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
        return static_cast<std::size_t>(answer.value);
    }

protected:
    const TcpStream* stream_;
    std::span<std::byte> buffer_;

private:
    int flags_;
};

class [[nodiscard]] TcpStream::RecvExactly : public TcpStream::Recv {
public:
    RecvExactly(const TcpStream& stream, std::span<std::byte> buffer) noexcept
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

class [[nodiscard]] TcpStream::Send : public ReplyAwaiter {
public:
    Send(const TcpStream& stream, std::span<const std::byte> data, int flags) noexcept
        : stream_(&stream), data_(data), flags_(flags) {}

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        yield<traps::Io>(self, traps::Send{stream_->fd(), flags_, data_.data(), data_.size()});
    }
    std::size_t await_resume() const {
        const Reply& answer = reply();
        if (answer.failed()) [[unlikely]]
            stream_->raise(answer.error(), "send to ");
        return static_cast<std::size_t>(answer.value);
    }

protected:
    const TcpStream* stream_;
    std::span<const std::byte> data_;

private:
    int flags_;
};

class [[nodiscard]] TcpStream::SendAll : public TcpStream::Send {
public:
    SendAll(const TcpStream& stream, std::span<const std::byte> data) noexcept
        : Send(stream, data, MSG_WAITALL) {}
    void await_resume() const {
        const std::size_t sent = Send::await_resume();
        if (sent != data_.size()) [[unlikely]]
            raise_short(sent);
    }

private:
    [[noreturn]] void raise_short(std::size_t sent) const;
};

inline TcpStream::Recv TcpStream::recv(std::span<std::byte> buffer) noexcept {
    return {*this, buffer, 0};
}
inline TcpStream::RecvExactly TcpStream::recv_exactly(std::span<std::byte> buffer) noexcept {
    return {*this, buffer};
}
inline TcpStream::Send TcpStream::send(std::span<const std::byte> data) noexcept {
    return {*this, data, 0};
}
inline TcpStream::Send TcpStream::send(std::string_view text) noexcept {
    return send(std::as_bytes(std::span(text)));
}
inline TcpStream::SendAll TcpStream::send_all(std::span<const std::byte> data) noexcept {
    return {*this, data};
}
inline TcpStream::SendAll TcpStream::send_all(std::string_view text) noexcept {
    return send_all(std::as_bytes(std::span(text)));
}

struct ListenOptions {
    int backlog = SOMAXCONN;   ///< connections that Linux holds ready for accept
    bool reuse_address = true; ///< take over a port whose last connections linger
};

class TcpListener {
public:
    TcpListener() noexcept = default;

    /// Listens at `address`; port 0 takes a free one, see local_address(). Throws
    /// std::system_error, "bind to 127.0.0.1:80: Permission denied". Does not block.
    static Coro<TcpListener> bind(SocketAddress address, ListenOptions options = {});

    class Accept;

    /// Waits for a connection. Blocks. Out of descriptors it waits until there are some again.
    /// A cancelled one has taken no connection.
    Accept accept() noexcept;

    /// Ends what other tasks do on the listener, then closes it. Blocks. Not interruptible.
    /// Harmless twice.
    detail::CloseAwaiter close() noexcept { return {socket_, "close of listener at ", address_}; }

    const SocketAddress& local_address() const noexcept { return address_; }
    explicit operator bool() const noexcept { return static_cast<bool>(socket_); }
    int fd() const noexcept { return socket_.get(); }

private:
    TcpListener(Descriptor socket, const SocketAddress& address) noexcept
        : socket_(std::move(socket)), address_(address) {}

    Descriptor socket_;
    SocketAddress address_;
};

class [[nodiscard]] TcpListener::Accept : public ReplyAwaiter {
public:
    explicit Accept(const TcpListener& listener) noexcept : listener_(&listener) {}

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        // Only now: the awaiter has its final place.
        yield<traps::Io>(self, traps::Accept{listener_->fd(), 0, peer_.fill(), peer_.fill_size()});
    }
    TcpStream await_resume() const;

private:
    const TcpListener* listener_;
    SocketAddress peer_;
};

inline TcpListener::Accept TcpListener::accept() noexcept { return Accept{*this}; }

} // namespace trapline
