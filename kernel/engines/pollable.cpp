#include "pollable.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <system_error>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

namespace trapline {

namespace {

int checked(int fd, const char* what) {
    if (fd < 0)
        throw std::system_error(errno, std::system_category(), what);
    return fd;
}

} // namespace

Pollable::Own::~Own() { ::close(fd); }

Pollable::Pollable()
    : epoll_{checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1 of a pollable kernel")},
      attention_{checked(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd of a pollable kernel")},
      timer_{checked(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
                     "timerfd_create of a pollable kernel")} {
    add(attention_.fd);
    add(timer_.fd);
}

void Pollable::add(int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    checked(epoll_ctl(epoll_.fd, EPOLL_CTL_ADD, fd, &event), "epoll_ctl of a pollable kernel");
}

void Pollable::raise() noexcept {
    if (raised_)
        return;
    const std::uint64_t one = 1;
    raised_ = write(attention_.fd, &one, sizeof one) == sizeof one;
}

void Pollable::read_attention() noexcept {
    std::uint64_t count = 0;
    raised_ = read(attention_.fd, &count, sizeof count) != sizeof count;
}

void Pollable::arm(TimePoint deadline) noexcept {
    armed_ = deadline;
    itimerspec time{}; // of zero: disarmed
    if (deadline != never) {
        const auto ns = std::max<std::int64_t>(deadline.time_since_epoch().count(), 1);
        time.it_value.tv_sec = ns / 1'000'000'000;
        time.it_value.tv_nsec = ns % 1'000'000'000;
    }
    timerfd_settime(timer_.fd, TFD_TIMER_ABSTIME, &time, nullptr);
}

} // namespace trapline
