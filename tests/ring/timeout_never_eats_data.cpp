// Failure: a time limit runs out while a byte arrives, and the byte goes with the operation that
// the limit has stopped (RELIABILITY 0.1; 2, row 15).
// Proves: with a limit of some microseconds around each recv, and a writer thread that sends at
// its own pace, every byte reaches the task, in order; limits that ran out late reach nobody else.
// Seen on Linux 6.18: both outcomes, in every mode; links with a timeout are not needed for it.
#include "../support/ring.hpp"

#include <thread>

using namespace ring_test;

int main() {
    long in_time = 0;
    long too_late = 0;
    for_each_ring([&](const UringOptions& options) {
        const Pair pair = Pair::sockets();
        constexpr int count = 200;
        std::thread writer([&] {
            for (int i = 0; i < count; ++i) {
                const char c = static_cast<char>(i % 100 + 1);
                CHECK_EQUAL(write(pair.fd[1], &c, 1), 1, "write of a byte");
                const timespec pause{0, i % 7 * 5'000};
                nanosleep(&pause, nullptr);
            }
            shutdown(pair.fd[1], SHUT_WR);
        });
        Kernel kernel({.engine = "uring", .uring = options});
        kernel.run([&]() -> Coro<void> {
            int expected = 0;
            for (int i = 0;; ++i) {
                char c = 0;
                const Duration limit = 1us * (i % 60);
                const auto got = co_await ignore_after(
                    limit, [&] { return traps::recv(pair.fd[0], bytes_of(&c, 1)); });
                if (!got) {
                    CHECK_EQUAL(c, 0, "what was stopped left its buffer alone");
                    ++too_late;
                    continue;
                }
                if (*got == 0)
                    break;
                CHECK(*got == 1, "a byte");
                CHECK_EQUAL(c, expected % 100 + 1, "bytes come in order");
                ++expected;
                ++in_time;
            }
            CHECK_EQUAL(expected, count, "no byte was lost");
        });
        writer.join();
    });
    CHECK(in_time > 0 && too_late > 0, "only one outcome was seen: this program proves little");
}
