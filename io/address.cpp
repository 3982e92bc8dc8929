#include "address.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <stdexcept>

#include <arpa/inet.h>
#include <net/if.h>

namespace trapline {

namespace {

[[noreturn]] void refuse(std::string_view text, const char* why) {
    throw std::invalid_argument("\"" + std::string(text) + "\" is no socket address: " + why);
}

/// A NUL would end the text early for the system, and hide what stands behind it.
void refuse_nul(std::string_view text, std::string_view whole) {
    if (text.contains('\0'))
        refuse(whole, "it holds a NUL");
}

// In what follows, `whole` is what the user gave: the errors quote it.

std::uint16_t parse_port(std::string_view digits, std::string_view whole) {
    std::uint16_t port = 0;
    const char* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, port);
    if (error != std::errc{} || stop != end || digits.empty())
        refuse(whole, "the port is no number from 0 to 65535");
    return port;
}

in_addr parse_ipv4(std::string_view host, std::string_view whole) {
    refuse_nul(host, whole);
    in_addr address{};
    if (inet_pton(AF_INET, std::string(host).c_str(), &address) != 1)
        refuse(whole, "the host must be four numbers, as in 127.0.0.1; names are not looked up");
    return address;
}

in6_addr parse_ipv6(std::string_view host, std::string_view whole) {
    refuse_nul(host, whole);
    in6_addr address{};
    if (inet_pton(AF_INET6, std::string(host).c_str(), &address) != 1)
        refuse(whole, "the host must be an IPv6 address, as in ::1");
    return address;
}

/// The number of the network interface that link-local addresses name behind a '%'.
std::uint32_t parse_scope(std::string_view interface, std::string_view whole) {
    refuse_nul(interface, whole);
    const unsigned number = if_nametoindex(std::string(interface).c_str());
    if (number == 0)
        refuse(whole, "there is no network interface of that name");
    return number;
}

} // namespace

SocketAddress SocketAddress::parse(std::string_view text) {
    constexpr std::string_view unix_prefix = "unix:";
    if (text.starts_with(unix_prefix)) {
        const std::string_view path = text.substr(unix_prefix.size());
        return path.starts_with('@') ? unix_abstract(path.substr(1)) : unix_path(path);
    }
    if (text.starts_with('/'))
        return unix_path(text);
    const bool bracketed = text.starts_with('[');
    const std::size_t colon = bracketed ? text.find("]:") : text.rfind(':');
    if (colon == text.npos)
        refuse(text, "expected 1.2.3.4:port, [::1]:port or unix:path");
    if (bracketed)
        return ipv6(text.substr(1, colon - 1), parse_port(text.substr(colon + 2), text), text);
    const std::string_view host = text.substr(0, colon);
    if (host.contains(':'))
        refuse(text, "an IPv6 address stands in brackets, as in [::1]:80");
    return ipv4(host, parse_port(text.substr(colon + 1), text), text);
}

SocketAddress SocketAddress::ipv4(std::string_view address, std::uint16_t port) {
    return ipv4(address, port, address);
}

SocketAddress SocketAddress::ipv6(std::string_view address, std::uint16_t port) {
    return ipv6(address, port, address);
}

SocketAddress SocketAddress::ipv4(std::string_view host, std::uint16_t port,
                                  std::string_view whole) {
    SocketAddress result;
    result.storage_.v4 = {};
    result.storage_.v4.sin_family = AF_INET;
    result.storage_.v4.sin_port = htons(port);
    result.storage_.v4.sin_addr = parse_ipv4(host, whole);
    result.length_ = sizeof(sockaddr_in);
    return result;
}

SocketAddress SocketAddress::ipv6(std::string_view host, std::uint16_t port,
                                  std::string_view whole) {
    SocketAddress result;
    result.storage_.v6 = {};
    result.storage_.v6.sin6_family = AF_INET6;
    result.storage_.v6.sin6_port = htons(port);
    const std::size_t percent = host.find('%');
    result.storage_.v6.sin6_addr = parse_ipv6(host.substr(0, percent), whole);
    if (percent != host.npos)
        result.storage_.v6.sin6_scope_id = parse_scope(host.substr(percent + 1), whole);
    result.length_ = sizeof(sockaddr_in6);
    return result;
}

