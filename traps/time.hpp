// Time as tasks see it. A TimePoint belongs to the clock of the kernel that answers the traps:
// monotonic on a real engine, virtual in a simulation. So there is no static `now()` here; ask
// with `co_await now()`.
//
//     TimePoint start = co_await now();
//     co_await work();
//     Duration took = co_await now() - start;
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>

namespace trapline {

using Duration = std::chrono::nanoseconds;

/// A duration that counts in fractions, such as 0.5s. What takes a Duration takes these, too.
template <class D>
concept FractionalDuration =
    std::floating_point<typename D::rep> &&
    std::same_as<D, std::chrono::duration<typename D::rep, typename D::period>>;

namespace detail {

/// As a Duration, rounded towards zero and held at its ends; what is no number is the longest.
template <FractionalDuration D>
constexpr Duration whole(D duration) noexcept {
    const auto count = std::chrono::duration<double, Duration::period>{duration}.count();
    if (!(count < static_cast<double>(INT64_MAX)))
        return Duration::max();
    return count > static_cast<double>(INT64_MIN) ? Duration{static_cast<std::int64_t>(count)}
                                                  : Duration::min();
}

} // namespace detail

/// Tag of the kernel's clock. Has no `now()` on purpose: only a kernel can tell the time.
struct KernelClock {
    using duration = Duration;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<KernelClock, duration>;
    static constexpr bool is_steady = true;
};

using TimePoint = KernelClock::time_point;

/// "No time limit", as SetTimeout answers it and UnsetTimeout takes it.
inline constexpr TimePoint never = TimePoint::max();

/// start + wait, held at `never` instead of overflowing.
constexpr TimePoint later(TimePoint start, Duration wait) noexcept {
    const bool beyond = start > TimePoint{} && wait >= never - start;
    return beyond ? never : start + wait;
}

} // namespace trapline
