// Failure: a descriptor number is closed and taken by another file at once (RELIABILITY 0.3; 2,
// row 17). What is still known of the old number must touch neither the new file nor its user.
// Proves: an operation pending on the old file takes nothing from the new one; the new number can
// be used at once, also when the Close was carried out but its completion not looked at yet, as
// happens when other tasks fill the submission queue in the same turn.
// Seen on Linux 6.18: the number is free as soon as the Close was submitted, before any completion
// is read.
#include "../support/ring.hpp"

#include <vector>

using namespace ring_test;

namespace {

void old_takes_nothing_from_new(const UringOptions& options) {
    Pair old = Pair::sockets();
    const int number = old.fd[0];
    Kernel kernel({.engine = "uring", .uring = options});
    kernel.run([&]() -> Coro<void> {
        char stale[8] = {};
        const auto reader = co_await spawn([&]() -> Coro<void> {
            const auto answer = co_await traps::recv(number, bytes_of(stale, sizeof stale));
            CHECK(!answer && answer.error() == std::errc::operation_canceled, "the recv ended");
        });
        co_await yield_now();
        (void)co_await traps::close(std::exchange(old.fd[0], -1));
        Pair fresh = Pair::sockets();
        CHECK(fresh.fd[0] == number || fresh.fd[1] == number, "the number was not reused");
        const int peer = fresh.fd[0] == number ? fresh.fd[1] : fresh.fd[0];
        CHECK_EQUAL(write(peer, "new", 3), 3, "write to the new socket");
        char text[8] = {};
        const auto got = co_await traps::recv(number, bytes_of(text, sizeof text));
        CHECK(got == 3, "the new socket's bytes are the new socket's");
        co_await reader.join();
        CHECK_EQUAL(stale[0], 0, "the old buffer is as it was");
    });
}

void new_is_used_at_once(const UringOptions& options) {
    Pair old = Pair::sockets();
    const int number = old.fd[0];
    Kernel kernel({.engine = "uring", .uring = options});
    kernel.run([&]() -> Coro<void> {
        co_await yield_now();
        const auto closer = co_await spawn([&]() -> Coro<void> {
            const auto closed = co_await traps::close(std::exchange(old.fd[0], -1));
            CHECK(closed.has_value(), "close succeeds");
        });
        std::vector<Task<void>> fillers;
        for (unsigned i = 0; i < options.entries + 2; ++i)
            fillers.push_back(co_await spawn([]() -> Coro<void> { (void)co_await traps::nop(); }));
        const auto user = co_await spawn([&]() -> Coro<void> {
            // By now the submission queue was full once, so the Close was carried out.
            Pair fresh = Pair::sockets();
            CHECK(fresh.fd[0] == number || fresh.fd[1] == number, "the number was not reused");
            const int peer = fresh.fd[0] == number ? fresh.fd[1] : fresh.fd[0];
            CHECK_EQUAL(write(peer, "new", 3), 3, "write to the new socket");
            char text[8] = {};
            const auto got = co_await traps::recv(number, bytes_of(text, sizeof text));
            CHECK(got == 3, "a number that Linux gave out again can be used at once");
        });
        co_await user.join();
        co_await closer.join();
        for (const Task<void>& filler : fillers)
            co_await filler.join();
    });
}

} // namespace

int main() {
    for_each_ring([](const UringOptions& options) {
        old_takes_nothing_from_new(options);
        new_is_used_at_once(options);
    });
}
