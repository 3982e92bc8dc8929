// Failure: a ring of a user without privileges counts as locked memory (RELIABILITY 0.6; 2, row
// 26).
// Proves: with 64 KiB, the default of many systems, a kernel gets a smaller ring, which works;
// with nothing it throws not_enough_memory whose text names `ulimit -l`, and leaves no descriptor.
// Seen on Linux 6.18: with 64 KiB a ring of 512 with 4096 completions is refused, 256 with 2048 is
// granted. Root is exempt, so the program tries as another user.
#include "../support/ring.hpp"

#include <sys/resource.h>

using namespace ring_test;

namespace {

template <class F>
void with_memlock(rlim_t bytes, F&& test) {
    const ChildEnd end = in_child([&] {
        const rlimit limit{bytes, bytes};
        if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0)
            _exit(77);
        // What a user has locked is counted over all his processes: one whom nobody else is.
        const auto user = static_cast<uid_t>(100'000 + getpid());
        if (geteuid() == 0 && (setgid(user) != 0 || setuid(user) != 0))
            _exit(77);
        test();
    });
    if (end.exited_with(77))
        skip("limits or the user cannot be changed here");
    std::fputs(end.text.c_str(), stderr);
    CHECK(end.exited_with(0), "little locked memory");
}

} // namespace

int main() {
    with_memlock(64 << 10, [] {
        try {
            Kernel kernel({.engine = "uring"});
            std::printf("%s\n", kernel.describe().c_str());
            int done = 0;
            kernel.run([&]() -> Coro<void> {
                for (int i = 0; i < 100; ++i)
                    co_await spawn(
                        [&]() -> Coro<void> { done += (co_await traps::nop()).has_value(); });
                while (done < 100)
                    co_await yield_now();
            });
        } catch (const std::system_error& refusal) {
            std::fprintf(stderr, "%s\n", refusal.what());
            CHECK(false, "64 KiB are enough for a small ring");
        }
    });
    with_memlock(0, [] {
        const int before = open_descriptors();
        try {
            const Kernel kernel({.engine = "uring"}); // some Linuxes count no ring memory
        } catch (const std::system_error& refusal) {
            CHECK_EQUAL(refusal.code().value(), ENOMEM, "the errno is kept");
            CHECK(std::string_view(refusal.what()).find("ulimit -l") != std::string_view::npos,
                  "the text names a remedy");
        }
        CHECK_EQUAL(open_descriptors(), before, "a descriptor leaked");
    });
}
