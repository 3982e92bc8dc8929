// Failure: a transfer of many bytes is stopped half way, by a cancellation, a time limit, a Close
// or the peer; the bytes already moved are forgotten, or moved a second time.
// Proves: what the task is told (progress, or a short count with the error) is exactly what its
// peer got or sent; the rest is still in the socket, in order.
// Seen on Linux 6.18: a cancelled recv or send with MSG_WAITALL completes with its short count.
#include "../support/ring.hpp"

#include <vector>

using namespace ring_test;

namespace {

constexpr std::size_t size = 1 << 20;

std::size_t drain(int fd, std::size_t bytes_max = size) {
    std::vector<char> buffer(size);
    std::size_t total = 0;
    // Each system call of this thread may let a send in flight go on.
    for (ssize_t n = 0; total < bytes_max && (n = recv(fd, buffer.data(), size, MSG_DONTWAIT)) > 0;)
        total += static_cast<std::size_t>(n);
    return total;
}

void sending(Kernel& kernel) {
    kernel.run([&]() -> Coro<void> {
        std::vector<char> data(size, 'x');
        // Cancelled.
        {
            const Pair pair = Pair::sockets();
            std::size_t progress = 0;
            const auto task = co_await spawn([&]() -> Coro<void> {
                try {
                    (void)co_await traps::send(pair.fd[1], bytes_of(data.data(), size),
                                               MSG_WAITALL);
                } catch (const TaskCancelled& interrupt) {
                    progress = interrupt.progress();
                    throw;
                }
            });
            co_await yield_now();
            co_await yield_now();
            std::size_t got = drain(pair.fd[0], 64 << 10); // so that it goes on once
            co_await yield_now();
            co_await yield_now();
            co_await task.cancel();
            got += drain(pair.fd[0]);
            CHECK(progress > 0 && progress < size, "it was stopped half way");
            CHECK_EQUAL(got, progress, "progress() is what the peer gets");
        }
        // Ended by a Close.
        {
            Pair pair = Pair::sockets();
            std::size_t told = 0;
            const auto task = co_await spawn([&]() -> Coro<void> {
                const auto sent =
                    co_await traps::send(pair.fd[1], bytes_of(data.data(), size), MSG_WAITALL);
                CHECK(sent.has_value(), "a short count");
                told = *sent;
            });
            co_await yield_now();
            co_await yield_now();
            (void)co_await traps::close(std::exchange(pair.fd[1], -1));
            co_await task.join();
            CHECK_EQUAL(drain(pair.fd[0]), told, "the short count is what the peer gets");
        }
    });
}

void receiving(Kernel& kernel) {
    kernel.run([&]() -> Coro<void> {
        const Pair pair = Pair::sockets();
        pair.put("hello");
        char buffer[64] = {};
        std::size_t progress = 0;
        const bool in_time = co_await ignore_after(2ms, [&]() -> Coro<void> {
            try {
                (void)co_await traps::recv(pair.fd[0], bytes_of(buffer, 64), MSG_WAITALL);
            } catch (const Cancelled& interrupt) {
                progress = interrupt.progress();
                throw;
            }
        });
        CHECK(!in_time, "the limit ran out");
        CHECK_EQUAL(progress, 5, "five bytes had come");
        CHECK(std::string_view(buffer, 5) == "hello", "and are in the buffer");
        pair.put("world");
        const auto next = co_await traps::recv(pair.fd[0], bytes_of(buffer, 64));
        CHECK(next == 5 && std::string_view(buffer, 5) == "world", "the next ones come next");
        // The peer resets in the middle: TCP, with bytes unread on the other side.
        Listener listener;
        const int client = listener.connect();
        const auto server = co_await traps::accept(listener.fd);
        CHECK(server.has_value(), "accept");
        CHECK_EQUAL(write(client, "abc", 3), 3, "write by the client");
        const auto resetter = co_await spawn([&]() -> Coro<void> {
            co_await sleep(1ms);
            const linger reset{1, 0};
            setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            ::close(client);
        });
        const auto got = co_await traps::recv(*server, bytes_of(buffer, 64), MSG_WAITALL);
        co_await resetter.join();
        // Three bytes and the reset, or (Linux drops unread bytes then) the reset alone.
        CHECK(got == 3 || (!got && got.error() == std::errc::connection_reset), "told as it is");
        ::close(*server);
    });
}

} // namespace

int main() {
    for_each_ring([](const UringOptions& options) {
        Kernel kernel({.engine = "uring", .uring = options});
        sending(kernel);
        receiving(kernel);
    });
}
