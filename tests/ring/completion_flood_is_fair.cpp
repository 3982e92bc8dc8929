// Failure: a flood of completions starves ready tasks and timers, or ready tasks starve
// completions (RELIABILITY 2, row 40).
// Proves: while 1000 tasks do one operation after the other, a task that yields runs in every
// turn, a sleep ends within two turns of its time, and a ping-pong over a socket goes on at its
// share, also when a turn takes only 16 completions.
// Seen on Linux 6.18: completions are posted in the order in which operations ended, so none is
// overtaken for ever.
#include "../support/ring.hpp"

#include <vector>

using namespace ring_test;

int main() {
    for (const unsigned reaped_max : {16U, 4096U}) {
        for_each_ring(
            [&](UringOptions options) {
                options.reaped_max = reaped_max;
                constexpr std::uint64_t flooders = 1'000;
                const Pair pair = Pair::sockets();
                Kernel kernel({.engine = "uring", .uring = options});
                kernel.run([&]() -> Coro<void> {
                    bool over = false;
                    std::uint64_t floods = 0;
                    std::uint64_t yields = 0;
                    TimePoint wanted = never;
                    std::uint64_t turn_wanted = 0; // the first one at which that time had come
                    std::vector<Task<void>> tasks;
                    for (std::uint64_t i = 0; i < flooders; ++i) {
                        tasks.push_back(co_await spawn([&]() -> Coro<void> {
                            while (!over) {
                                (void)co_await traps::nop();
                                ++floods;
                            }
                        }));
                    }
                    tasks.push_back(co_await spawn([&]() -> Coro<void> {
                        const std::uint64_t first = kernel.counters().turns;
                        while (!over) {
                            if (turn_wanted == 0 && (co_await now()) >= wanted)
                                turn_wanted = kernel.counters().turns;
                            const std::uint64_t before = floods;
                            co_await yield_now();
                            ++yields;
                            // In parts of two turns.
                            CHECK(floods - before <= 2 * reaped_max, "a turn takes too many");
                        }
                        const std::uint64_t turns = kernel.counters().turns - first;
                        CHECK_EQUAL(yields, turns, "a task that yields runs once in every turn");
                    }));
                    tasks.push_back(co_await spawn([&]() -> Coro<void> {
                        char c = 0;
                        while ((co_await traps::recv(pair.fd[1], bytes_of(&c, 1))).value() == 1)
                            (void)co_await traps::send(pair.fd[1], bytes_of(&c, 1));
                    }));
                    const std::uint64_t before = kernel.counters().turns;
                    constexpr std::uint64_t rounds = 5;
                    for (std::uint64_t i = 0; i < rounds; ++i) {
                        char c = 'x';
                        (void)co_await traps::send(pair.fd[0], bytes_of(&c, 1));
                        (void)co_await traps::recv(pair.fd[0], bytes_of(&c, 1));
                    }
                    // Each of four operations a round may stand behind the others' completions, of
                    // which a turn takes no more than the queue holds.
                    const std::uint64_t taken = std::min({reaped_max, 2 * options.entries, 1'000U});
                    const std::uint64_t wait_max = flooders / taken + 5;
                    CHECK(kernel.counters().turns - before <= rounds * 4 * 2 * wait_max,
                          "a ping-pong is starved by the flood");
                    const TimePoint now_is = co_await now();
                    wanted = now_is + 1ms;
                    co_await sleep_until(wanted);
                    const std::uint64_t woken = kernel.counters().turns;
                    CHECK(turn_wanted == 0 || woken - turn_wanted <= 2, "a sleep is starved");
                    CHECK(floods > 0, "there was no flood: this program proves nothing");
                    over = true;
                    shutdown(pair.fd[0], SHUT_WR);
                    for (const Task<void>& task : tasks)
                        co_await task.join();
                });
            },
            {2, 64});
    }
}
