// Failure: no descriptors are left when a kernel is made (RELIABILITY 2, row 26).
// Proves: at whichever descriptor they run out, std::system_error with EMFILE, whose text names
// `ulimit -n` or what could not be opened; nothing leaks, and with one more it works.
// Seen on Linux 6.18: a ring takes one descriptor (none after it was registered would do), its
// wake-up another.
#include "../support/ring.hpp"

#include <memory>

#include <sys/resource.h>

using namespace ring_test;

int main() {
#ifdef __has_feature
#if __has_feature(undefined_behavior_sanitizer)
    skip("this sanitizer needs descriptors of its own to look at an object");
#endif
#endif
    const int lowest_free = fcntl(0, F_DUPFD_CLOEXEC, 0);
    ::close(lowest_free);
    const int before = open_descriptors();
    rlimit old{};
    getrlimit(RLIMIT_NOFILE, &old);
    int refusals = 0;
    bool made = false;
    for (int spare = 0; spare < 10 && !made; ++spare) {
        const rlimit tight{static_cast<rlim_t>(lowest_free + spare), old.rlim_max};
        setrlimit(RLIMIT_NOFILE, &tight);
        std::unique_ptr<Kernel> kernel;
        try {
            kernel = std::make_unique<Kernel>(KernelOptions{.engine = "uring"});
            made = true;
        } catch (const std::system_error& refusal) {
            std::printf("%d spare: %s\n", spare, refusal.what());
            CHECK_EQUAL(refusal.code().value(), EMFILE, "the errno is kept");
            ++refusals;
        }
        setrlimit(RLIMIT_NOFILE, &old);
        if (kernel)
            kernel->run([]() -> Coro<void> { (void)co_await traps::nop(); });
        kernel.reset();
        CHECK_EQUAL(open_descriptors(), before, "a descriptor leaked");
    }
    CHECK(made, "a kernel needs more than ten descriptors");
    CHECK(refusals >= 2, "the ring and its wake-up were both refused");
}
