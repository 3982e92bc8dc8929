// What must be as many after a test as before: open descriptors, and objects in coroutine frames.
//
//     const LeakGuard guard;                     // checks both when it goes
//     Coro<void> work() { Counted frame; ... }   // as long as this frame lives, one is alive
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <vector>

#include <dirent.h>
#include <doctest/doctest.h>

namespace trapline::test {

/// The numbers of this process's open descriptors, sorted.
inline std::vector<int> open_descriptors() {
    std::vector<int> open;
    DIR* listing = ::opendir("/proc/self/fd");
    if (!listing)
        return open;
    while (const dirent* at = ::readdir(listing)) {
        const int fd = std::atoi(at->d_name);
        if (at->d_name[0] != '.' && fd != ::dirfd(listing))
            open.push_back(fd);
    }
    ::closedir(listing);
    std::sort(open.begin(), open.end());
    return open;
}

/// Knows how many of its kind are alive. As a local or an argument of a coroutine it counts frames.
class Counted {
public:
    Counted() noexcept { ++alive_; }
    Counted(const Counted&) noexcept { ++alive_; }
    Counted& operator=(const Counted&) noexcept = default;
    ~Counted() { --alive_; }

    static long alive() noexcept { return alive_; }

private:
    static inline std::atomic<long> alive_ = 0;
};

/// Checks, when it goes, that nothing was left open or alive since it came.
class LeakGuard {
public:
    LeakGuard() = default;
    LeakGuard(const LeakGuard&) = delete;
    LeakGuard& operator=(const LeakGuard&) = delete;
    ~LeakGuard() {
        CHECK_MESSAGE(open_descriptors() == descriptors_, "descriptors were left open, or closed");
        CHECK_MESSAGE(Counted::alive() == counted_, "coroutine frames were left alive");
    }

private:
    std::vector<int> descriptors_ = open_descriptors();
    long counted_ = Counted::alive();
};

} // namespace trapline::test
