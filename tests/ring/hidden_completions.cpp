// Failure: with DEFER_TASKRUN no completion appears in the queue until somebody enters the ring
// and asks for events (RELIABILITY 0.9; 2, row 25); a loop that looks at the queue alone while
// tasks are ready never sees its I/O.
// Proves: while one task does nothing but yield, sleeps end, bytes arrive and a hundred sockets
// that become ready at once are all served within few turns.
// Seen on Linux 6.18: a thousand system calls of other kinds after the byte, the queue is empty and
// only a flag tells.
#include "../support/ring.hpp"

#include <vector>

#include <trapline/kernel/engines/uring_compat.hpp>

using namespace ring_test;

namespace {

void linux_hides_them() {
    io_uring ring{};
    io_uring_params parameters{};
    parameters.flags =
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    if (io_uring_queue_init_params(8, &ring, &parameters) != 0)
        return;
    const Pair pair = Pair::sockets();
    char c = 0;
    io_uring_prep_recv(io_uring_get_sqe(&ring), pair.fd[0], &c, 1, 0);
    io_uring_submit(&ring);
    pair.put("x");
    for (int i = 0; i < 1'000; ++i)
        (void)getppid(); // system calls of another kind do not help
    CHECK_EQUAL(io_uring_cq_ready(&ring), 0, "premise: nothing shows in the queue");
    CHECK(IO_URING_READ_ONCE(*ring.sq.kflags) & IORING_SQ_TASKRUN, "premise: but a flag tells");
    io_uring_get_events(&ring);
    CHECK_EQUAL(io_uring_cq_ready(&ring), 1, "premise: until somebody asks for events");
    io_uring_queue_exit(&ring);
}

void yields_starve_nobody(const UringOptions& options) {
    constexpr std::size_t count = 100;
    std::vector<Pair> pairs;
    for (std::size_t i = 0; i < count; ++i)
        pairs.push_back(Pair::sockets());
    Kernel kernel({.engine = "uring", .uring = options});
    kernel.run([&]() -> Coro<void> {
        bool over = false;
        std::size_t served = 0;
        const auto yielder = co_await spawn([&]() -> Coro<void> {
            while (!over)
                co_await yield_now();
        });
        std::vector<Task<void>> readers;
        for (const Pair& pair : pairs) {
            readers.push_back(co_await spawn([&]() -> Coro<void> {
                char c = 0;
                const auto got = co_await traps::recv(pair.fd[0], bytes_of(&c, 1));
                served += got == 1;
            }));
        }
        for (int i = 0; i < 3; ++i)
            co_await yield_now(); // all are armed
        for (const Pair& pair : pairs)
            pair.put("x");
        const std::uint64_t before = kernel.counters().turns;
        while (served < count) {
            co_await yield_now();
            CHECK(kernel.counters().turns - before < 1'000, "I/O is starved by a task that yields");
        }
        const TimePoint start = co_await now();
        co_await sleep(1ms); // hangs when timers are starved
        CHECK((co_await now()) - start < 1s, "a sleep is starved by a task that yields");
        over = true;
        co_await yielder.join();
        for (const Task<void>& reader : readers)
            co_await reader.join();
    });
}

} // namespace

int main() {
    linux_hides_them();
    for_each_ring(yields_starve_nobody);
}
