#include "tcp.hpp"

#include <cerrno>

namespace trapline {

namespace {

/// Throws what a trap call answered, if that was an error.
template <class T>
T need(std::expected<T, std::error_code> answer, const std::string& what) {
    if (!answer)
        throw std::system_error(answer.error(), what);
    if constexpr (!std::is_void_v<T>)
        return *answer;
}

} // namespace

void detail::CloseAwaiter::await_resume() {
    if (!asked())
        return;
    const Reply& answer = reply();
    if (answer.failed())
        raise_error(answer.error(), what_ + address_.to_string());
}

// --- TcpStream -----------------------------------------------------------------------------

Coro<TcpStream> TcpStream::connect(SocketAddress peer) {
    const std::string what = "connect to " + peer.to_string();
    Descriptor socket{need(co_await traps::socket(peer.family(), SOCK_STREAM), what)};
    need(co_await traps::connect(socket.get(), peer.data(), peer.size()), what);
    co_return TcpStream{std::move(socket), peer};
}

std::string TcpStream::about(const char* operation) const {
    return operation + peer_.to_string() + (socket_ ? "" : ", a stream that was closed here");
}

void TcpStream::raise(int error, const char* operation) const {
    detail::raise_error(error, about(operation));
}

void TcpStream::RecvExactly::check_short(std::size_t received) const {
    if (const int error = reply().stopped_by)
        throw TransferError({error, std::system_category()}, stream_->about("recv from "),
                            received);
    if (received > 0)
        throw EndOfStream(stream_->about("recv from ") + ": the stream ended after " +
                              std::to_string(received) + " of " + std::to_string(buffer_.size()) +
                              " bytes",
                          received);
}

void TcpStream::SendAll::raise_short(std::size_t sent) const {
    const int error = reply().stopped_by ? reply().stopped_by : EIO;
    throw TransferError({error, std::system_category()}, stream_->about("send to "), sent);
}

Coro<void> TcpStream::shutdown(int how) {
    const auto answer = co_await traps::shutdown(fd(), how);
    if (!answer)
        raise(answer.error().value(), "shutdown of stream to ");
}

SocketAddress TcpStream::local_address() const {
    SocketAddress address;
    if (::getsockname(fd(), address.fill(), address.fill_size()) != 0)
        raise(errno, "local address of stream to ");
    return address;
}

// --- TcpListener ---------------------------------------------------------------------------

Coro<TcpListener> TcpListener::bind(SocketAddress address, ListenOptions options) {
    const std::string what = "bind to " + address.to_string();
    Descriptor socket{need(co_await traps::socket(address.family(), SOCK_STREAM), what)};
    if (options.reuse_address && address.family() != AF_UNIX) {
        const int on = 1;
        need(co_await traps::set_option(socket.get(), SOL_SOCKET, SO_REUSEADDR, on), what);
    }
    need(co_await traps::bind(socket.get(), address.data(), address.size()), what);
    need(co_await traps::listen(socket.get(), options.backlog), "listen at " + address.to_string());
    SocketAddress bound;
    need(co_await traps::socket_name(socket.get(), bound.fill(), bound.fill_size()), what);
    co_return TcpListener{std::move(socket), bound};
}

TcpStream TcpListener::Accept::await_resume() const {
    const Reply& answer = reply();
    if (answer.failed())
        detail::raise_error(answer.error(),
                            "accept at " + listener_->address_.to_string() +
                                (*listener_ ? "" : ", a listener that was closed here"));
    return TcpStream{Descriptor{static_cast<int>(answer.value)}, peer_};
}

} // namespace trapline
