// Failure: a task is cancelled in accept() while a connection is there already (RELIABILITY 0.2):
// Linux answers with a descriptor, and a runtime that only sees "cancelled" leaks it.
// Proves: either the task gets the connection, and the cancellation at its next blocking trap, or
// it sees the cancellation and the connection is still there for the next accept. No descriptor
// leaks.
// Seen on Linux 6.18: accept and cancel submitted together: always a descriptor; a cancel of an
// accept that was armed before the connection came: either.
#include "../support/ring.hpp"

using namespace ring_test;

int main() {
    long accepted = 0;
    long cancelled = 0;
    for_each_ring([&](const UringOptions& options) {
        const int before = open_descriptors();
        {
            Listener listener;
            Kernel kernel({.engine = "uring", .uring = options});
            kernel.run([&]() -> Coro<void> {
                for (int round = 0; round < 30; ++round) {
                    int got = -1;
                    bool interrupted_later = false;
                    const auto task = co_await spawn([&]() -> Coro<void> {
                        const auto fd = co_await traps::accept(listener.fd);
                        got = fd.value_or(-2);
                        interrupted_later = true; // unless the next trap returns
                        co_await yield_now();
                        interrupted_later = false;
                    });
                    int client = -1;
                    switch (round % 3) {
                    case 0: // the connection is there before the accept
                        client = listener.connect();
                        co_await yield_now();
                        break;
                    case 1: // the accept is armed, then the connection comes
                        co_await yield_now();
                        co_await yield_now();
                        client = listener.connect();
                        break;
                    case 2: // the connection comes when the cancellation is on its way
                        co_await yield_now();
                        co_await yield_now();
                        (void)co_await traps::Cancel{task.record()};
                        client = listener.connect();
                        break;
                    }
                    co_await task.cancel();
                    CHECK(got != -2, "accept failed");
                    if (got >= 0) {
                        CHECK(interrupted_later, "the cancellation arrives at the next trap");
                        ++accepted;
                        ::close(got);
                    } else {
                        ++cancelled;
                        const auto next = co_await traps::accept(listener.fd);
                        CHECK(next.has_value(), "a cancelled accept took no connection");
                        ::close(*next);
                    }
                    ::close(client);
                }
            });
        }
        CHECK_EQUAL(open_descriptors(), before, "a descriptor leaked");
    });
    CHECK(accepted > 0 && cancelled > 0, "only one outcome was seen: this program proves little");
}
