// resolve() without c-ares: the C library's getaddrinfo, which blocks, on another thread.
#include <cerrno>
#include <memory>
#include <new>
#include <utility>

#include <netdb.h>

#include "../traps/thread_pool.hpp"
#include "resolve.hpp"

namespace trapline {

namespace {

struct Freed {
    void operator()(addrinfo* list) const noexcept { ::freeaddrinfo(list); }
};

[[noreturn]] void raise(int error, int system_error, const std::string& host) {
    const std::string what = detail::about_resolve(host);
    switch (error) {
    case EAI_NONAME: throw std::system_error(ResolveErrc::host_not_found, what);
    case EAI_NODATA:
    case EAI_ADDRFAMILY: throw std::system_error(ResolveErrc::no_data, what);
    case EAI_AGAIN: // no answer, and an answer of failure, are one to getaddrinfo
    case EAI_FAIL: throw std::system_error(ResolveErrc::server_failure, what);
    case EAI_MEMORY: throw std::bad_alloc();
    case EAI_SYSTEM: throw std::system_error(system_error, std::system_category(), what);
    default:
        throw std::system_error(ResolveErrc::server_failure, what + ": " + ::gai_strerror(error));
    }
}

/// On the thread.
std::vector<SocketAddress> ask(const std::string& host, std::uint16_t port, int family,
                               std::size_t answers_max) {
    addrinfo hints{};
    hints.ai_family = family;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV;
    addrinfo* list = nullptr;
    const int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
    if (error != 0)
        raise(error, errno, host);
    const std::unique_ptr<addrinfo, Freed> owner{list};
    std::vector<SocketAddress> found;
    for (const addrinfo* at = list; at && found.size() < answers_max; at = at->ai_next)
        if (at->ai_family == AF_INET || at->ai_family == AF_INET6)
            found.push_back(SocketAddress::from(at->ai_addr, at->ai_addrlen));
    if (found.empty())
        raise(EAI_NODATA, 0, host);
    return found;
}

} // namespace

Coro<std::vector<SocketAddress>> detail::look_up(std::string host, std::uint16_t port,
                                                 ResolveOptions options) {
    if (!options.servers.empty())
        throw std::system_error(std::make_error_code(std::errc::function_not_supported),
                                about_resolve(host) + ": getaddrinfo asks the system's servers");
    co_return co_await run_in_thread(ask, std::move(host), port, options.family,
                                     options.answers_max);
}

std::string resolve_backend() { return "getaddrinfo"; }

} // namespace trapline
