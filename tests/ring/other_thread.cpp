// Failure: a ring is used by a thread that is not its own (RELIABILITY 2, rows 23 and 24), or a
// wake-up from another thread gets lost.
// Proves: running or shutting down a kernel elsewhere is refused by an exception; an engine that
// is entered elsewhere stops the program with a sentence where Linux can tell (deferred mode);
// what other threads may do, interrupt(), ends each wait, however the two race.
// Seen on Linux 6.18: -EEXIST for a second thread with SINGLE_ISSUER, nothing without it.
#include "../support/ring.hpp"

#include <atomic>
#include <stdexcept>
#include <thread>

#include <sys/resource.h>

using namespace ring_test;

namespace {

void kernel_elsewhere(const UringOptions& options) {
    Kernel kernel({.engine = "uring", .uring = options});
    bool refused = false;
    std::thread([&] {
        try {
            kernel.run([]() -> Coro<void> { co_return; });
        } catch (const std::logic_error&) {
            refused = true;
        }
    }).join();
    CHECK(refused, "a run on another thread");
    kernel.run([]() -> Coro<void> { co_await sleep(1us); });
}

void engine_elsewhere(const UringOptions& options) {
    if (options.mode != Mode::deferred)
        return;
    const ChildEnd end = in_child([&] {
        Driver driver(options);
        driver.run(traps::Nop{});
        std::thread([&] { driver.run(traps::Nop{}); }).join();
    });
    CHECK(end.killed_by(SIGABRT), "entering on another thread must stop the program");
    CHECK(end.text.find("not its own") != std::string::npos, "with a sentence");
}

void wake_ups(const UringOptions& options) {
    Driver driver(options);
    std::atomic<int> asked = 0;
    std::atomic<int> answered = 0;
    constexpr int rounds = 1'000;
    std::thread other([&] {
        for (int i = 1; i <= rounds; ++i) {
            asked.store(i);
            driver.engine->interrupt();
            while (answered.load() < i)
                std::this_thread::yield();
        }
    });
    // A kernel looks for what it was woken for after each wait, in this order.
    while (answered.load() < rounds) {
        driver.turn(never); // hangs when a wake-up is lost
        answered.store(asked.load());
    }
    other.join();
}

void completions_from_threads(const UringOptions& options) {
    Kernel kernel({.engine = "uring", .uring = options});
    kernel.run([]() -> Coro<void> {
        for (int i = 0; i < 50; ++i) {
            ThreadCompletion done;
            std::jthread worker{[&] { done.complete(i); }};
            const auto value = co_await traps::AwaitThread{&done};
            CHECK_EQUAL(value.value(), i, "what the thread left");
        }
    });
}

} // namespace

int main() {
    const rlimit no_core{};
    setrlimit(RLIMIT_CORE, &no_core);
    for_each_ring(
        [](const UringOptions& options) {
            kernel_elsewhere(options);
            engine_elsewhere(options);
            wake_ups(options);
            completions_from_threads(options);
        },
        {2, 64});
}
