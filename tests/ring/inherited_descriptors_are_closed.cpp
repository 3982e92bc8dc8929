// Failure: a program that a server starts inherits its sockets and rings, and keeps ports and
// peers busy after the server has ended (RELIABILITY 2, row 39).
// Proves: every descriptor that the library opens is close-on-exec, and in blocking mode where a
// task is to wait on it: the ring, its wake-up, sockets made, accepted and connected, files, the
// descriptor of a signal set.
// Seen on Linux 6.18: accept and open through the ring honour SOCK_CLOEXEC and O_CLOEXEC.
#include "../support/ring.hpp"

#include <set>

#include <trapline/io/signals.hpp>
#include <trapline/io/tcp.hpp>

using namespace ring_test;

namespace {

std::set<int> all_open() {
    std::set<int> open;
    for (int fd = 0; fd < 1'000; ++fd)
        if (fcntl(fd, F_GETFD) >= 0)
            open.insert(fd);
    return open;
}

} // namespace

int main() {
    for_each_ring(
        [](const UringOptions& options) {
            const std::set<int> before = all_open();
            Kernel kernel({.engine = "uring", .uring = options});
            kernel.run([&]() -> Coro<void> {
                TcpListener listener =
                    co_await TcpListener::bind(SocketAddress::ipv4("127.0.0.1", 0));
                TcpStream client = co_await TcpStream::connect(listener.local_address());
                TcpStream server = co_await listener.accept();
                const auto file = co_await traps::open_at(AT_FDCWD, "/dev/null", O_RDONLY);
                const auto socket = co_await traps::socket(AF_INET, SOCK_STREAM);
                CHECK(file.has_value() && socket.has_value(), "a file and a socket");
                SignalSet signals{SIGUSR2};
                int count = 0;
                for (const int fd : all_open()) {
                    if (before.contains(fd))
                        continue;
                    ++count;
                    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC, "a descriptor would be inherited");
                }
                // Ring, wake-up, listener, client, server, file, socket, signals.
                CHECK_EQUAL(count, 8, "descriptors that the library opened");
                for (const int fd : {client.fd(), server.fd(), *file, *socket})
                    CHECK(!(fcntl(fd, F_GETFL) & O_NONBLOCK), "in blocking mode");
                ::close(*file);
                ::close(*socket);
                co_await server.close();
                co_await client.close();
                co_await listener.close();
            });
        },
        {64});
}
