// Failure: a sandbox forbids io_uring_setup; containers' default profiles answer EPERM, others
// ENOSYS (RELIABILITY 2, row 26).
// Proves: making a kernel throws std::system_error with that errno, whose text names the likely
// cause and a remedy, and leaves no descriptor behind; the program goes on.
// Seen on Linux 6.18: a filter may answer any errno in place of the call.
#include "../support/ring.hpp"
#include "../support/seccomp.hpp"

#include <stddef.h>
#include <sys/syscall.h>

using namespace ring_test;

namespace {

void expect_refusal(long call, int error, const char* remedy) {
    const ChildEnd end = in_child([&] {
        if (!trapline::test::forbid(call, error))
            _exit(77);
        const int before = open_descriptors();
        for (int i = 0; i < 2; ++i) {
            try {
                Kernel kernel({.engine = "uring"});
                _exit(2);
            } catch (const std::system_error& refusal) {
                CHECK_EQUAL(refusal.code().value(), error, "the errno is kept");
                CHECK(std::string_view(refusal.what()).find(remedy) != std::string_view::npos,
                      "the text names a remedy");
            }
        }
        CHECK_EQUAL(open_descriptors(), before, "a descriptor leaked");
    });
    if (end.exited_with(77))
        skip("seccomp filters cannot be set here");
    CHECK(!end.exited_with(2), "the call was not refused: this program proves nothing");
    std::fputs(end.text.c_str(), stderr);
    CHECK(end.exited_with(0), "a refused ring");
}

} // namespace

int main() {
    expect_refusal(__NR_io_uring_setup, EPERM, "seccomp");
    expect_refusal(__NR_io_uring_setup, ENOSYS, "no io_uring");
    // A filter that lets the ring be made and forbids what comes next: the ring is of no use.
    expect_refusal(__NR_io_uring_register, ENOSYS, "no io_uring");
}
