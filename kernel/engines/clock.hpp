// Internal. The clock of the engines that ask Linux.
#pragma once

#include <chrono>
#include <ctime>

#include "../../traps/time.hpp"

namespace trapline {

inline TimePoint monotonic_now() noexcept {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return TimePoint{std::chrono::seconds{time.tv_sec} + std::chrono::nanoseconds{time.tv_nsec}};
}

} // namespace trapline
