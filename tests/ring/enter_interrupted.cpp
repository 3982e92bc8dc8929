// Failure: io_uring_enter ends by EINTR whenever a signal handler ran, SA_RESTART or not
// (RELIABILITY 2, row 5).
// Proves: under a signal every 100 us, and with EINTR answered to every second call, sleeps are
// never early nor forgotten, no operation is submitted twice and no byte is lost.
// Seen on Linux 6.18: EINTR even with SA_RESTART; what was submitted by the call stays submitted.
#include "../support/ring_fault.hpp"

#include <sys/time.h>

using namespace ring_test;

namespace {

volatile sig_atomic_t signals = 0;

void ping_pong_and_sleep(const UringOptions& options) {
    const Pair pair = Pair::sockets();
    Kernel kernel({.engine = "uring", .uring = options});
    kernel.run([&]() -> Coro<void> {
        const auto echo = co_await spawn([&]() -> Coro<void> {
            char c = 0;
            while ((co_await traps::recv(pair.fd[1], bytes_of(&c, 1))).value() == 1)
                (void)co_await traps::send(pair.fd[1], bytes_of(&c, 1));
        });
        const auto sleeper = co_await spawn([]() -> Coro<void> {
            for (int i = 0; i < 5; ++i) {
                const TimePoint before = co_await now();
                co_await sleep(1ms);
                const TimePoint after = co_await now();
                CHECK(after - before >= 1ms, "a signal made a sleep end early");
            }
        });
        for (int i = 0; i < 100; ++i) {
            char sent = static_cast<char>(i);
            char received = -1;
            const auto out = co_await traps::send(pair.fd[0], bytes_of(&sent, 1));
            const auto in = co_await traps::recv(pair.fd[0], bytes_of(&received, 1));
            CHECK(out == 1 && in == 1, "an interrupted system call is no error");
            CHECK_EQUAL(received, sent, "one byte out, the same byte in");
        }
        co_await sleeper.join();
        (void)co_await traps::shutdown(pair.fd[0], SHUT_WR);
        co_await echo.join();
    });
}

} // namespace

int main() {
    struct sigaction action{};
    action.sa_handler = [](int) { signals = signals + 1; };
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &action, nullptr);
    sigevent event{};
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGUSR1;
    timer_t timer{};
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0, "timer_create");
    const itimerspec often{{0, 100'000}, {0, 100'000}};

    for_each_ring([&](const UringOptions& options) {
        timer_settime(timer, 0, &often, nullptr);
        const auto before = signals;
        ping_pong_and_sleep(options);
        CHECK(signals - before > 10, "too few signals came: this program proves nothing");
        const itimerspec off{};
        timer_settime(timer, 0, &off, nullptr);

        // A call that did all its work, and one that did nothing, both told as EINTR.
        int calls = 0;
        on_enter = [&](const Enter& enter) {
            if (++calls % 4 == 1)
                return -EINTR;
            const int result = enter.call();
            return calls % 4 == 3 && enter.to_submit == 0 ? -EINTR : result;
        };
        ping_pong_and_sleep(options);
        on_enter = nullptr;
    });
}
