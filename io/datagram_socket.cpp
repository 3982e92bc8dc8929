#include "datagram_socket.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

#include "../traps/exceptions.hpp"
#include "errors.hpp"

namespace trapline {

namespace {

constexpr std::size_t batch_max = 64; // messages of one system call

/// What recvmmsg and sendmmsg take, for up to batch_max messages.
struct Batch {
    std::array<mmsghdr, batch_max> headers;
    std::array<iovec, batch_max> parts;

    /// Makes `message` the one at `place` to be sent.
    const msghdr& put(std::size_t place, const Datagram& message) noexcept {
        parts[place] = {message.data.data(), message.data.size()};
        headers[place] = {};
        msghdr& header = headers[place].msg_hdr;
        if (message.from.size() > 0)
            header.msg_name = const_cast<sockaddr*>(message.from.data());
        header.msg_namelen = message.from.size();
        header.msg_iov = &parts[place];
        header.msg_iovlen = 1;
        return header;
    }
};

/// Where recvmmsg puts addresses. Left as it is: to clear it would cost more than a message does.
using Addresses = std::array<sockaddr_storage, batch_max>;

/// Sends as many of `messages`, from the one numbered `sent` on, as there is room for, and counts
/// them. False if one failed.
bool send_now(int fd, Batch& batch, std::span<const Datagram> messages, std::size_t& sent) {
    while (sent < messages.size()) {
        const auto rest = messages.subspan(sent, std::min(messages.size() - sent, batch_max));
        for (std::size_t at = 0; at < rest.size(); ++at)
            batch.put(at, rest[at]);
        const int went = ::sendmmsg(fd, batch.headers.data(), static_cast<unsigned>(rest.size()),
                                    MSG_DONTWAIT | MSG_NOSIGNAL);
        if (went < 0)
            return errno == EAGAIN || errno == EINTR;
        sent += static_cast<std::size_t>(went);
    }
    return true;
}

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
        // Also when there is something: the kernel says whose turn it is, and others get theirs.
        if (const auto ready = co_await traps::read_wait(fd()); !ready)
            raise_recv(ready.error().value());
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
    }
}

Coro<std::size_t> DatagramSocket::send_many(std::span<const Datagram> messages) {
    Batch batch;
    std::size_t sent = 0;
    try {
        while (sent < messages.size()) {
            // The kernel says whose turn it is, and knows how to wait for room. Where there was
            // some for one message there is for more.
            const Datagram& first = messages[sent];
            const msghdr& header = batch.put(0, first);
            if (const auto answer = co_await traps::send_message(fd(), header); !answer) {
                if (sent == 0)
                    raise_send(answer.error().value(), first.from);
                break;
            }
            ++sent;
            if (!send_now(fd(), batch, messages, sent))
                break;
        }
    } catch (Cancelled& interrupt) {
        interrupt.set_progress(sent);
        throw;
    }
    co_return sent;
}

SocketAddress DatagramSocket::local_address() const {
    if (*this && local_.family() != AF_UNSPEC)
        return local_;
    SocketAddress address;
    if (::getsockname(fd(), address.fill(), address.fill_size()) != 0)
        raise(errno, "local address of a datagram socket");
    return address;
}

} // namespace trapline
