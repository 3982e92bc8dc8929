// What the conformance cases share: a case runs once an engine, and leaves nothing behind.
#pragma once

#include <cstddef>
#include <expected>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <poll.h>

#include <trapline/trapline.hpp>
#include <trapline/traps/sanitizers.hpp>

#include "../support/engines.hpp"
#include "../support/leaks.hpp"
#include "../support/process.hpp"
#include "../support/sockets.hpp"

namespace trapline::test {

using namespace std::chrono_literals;

inline constexpr bool sanitized = TRAPLINE_ADDRESS_SANITIZER || TRAPLINE_THREAD_SANITIZER;

using Names = std::vector<std::string>;

// No templates: with a copy for each case the cases would take half as long again to compile.
using Body = std::function<void(const KernelOptions&)>;
using Main = std::function<Coro<void>()>;

/// Calls `body(options)`. Failures name the engine; leaks are failures.
inline void on_engine(const EngineChoice& engine, const Body& body) {
    INFO("engine: " << engine.name);
    const LeakGuard guard;
    body(engine.options);
}

/// Once an engine that has descriptors, and a clock that goes on by itself.
inline void each_io_engine(const Body& body) {
    for (const EngineChoice& engine : engines())
        on_engine(engine, body);
}

/// Once an engine, the simulation too, which has neither.
inline void each_engine(const Body& body) {
    each_io_engine(body);
    on_engine(simulation(), body);
}

/// Runs `main` on a fresh kernel, shuts that down, and checks that nothing is left.
inline void run_and_shut_down(const KernelOptions& options, const Main& main) {
    Kernel kernel{options};
    kernel.run(main());
    kernel.shutdown();
    CHECK(kernel.task_count() == 0);
}

/// The same in a kernel that lives in another loop, which does nothing but wait for its descriptor.
inline void run_inside(const KernelOptions& options, const Main& main) {
    Kernel kernel{options};
    pollfd host{kernel.pollable_fd(), POLLIN, 0};
    const auto task = kernel.spawn(main(), {.name = "main"});
    while (!task.terminated()) {
        const int told = ::poll(&host, 1, 20'000);
        REQUIRE_MESSAGE(told != 0, "the host was not told of what there is");
        if (told == 1) // else a signal came
            kernel.run_once();
    }
    CHECK_NOTHROW(task.result());
    kernel.shutdown();
    CHECK(kernel.task_count() == 0);
}

/// Each of both, on each engine that can.
inline void each_io_run(const Main& main) {
    each_io_engine([&](const KernelOptions& options) { run_and_shut_down(options, main); });
    each_io_engine([&](const KernelOptions& options) {
        INFO("inside another loop");
        run_inside(options, main);
    });
}

inline void each_run(const Main& main) {
    each_io_run(main);
    on_engine(simulation(),
              [&](const KernelOptions& options) { run_and_shut_down(options, main); });
}

/// Lets the others run `turns` times: long enough for a spawned task to block, and for what it
/// started to be with the engine.
inline Coro<void> let_others_run(int turns = 3) {
    for (int turn = 0; turn < turns; ++turn)
        co_await yield_now();
}

/// How far ahead a case puts a time that must not pass too early. On a busy machine it may all the
/// same; then the case tries the next one.
inline constexpr Duration leads[] = {1ms, 5ms, 25ms, 125ms, 625ms};

inline Coro<void> sleep_forever() { co_await sleep(Duration::max()); }

inline Coro<void> park_on(WaitQueue& queue) { co_await traps::Park{&queue}; }

/// A semaphore that hands its permit over: who is woken has it.
class Permits {
public:
    explicit Permits(std::size_t count) noexcept : free_(count) {}

    Coro<void> acquire() {
        if (free_ > 0)
            --free_;
        else
            co_await traps::Park{&waiters_};
    }
    void release() noexcept {
        if (waiters_.wake() == 0)
            ++free_;
    }
    std::size_t free() const noexcept { return free_; }

private:
    std::size_t free_;
    WaitQueue waiters_;
};

/// What the interrupt that ends `what` is, as its exact type's name; "none" if it ends without.
template <detail::Body W>
Coro<std::string> interrupt_of(W what) {
    try {
        co_await detail::begin(what);
    } catch (const TaskCancelled&) {
        co_return "TaskCancelled";
    } catch (const TaskTimeout&) {
        co_return "TaskTimeout";
    } catch (const TimeoutCancellation&) {
        co_return "TimeoutCancellation";
    } catch (const Cancelled&) {
        co_return "Cancelled";
    }
    co_return "none";
}

inline std::span<std::byte> bytes_of(std::string& text) {
    return std::as_writable_bytes(std::span(text));
}

inline int error_of(const std::error_code& code) noexcept { return code.value(); }

/// The error that `answer` holds, 0 if it is a result.
template <class T>
int failure_of(const std::expected<T, std::error_code>& answer) {
    return answer ? 0 : answer.error().value();
}

} // namespace trapline::test
