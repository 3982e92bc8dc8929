#include "unix.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include <sys/stat.h>
#include <unistd.h>

#include "need.hpp"

namespace trapline {

using detail::need;

namespace {

struct Ends {
    Descriptor a;
    Descriptor b;
};

Ends socket_pair(int type) {
    int ends[2];
    if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) != 0)
        detail::raise_error(errno, "socketpair");
    return {Descriptor{ends[0]}, Descriptor{ends[1]}};
}

SocketAddress unnamed() {
    const sa_family_t family = AF_UNIX;
    return SocketAddress::from(reinterpret_cast<const sockaddr*>(&family), sizeof family);
}

/// The path, if it is one: not if the address is abstract or has no name.
const char* path_of(const SocketAddress& address) {
    const auto* local = reinterpret_cast<const sockaddr_un*>(address.data());
    const bool named = address.size() > offsetof(sockaddr_un, sun_path);
    return address.family() == AF_UNIX && named && local->sun_path[0] != '\0' ? local->sun_path
                                                                              : nullptr;
}

/// Removes a socket where nobody listens any more.
Coro<void> remove_stale(SocketAddress address) {
    const char* path = path_of(address);
    struct stat status{};
    if (!path || ::lstat(path, &status) != 0 || !S_ISSOCK(status.st_mode))
        co_return;
    Descriptor probe{need(co_await traps::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK), "socket")};
    const auto answer = co_await traps::connect(probe.get(), address.data(), address.size());
    if (!answer && answer.error() == std::errc::connection_refused)
        ::unlink(path);
}

/// Room for a message with descriptors, laid out as Linux wants it.
struct ControlMessage {
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(descriptors_max * sizeof(int))> bytes{};
};

/// Takes over the descriptors that came with a message.
std::vector<Descriptor> descriptors_in(msghdr& message) {
    std::vector<Descriptor> all;
    for (cmsghdr* at = CMSG_FIRSTHDR(&message); at; at = CMSG_NXTHDR(&message, at)) {
        if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS)
            continue;
        const std::size_t count = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        std::array<int, descriptors_max> fds{};
        std::memcpy(fds.data(), CMSG_DATA(at), std::min(count, fds.size()) * sizeof(int));
        all.reserve(count);
        for (const int fd : std::span(fds).first(std::min(count, fds.size())))
            all.emplace_back(fd);
    }
    return all;
}

} // namespace

// --- UnixStream ----------------------------------------------------------------------------

Coro<UnixStream> UnixStream::connect(SocketAddress peer) {
    const std::string what = "connect to " + peer.to_string();
    Descriptor socket{need(co_await traps::socket(AF_UNIX, SOCK_STREAM), what)};
    need(co_await traps::connect(socket.get(), peer.data(), peer.size()), what);
    co_return UnixStream{std::move(socket), peer};
}

Coro<UnixStreamPair> UnixStream::pair() {
    Ends ends = socket_pair(SOCK_STREAM);
    co_return UnixStreamPair{UnixStream{std::move(ends.a), unnamed()},
                             UnixStream{std::move(ends.b), unnamed()}};
}

ucred UnixStream::peer_credentials() const {
    ucred who{};
    socklen_t size = sizeof who;
    if (::getsockopt(fd(), SOL_SOCKET, SO_PEERCRED, &who, &size) != 0)
        raise(errno, "credentials of the peer at ");
    if (who.uid == static_cast<uid_t>(-1)) // Linux knows no peer
        raise(ENOTCONN, "credentials of the peer at ");
    return who;
}

Coro<std::size_t> UnixStream::send_descriptors(std::span<const std::byte> data,
                                               std::span<const int> fds) {
    if (data.empty() || fds.size() > descriptors_max)
        throw std::invalid_argument("send_descriptors: at least one byte, at most 253 descriptors");
    ControlMessage control;
    iovec body = part(data);
    msghdr message{};
    message.msg_iov = &body;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
        message.msg_control = control.bytes.data();
        message.msg_controllen = CMSG_SPACE(fds.size_bytes());
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(fds.size_bytes());
        std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
    }
    const auto answer = co_await traps::send_message(fd(), message);
    if (!answer)
        raise(answer.error().value(), "send of descriptors to ");
    co_return *answer;
}

Coro<DescriptorMessage> UnixStream::recv_descriptors(std::span<std::byte> buffer,
                                                     std::size_t fds_max) {
    if (buffer.empty())
        throw std::invalid_argument("recv_descriptors: the buffer is empty");
    ControlMessage control;
    iovec body = part(buffer);
    msghdr message{};
    message.msg_iov = &body;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes.data();
    message.msg_controllen = control.bytes.size();
    const auto answer = co_await traps::recv_message(fd(), message, MSG_CMSG_CLOEXEC);
    if (!answer)
        raise(answer.error().value(), "recv of descriptors from ");
    DescriptorMessage received;
    received.size = *answer;
    received.descriptors = descriptors_in(message);
    if ((message.msg_flags & MSG_CTRUNC) || received.descriptors.size() > fds_max)
        raise(EMSGSIZE, "recv of descriptors from ");
    co_return received;
}

// --- UnixListener --------------------------------------------------------------------------

Coro<UnixListener> UnixListener::bind(SocketAddress address, UnixListenOptions options) {
    const std::string what = "bind to " + address.to_string();
    if (options.replace)
        co_await remove_stale(address);
    Descriptor socket{need(co_await traps::socket(AF_UNIX, SOCK_STREAM), what)};
    need(co_await traps::bind(socket.get(), address.data(), address.size()), what);
    if (const char* path = path_of(address);
        path && options.mode != 0 && ::chmod(path, options.mode) != 0)
        detail::raise_error(errno, "permissions of " + address.to_string());
    need(co_await traps::listen(socket.get(), options.backlog), "listen at " + address.to_string());
    SocketAddress bound;
    need(co_await traps::socket_name(socket.get(), bound.fill(), bound.fill_size()), what);
    co_return UnixListener{std::move(socket), bound};
}

// --- UnixDatagram --------------------------------------------------------------------------

Coro<UnixDatagram> UnixDatagram::bind(SocketAddress address) {
    const std::string what = "bind to " + address.to_string();
    Descriptor socket{need(co_await traps::socket(AF_UNIX, SOCK_DGRAM), what)};
    need(co_await traps::bind(socket.get(), address.data(), address.size()), what);
    SocketAddress bound;
    need(co_await traps::socket_name(socket.get(), bound.fill(), bound.fill_size()), what);
    co_return UnixDatagram{std::move(socket), {}, bound};
}

Coro<UnixDatagram> UnixDatagram::connect(SocketAddress peer, SocketAddress local) {
    const std::string what = "connect of a datagram socket to " + peer.to_string();
    Descriptor socket{need(co_await traps::socket(AF_UNIX, SOCK_DGRAM), what)};
    if (local.family() != AF_UNSPEC)
        need(co_await traps::bind(socket.get(), local.data(), local.size()),
             what + " from " + local.to_string());
    need(co_await traps::connect(socket.get(), peer.data(), peer.size()), what);
    SocketAddress bound;
    need(co_await traps::socket_name(socket.get(), bound.fill(), bound.fill_size()), what);
    co_return UnixDatagram{std::move(socket), peer, bound};
}

Coro<UnixDatagramPair> UnixDatagram::pair() {
    Ends ends = socket_pair(SOCK_DGRAM);
    co_return UnixDatagramPair{UnixDatagram{std::move(ends.a), unnamed()},
                               UnixDatagram{std::move(ends.b), unnamed()}};
}

} // namespace trapline
