// Failure: a ring with DEFER_TASKRUN wakes nobody who polls its descriptor, and a registered
// eventfd is written at most once for what came about by a write to another eventfd; a kernel
// inside another loop sleeps through its own completions. Proves: whatever the ring was asked for,
// the descriptor for another loop tells of each of ten wake-ups by an eventfd, and by another
// thread; and that a kernel with deferred task work which has something in flight says that it
// cannot have one. Seen on Linux 6.18: the first such write shows after 15 ms, the second one
// never.
#include "../support/ring.hpp"

#include <thread>

#include <liburing.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

using namespace ring_test;

namespace {

bool readable(int fd, int wait_ms) {
    pollfd at{fd, POLLIN, 0};
    int result = 0;
    do // a completion of a cooperative ring may end the wait with EINTR, as a signal does
        result = poll(&at, 1, wait_ms);
    while (result < 0 && errno == EINTR);
    return result == 1;
}

void write_one(int fd) {
    const std::uint64_t one = 1;
    CHECK_EQUAL(write(fd, &one, sizeof one), 8, "write to an eventfd");
}

void linux_keeps_it_to_itself() {
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
    const int loop = epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{};
    event.events = EPOLLIN;
    epoll_ctl(loop, EPOLL_CTL_ADD, ring.ring_fd, &event);
    CHECK(!readable(loop, 0), "premise: nothing has come");
    pair.put("x");
    CHECK(!readable(loop, 20), "premise: who polls the ring is not woken");
    close(loop);
    io_uring_queue_exit(&ring);
}

void each_write_is_told(const UringOptions& options) {
    Kernel kernel({.engine = "uring", .uring = options});
    const int fd = kernel.pollable_fd();
    const int event = eventfd(0, EFD_CLOEXEC);
    ThreadCompletion completions[10];
    int came = 0;
    const Task<void> task = kernel.spawn([&]() -> Coro<void> {
        for (ThreadCompletion& completion : completions) {
            std::uint64_t count = 0;
            const auto got = co_await traps::read(event, bytes_of(&count, sizeof count));
            came += got == sizeof count;
            (void)co_await traps::AwaitThread{&completion};
        }
    });
    for (ThreadCompletion& completion : completions) {
        while (readable(fd, 0))
            kernel.run_once();
        const int before = came;
        std::thread{[&] { write_one(event); }}.join();
        while (came == before) {
            CHECK(readable(fd, 2000), "the write to an eventfd is not told");
            kernel.run_once();
        }
        while (readable(fd, 0))
            kernel.run_once();
        std::thread{[&] { completion.complete(); }}.join();
        CHECK(readable(fd, 2000), "the thread's wake-up is not told");
        kernel.run_once();
    }
    while (!task.terminated()) {
        CHECK(readable(fd, 2000), "the end is not reached");
        kernel.run_once();
    }
    close(event);
}

void asked_for_late(const UringOptions& options) {
    Kernel kernel({.engine = "uring", .uring = options});
    const Pair pair = Pair::sockets();
    char c = 0;
    const Task<void> task = kernel.spawn(
        [&]() -> Coro<void> { (void)co_await traps::recv(pair.fd[0], bytes_of(&c, 1)); });
    kernel.run_once();
    const bool deferred = kernel.describe().find("deferred") != std::string::npos;
    std::error_code error;
    try {
        (void)kernel.pollable_fd();
    } catch (const std::system_error& e) {
        error = e.code();
    }
    CHECK((error == std::errc::device_or_resource_busy) == deferred, "asked for too late");
    pair.put("x");
    while (kernel.run_once(1s)) {}
    CHECK_EQUAL(c, 'x', "what was in flight goes on");
    CHECK(kernel.pollable_fd() >= 0, "with nothing in flight it can be had");
}

} // namespace

int main() {
    linux_keeps_it_to_itself();
    for_each_ring(each_write_is_told);
    for_each_ring(asked_for_late);
}
