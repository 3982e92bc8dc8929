// Failure: accept ends by EMFILE, and the connection stays in the backlog, so that the next accept
// fails as soon (RELIABILITY 2, row 9): servers spin, or give up listening.
// Proves: the accept waits, without spinning and without an error for its task, while everything
// else goes on; it gets its connection as soon as a descriptor is closed, or was closed behind the
// kernel's back (after a pause of 50 ms).
// Seen on Linux 6.18: EMFILE each time while the limit holds; the connection is not lost.
#include "../support/ring.hpp"

#include <sys/resource.h>

using namespace ring_test;

namespace {

/// While it lives, no descriptor above those that are open can be had.
class NoDescriptors {
public:
    NoDescriptors() {
        getrlimit(RLIMIT_NOFILE, &limit_);
        const int lowest_free = fcntl(0, F_DUPFD_CLOEXEC, 0);
        ::close(lowest_free);
        const rlimit none{static_cast<rlim_t>(lowest_free), limit_.rlim_max};
        setrlimit(RLIMIT_NOFILE, &none);
    }
    ~NoDescriptors() { setrlimit(RLIMIT_NOFILE, &limit_); }

private:
    rlimit limit_{};
};

void closed_by(const UringOptions& options, bool by_the_kernel) {
    Listener listener;
    const int client = listener.connect();
    const int spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const Pair pair = Pair::sockets();
    Kernel kernel({.engine = "uring", .uring = options});
    kernel.run([&]() -> Coro<void> {
        co_await traps::nop(); // the ring is in use
        const NoDescriptors none;
        const std::uint64_t calls_before = kernel.counters().engine.system_calls;
        TimePoint accepted{};
        const auto server = co_await spawn([&]() -> Coro<void> {
            const auto fd = co_await traps::accept(listener.fd);
            CHECK(fd.has_value(), "out of descriptors is no error of accept");
            accepted = co_await now();
            ::close(*fd);
        });
        co_await sleep(5ms);
        CHECK(!server.terminated(), "there was a descriptor: this program proves nothing");
        CHECK(kernel.counters().engine.accept_pauses > 0, "the pause is counted");
        for (int i = 0; i < 10; ++i) { // everything else goes on
            char c = 'x';
            const auto out = co_await traps::send(pair.fd[1], bytes_of(&c, 1));
            const auto in = co_await traps::recv(pair.fd[0], bytes_of(&c, 1));
            CHECK(out == 1 && in == 1, "other operations go on");
        }
        const TimePoint closed = co_await now();
        if (by_the_kernel)
            (void)co_await traps::close(spare);
        else
            ::close(spare);
        co_await server.join();
        CHECK(accepted - closed < (by_the_kernel ? 40ms : 500ms), "the accept went on too late");
        CHECK(kernel.counters().engine.system_calls - calls_before < 100, "the accept spins");
    });
    ::close(client);
}

} // namespace

int main() {
    for_each_ring([](const UringOptions& options) {
        closed_by(options, true);
        if (options.mode == Mode::deferred)
            closed_by(options, false);
    });
}
