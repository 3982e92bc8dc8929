// Failure: reads and writes that move less than was asked for, and sizes beyond what one call
// moves or a submission can say (RELIABILITY 2, row 18).
// Proves: a short count is told as it is; sizes above 2 GiB are cut, not wrapped to something
// small; a whole transfer (MSG_WAITALL) goes on until all is there, across many short counts, or
// ends with the stream.
// Seen on Linux 6.18: a read of 64 from a file of 10 bytes answers 10; 4 GiB + 1 cut to 32 bits
// would be 1.
#include "../support/ring.hpp"

#include <thread>
#include <vector>

#include <sys/mman.h>

using namespace ring_test;

namespace {

void files(Driver& driver) {
    const int fd = memfd_create("short", MFD_CLOEXEC);
    CHECK(fd >= 0, "memfd_create");
    char buffer[64] = {};
    CHECK_EQUAL(driver.run(traps::Write{fd, "0123456789", 10, 0}), 10, "write of ten bytes");
    CHECK_EQUAL(driver.run(traps::Read{fd, buffer, 64, 0}), 10, "a short read is told as it is");
    CHECK_EQUAL(driver.run(traps::Read{fd, buffer, 64, 10}), 0, "the end of the file");
    CHECK_EQUAL(driver.run(traps::Read{fd, buffer, 0, 0}), 0, "nothing asked, nothing done");
    ::close(fd);
}

void huge_sizes(Driver& driver) {
    constexpr std::size_t huge = (std::size_t{4} << 30) + 1;
    void* memory = mmap(nullptr, huge, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(memory != MAP_FAILED, "mmap of 4 GiB");
    const Pair pair = Pair::sockets();
    pair.put("0123456789");
    CHECK_EQUAL(driver.run(traps::Recv{pair.fd[0], 0, memory, huge}), 10, "recv of 4 GiB + 1");
    const Pair pipe = Pair::pipe();
    pipe.put("0123456789");
    CHECK_EQUAL(driver.run(traps::Read{pipe.fd[0], memory, huge}), 10, "read of 4 GiB + 1");
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    CHECK_EQUAL(driver.run(traps::Write{null, memory, huge}), 0x7ffff000, "write of 4 GiB + 1");
    ::close(null);
    munmap(memory, huge);
}

void whole_transfers(Driver& driver) {
    constexpr std::size_t size = 3 << 20;
    Pair pair = Pair::sockets();
    std::vector<char> out(size);
    for (std::size_t i = 0; i < size; ++i)
        out[i] = static_cast<char>(i % 251);
    std::vector<char> in(size);
    Operation send;
    Operation recv;
    driver.start(recv, traps::Recv{pair.fd[0], MSG_WAITALL, in.data(), size});
    driver.start(send, traps::Send{pair.fd[1], MSG_WAITALL, out.data(), size});
    CHECK_EQUAL(driver.finish(send), size, "all is sent");
    CHECK_EQUAL(driver.finish(recv), size, "all is received");
    CHECK(in == out, "and it is the same");

    std::thread dribble([&] {
        for (int i = 0; i < 50; ++i) {
            pair.put("x");
            std::this_thread::yield();
        }
        shutdown(pair.fd[1], SHUT_WR);
    });
    CHECK_EQUAL(driver.run(traps::Recv{pair.fd[0], MSG_WAITALL, in.data(), 40}), 40,
                "byte by byte");
    CHECK_EQUAL(driver.run(traps::Recv{pair.fd[0], MSG_WAITALL, in.data(), 40}), 10,
                "the end of the stream ends a whole transfer");
    CHECK_EQUAL(driver.run(traps::Recv{pair.fd[0], MSG_WAITALL, in.data(), 40}), 0, "and then 0");
    dribble.join();
}

} // namespace

int main() {
    for_each_ring([](const UringOptions& options) {
        Driver driver(options);
        files(driver);
        huge_sizes(driver);
        whole_transfers(driver);
    });
}
