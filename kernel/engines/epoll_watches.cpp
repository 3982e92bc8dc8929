#include "epoll_watches.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <new>
#include <system_error>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace trapline {

using namespace std::chrono_literals;

namespace {

/// Always watched. EPOLLOUT only once somebody has waited for it: a Unix-domain socket reports it
/// whenever its peer takes something.
constexpr std::uint32_t always = EPOLLIN | EPOLLPRI | EPOLLRDHUP;

int needed(int result) {
    if (result >= 0)
        return result;
    const bool none_left = errno == EMFILE || errno == ENFILE;
    throw std::system_error(errno, std::system_category(),
                            none_left
                                ? "epoll cannot be set up (no descriptors left: raise `ulimit -n` "
                                  "(RLIMIT_NOFILE))"
                                : "epoll cannot be set up");
}
} // namespace

Watches::Owned::~Owned() { close(fd); }

Watches::Watches(std::uint64_t& calls, unsigned reports_max)
    : epoll_(needed(epoll_create1(EPOLL_CLOEXEC))),
      wake_(needed(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))),
      calls_(calls),
      reports_(reports_max) {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET; // each write is reported, so nobody has to read
    event.data.u64 = std::numeric_limits<std::uint64_t>::max();
    needed(epoll_ctl(epoll_.fd, EPOLL_CTL_ADD, wake_.fd, &event));
}

void Watches::broken(const char* complaint, int error) noexcept {
    std::fprintf(stderr, "trapline: epoll engine: %s%s%s\n", complaint, error ? ": " : "",
                 error ? std::generic_category().message(error).c_str() : "");
    std::abort();
}

void Watches::wake() noexcept {
    const std::uint64_t one = 1;
    // Full only after 2^64 - 2 calls, and readable then.
    [[maybe_unused]] const ssize_t written = write(wake_.fd, &one, sizeof one);
}

int Watches::wait(Duration time_left) noexcept {
    const int size = static_cast<int>(reports_.size());
    ++calls_;
    if (time_left == Duration::max())
        return epoll_wait(epoll_.fd, reports_.data(), size, -1);
    if (time_left == Duration{0})
        return epoll_wait(epoll_.fd, reports_.data(), size, 0);
    if (fine_timer_) {
        const timespec time{static_cast<std::time_t>(time_left / 1s), (time_left % 1s).count()};
        const long count =
            syscall(SYS_epoll_pwait2, epoll_.fd, reports_.data(), size, &time, nullptr, 0);
        // An old Linux, or a sandbox that is older than the call.
        if (count >= 0 || (errno != ENOSYS && errno != EPERM))
            return static_cast<int>(count);
        fine_timer_ = false;
    }
    const std::int64_t left_ms = std::chrono::ceil<std::chrono::milliseconds>(time_left).count();
    return epoll_wait(epoll_.fd, reports_.data(), size,
                      static_cast<int>(std::min<std::int64_t>(left_ms, 1 << 30)));
}

std::span<const epoll_event> Watches::look(Duration time_left) noexcept {
    const int count = wait(time_left);
    if (count < 0 && errno != EINTR) // a signal: the kernel's loop comes back
        broken("epoll_wait", errno);
    return std::span{reports_}.first(static_cast<std::size_t>(std::max(count, 0)));
}

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
    return epoll_ctl(epoll_.fd, what, fd, &event) == 0 ? 0 : -errno;
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
