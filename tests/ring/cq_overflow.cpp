// Failure: more completions than the completion queue holds (RELIABILITY 2, row 1). Linux sets
// IORING_SQ_CQ_OVERFLOW, keeps the rest in a list of its own, and posts it only when somebody
// enters with GETEVENTS; a runtime that looks at the ring alone waits for ever.
// Proves: each of some thousand operations comes back exactly once, however small the completion
// queue is and however few completions a turn may take, also in turns that only look.
// Seen on Linux 6.18: a queue of 4 with 4000 nops loses nothing; submitting goes on meanwhile.
#include "../support/ring.hpp"

#include <vector>

using namespace ring_test;

int main() {
    for (const unsigned reaped_max : {1U, 3U, 4096U}) {
        for_each_ring(
            [&](UringOptions options) {
                options.reaped_max = reaped_max;
                Driver driver(options);
                const std::size_t count = options.entries == 4096 ? 20'000 : 1'000;
                std::vector<Operation> operations(count);
                for (Operation& operation : operations) {
                    CHECK(driver.start(operation, traps::Nop{}), "a nop is under way");
                }
                for (int turns = 0; driver.under_way() > 0; ++turns) {
                    // Turns that only look, turns that wait, and both.
                    const bool looks = reaped_max == 4096 || (reaped_max == 3 && turns % 2);
                    driver.turn(looks ? TimePoint::min() : never);
                    CHECK(turns < 100'000, "completions that overflowed never came");
                }
                for (const Operation& operation : operations) {
                    CHECK(Driver::came_back(operation), "each operation comes back");
                    CHECK_EQUAL(operation.result, 0, "result of a nop");
                }
                CHECK(driver.engine->counters().overflows > 0,
                      "the completion queue never overflowed: this program proves nothing");
            },
            reaped_max == 4096 ? std::initializer_list<unsigned>{2, 64, 4096}
                               : std::initializer_list<unsigned>{2, 64});
    }
}
