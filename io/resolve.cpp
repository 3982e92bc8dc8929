#include "resolve.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <optional>
#include <stdexcept>
#include <utility>

#include <arpa/inet.h>
#include <netdb.h>

#include "../traps/thread_pool.hpp"

namespace trapline {

namespace {

class ResolveCategory final : public std::error_category {
public:
    const char* name() const noexcept override { return "resolve"; }

    std::string message(int error) const override {
        switch (static_cast<ResolveErrc>(error)) {
        case ResolveErrc::host_not_found: return "host not found";
        case ResolveErrc::no_data: return "the host has no address of the family asked for";
        case ResolveErrc::timed_out: return "no name server answered in time";
        case ResolveErrc::server_failure: return "the name server failed";
        case ResolveErrc::server_refused: return "the name server refused to answer";
        case ResolveErrc::server_unreachable: return "no name server could be reached";
        case ResolveErrc::bad_response: return "the name server's answer makes no sense";
        case ResolveErrc::invalid_name: return "invalid host name";
        case ResolveErrc::unknown_service: return "unknown service";
        }
        return "error " + std::to_string(error);
    }

    std::error_condition default_error_condition(int error) const noexcept override {
        switch (static_cast<ResolveErrc>(error)) {
        case ResolveErrc::timed_out: return std::errc::timed_out;
        case ResolveErrc::invalid_name: return std::errc::invalid_argument;
        case ResolveErrc::host_not_found:
        case ResolveErrc::no_data:
        case ResolveErrc::server_failure:
        case ResolveErrc::server_refused:
        case ResolveErrc::server_unreachable:
        case ResolveErrc::bad_response:
        case ResolveErrc::unknown_service: break;
        }
        return {error, *this};
    }
};

constexpr std::size_t name_max = 253; ///< what fits into the 255 bytes that DNS has for it
constexpr std::size_t label_max = 63;

// Not std::isalnum and its kin: these know ASCII alone, whatever the locale.
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
constexpr bool is_hex(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/// A last label that inet_aton would read as a number makes the whole host an address there.
bool is_number(std::string_view label) {
    if (label.starts_with("0x") || label.starts_with("0X"))
        return std::ranges::all_of(label.substr(2), is_hex);
    return std::ranges::all_of(label, is_digit);
}

/// What is wrong with a host that is no address; null if nothing is.
const char* fault_of(std::string_view host) {
    if (host.ends_with('.'))
        host.remove_suffix(1);
    if (host.empty())
        return "the name is empty";
    if (host.size() > name_max)
        return "the name is longer than 253 characters";
    if (host.contains(':'))
        return "the name holds a colon, but is no IPv6 address, or its interface is not there";
    std::string_view label;
    for (std::string_view rest = host;;) {
        const std::size_t dot = rest.find('.');
        label = rest.substr(0, dot);
        if (label.empty())
            return "a part of the name is empty";
        if (label.size() > label_max)
            return "a part of the name is longer than 63 characters";
        if (!std::ranges::all_of(
                label, [](char c) { return is_letter(c) || is_digit(c) || c == '-' || c == '_'; }))
            return "the name holds something else than letters, digits, '-', '_' and dots";
        if (dot == rest.npos)
            break;
        rest.remove_prefix(dot + 1);
    }
    if (is_number(label))
        return "a name does not end in a number, and as an address it is none of four numbers";
    return nullptr;
}

std::optional<SocketAddress> numeric(const std::string& host, std::uint16_t port) {
    in_addr v4;
    if (host.contains('\0'))
        return std::nullopt;
    if (::inet_pton(AF_INET, host.c_str(), &v4) == 1)
        return SocketAddress::ipv4(host, port);
    if (!host.contains(':'))
        return std::nullopt;
    try {
        return SocketAddress::ipv6(host, port);
    } catch (const std::invalid_argument&) {
        return std::nullopt;
    }
}

void check(const ResolveOptions& options) {
    using namespace std::chrono_literals;
    if (options.family != AF_UNSPEC && options.family != AF_INET && options.family != AF_INET6)
        throw std::invalid_argument("resolve: the family is none of AF_UNSPEC, AF_INET, AF_INET6");
    if (options.timeout < 1ms || options.timeout > 1min)
        throw std::invalid_argument("resolve: the timeout is not from 1 ms to a minute");
    if (options.tries < 1 || options.tries > 10)
        throw std::invalid_argument("resolve: the number of tries is not from 1 to 10");
    if (options.answers_max == 0)
        throw std::invalid_argument("resolve: answers_max is 0");
    for (const SocketAddress& server : options.servers)
        if (server.family() != AF_INET && server.family() != AF_INET6)
            throw std::invalid_argument("resolve: " + server.to_string() + " is no name server");
}

/// As in /etc/services; 0 if it is not there. May read files, or ask whom nsswitch.conf names.
std::uint16_t port_by_name(const std::string& service) {
    for (const char* protocol : {"tcp", "udp"}) {
        servent entry;
        servent* found = nullptr;
        std::array<char, 4096> buffer;
        if (::getservbyname_r(service.c_str(), protocol, &entry, buffer.data(), buffer.size(),
                              &found) == 0 &&
            found)
            return ntohs(static_cast<std::uint16_t>(found->s_port));
    }
    return 0;
}

/// `servers` are the caller's own, copied.
Coro<std::vector<SocketAddress>> by_port(std::string host, std::uint16_t port,
                                         ResolveOptions options,
                                         std::vector<SocketAddress> servers) {
    options.servers = servers;
    check(options);
    if (const auto address = numeric(host, port)) {
        if (options.family != AF_UNSPEC && options.family != address->family())
            throw std::system_error(ResolveErrc::no_data, detail::about_resolve(host));
        co_return {*address};
    }
    if (const char* fault = fault_of(host))
        throw std::system_error(ResolveErrc::invalid_name,
                                detail::about_resolve(host) + ": " + fault);
    co_return co_await detail::look_up(std::move(host), port, options);
}

Coro<std::vector<SocketAddress>> by_service(std::string host, std::string service,
                                            ResolveOptions options,
                                            std::vector<SocketAddress> servers) {
    std::uint16_t port = 0;
    const char* end = service.data() + service.size();
    const auto [stop, error] = std::from_chars(service.data(), end, port);
    const bool digits = !service.empty() && std::ranges::all_of(service, is_digit);
    if (!digits && !service.empty() && !service.contains('\0'))
        port = co_await run_in_thread(port_by_name, service);
    if (digits ? error != std::errc{} : port == 0)
        throw std::system_error(ResolveErrc::unknown_service,
                                detail::about_resolve(host) + ": " + detail::printable(service));
    co_return co_await by_port(std::move(host), port, options, std::move(servers));
}

std::vector<SocketAddress> copy_of(std::span<const SocketAddress> servers) {
    return {servers.begin(), servers.end()};
}

} // namespace

const std::error_category& resolve_category() noexcept {
    static const ResolveCategory category;
    return category;
}

std::error_code make_error_code(ResolveErrc error) noexcept {
    return {static_cast<int>(error), resolve_category()};
}

std::string detail::printable(std::string_view text) {
    constexpr std::size_t shown_max = 80;
    constexpr std::string_view hex = "0123456789abcdef";
    std::string shown;
    for (const char c : text.substr(0, shown_max)) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte > ' ' && byte < 0x7f)
            shown += c;
        else
            shown += {'\\', 'x', hex[byte >> 4], hex[byte & 15]};
    }
    if (text.size() > shown_max)
        shown += "...";
    return shown.empty() ? "\"\"" : shown;
}

std::string detail::about_resolve(std::string_view host) { return "resolve " + printable(host); }

Coro<std::vector<SocketAddress>> resolve(std::string host, std::uint16_t port,
                                         ResolveOptions options) {
    return by_port(std::move(host), port, options, copy_of(options.servers));
}

Coro<std::vector<SocketAddress>> resolve(std::string host, std::string service,
                                         ResolveOptions options) {
    return by_service(std::move(host), std::move(service), options, copy_of(options.servers));
}

} // namespace trapline
