#include "stream_socket.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

#include "../traps/exceptions.hpp"

namespace trapline {

namespace {

/// Answers the whole reply: it tells of a transfer that was stopped half way, and by what.
class SendMessage : public TrapAwaiter<traps::Io> {
public:
    SendMessage(int fd, const msghdr& message) noexcept
        : TrapAwaiter(traps::Io{traps::SendMsg{fd, MSG_WAITALL, &message}}) {}
    Reply await_resume() const { return reply(); }
};

} // namespace

std::string StreamSocket::about(const char* operation) const {
    return operation + peer_.to_string() + (socket_ ? "" : ", a stream that was closed here");
}

void StreamSocket::raise(int error, const char* operation) const {
    detail::raise_error(error, about(operation));
}

void StreamSocket::RecvExactly::check_short(std::size_t received) const {
    if (const int error = reply().stopped_by)
        throw TransferError({error, std::system_category()}, stream_->about("recv from "),
                            received);
    if (received > 0)
        throw EndOfStream(stream_->about("recv from ") + ": the stream ended after " +
                              std::to_string(received) + " of " + std::to_string(buffer_.size()) +
                              " bytes",
                          received);
}

void StreamSocket::SendAll::raise_short(std::size_t sent) const {
    const int error = reply().stopped_by ? reply().stopped_by : EIO;
    throw TransferError({error, std::system_category()}, stream_->about("send to "), sent);
}

Coro<void> StreamSocket::send_all(std::span<const iovec> parts) {
    constexpr std::size_t parts_max = 64; // of one system call; Linux takes up to 1024
    std::array<iovec, parts_max> left;
    std::size_t sent = 0;
    std::size_t skip = 0; // of the first part: already sent
    try {
        while (!parts.empty()) {
            const std::size_t count = std::min(parts.size(), left.size());
            std::ranges::copy(parts.first(count), left.begin());
            left[0].iov_base = static_cast<std::byte*>(left[0].iov_base) + skip;
            left[0].iov_len -= skip;
            msghdr message{};
            message.msg_iov = left.data();
            message.msg_iovlen = count;
            const Reply answer = co_await SendMessage{fd(), message};
            const std::size_t now_sent = answer.failed() ? 0 : this->sent(answer.value);
            sent += now_sent;
            if (const int error = answer.failed() ? answer.error() : answer.stopped_by) {
                if (sent == 0)
                    raise(error, "send to ");
                throw TransferError({error, std::system_category()}, about("send to "), sent);
            }
            // Linux may stop half way.
            skip += now_sent;
            while (!parts.empty() && skip >= parts.front().iov_len) {
                skip -= parts.front().iov_len;
                parts = parts.subspan(1);
            }
        }
    } catch (Cancelled& interrupt) {
        interrupt.set_progress(sent + interrupt.progress());
        throw;
    }
}

Coro<void> StreamSocket::shutdown(int how) {
    const auto answer = co_await traps::shutdown(fd(), how);
    if (!answer)
        raise(answer.error().value(), "shutdown of stream to ");
}

Coro<void> StreamSocket::abort() {
    const linger hard{1, 0};
    if (*this) // Unix-domain sockets know no reset; they are closed all the same
        (void)co_await traps::set_option(fd(), SOL_SOCKET, SO_LINGER, hard);
    co_await close();
}

SocketAddress StreamSocket::local_address() const {
    SocketAddress address;
    if (::getsockname(fd(), address.fill(), address.fill_size()) != 0)
        raise(errno, "local address of stream to ");
    if (address.port() == 0 && (address.family() == AF_INET || address.family() == AF_INET6))
        raise(ENOTCONN, "local address of stream to ");
    return address;
}

} // namespace trapline
