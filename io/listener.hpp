// Listener<S>: a listening socket whose connections are streams of type S. TcpListener and
// UnixListener are listeners that know how to be made.
//
//     template <class S>
//     Coro<void> serve(Listener<S>& listener) {
//         for (;;)
//             co_await spawn(echo<S>, co_await listener.accept());
//     }
//
// Errors are std::system_error and name the address. It must outlive what it does.
#pragma once

#include <utility>

#include "stream_socket.hpp"

namespace trapline {

namespace detail {

/// The address at which a socket listens. Throws std::system_error if it does not.
SocketAddress listening_address(int fd);

[[noreturn]] void raise_accept(int error, const SocketAddress& at, bool closed);

} // namespace detail

template <class S>
class Listener {
public:
    using Stream = S;

    Listener() noexcept = default;

    /// Takes over a listening socket, one that another process handed over, say. Throws
    /// std::system_error if it is none.
    explicit Listener(Descriptor socket)
        : socket_(std::move(socket)), address_(detail::listening_address(socket_.get())) {}

    /// The same for a socket that is known to listen at `address`.
    Listener(Descriptor socket, const SocketAddress& address) noexcept
        : socket_(std::move(socket)), address_(address) {}

    class Accept;

    /// Waits for a connection. Blocks. Out of descriptors it waits until there are some again.
    /// A cancelled one has taken no connection.
    Accept accept() noexcept { return Accept{*this}; }

    /// Ends what other tasks do on the listener, then closes it. Blocks. Not interruptible.
    /// Harmless twice.
    detail::CloseAwaiter close() noexcept { return {socket_, "close of listener at ", &address_}; }

    const SocketAddress& local_address() const noexcept { return address_; }

    /// False when it was closed or moved from.
    explicit operator bool() const noexcept { return static_cast<bool>(socket_); }

    /// The descriptor, still owned; -1 when closed.
    int fd() const noexcept { return socket_.get(); }

    /// Gives the descriptor up without closing it.
    Descriptor release() noexcept { return std::move(socket_); }

private:
    Descriptor socket_;
    SocketAddress address_;
};

template <class S>
class [[nodiscard]] Listener<S>::Accept : public ReplyAwaiter {
public:
    explicit Accept(const Listener& listener) noexcept : listener_(&listener) {}

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        // Only now: the awaiter has its final place.
        yield<traps::Io>(self, traps::Accept{listener_->fd(), 0, peer_.fill(), peer_.fill_size()});
    }
    S await_resume() const {
        const Reply& answer = reply();
        if (answer.failed()) [[unlikely]]
            detail::raise_accept(answer.error(), listener_->local_address(), !*listener_);
        return S{Descriptor{static_cast<int>(answer.value)}, peer_};
    }

private:
    const Listener* listener_;
    SocketAddress peer_;
};

} // namespace trapline
