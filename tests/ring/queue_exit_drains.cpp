// Failure: a ring goes while something of it is still with Linux (RELIABILITY 2, row 37): the read
// of its wake-up, cancels, submissions that nobody handed over.
// Proves: an engine ends whatever state it is in, at once, and gives its descriptors back, some
// hundred times in a row; wake-ups from another thread meanwhile do no harm.
// Seen on Linux 6.18: io_uring_queue_exit returns before everything is released; what is in flight
// then may write later, so the engine waits for its own read first.
#include "../support/ring.hpp"

#include <thread>

using namespace ring_test;

int main() {
    const int before = open_descriptors();
    for_each_ring([](const UringOptions& options) {
        const Pair pair = Pair::sockets();
        char c = 0;
        for (int round = 0; round < 40; ++round) {
            Driver driver(options);
            Operation recv;
            switch (round % 10) {
            case 0: break;                             // never used
            case 1: driver.engine->interrupt(); break; // never waited
            case 2: driver.turn(); break;              // its wake-up is armed
            case 3:                                    // and has been used
                driver.turn();
                driver.engine->interrupt();
                break;
            case 4:
                driver.turn();
                driver.engine->interrupt();
                driver.turn(never);
                driver.engine->interrupt();
                break;
            case 5: // a cancel that finds nothing, and is not looked at
                driver.start(recv, traps::Recv{pair.fd[0], 0, &c, 1});
                driver.turn();
                pair.put("x");
                driver.cancel(recv);
                driver.finish(recv);
                break;
            case 6: // the same, and armed
                driver.start(recv, traps::Recv{pair.fd[0], 0, &c, 1});
                driver.turn();
                driver.cancel(recv);
                driver.finish(recv);
                driver.turn();
                break;
            case 7: // completions of every kind in the queue
                for (int i = 0; i < 20; ++i)
                    driver.run(traps::Nop{});
                driver.engine->interrupt();
                break;
            case 8: // woken by another thread, when nobody waits any more
                driver.turn();
                std::thread([&] { driver.engine->interrupt(); }).join();
                break;
            case 9: // and all the while, up to its end
                std::thread other([&] {
                    for (int i = 0; i < 100; ++i)
                        driver.engine->interrupt();
                });
                for (int i = 0; i < 10; ++i)
                    driver.run(traps::Nop{});
                other.join();
                break;
            }
            CHECK_EQUAL(driver.under_way(), 0, "its operations have ended");
        }
        while (recv(pair.fd[0], &c, 1, MSG_DONTWAIT) == 1) {}
    });
    CHECK(eventually([&] { return open_descriptors() == before; }), "a descriptor leaked");
}
