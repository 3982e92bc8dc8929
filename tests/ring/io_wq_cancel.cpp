// Failure: an operation that Linux runs in a worker thread of its own (splice, opening a FIFO,
// connecting to a full Unix listener) is cancelled: the cancel answers EALREADY, and the operation
// ends by EINTR or by a code that Linux keeps from programs otherwise (RELIABILITY 2, row 14).
// Proves: it ends, and its task sees the cancellation or the result, never such a code; a Close of
// its descriptor ends it as well.
// Seen on Linux 6.18: cancel -EALREADY, then splice -512 (ERESTARTSYS), connect -EINTR. Opening a
// FIFO for reading does not wait for a writer, as open(2) would; for writing: ENXIO.
#include "../support/ring.hpp"

#include <sys/stat.h>
#include <sys/un.h>

using namespace ring_test;

namespace {

void expect_cancelled(Driver& driver, const traps::IoRequest& request, const char* what) {
    Operation operation;
    CHECK(driver.start(operation, request), what);
    driver.turn();
    // Give the worker time to begin and to block.
    for (int i = 0; i < 3; ++i)
        driver.turn(driver.engine->now() + 300us);
    CHECK(!Driver::came_back(operation), what);
    driver.cancel(operation);
    CHECK_EQUAL(driver.finish(operation), -ECANCELED, what);
    // And at once, when the worker has perhaps not begun.
    operation.task = nullptr;
    CHECK(driver.start(operation, request), what);
    driver.turn();
    driver.cancel(operation);
    CHECK_EQUAL(driver.finish(operation), -ECANCELED, what);
}

void in_the_engine(const UringOptions& options) {
    Driver driver(options);
    static char big[65536];
    const Pair from = Pair::pipe();
    const Pair to = Pair::pipe();
    expect_cancelled(driver, traps::Splice{from.fd[0], to.fd[1], -1, -1, 4096, 0},
                     "splice from an empty pipe");
    from.put("abc");
    CHECK_EQUAL(write(to.fd[1], big, sizeof big), sizeof big, "fill the pipe");
    expect_cancelled(driver, traps::Splice{from.fd[0], to.fd[1], -1, -1, 4096, 0},
                     "splice to a full pipe");
    char left[8];
    CHECK_EQUAL(read(from.fd[0], left, sizeof left), 3, "what was cancelled moved nothing");

    sockaddr_un address{};
    address.sun_family = AF_UNIX; // in the abstract name space
    std::snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "trapline-%d", getpid());
    const auto* where = reinterpret_cast<const sockaddr*>(&address);
    const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(listener, where, sizeof address) == 0 && listen(listener, 0) == 0, "listen");
    const int first = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int second = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQUAL(driver.run(traps::Connect{first, where, sizeof address}), 0, "connect");
    expect_cancelled(driver, traps::Connect{second, where, sizeof address}, "a full backlog");
    for (const int fd : {first, second, listener})
        ::close(fd);
}

void in_a_task(const UringOptions& options) {
    const Pair from = Pair::pipe();
    Pair to = Pair::pipe();
    Kernel kernel({.engine = "uring", .uring = options});
    kernel.run([&]() -> Coro<void> {
        const auto in_time =
            co_await ignore_after(1ms, [&] { return traps::splice(from.fd[0], to.fd[1], 4096); });
        CHECK(!in_time, "a time limit stops a splice");
        std::error_code ended;
        const auto splicer = co_await spawn([&]() -> Coro<void> {
            const auto answer = co_await traps::splice(from.fd[0], to.fd[1], 4096);
            ended = answer ? std::error_code{} : answer.error();
        });
        co_await sleep(300us);
        (void)co_await traps::close(std::exchange(to.fd[1], -1));
        co_await splicer.join();
        CHECK(ended == std::errc::operation_canceled, "a Close ends a splice");
        CHECK(co_await splicer.cancel() == false, "it has ended");
    });
}

void fifo(const UringOptions& options) {
    Driver driver(options);
    char path[64];
    std::snprintf(path, sizeof path, "/tmp/trapline-fifo-%d", getpid());
    CHECK(mkfifo(path, 0600) == 0, "mkfifo");
    const auto fd = driver.run(traps::OpenAt{AT_FDCWD, path, O_RDONLY, 0});
    CHECK(fd >= 0, "premise: opening a FIFO for reading waits for nobody");
    CHECK_EQUAL(fcntl(static_cast<int>(fd), F_GETFL) & O_NONBLOCK, 0, "nor does the mode stay");
    ::close(static_cast<int>(fd));
    CHECK_EQUAL(driver.run(traps::OpenAt{AT_FDCWD, path, O_WRONLY, 0}), -ENXIO,
                "premise: opening one for writing without a reader fails");
    unlink(path);
}

} // namespace

int main() {
    for_each_ring(
        [](const UringOptions& options) {
            in_the_engine(options);
            in_a_task(options);
            fifo(options);
        },
        {2, 64});
}
