// Failure: close(2) of a descriptor ends none of the operations in flight on it (RELIABILITY 0.3;
// 2, row 16): they hold the file, the peer sees no end of the stream, and its next bytes go into
// the old buffer.
// Proves: first that Linux does so; then that a Close asked of the kernel ends them: their tasks
// get operation_canceled, the peer sees the end, no byte goes into an old buffer.
// Seen on Linux 6.18: a recv outlives close(2), and takes four bytes that came half a turn later.
#include "../support/ring.hpp"

using namespace ring_test;

namespace {

void linux_goes_on(const UringOptions& options) {
    Driver driver(options);
    Pair pair = Pair::sockets();
    char buffer[4] = {};
    Operation recv;
    driver.start(recv, traps::Recv{pair.fd[0], 0, buffer, sizeof buffer});
    driver.turn();
    pair.close_one(0);
    driver.turn();
    CHECK(!Driver::came_back(recv), "premise: close(2) ends no operation in flight");
    pair.put("late");
    CHECK_EQUAL(driver.finish(recv), 4, "premise: the old buffer gets what comes later");
}

void kernel_ends_them(const UringOptions& options) {
    Pair pair = Pair::sockets();
    Kernel kernel({.engine = "uring", .uring = options});
    kernel.run([&]() -> Coro<void> {
        char buffer[4] = {};
        std::error_code received;
        std::error_code waited;
        const auto reader = co_await spawn([&]() -> Coro<void> {
            const auto answer = co_await traps::recv(pair.fd[0], bytes_of(buffer, sizeof buffer));
            received = answer ? std::error_code{} : answer.error();
        });
        char big[1 << 20] = {};
        const auto writer = co_await spawn([&]() -> Coro<void> {
            const auto answer =
                co_await traps::send(pair.fd[0], bytes_of(big, sizeof big), MSG_WAITALL);
            // Some of it went into the socket's buffer.
            CHECK(answer.has_value() && *answer < sizeof big, "a short count");
            waited = std::make_error_code(std::errc::operation_canceled);
        });
        co_await yield_now();
        co_await yield_now();
        const auto closed = co_await traps::close(pair.fd[0]);
        CHECK(closed.has_value(), "close succeeds");
        co_await reader.join();
        co_await writer.join();
        CHECK(received == std::errc::operation_canceled, "the recv ends as cancelled");
        CHECK(waited == std::errc::operation_canceled, "so does the send");
        CHECK_EQUAL(fcntl(pair.fd[0], F_GETFD), -1, "the descriptor is closed");
        pair.fd[0] = -1;
        CHECK_EQUAL(send(pair.fd[1], "late", 4, MSG_NOSIGNAL), -1, "the peer sees the end");
        CHECK_EQUAL(buffer[0], 0, "no byte went into the old buffer");
    });
}

} // namespace

int main() {
    for_each_ring([](const UringOptions& options) {
        linux_goes_on(options);
        kernel_ends_them(options);
    });
}