SocketAddress SocketAddress::unix_path(std::string_view path) {
    SocketAddress result;
    result.storage_.local = {};
    result.storage_.local.sun_family = AF_UNIX;
    if (path.empty())
        refuse(path, "the path is empty");
    refuse_nul(path, path);
    if (path.size() >= sizeof result.storage_.local.sun_path)
        refuse(path, "the path is longer than the 107 bytes that a socket's may have");
    std::ranges::copy(path, result.storage_.local.sun_path);
    result.length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
    return result;
}

SocketAddress SocketAddress::unix_abstract(std::string_view name) {
    SocketAddress result;
    result.storage_.local = {};
    result.storage_.local.sun_family = AF_UNIX;
    if (name.empty())
        refuse(name, "the name is empty");
    if (name.size() >= sizeof result.storage_.local.sun_path)
        refuse(name, "the name is longer than the 107 bytes that a socket's may have");
    std::ranges::copy(name, result.storage_.local.sun_path + 1);
    result.length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    return result;
}

SocketAddress SocketAddress::from(const sockaddr* address, socklen_t length) noexcept {
    SocketAddress result;
    result.length_ = std::min<socklen_t>(length, sizeof result.storage_);
    if (result.length_ > 0)
        std::memcpy(&result.storage_, address, result.length_);
    return result;
}

std::uint16_t SocketAddress::port() const noexcept {
    switch (family()) {
    case AF_INET: return ntohs(storage_.v4.sin_port);
    case AF_INET6: return ntohs(storage_.v6.sin6_port);
    default: return 0;
    }
}

std::string SocketAddress::local_name() const {
    constexpr std::size_t path_offset = offsetof(sockaddr_un, sun_path);
    const char* const path = storage_.local.sun_path;
    const std::size_t size = length_ > path_offset ? length_ - path_offset : 0;
    std::string name;
    if (size > 0 && path[0] == '\0') { // abstract: all of it counts
        name = "@" + std::string(path + 1, size - 1);
    } else {
        name.assign(path, strnlen(path, size));
    }
    std::ranges::replace_if(
        name, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 127; }, '?');
    return name;
}

std::string SocketAddress::to_string() const {
    std::array<char, INET6_ADDRSTRLEN> text{};
    switch (family()) {
    case AF_INET:
        inet_ntop(AF_INET, &storage_.v4.sin_addr, text.data(), text.size());
        return std::string(text.data()) + ":" + std::to_string(port());
    case AF_INET6: {
        inet_ntop(AF_INET6, &storage_.v6.sin6_addr, text.data(), text.size());
        std::string host = text.data();
        if (std::array<char, IF_NAMESIZE> name{};
            storage_.v6.sin6_scope_id != 0 &&
            if_indextoname(storage_.v6.sin6_scope_id, name.data()))
            host += "%" + std::string(name.data());
        return "[" + host + "]:" + std::to_string(port());
    }
    case AF_UNIX: return "unix:" + local_name();
    case AF_UNSPEC: return "no address";
    default: return "an address of family " + std::to_string(family());
    }
}

bool operator==(const SocketAddress& a, const SocketAddress& b) noexcept {
    if (a.family() != b.family())
        return false;
    switch (a.family()) {
    case AF_INET: // the padding behind the address says nothing
        return a.storage_.v4.sin_port == b.storage_.v4.sin_port &&
               a.storage_.v4.sin_addr.s_addr == b.storage_.v4.sin_addr.s_addr;
    case AF_INET6: // nor does the flow label
        return a.storage_.v6.sin6_port == b.storage_.v6.sin6_port &&
               a.storage_.v6.sin6_scope_id == b.storage_.v6.sin6_scope_id &&
               std::memcmp(&a.storage_.v6.sin6_addr, &b.storage_.v6.sin6_addr, sizeof(in6_addr)) ==
                   0;
    default: return a.length_ == b.length_ && std::memcmp(&a.storage_, &b.storage_, a.length_) == 0;
    }
}

} // namespace trapline
