#include "epoll_watches.hpp"

#include <algorithm>
#include <cerrno>
#include <new>
#include <system_error>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace trapline {

namespace {
/// Always watched. EPOLLOUT only once somebody has waited for it: a Unix-domain socket reports it
/// whenever its peer takes something.
constexpr std::uint32_t always = EPOLLIN | EPOLLPRI | EPOLLRDHUP;
} // namespace

Watches::Watches(std::uint64_t& calls) : epoll_(epoll_create1(EPOLL_CLOEXEC)), calls_(calls) {
    if (epoll_ < 0) {
        const bool none_left = errno == EMFILE || errno == ENFILE;
        throw std::system_error(errno, std::system_category(),
                                none_left ? "epoll cannot be set up (no descriptors left: raise "
                                            "`ulimit -n` (RLIMIT_NOFILE))"
                                          : "epoll cannot be set up (see epoll_create1(2))");
    }
}

Watches::~Watches() { close(epoll_); }

Watch* Watches::get(int fd) noexcept {
    if (Watch* watch = find(fd)) [[likely]]
        return watch;
    if (::fcntl(fd, F_GETFD) < 0) // so the table grows as far as there are descriptors
        return nullptr;
    const auto index = static_cast<std::size_t>(fd);
    try {
        if (index >= watches_.capacity())
            watches_.reserve(std::max(index + 1, watches_.capacity() * 2));
        watches_.resize(index + 1);
    } catch (const std::bad_alloc&) {
        errno = ENOMEM;
        return nullptr;
    }
    return &watches_[index];
}

void Watches::become_new(Watch& watch) noexcept {
    ++watch.generation;
    watch.reader = nullptr;
    watch.interest = 0;
    watch.registered = watch.drained = watch.ended = watch.cancelled = false;
    watch.kind = Watch::Kind::unknown;
}

int Watches::control(int what, int fd, const Watch& watch) noexcept {
    epoll_event event{};
    event.events = EPOLLET | watch.interest;
    event.data.u64 = std::uint64_t{watch.generation} << 32 | static_cast<std::uint32_t>(fd);
    ++calls_;
    return epoll_ctl(epoll_, what, fd, &event) == 0 ? 0 : -errno;
}

int Watches::arm(int fd, std::uint32_t events) noexcept {
    Watch* const known = get(fd);
    if (!known)
        return -errno;
    Watch& watch = *known;
    untrust(watch);
    watch.drained = false;
    watch.interest |= static_cast<std::uint16_t>(always | (events & 0xffff));
    int error = -ENOENT;
    if (watch.registered) {
        error = control(EPOLL_CTL_MOD, fd, watch);
        if (error == -ENOENT) { // the number is another file's by now
            const std::uint16_t interest = watch.interest;
            become_new(watch);
            watch.interest = interest;
        }
    }
    if (error == -ENOENT) {
        error = control(EPOLL_CTL_ADD, fd, watch);
        // It came back: a duplicate kept it registered while the number was another file's.
        if (error == -EEXIST)
            error = control(EPOLL_CTL_MOD, fd, watch);
    }
    watch.registered = error == 0;
    return error;
}

void Watches::forget(int fd) noexcept {
    if (Watch* watch = find(fd)) {
        untrust(*watch);
        become_new(*watch);
    }
}

void Watches::drop(int fd) noexcept {
    Watch* watch = find(fd);
    if (watch && watch->registered)
        control(EPOLL_CTL_DEL, fd, *watch); // or a duplicate would keep reporting
    forget(fd);
}

void Watches::stop_waiting(Operation& operation) noexcept {
    Operation** at = &find(static_cast<int>(operation.slot))->waiting;
    while (*at != &operation)
        at = &(*at)->next;
    *at = operation.next;
}

bool is_tcp(Watch& watch, int fd) noexcept {
    if (watch.kind == Watch::Kind::unknown) [[unlikely]] {
        const auto is = [fd](int option, int wanted) {
            int value = 0;
            socklen_t length = sizeof value;
            return ::getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 && value == wanted;
        };
        const bool tcp = is(SO_PROTOCOL, IPPROTO_TCP) && is(SO_TYPE, SOCK_STREAM);
        watch.kind = tcp ? Watch::Kind::tcp : Watch::Kind::other;
    }
    return watch.kind == Watch::Kind::tcp;
}

} // namespace trapline
