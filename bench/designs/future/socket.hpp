// Sockets and pipes by themselves: asyncio's loop calls sock_recv, sock_sendall, sock_accept and
// sock_connect, on io_uring, and the like for pipes. Each answers a future of the loop.
//
//     Socket socket = co_await sock_accept(listening);
//     Bytes request = co_await sock_recv(socket, 4096);
//     co_await sock_sendall(socket, request);
//
// To cancel the future cancels the operation. The future is cancelled at once, the operation ends
// later: until then it keeps its socket open, and its memory, which therefore is Bytes or a Buffer,
// never a span. What it has done after all is lost: bytes that were received go with their buffer,
// an accepted socket is closed. (asyncio on Windows, where I/O completes as it does here, is the
// same.) Errors are std::system_error with the operation's name. Two operations of one kind at once
// on one socket are up to whoever asks for them.
#pragma once

#include <cstdint>
#include <utility>

#include <trapline/io/address.hpp>

#include "bytes.hpp"
#include "future.hpp"

namespace future_design {

namespace detail {

/// Is closed with the last reference.
class Descriptor final : public Counted {
public:
    Descriptor(Loop& loop, int fd) noexcept : loop_(loop), fd_(fd) {}
    Loop& loop() const noexcept { return loop_; }
    int fd() const noexcept { return fd_; }

private:
    ~Descriptor() override;

    Loop& loop_;
    int fd_;
};

} // namespace detail

/// A descriptor: copies are the same one. It is closed, by the loop, when the last copy has gone
/// and no operation is in flight any more. The loop outlives it.
class Socket {
public:
    /// None.
    Socket() noexcept = default;
    /// Takes it over.
    Socket(Loop& loop, int fd) : descriptor_(detail::make<detail::Descriptor>(loop, fd)) {}

    explicit operator bool() const noexcept { return static_cast<bool>(descriptor_); }
    /// -1 for none.
    int fileno() const noexcept { return descriptor_ ? descriptor_->fd() : -1; }
    Loop& loop() const noexcept { return descriptor_->loop(); }

    /// Lets go of it.
    void close() noexcept { descriptor_ = nullptr; }

private:
    detail::Ref<detail::Descriptor> descriptor_;
};

/// A new TCP or Unix-domain socket for an address, close-on-exec. Throws std::system_error.
Socket socket_for(Loop& loop, const trapline::SocketAddress& address);

/// Binds and listens, with SO_REUSEADDR, and for TCP with TCP_NODELAY, which accepted ones inherit.
/// Throws std::system_error.
Socket listening_socket(Loop& loop, const trapline::SocketAddress& address, int backlog = 4096);

/// The address that it is bound to. Throws std::system_error.
trapline::SocketAddress getsockname(const Socket& socket);

/// At most so many bytes; none at the end of the stream.
Future<Bytes> sock_recv(const Socket& socket, std::size_t bytes_max);
/// Into the buffer, which the operation keeps. Answers how many; 0 at the end of the stream.
Future<std::size_t> sock_recv_into(const Socket& socket, const Buffer& buffer);
/// All of them. After an error or a cancellation nobody knows how many went.
Future<void> sock_sendall(const Socket& socket, const Bytes& data);
Future<Socket> sock_accept(const Socket& listening);
Future<void> sock_connect(const Socket& socket, const trapline::SocketAddress& address);

/// What sock_recv_into and sock_sendall are to sockets; asyncio has transports alone for pipes.
Future<std::size_t> pipe_read_into(const Socket& pipe, const Buffer& buffer);
Future<void> pipe_write_all(const Socket& pipe, const Bytes& data);

/// Does nothing, by way of the engine.
Future<void> nop(Loop& loop);

} // namespace future_design
