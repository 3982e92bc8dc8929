// SocketAddress: an IPv4, IPv6 or Unix-domain address. A value: copies, compares, prints.
//
//     SocketAddress loopback = SocketAddress::parse("[::1]:8080");
//     SocketAddress local = SocketAddress::parse("unix:/run/app.sock");
//     SocketAddress everywhere = SocketAddress::ipv4("0.0.0.0", 80);
//     std::string text = everywhere.to_string(); // "0.0.0.0:80"
//
// Hosts are given by number: it looks up no names.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace trapline {

class SocketAddress {
public:
    /// Unspecified: family() is AF_UNSPEC.
    SocketAddress() noexcept : storage_{}, length_(0) {}

    /// "1.2.3.4:port", "[v6]:port", "[v6%interface]:port", "unix:path", a path with a slash in
    /// front, or "unix:@name" for an abstract address. Throws std::invalid_argument, whose text
    /// says what is wrong.
    static SocketAddress parse(std::string_view text);

    /// Throw std::invalid_argument if `address` is not a numeric one.
    static SocketAddress ipv4(std::string_view address, std::uint16_t port);
    static SocketAddress ipv6(std::string_view address, std::uint16_t port);

    /// Throws std::invalid_argument if the path is empty, too long or holds a NUL.
    static SocketAddress unix_path(std::string_view path);

    /// A Unix-domain address that is no file, and gone when its last socket is. The name may hold
    /// any bytes. Throws std::invalid_argument if it is empty or too long.
    static SocketAddress unix_abstract(std::string_view name);

    /// As a system call left it. `length` is cut to what fits.
    static SocketAddress from(const sockaddr* address, socklen_t length) noexcept;

    int family() const noexcept { return length_ == 0 ? AF_UNSPEC : storage_.any.sa_family; }

    /// 0 for Unix-domain addresses.
    std::uint16_t port() const noexcept;

    /// What parse() takes; bytes of a Unix-domain address that do not print stand as "?". "unix:"
    /// alone is an unnamed socket.
    std::string to_string() const;

    const sockaddr* data() const noexcept { return &storage_.any; }
    socklen_t size() const noexcept { return length_; }

    /// For system calls that fill one in: data, and its capacity, which they replace by the size.
    sockaddr* fill() noexcept {
        length_ = sizeof storage_;
        return &storage_.any;
    }
    socklen_t* fill_size() noexcept { return &length_; }

    friend bool operator==(const SocketAddress& a, const SocketAddress& b) noexcept;

private:
    // The same for a part of `whole`, which errors quote.
    static SocketAddress ipv4(std::string_view host, std::uint16_t port, std::string_view whole);
    static SocketAddress ipv6(std::string_view host, std::uint16_t port, std::string_view whole);
    std::string local_name() const;

    union {
        sockaddr any;
        sockaddr_in v4;
        sockaddr_in6 v6;
        sockaddr_un local;
    } storage_;
    socklen_t length_;
};

} // namespace trapline
