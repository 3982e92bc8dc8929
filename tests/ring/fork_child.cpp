// Failure: after fork() the child can submit to its parent's ring, and the parent reaps the result
// (RELIABILITY 0.10; 2, row 22).
// Proves: a child that uses the kernel, or an engine, in whatever way ends by abort() with a
// sentence that says what to do; one that merely destroys it, or makes a kernel of its own, is
// fine; the parent goes on, its operations in flight included.
// Seen on Linux 6.18: MADV_DONTFORK leaves the ring unmapped in the child: touching it is SIGSEGV.
#include "../support/ring.hpp"

#include <memory>
#include <optional>

#include <sys/resource.h>

using namespace ring_test;

namespace {

void expect_sentence(const ChildEnd& end, const char* text) {
    CHECK(end.killed_by(SIGABRT), text);
    CHECK(end.text.find("forked child") != std::string::npos, "the sentence that says why");
}

Coro<void> round_trip(const Pair& pair) {
    char c = 'x';
    (void)co_await traps::send(pair.fd[1], bytes_of(&c, 1));
    const auto got = co_await traps::recv(pair.fd[0], bytes_of(&c, 1));
    CHECK(got == 1, "a byte goes round");
}

} // namespace

int main() {
    const rlimit no_core{};
    setrlimit(RLIMIT_CORE, &no_core);
    for_each_ring(
        [](const UringOptions& options) {
            const Pair pair = Pair::sockets();
            auto kernel =
                std::make_unique<Kernel>(KernelOptions{.engine = "uring", .uring = options});

            expect_sentence(in_child([&] { kernel->run(round_trip(pair)); }),
                            "before its first run");
            kernel->run(round_trip(pair));
            expect_sentence(in_child([&] { kernel->run(round_trip(pair)); }), "a run in the child");
            expect_sentence(
                in_child([&] { kernel->run([]() -> Coro<void> { co_await sleep(1ms); }); }),
                "a sleep in the child");
            CHECK(in_child([&] { kernel.reset(); }).exited_with(0), "the child may destroy it");
            CHECK(in_child([&] {
                      kernel.reset();
                      Kernel own({.engine = "uring", .uring = options});
                      own.run(round_trip(Pair::sockets()));
                  }).exited_with(0),
                  "the child may make its own");

            // In the middle of a run, with an operation in flight that must end in the parent.
            kernel->run([&]() -> Coro<void> {
                char got = 0;
                const auto reader = co_await spawn([&]() -> Coro<void> {
                    (void)co_await traps::recv(pair.fd[0], bytes_of(&got, 1));
                });
                co_await yield_now();
                co_await yield_now();
                std::optional<ChildEnd> end;
                const int said = dup(2); // in_child() in two halves: the child comes back to here
                Pair text = Pair::pipe();
                const pid_t child = fork();
                if (child == 0) {
                    dup2(text.fd[1], 2);
                    char c = 'c';
                    (void)co_await traps::send(pair.fd[1], bytes_of(&c, 1));
                    _exit(0); // it got through
                }
                text.close_one(1);
                ::close(said);
                end.emplace();
                char sentence[256];
                for (ssize_t n = 0; (n = read(text.fd[0], sentence, sizeof sentence)) > 0;)
                    end->text.append(sentence, static_cast<std::size_t>(n));
                waitpid(child, &end->status, 0);
                expect_sentence(*end, "a trap in the child, in the middle of a run");
                char c = 'p';
                (void)co_await traps::send(pair.fd[1], bytes_of(&c, 1));
                co_await reader.join();
                CHECK_EQUAL(got, 'p', "the parent's operation ended by the parent's byte");
            });

            Driver driver(options);
            Operation recv;
            char c = 0;
            driver.start(recv, traps::Recv{pair.fd[0], 0, &c, 1});
            driver.turn();
            expect_sentence(in_child([&] { driver.cancel(recv); }), "a cancel in the child");
            expect_sentence(in_child([&] { driver.turn(); }), "a look in the child");
            driver.cancel(recv);
            CHECK_EQUAL(driver.finish(recv), -ECANCELED, "the parent's engine goes on");
        },
        {2, 64});
}
