// Failure: more operations than the submission queue holds, while Linux takes none of them
// (RELIABILITY 2, row 3): io_uring_get_sqe answers null.
// Proves: the operations that find no place wait in the engine, in their order, and all are done
// later; each of them, queued in the ring or in the engine, can be cancelled meanwhile and then
// takes no byte from its socket.
// Seen on Linux 6.18: io_uring_enter with EBUSY or EAGAIN has taken no submission at all.
#include "../support/ring_fault.hpp"

#include <vector>

using namespace ring_test;

namespace {

void all_are_done(const UringOptions& options) {
    Driver driver(options);
    const Pair pair = Pair::sockets();
    const std::size_t count = options.entries + 50;
    std::vector<Operation> operations(count);
    std::vector<char> bytes(count, 0);
    on_enter = [](const Enter&) { return -EBUSY; };
    for (std::size_t i = 0; i < count; ++i)
        driver.start(operations[i], traps::Recv{pair.fd[0], 0, &bytes[i], 1});
    on_enter = nullptr;

    // The first is in the ring, the last is in the engine's list: neither is with Linux.
    driver.cancel(operations.front());
    driver.cancel(operations.back());
    driver.cancel(operations[count - 20]);
    pair.put(std::string(count, 'x'));
    while (driver.under_way() > 0)
        driver.turn(never);

    std::size_t received = 0;
    for (std::size_t i = 0; i < count; ++i) {
        CHECK(Driver::came_back(operations[i]), "each operation comes back");
        if (operations[i].result == -ECANCELED) {
            CHECK(operations[i].cancel_requested, "only what was cancelled ends so");
            CHECK_EQUAL(bytes[i], 0, "a cancelled recv left its buffer alone");
        } else {
            CHECK_EQUAL(operations[i].result, 1, "one byte each");
            ++received;
        }
    }
    CHECK_EQUAL(operations.back().result, -ECANCELED, "cancelled before it was submitted");
    char rest[8];
    const ssize_t left = recv(pair.fd[0], rest, sizeof rest, MSG_DONTWAIT);
    CHECK_EQUAL(received + static_cast<std::size_t>(std::max<ssize_t>(left, 0)), count,
                "bytes received and bytes left are the bytes sent");
}

void order_is_kept(const UringOptions& options) {
    // Writes into one pipe show the order in which they were carried out.
    Driver driver(options);
    const Pair pipe = Pair::pipe();
    fcntl(pipe.fd[1], F_SETPIPE_SZ, 1 << 20);
    const std::size_t count = options.entries + 50;
    std::vector<Operation> operations(count);
    std::vector<std::uint16_t> numbers(count);
    on_enter = [](const Enter&) { return -EBUSY; };
    for (std::size_t i = 0; i < count; ++i) {
        numbers[i] = static_cast<std::uint16_t>(i);
        driver.start(operations[i], traps::Write{pipe.fd[1], &numbers[i], 2});
    }
    on_enter = nullptr;
    while (driver.under_way() > 0)
        driver.turn(never);
    for (std::size_t i = 0; i < count; ++i) {
        std::uint16_t number = 0;
        CHECK_EQUAL(read(pipe.fd[0], &number, 2), 2, "read of a number");
        CHECK_EQUAL(number, i, "first started, first done");
    }
}

} // namespace

int main() {
    for_each_ring([](const UringOptions& options) {
        all_are_done(options);
        order_is_kept(options);
    });
}
