// Failure: the other end is gone, and a descriptor shows POLLHUP or POLLERR without the bit that
// was waited for (RELIABILITY 2, row 32).
// Proves: any bit ends the wait; the next call tells what is wrong. A wait in flight and one begun
// later behave alike.
// Seen on Linux 6.18: a pipe whose writer has gone: POLLHUP; whose reader has gone: POLLERR beside
// POLLOUT; a socket: POLLIN and POLLHUP; an unconnected TCP socket: POLLOUT and POLLHUP.
#include "../support/ring.hpp"

using namespace ring_test;

namespace {

/// Waits on `fd`, and has its other end go, before or after the wait has begun.
template <class Wait>
short wait_and_hang_up(Kernel& kernel, Pair& pair, int gone, bool before, Wait wait) {
    return kernel.run([&]() -> Coro<short> {
        if (before)
            pair.close_one(gone);
        short seen = 0;
        const auto waiter = co_await spawn([&]() -> Coro<void> {
            const auto events = co_await wait(pair.fd[1 - gone]);
            CHECK(events.has_value(), "a hang-up is no error of the wait");
            seen = *events;
        });
        for (int i = 0; i < 3; ++i)
            co_await yield_now();
        pair.close_one(gone);
        co_await waiter.join();
        co_return seen;
    });
}

} // namespace

int main() {
    for_each_ring([](const UringOptions& options) {
        Kernel kernel({.engine = "uring", .uring = options});
        for (const bool before : {false, true}) {
            char c = 'x';
            Pair reads = Pair::pipe();
            CHECK(wait_and_hang_up(kernel, reads, 1, before, traps::read_wait) & POLLHUP,
                  "the writer of a pipe has gone");
            const auto end = kernel.run([&]() -> Coro<std::size_t> {
                co_return (co_await traps::read(reads.fd[0], bytes_of(&c, 1))).value();
            });
            CHECK_EQUAL(end, 0, "then comes the end of the file");

            Pair writes = Pair::pipe();
            std::string full(65536, 'x');
            writes.put(full);
            CHECK(wait_and_hang_up(kernel, writes, 0, before, traps::write_wait) & POLLERR,
                  "the reader of a full pipe has gone");
            const bool broken = kernel.run([&]() -> Coro<bool> {
                const auto answer = co_await traps::write(writes.fd[1], bytes_of(&c, 1));
                co_return !answer && answer.error() == std::errc::broken_pipe;
            });
            CHECK(broken, "then comes broken_pipe");

            Pair sockets = Pair::sockets();
            CHECK(wait_and_hang_up(kernel, sockets, 1, before, traps::read_wait) & POLLHUP,
                  "the peer of a socket has gone");
        }
        const int lonely = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        kernel.run([&]() -> Coro<void> {
            const auto events = co_await traps::read_wait(lonely);
            CHECK(events.has_value() && (*events & POLLHUP), "a socket that was never connected");
        });
        ::close(lonely);
    });
}
