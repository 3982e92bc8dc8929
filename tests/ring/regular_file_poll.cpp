// Failure: waiting until a regular file is ready: epoll refuses it (EPERM), io_uring says "ready"
// at once (RELIABILITY 2, row 30).
// Proves: ReadWait and WriteWait of files and directories answer at once, so that code that waits
// before it reads works on anything; reading needs no wait.
// Seen on Linux 6.18: POLLIN or POLLOUT at once, for files, directories and /dev/null.
#include "../support/ring.hpp"

#include <sys/mman.h>

using namespace ring_test;

int main() {
    for_each_ring([](const UringOptions& options) {
        Kernel kernel({.engine = "uring", .uring = options});
        kernel.run([]() -> Coro<void> {
            const int file = memfd_create("poll", MFD_CLOEXEC);
            const int directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
            for (const int fd : {file, directory, null}) {
                const auto readable = co_await traps::read_wait(fd);
                CHECK(readable.has_value() && (*readable & POLLIN), "readable at once");
                const auto writable = co_await traps::write_wait(fd);
                CHECK(writable.has_value() && (*writable & POLLOUT), "writable at once");
                ::close(fd);
            }
            const auto closed = co_await traps::read_wait(file);
            CHECK(!closed && closed.error() == std::errc::bad_file_descriptor, "a closed one");
        });
    });
}
