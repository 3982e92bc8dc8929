// Sockets for tests, by plain blocking calls: pairs, listeners, and peers that behave badly.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <trapline/io/descriptor.hpp>

namespace trapline::test {

/// `result`, or std::system_error if it is negative.
template <class T>
T must(T result, const char* what) {
    if (result < 0)
        throw std::system_error(errno, std::system_category(), what);
    return result;
}

struct Ends {
    Descriptor a;
    Descriptor b;
};

/// A connected Unix-domain pair.
inline Ends socket_pair(int flags = 0) {
    int fds[2];
    must(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0, fds), "socketpair");
    return {Descriptor{fds[0]}, Descriptor{fds[1]}};
}

/// A pipe: `a` is read, `b` is written.
inline Ends pipe_ends(int flags = 0) {
    int fds[2];
    must(::pipe2(fds, O_CLOEXEC | flags), "pipe2");
    return {Descriptor{fds[0]}, Descriptor{fds[1]}};
}

inline sockaddr_in loopback(std::uint16_t port) noexcept {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

inline std::uint16_t port_of(int fd) {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    must(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
    return ntohs(address.sin_port);
}

/// Listens on a free loopback port, see port_of().
inline Descriptor tcp_listener(int backlog = SOMAXCONN) {
    Descriptor socket{must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")};
    const sockaddr_in address = loopback(0);
    must(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), "bind");
    must(::listen(socket.get(), backlog), "listen");
    return socket;
}

/// Connects to a loopback port. Linux completes it while the listener's backlog has room.
inline Descriptor tcp_connect(std::uint16_t port) {
    Descriptor socket{must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")};
    const sockaddr_in address = loopback(port);
    must(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
         "connect");
    return socket;
}

/// A connected TCP pair.
inline Ends tcp_pair() {
    const Descriptor listener = tcp_listener();
    Descriptor client = tcp_connect(port_of(listener.get()));
    Descriptor server{must(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC), "accept")};
    return {std::move(server), std::move(client)};
}

/// Closes so that the peer sees a reset instead of an end.
inline void reset(Descriptor socket) {
    const linger hard{1, 0};
    must(::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard), "SO_LINGER");
}

inline void set_non_blocking(int fd) {
    must(::fcntl(fd, F_SETFL, must(::fcntl(fd, F_GETFL), "F_GETFL") | O_NONBLOCK), "F_SETFL");
}

/// As small as Linux allows: a few KiB.
inline void shrink_send_buffer(int fd) {
    const int bytes = 1;
    must(::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), "SO_SNDBUF");
}

/// Sends all of it, blocking the thread. False if the peer is gone.
inline bool write_all(int fd, std::span<const std::byte> data) {
    while (!data.empty()) {
        const ssize_t sent = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        data = data.subspan(static_cast<std::size_t>(sent));
    }
    return true;
}
inline bool write_all(int fd, std::string_view text) {
    return write_all(fd, std::as_bytes(std::span(text)));
}

/// Reads to the end of the stream, or until it fails, blocking the thread.
inline std::string read_all(int fd) {
    std::string all;
    char buffer[4096];
    for (;;) {
        const ssize_t got = ::read(fd, buffer, sizeof buffer);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return all;
        all.append(buffer, static_cast<std::size_t>(got));
    }
}

/// What there is now, without waiting.
inline std::string read_waiting(int fd) {
    std::string all;
    char buffer[4096];
    for (;;) {
        const ssize_t got = ::recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
        if (got <= 0)
            return all;
        all.append(buffer, static_cast<std::size_t>(got));
    }
}

/// Bytes that lie ready to be read.
inline std::size_t bytes_waiting(int fd) {
    int bytes = 0;
    must(::ioctl(fd, FIONREAD, &bytes), "FIONREAD");
    return static_cast<std::size_t>(bytes);
}

} // namespace trapline::test
