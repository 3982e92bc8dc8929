// Failure: several sends in flight on one stream are not carried out in their order, and their
// bytes mix (RELIABILITY 0.4; 2, row 19).
// Proves: first what Linux does with four sends of 1 MiB at once; then that a kernel admits one
// send a descriptor: the second gets device_or_resource_busy at once, a recv beside it is fine,
// and whole transfers one after the other arrive complete and in order.
// Seen on Linux 6.18: without MSG_WAITALL four short sends; with it the bytes interleave.
#include "../support/ring.hpp"

#include <atomic>
#include <thread>
#include <vector>

using namespace ring_test;

namespace {

constexpr std::size_t block = 1 << 20;

void linux_mixes_them(const UringOptions& options) {
    Driver driver(options);
    const Pair pair = Pair::sockets();
    std::vector<std::vector<char>> data;
    for (int i = 0; i < 4; ++i)
        data.emplace_back(block, static_cast<char>('a' + i));
    std::vector<Operation> sends(4);
    for (std::size_t i = 0; i < 4; ++i)
        driver.start(sends[i], traps::Send{pair.fd[1], 0, data[i].data(), block});
    std::size_t received = 0;
    std::thread reader([&] {
        std::vector<char> buffer(block);
        for (ssize_t n = 0; (n = read(pair.fd[0], buffer.data(), block)) > 0;)
            received += static_cast<std::size_t>(n);
    });
    std::int64_t sent = 0;
    for (Operation& send : sends) {
        driver.finish(send);
        CHECK(send.result > 0, "each sends something");
        sent += send.result;
    }
    shutdown(pair.fd[1], SHUT_WR);
    reader.join();
    CHECK_EQUAL(received, sent, "bytes told as sent are the bytes received");
}

void kernel_keeps_order(const UringOptions& options) {
    const Pair pair = Pair::sockets();
    std::vector<char> received;
    std::atomic<std::size_t> readable = 0; // bytes that the reader may take by now
    std::thread reader([&] {
        std::vector<char> buffer(block);
        for (;;) {
            const std::size_t size = std::min(block, readable.load() - received.size());
            if (size == 0) {
                std::this_thread::yield();
                continue;
            }
            const ssize_t n = read(pair.fd[0], buffer.data(), size);
            if (n <= 0)
                break;
            received.insert(received.end(), buffer.begin(), buffer.begin() + n);
        }
    });
    Kernel kernel({.engine = "uring", .uring = options});
    kernel.run([&]() -> Coro<void> {
        std::vector<char> data(block);
        int refused = 0;
        for (int i = 0; i < 4; ++i) {
            std::fill(data.begin(), data.end(), static_cast<char>('a' + i));
            const auto other = co_await spawn([&]() -> Coro<void> {
                const auto answer = co_await traps::send(pair.fd[1], bytes_of(data.data(), 1));
                refused += !answer && answer.error() == std::errc::device_or_resource_busy;
                readable += block; // not earlier: the send in flight must not end before
            });
            char none = 0;
            const auto reads = co_await spawn([&]() -> Coro<void> {
                const auto answer =
                    co_await traps::recv(pair.fd[1], bytes_of(&none, 1), MSG_DONTWAIT);
                CHECK(!answer || *answer == 0, "nobody sends this way");
            });
            const auto sent =
                co_await traps::send(pair.fd[1], bytes_of(data.data(), block), MSG_WAITALL);
            CHECK(sent == block, "a whole transfer sends all");
            co_await other.join();
            co_await reads.cancel();
        }
        CHECK_EQUAL(refused, 4, "a second send beside the first is refused");
    });
    shutdown(pair.fd[1], SHUT_WR);
    readable += block;
    reader.join();
    CHECK_EQUAL(received.size(), 4 * block, "all bytes arrive");
    for (std::size_t i = 0; i < received.size(); ++i)
        CHECK_EQUAL(received[i], 'a' + static_cast<int>(i / block), "in their order");
}

} // namespace

int main() {
    for_each_ring(
        [](const UringOptions& options) {
            linux_mixes_them(options);
            kernel_keeps_order(options);
        },
        {2, 4096});
}
