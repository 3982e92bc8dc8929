// Internal. The descriptor that stands for a kernel in another loop: an epoll descriptor that holds
// an eventfd, for what is to be done at once, a timerfd, for what is to be done some time, and what
// the engine adds. It is readable if one of them is.
#pragma once

#include "../../traps/time.hpp"

namespace trapline {

class Pollable {
public:
    /// Throws std::system_error.
    Pollable();
    Pollable(const Pollable&) = delete;
    Pollable& operator=(const Pollable&) = delete;

    /// For the other loop.
    int fd() const noexcept { return epoll_.fd; }
    /// One more that makes it readable. Throws std::system_error.
    void add(int fd);

    /// Makes it readable, until lower().
    void raise() noexcept;
    void lower() noexcept {
        if (raised_)
            read_attention();
    }

    /// Makes it readable from `deadline` on, by the monotonic clock, and not because of an earlier
    /// deadline that is past. One that is still to come is left alone: an hour of limits that are
    /// set and dropped costs a single look for nothing instead of a system call for each.
    template <class Now>
    void wake_at(TimePoint deadline, Now now) noexcept {
        if (deadline < armed_ || (deadline != armed_ && armed_ <= now()))
            arm(deadline);
    }

private:
    struct Own {
        int fd;
        ~Own();
    };

    void arm(TimePoint deadline) noexcept;
    void read_attention() noexcept;

    Own epoll_;
    Own attention_;
    Own timer_;
    bool raised_ = false;
    TimePoint armed_ = never;
};

} // namespace trapline
