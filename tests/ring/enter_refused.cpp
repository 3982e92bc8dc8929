// Failure: io_uring_enter answers EAGAIN or ENOMEM (no memory for a request), or EBUSY
// (completions have overflowed) and has done nothing (RELIABILITY 2, row 6).
// Proves: the engine comes back to it without losing an operation, and without losing a wake-up
// from another thread when the refused call was to arm the very wait for that.
// Seen on Linux 6.18: none of these errors has a side effect on the submission queue.
#include "../support/ring_fault.hpp"

#include <vector>

using namespace ring_test;

namespace {

void nothing_is_lost(const UringOptions& options, int error) {
    Driver driver(options);
    const Pair pipe = Pair::pipe();
    int calls = 0;
    on_enter = [&](const Enter& enter) { return ++calls % 3 ? -error : enter.call(); };
    std::vector<Operation> nops(20);
    for (int round = 0; round < 3; ++round) {
        for (Operation& nop : nops) {
            nop.task = nullptr;
            driver.start(nop, traps::Nop{});
        }
        char c = 'x';
        CHECK_EQUAL(driver.run(traps::Write{pipe.fd[1], &c, 1}), 1, "write of a byte");
        CHECK_EQUAL(driver.run(traps::Read{pipe.fd[0], &c, 1}), 1, "read of a byte");
        while (driver.under_way() > 0)
            driver.turn(never);
    }
    on_enter = nullptr;
}

/// The submission queue is full of operations that wait, and the call that is to make room for the
/// wake-up's own read is refused. The wake-up must end the wait all the same.
void wake_up_is_not_lost(const UringOptions& options, int error) {
    Driver driver(options);
    const Pair pair = Pair::sockets();
    std::vector<Operation> waiting(options.entries);
    std::vector<char> bytes(options.entries);
    for (unsigned i = 0; i < options.entries; ++i)
        driver.start(waiting[i], traps::Recv{pair.fd[0], 0, &bytes[i], 1});
    bool refused = false;
    on_enter = [&](const Enter& enter) {
        return std::exchange(refused, true) ? enter.call() : -error;
    };
    driver.engine->interrupt();
    const TimePoint start = driver.engine->now();
    // The wake-up may be spent on any of the first turns, but not on none.
    int turns_at_once = 0;
    for (int turn = 0; turn < 3; ++turn) {
        const TimePoint before = driver.engine->now();
        driver.turn(before + 300ms);
        turns_at_once += driver.engine->now() - before < 150ms;
        if (turns_at_once == 2)
            break; // the refused turn, and the one that saw the wake-up
    }
    on_enter = nullptr;
    CHECK(refused, "no call was refused: this program proves nothing");
    CHECK(driver.engine->now() - start < 250ms, "interrupt() did not end the wait");
    for (Operation& operation : waiting)
        driver.cancel(operation);
    while (driver.under_way() > 0)
        driver.turn(never);
}

} // namespace

int main() {
    for (const int error : {EAGAIN, ENOMEM, EBUSY}) {
        for_each_ring(
            [&](const UringOptions& options) {
                nothing_is_lost(options, error);
                wake_up_is_not_lost(options, error);
            },
            {2, 64});
    }
}
