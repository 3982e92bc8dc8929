// Failure: close(2) that answers EINTR or EAGAIN (file systems with a flush of their own do so)
// has given the number up all the same. Closing once more closes whoever got the number meanwhile.
// Proves: whatever a Close answers is its end; reads and writes that answer EINTR are repeated. No
// file system at hand answers so: the completion is handed to the engine's judge directly.
// Seen on Linux 6.18: a second Close of a number answers EBADF, or closes the innocent.
#include "../support/ring.hpp"

#include <trapline/kernel/engines/uring_ops.hpp>

using namespace ring_test;

int main() {
    for (const int error : {EINTR, EAGAIN, EIO, ENOSPC}) {
        const traps::IoRequest closing = traps::Close{7};
        Operation close;
        close.request = &closing;
        CHECK(judge(close, -error) == Judgement::over, "a Close was repeated");
        CHECK_EQUAL(close.result, -error, "and its error is told");
    }
    const traps::IoRequest reading = traps::Read{7, nullptr, 1};
    Operation read;
    read.request = &reading;
    CHECK(judge(read, -EINTR) == Judgement::again, "an interrupted read is repeated");

    for_each_ring(
        [](const UringOptions& options) {
            Driver driver(options);
            const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
            CHECK_EQUAL(driver.run(traps::Close{fd}), 0, "close succeeds");
            CHECK_EQUAL(driver.run(traps::Close{fd}), -EBADF, "closing twice is told");
            CHECK_EQUAL(driver.run(traps::Close{-1}), -EBADF, "closing nothing is told");
        },
        {2});
}
