// The countdown that several examples launch: it traps, and knows nothing of who answers.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>

#include <trapline/traps/calls.hpp>
#include <trapline/traps/coro.hpp>

/// Waits for `delay` ticks, then counts down from `count`, a tick a number. Answers the time it
/// really took. `aloud` says whether it prints.
inline trapline::Coro<trapline::Duration> countdown(std::string rocket, int count, int delay,
                                                    trapline::Duration tick, bool aloud = true) {
    const trapline::TimePoint start = co_await trapline::now();
    co_await trapline::sleep(delay * tick);
    for (int left = count; left > 0; --left) {
        if (aloud)
            std::printf("%s: %d\n", rocket.c_str(), left);
        co_await trapline::sleep(tick);
    }
    const trapline::Duration waited = co_await trapline::now() - start;
    if (aloud) {
        const std::chrono::duration<double> seconds = waited;
        std::printf("%s: lift-off after %.4f s\n", rocket.c_str(), seconds.count());
    }
    co_return waited;
}
