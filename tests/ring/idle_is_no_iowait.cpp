// Failure: a thread that waits in a ring with reads in flight counts as waiting for a disk, so an
// idle server looks busy in every monitor.
// Proves: with twenty idle kernels, each with a recv in flight, Linux counts fewer than twenty
// blocked threads (procs_blocked of /proc/stat), where twenty plain rings make it twenty.
// Seen on Linux 6.18: IORING_ENTER_NO_IOWAIT (IORING_FEAT_NO_IOWAIT) is there, and does it.
#include "../support/ring.hpp"

#include <atomic>
#include <fstream>
#include <thread>
#include <vector>

#include <trapline/kernel/engines/uring_compat.hpp>

using namespace ring_test;

namespace {

constexpr int waiters = 20;

int blocked() {
    std::ifstream stat("/proc/stat");
    for (std::string line; std::getline(stat, line);)
        if (line.starts_with("procs_blocked "))
            return std::atoi(line.c_str() + 14);
    skip("/proc/stat does not tell procs_blocked");
}

struct Seen {
    int least = 1'000'000;
    int most = 0;
};

/// What was seen while `waiters` threads ran `wait(socket)`.
template <class Wait>
Seen blocked_while(Wait wait) {
    std::vector<Pair> pairs;
    for (int i = 0; i < waiters; ++i)
        pairs.push_back(Pair::sockets());
    std::atomic<int> ready = 0;
    std::vector<std::thread> threads;
    for (const Pair& pair : pairs)
        threads.emplace_back([&] { wait(pair.fd[0], ready); });
    CHECK(eventually([&] { return ready == waiters; }), "the threads began");
    Seen seen;
    for (int i = 0; i < 20; ++i) {
        const timespec moment{0, 1'000'000};
        nanosleep(&moment, nullptr);
        const int now = blocked();
        seen = {std::min(seen.least, now), std::max(seen.most, now)};
    }
    for (const Pair& pair : pairs)
        pair.put("x");
    for (std::thread& thread : threads)
        thread.join();
    return seen;
}

} // namespace

int main() {
    if (make_uring_engine({})->describe().find("no iowait") == std::string::npos)
        skip("this Linux does not know IORING_ENTER_NO_IOWAIT (6.15)");
    const auto plain_ring = [](int fd, std::atomic<int>& ready) {
        io_uring ring{};
        CHECK(io_uring_queue_init(8, &ring, 0) == 0, "io_uring_queue_init");
        char c = 0;
        io_uring_prep_recv(io_uring_get_sqe(&ring), fd, &c, 1, 0);
        io_uring_submit(&ring);
        ++ready;
        io_uring_cqe* cqe = nullptr;
        io_uring_wait_cqe(&ring, &cqe);
        io_uring_queue_exit(&ring);
    };
    int plain = 0;
    for (int i = 0; i < 5 && plain < waiters; ++i)
        plain = blocked_while(plain_ring).most;
    if (plain < waiters)
        skip("this Linux counts no thread that waits in a ring as blocked");
    const auto idle_kernel = [](int fd, std::atomic<int>& ready) {
        Kernel kernel({.engine = "uring", .uring = ring_of(8)});
        kernel.run([&]() -> Coro<void> {
            ++ready;
            char c = 0;
            (void)co_await traps::recv(fd, bytes_of(&c, 1));
        });
    };
    // Others may wait for a disk just then: a few tries.
    int ours = waiters;
    for (int i = 0; i < 5 && ours >= waiters; ++i)
        ours = blocked_while(idle_kernel).least;
    CHECK(ours < waiters, "idle kernels count as threads that wait for a disk");
}
