// Failure: Linux takes fewer submissions than it was shown, or none (RELIABILITY 2, row 4). The
// rest stays in the submission queue, whose tail shows nothing new.
// Proves: every submission is carried out sooner or later, also in turns that only look, which is
// how a kernel turns while some task is always ready.
// Seen on Linux 6.18: io_uring_enter answers the number it took; the rest is taken by a next call
// that asks for it, and only then.
#include "../support/ring_fault.hpp"

#include <vector>

using namespace ring_test;

int main() {
    for_each_ring([](const UringOptions& options) {
        for (const bool may_wait : {false, true}) {
            // One a call.
            {
                Driver driver(options);
                std::vector<Operation> operations(200);
                on_enter = [](Enter enter) {
                    enter.to_submit = std::min(enter.to_submit, 1U);
                    return enter.call();
                };
                for (Operation& operation : operations)
                    driver.start(operation, traps::Nop{});
                for (int turns = 0; driver.under_way() > 0; ++turns) {
                    driver.turn(may_wait ? never : TimePoint::min());
                    CHECK(turns < 10'000, "what Linux did not take at first is never shown again");
                }
                on_enter = nullptr;
            }
            // None at first.
            for (const int answer : {0, -EBUSY, -EAGAIN, -EINTR}) {
                Driver driver(options);
                driver.run(traps::Nop{}); // so that nothing else is queued in later turns
                Operation operation;
                driver.start(operation, traps::Nop{});
                int refusals = 2;
                on_enter = [&](const Enter& enter) {
                    return refusals-- > 0 ? answer : enter.call();
                };
                for (int turns = 0; driver.under_way() > 0; ++turns) {
                    driver.turn(may_wait ? never : TimePoint::min());
                    CHECK(turns < 100, "a submission that was refused once is never shown again");
                }
                on_enter = nullptr;
            }
        }
    });
}
