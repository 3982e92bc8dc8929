// resolve: the addresses of a host, by its name.
//
//     std::vector<SocketAddress> found = co_await resolve("localhost", 8080);
//     std::string first = found.front().to_string(); // "127.0.0.1:8080" or "[::1]:8080"
//
//     try {
//         found = co_await resolve("nowhere.test", 80, {.servers = servers});
//     } catch (const std::system_error& e) { // "resolve nowhere.test: host not found"
//         missing = e.code() == ResolveErrc::host_not_found;
//     }
//
// Built with c-ares it asks name servers itself, as the system's configuration says: /etc/hosts,
// resolv.conf, nsswitch.conf, all read at each call. The task waits in traps, and no thread is
// used. Each call has sockets of its own, so that nobody can guess the port an answer must come to;
// nothing is kept from one call to the next. Built without c-ares it calls getaddrinfo in
// run_in_thread: what it cannot do then is said below.
//
// Hosts given by number are answered at once. What only looks like a number ("127.1", "0x7f.1") is
// an error, so that nobody takes for a name what elsewhere is an address.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

#include "../traps/coro.hpp"
#include "../traps/time.hpp"
#include "address.hpp"

namespace trapline {

/// Why there are no addresses.
enum class ResolveErrc {
    host_not_found = 1, ///< no such host
    no_data,            ///< there is the host, but no address of the family asked for
    timed_out,          ///< no answer in time, std::errc::timed_out; getaddrinfo: server_failure
    server_failure,     ///< a name server could not find out
    server_refused,     ///< a name server does not serve us
    server_unreachable, ///< no name server listens
    bad_response,       ///< an answer makes no sense
    invalid_name,       ///< no host can be called that; also std::errc::invalid_argument
    unknown_service,    ///< the service is neither a port nor known here
};

/// The category "resolve".
const std::error_category& resolve_category() noexcept;
std::error_code make_error_code(ResolveErrc error) noexcept;

struct ResolveOptions {
    int family = AF_UNSPEC; ///< or AF_INET, AF_INET6

    /// How long a server is waited for, at first: from 1 ms to a minute. Each further try waits
    /// twice as long; c-ares 1.34 never waits less than 250 ms. For the whole there is
    /// timeout_after. getaddrinfo: the system's.
    Duration timeout = std::chrono::seconds{2};
    int tries = 3; ///< of each server, from 1 to 10. getaddrinfo: the system's

    /// Whom to ask; nobody: the system's. Copied at the call. getaddrinfo: must be empty, or
    /// std::errc::function_not_supported.
    std::span<const SocketAddress> servers{};

    std::size_t answers_max = 64; ///< the first so many are answered, at least 1
};

/// Answers the stream addresses of `host` with that port, best first (RFC 6724), at least one.
/// Throws std::system_error with resolve_category(), "resolve www.example.com: host not found";
/// with the system's category if there are no descriptors; std::invalid_argument for options out
/// of range. Blocks, unless the host is given by number or stands in /etc/hosts. Cancelled, its
/// sockets are closed (getaddrinfo: the thread goes on to its end, and its answer is dropped).
///
/// A host has up to 253 letters, digits, '-', '_' and dots; what is not ASCII is given in its xn--
/// form. Names without a dot are completed as resolv.conf says, those that end in one never are.
Coro<std::vector<SocketAddress>> resolve(std::string host, std::uint16_t port,
                                         ResolveOptions options = {});

/// The same for a service: a port in digits, or a name as in /etc/services, which is read in
/// run_in_thread.
Coro<std::vector<SocketAddress>> resolve(std::string host, std::string service,
                                         ResolveOptions options = {});

/// What looks names up, such as "c-ares 1.34.5" or "getaddrinfo".
std::string resolve_backend();

namespace detail {

/// Looks up a name that has been checked, with options that have been. One of the back ends.
Coro<std::vector<SocketAddress>> look_up(std::string host, std::uint16_t port,
                                         ResolveOptions options);

/// What others gave, fit to be printed: not too long, and escaped where it is not plain.
std::string printable(std::string_view text);

/// "resolve HOST".
std::string about_resolve(std::string_view host);

} // namespace detail

} // namespace trapline

template <>
struct std::is_error_code_enum<trapline::ResolveErrc> : std::true_type {};
