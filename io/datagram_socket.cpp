#include "datagram_socket.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

#include "errors.hpp"

namespace trapline {

namespace {

constexpr std::size_t batch_max = 64; // messages of one system call

/// What recvmmsg and sendmmsg take, for up to batch_max messages.
struct Batch {
    std::array<mmsghdr, batch_max> headers;
    std::array<iovec, batch_max> parts;
};

/// Where recvmmsg puts addresses. Left as it is: to clear it would cost more than a message does.
using Addresses = std::array<sockaddr_storage, batch_max>;

} // namespace

void DatagramSocket::raise(int error, const std::string& operation) const {
    detail::raise_error(error, operation + (*this ? "" : ", a socket that was closed here"));
}

void DatagramSocket::raise_recv(int error) const {
    raise(error, peer_.family() == AF_UNSPEC ? "recv of a datagram"
                                             : "recv of a datagram from " + peer_.to_string());
}

void DatagramSocket::raise_send(int error, const SocketAddress& to) const {
    raise(error, "send of a datagram to " + (to.family() == AF_UNSPEC ? peer_ : to).to_string());
}

Coro<std::size_t> DatagramSocket::recv(std::span<std::byte> buffer) {
    co_return (co_await recv_from(buffer)).data.size();
}

Coro<std::size_t> DatagramSocket::recv_many(std::span<Datagram> messages) {
    Batch batch;
    Addresses addresses;
    const std::size_t count = std::min(messages.size(), batch_max);
    if (count == 0)
        co_return 0;
    for (std::size_t at = 0; at < count; ++at) {
        batch.parts[at] = {messages[at].data.data(), messages[at].data.size()};
        batch.headers[at] = {};
        msghdr& header = batch.headers[at].msg_hdr;
        header.msg_name = &addresses[at];
        header.msg_namelen = sizeof addresses[at];
        header.msg_iov = &batch.parts[at];
        header.msg_iovlen = 1;
    }
    for (;;) {
        const int got = ::recvmmsg(fd(), batch.headers.data(), static_cast<unsigned>(count),
                                   MSG_DONTWAIT, nullptr);
        if (got < 0 && errno != EAGAIN && errno != EINTR)
            raise_recv(errno);
        if (got >= 0) {
            const auto received = static_cast<std::size_t>(got);
            for (std::size_t at = 0; at < received; ++at) {
                const msghdr& header = batch.headers[at].msg_hdr;
                const auto* from = reinterpret_cast<const sockaddr*>(&addresses[at]);
                messages[at] = {messages[at].data.first(batch.headers[at].msg_len),
                                SocketAddress::from(from, header.msg_namelen),
                                (header.msg_flags & MSG_TRUNC) != 0};
            }
            co_return received;
        }
        if (const auto ready = co_await traps::read_wait(fd()); !ready)
            raise_recv(ready.error().value());
    }
}

Coro<std::size_t> DatagramSocket::send_many(std::span<const Datagram> messages) {
    Batch batch;
    std::size_t sent = 0;
    while (sent < messages.size()) {
        const auto rest = messages.subspan(sent, std::min(messages.size() - sent, batch_max));
        for (std::size_t at = 0; at < rest.size(); ++at) {
            const Datagram& message = rest[at];
            batch.parts[at] = {message.data.data(), message.data.size()};
            batch.headers[at] = {};
            msghdr& header = batch.headers[at].msg_hdr;
            if (message.from.size() > 0)
                header.msg_name = const_cast<sockaddr*>(message.from.data());
            header.msg_namelen = message.from.size();
            header.msg_iov = &batch.parts[at];
            header.msg_iovlen = 1;
        }
        const int went = ::sendmmsg(fd(), batch.headers.data(), static_cast<unsigned>(rest.size()),
                                    MSG_DONTWAIT | MSG_NOSIGNAL);
        if (went > 0) {
            sent += static_cast<std::size_t>(went);
            continue;
        }
        if (errno != EAGAIN && errno != EINTR) {
            if (sent > 0)
                break;
            raise_send(errno, messages.front().from);
        }
        if (const auto ready = co_await traps::write_wait(fd()); !ready)
            raise_send(ready.error().value(), messages[sent].from);
    }
    co_return sent;
}

SocketAddress DatagramSocket::local_address() const {
    SocketAddress address;
    if (::getsockname(fd(), address.fill(), address.fill_size()) != 0)
        raise(errno, "local address of a datagram socket");
    return address;
}

} // namespace trapline
