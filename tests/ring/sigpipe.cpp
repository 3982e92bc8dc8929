// Failure: a peer has gone, and a write to it kills the program by SIGPIPE (RELIABILITY 2, row
// 21).
// Proves: with a kernel made by default options the task gets broken_pipe and nothing else
// happens, for send and for write; a handler of the program's own stays in place; Send raises
// nothing even when SIGPIPE is left at its default.
// Seen on Linux 6.18: OP_WRITE to a pipe or socket raises SIGPIPE, OP_SEND with MSG_NOSIGNAL
// never.
#include "../support/ring.hpp"

using namespace ring_test;

namespace {

Coro<std::error_code> write_to_nobody(bool to_socket, bool by_send) {
    Pair pair = to_socket ? Pair::sockets() : Pair::pipe();
    pair.close_one(0);
    char c = 'x';
    const auto data = bytes_of(&c, 1);
    const auto answer =
        by_send ? co_await traps::send(pair.fd[1], data) : co_await traps::write(pair.fd[1], data);
    co_return answer ? std::error_code{} : answer.error();
}

void expect_broken_pipe(Kernel& kernel, bool to_socket, bool by_send) {
    CHECK(kernel.run(write_to_nobody(to_socket, by_send)) == std::errc::broken_pipe,
          "broken_pipe is the answer");
}

} // namespace

int main() {
    for_each_ring(
        [](const UringOptions& options) {
            const ChildEnd by_default = in_child([&] {
                signal(SIGPIPE, SIG_DFL);
                Kernel kernel({.engine = "uring", .uring = options});
                expect_broken_pipe(kernel, true, true);
                expect_broken_pipe(kernel, true, false);
                expect_broken_pipe(kernel, false, false);
            });
            CHECK(by_default.exited_with(0), "SIGPIPE was raised");

            const ChildEnd own_handler = in_child([&] {
                static volatile sig_atomic_t raised = 0;
                signal(SIGPIPE, [](int) { raised = raised + 1; });
                Kernel kernel({.engine = "uring", .uring = options});
                expect_broken_pipe(kernel, true, true);
                CHECK_EQUAL(raised, 0, "send raises nothing");
                expect_broken_pipe(kernel, false, false);
                CHECK(raised > 0, "the program's own handler stays in place");
            });
            CHECK(own_handler.exited_with(0), "with a handler of its own");

            const ChildEnd left_alone = in_child([&] {
                signal(SIGPIPE, SIG_DFL);
                Kernel kernel({.engine = "uring", .uring = options, .ignore_sigpipe = false});
                expect_broken_pipe(kernel, true, true);
                std::fputs("alive", stderr);
                expect_broken_pipe(kernel, false, false);
            });
            CHECK(left_alone.text == "alive", "send raises nothing");
            CHECK(left_alone.killed_by(SIGPIPE), "premise: write does, when nobody ignores it");
        },
        {64});
}
