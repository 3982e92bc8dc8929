// Failure: a connection dies in the backlog, before anybody accepted it (accept(2), "Error
// handling": ECONNABORTED and its kin are of the connection, not of the listener).
// Proves: the accept goes on to the next connection or hands out the dead one, whose recv then
// says connection_reset; a server's accept loop sees no error. The errors that Linux or another
// protocol may answer in its place are judged "again".
// Seen on Linux 6.18: TCP over IPv4 hands out the dead connection, and recv answers ECONNRESET.
#include "../support/ring.hpp"

#include <trapline/kernel/engines/uring_ops.hpp>

using namespace ring_test;

int main() {
    for_each_ring([](const UringOptions& options) {
        Listener listener;
        const int dead = listener.connect();
        const linger reset{1, 0};
        setsockopt(dead, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        ::close(dead);
        const int alive = listener.connect();
        CHECK_EQUAL(write(alive, "hello", 5), 5, "write by the client that lives");
        Kernel kernel({.engine = "uring", .uring = options});
        kernel.run([&]() -> Coro<void> {
            bool greeted = false;
            while (!greeted) {
                const auto fd = co_await traps::accept(listener.fd);
                CHECK(fd.has_value(), "a dead connection is no error of the listener");
                char text[8];
                const auto got = co_await traps::recv(*fd, bytes_of(text, sizeof text));
                CHECK(got == 5 || (!got && got.error() == std::errc::connection_reset),
                      "the dead one is reset, the other one has sent");
                greeted = got.has_value();
                (void)co_await traps::close(*fd);
            }
        });
        ::close(alive);
    });

    for (const int error : {ECONNABORTED, EPROTO, ENETDOWN, EHOSTDOWN, ENETUNREACH, EHOSTUNREACH}) {
        const traps::IoRequest accepting = traps::Accept{0, 0, nullptr, nullptr};
        Operation accept;
        accept.request = &accepting;
        CHECK(judge(accept, -error) == Judgement::again, "an error of the connection");
        const traps::IoRequest connecting = traps::Connect{0, nullptr, 0};
        Operation connect;
        connect.request = &connecting;
        CHECK(judge(connect, -error) == Judgement::over, "for others it is the answer");
    }
}
