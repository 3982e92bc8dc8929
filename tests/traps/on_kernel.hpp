// For cases about tasks that wait for each other: a kernel whose time is a number.
#pragma once

#include <chrono>

#include <doctest/doctest.h>

#include <trapline/kernel/kernel.hpp>

#include "../support/leaks.hpp"
#include "../support/virtual_time.hpp"

namespace trapline::test {

using namespace std::chrono_literals;

/// Runs `main`, which returns a coroutine, and then whatever it has left behind to its end. No
/// Counted frame may be left.
template <class Main>
void on_kernel(Main main) {
    const LeakGuard guard;
    Kernel kernel{virtual_time()};
    kernel.run(main);
    kernel.shutdown();
    CHECK(kernel.task_count() == 0);
}

/// Lets all that can go on do so, until they block.
inline Coro<void> settle() { co_await sleep(1us); }

inline Coro<void> sleep_forever() { co_await sleep(Duration::max()); }

} // namespace trapline::test
