#include "activation.hpp"

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <string_view>

#include <fcntl.h>
#include <unistd.h>

#include "errors.hpp"

namespace trapline {

namespace {

constexpr int first_passed = 3; // SD_LISTEN_FDS_START

/// Unsets the variables when it goes.
class Environment {
public:
    explicit Environment(bool unset) noexcept : unset_(unset) {}
    Environment(const Environment&) = delete;
    Environment& operator=(const Environment&) = delete;
    ~Environment() {
        if (!unset_)
            return;
        for (const char* name : {"LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"})
            ::unsetenv(name);
    }

private:
    bool unset_;
};

[[noreturn]] void refuse(int error, const std::string& why) {
    detail::raise_error(error, "inherited sockets: " + why);
}

/// The variable's value, which must be a number from 1 to `max`.
int number_in(const char* variable, std::string_view text, int max) {
    int number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || end != text.data() + text.size() || number < 1 || number > max)
        refuse(EINVAL, std::string(variable) + " is \"" + std::string(text) + "\"");
    return number;
}

/// "a:b::c" has four names, one of them empty.
std::vector<std::string> split(std::string_view text) {
    std::vector<std::string> names;
    for (;;) {
        const std::size_t colon = text.find(':');
        names.emplace_back(text.substr(0, colon));
        if (colon == std::string_view::npos)
            return names;
        text.remove_prefix(colon + 1);
    }
}

std::vector<std::string> names_of(int count) {
    const char* given = ::getenv("LISTEN_FDNAMES");
    if (!given)
        return std::vector<std::string>(static_cast<std::size_t>(count), "unknown");
    std::vector<std::string> names = split(given);
    if (names.size() != static_cast<std::size_t>(count))
        refuse(EINVAL, std::to_string(names.size()) + " names for " + std::to_string(count) +
                           " descriptors");
    return names;
}

} // namespace

std::vector<InheritedSocket> inherited_sockets(InheritedSocketsOptions options) {
    constexpr int int_max = std::numeric_limits<int>::max();
    const Environment environment{options.unset_environment};
    const char* pid = ::getenv("LISTEN_PID");
    const char* fds = ::getenv("LISTEN_FDS");
    if (!pid || number_in("LISTEN_PID", pid, int_max) != ::getpid() || !fds)
        return {};
    const int count = number_in("LISTEN_FDS", fds, int_max - first_passed);
    for (int fd = first_passed; fd < first_passed + count; ++fd) {
        const int flags = ::fcntl(fd, F_GETFD);
        if (flags < 0 || ::fcntl(fd, F_SETFD, flags | FD_CLOEXEC) != 0)
            refuse(errno, "descriptor " + std::to_string(fd));
    }
    std::vector<std::string> names = names_of(count);
    std::vector<InheritedSocket> sockets;
    sockets.reserve(names.size());
    for (std::string& name : names)
        sockets.emplace_back(Descriptor{first_passed + static_cast<int>(sockets.size())},
                             std::move(name));
    return sockets;
}

} // namespace trapline
