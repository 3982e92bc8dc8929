// Failure: a listener is shut down or closed while an accept waits on it (RELIABILITY 2, rows 10
// and 16). The accept must end, and must not be armed again and again.
// Proves: shutdown(2) ends it with invalid_argument, a Close with operation_canceled; a next
// accept fails at once; the engine makes only a handful of system calls meanwhile.
// Seen on Linux 6.18: -EINVAL for the accept in flight and for every one after.
#include "../support/ring.hpp"

using namespace ring_test;

int main() {
    for_each_ring([](const UringOptions& options) {
        Listener listener;
        Kernel kernel({.engine = "uring", .uring = options});
        kernel.run([&]() -> Coro<void> {
            std::error_code first;
            const auto server = co_await spawn([&]() -> Coro<void> {
                const auto fd = co_await traps::accept(listener.fd);
                CHECK(!fd, "nobody connects");
                first = fd.error();
            });
            co_await yield_now();
            co_await yield_now();
            const std::uint64_t calls_before = kernel.counters().engine.system_calls;
            const auto shut = co_await traps::shutdown(listener.fd, SHUT_RDWR);
            CHECK(shut.has_value(), "shutdown of a listener");
            co_await server.join();
            CHECK(first == std::errc::invalid_argument, "the accept in flight ends");
            const auto again = co_await traps::accept(listener.fd);
            CHECK(!again && again.error() == std::errc::invalid_argument, "so does the next one");
            CHECK(kernel.counters().engine.system_calls - calls_before < 10, "the accept spins");

            Listener other;
            std::error_code second;
            const auto waiter = co_await spawn([&]() -> Coro<void> {
                const auto fd = co_await traps::accept(other.fd);
                CHECK(!fd, "nobody connects");
                second = fd.error();
            });
            co_await yield_now();
            co_await yield_now();
            const auto closed = co_await traps::close(std::exchange(other.fd, -1));
            CHECK(closed.has_value(), "close of a listener");
            co_await waiter.join();
            CHECK(second == std::errc::operation_canceled, "a Close ends the accept, too");
        });
    });
}
