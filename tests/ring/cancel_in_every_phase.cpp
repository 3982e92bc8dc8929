// Failure: an operation is cancelled while the engine has something else than itself with Linux: a
// wait until its descriptor is ready (a splice with O_NONBLOCK), a pause for want of descriptors,
// a place in the engine's own list; or while Linux cannot be told, because the submission queue is
// full.
// Proves: it ends in each of these states, once, by -ECANCELED or by its result, and the cancel
// that was to be sent for it does not strike the next operation in its slot.
// Seen on Linux 6.18: a cancel that finds nothing answers -ENOENT, and nothing else happens.
#include "../support/ring_fault.hpp"

#include <vector>

#include <sys/resource.h>

using namespace ring_test;

namespace {

void while_it_waits_for_its_descriptor(const UringOptions& options) {
    Driver driver(options);
    const Pair from = Pair::pipe(O_NONBLOCK);
    const Pair to = Pair::pipe(O_NONBLOCK);
    const traps::Splice request{from.fd[0], to.fd[1], -1, -1, 1, 0};
    char c = 0;
    Operation splice;
    const auto start_and_wait = [&] {
        driver.start(splice, request);
        while (splice.retries == 0)
            driver.turn(); // a worker of Linux tries it
        driver.turn();
        CHECK(!Driver::came_back(splice), "an empty pipe in non-blocking mode is waited for");
    };
    start_and_wait();
    driver.cancel(splice);
    CHECK_EQUAL(driver.finish(splice), -ECANCELED, "cancelled while it waits");

    // The pipe becomes ready as the cancel is sent.
    start_and_wait();
    from.put("x");
    driver.cancel(splice);
    const Pair& holds_it = driver.finish(splice) == 1 ? to : from;
    CHECK(splice.result == 1 || splice.result == -ECANCELED, "the byte, or the cancellation");
    CHECK_EQUAL(read(holds_it.fd[0], &c, 1), 1, "the byte is where the result says");

    // The wait is told as over before the cancel is taken; by then the pipe is empty again, and in
    // blocking mode. A new try would have nobody to end it.
    start_and_wait();
    from.put("x");
    driver.cancel(splice);
    on_enter = [](Enter enter) {
        enter.to_submit = 0;
        return enter.call();
    };
    driver.turn();
    on_enter = nullptr;
    CHECK(Driver::came_back(splice), "what was cancelled is not tried once more");
    CHECK_EQUAL(read(from.fd[0], &c, 1), 1, "somebody else reads the byte");
    for (const int fd : {from.fd[0], to.fd[1]})
        fcntl(fd, F_SETFL, 0);
    CHECK_EQUAL(driver.finish(splice), -ECANCELED, "nothing is left but the cancellation");
}

void while_it_is_paused(const UringOptions& options) {
    Driver driver(options);
    Listener listener;
    const int client = listener.connect();
    driver.turn(); // arms the wake-up
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    const rlimit none{3, limit.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
    Operation accept;
    driver.start(accept, traps::Accept{listener.fd, 0, nullptr, nullptr});
    while (driver.engine->counters().accept_pauses == 0)
        driver.turn();
    driver.cancel(accept);
    const TimePoint before = driver.engine->now();
    CHECK_EQUAL(driver.finish(accept), -ECANCELED, "a paused accept ends when it is cancelled");
    CHECK(driver.engine->now() - before < 40ms, "it ends at once, not after its pause");
    setrlimit(RLIMIT_NOFILE, &limit);
    const auto fd = driver.run(traps::Accept{listener.fd, 0, nullptr, nullptr});
    CHECK(fd >= 0, "the connection is still there");
    ::close(static_cast<int>(fd));
    ::close(client);
}

/// The operation ends, its slot goes to another one, and only then Linux sees the cancel.
void while_its_cancel_is_late(const UringOptions& options) {
    Driver driver(options);
    const Pair pair = Pair::sockets();
    const Pair other = Pair::sockets();
    driver.run(traps::Nop{});
    char c = 0;
    Operation first;
    Operation second;
    driver.start(first, traps::Recv{pair.fd[0], 0, &c, 1});
    on_enter = [](Enter enter) {
        enter.to_submit = std::min(enter.to_submit, 1U);
        return enter.call();
    };
    driver.cancel(first); // with a ring of 2 this has the engine submit the recv, and wait for room
    pair.put("x");
    CHECK_EQUAL(driver.finish(first), 1, "it had completed before the cancel was seen");
    on_enter = nullptr;
    driver.start(second, traps::Recv{other.fd[0], 0, &c, 1});
    CHECK_EQUAL(first.slot, second.slot, "the slot was not reused: this program proves nothing");
    for (int i = 0; i < 5; ++i)
        driver.turn();
    CHECK(!Driver::came_back(second), "a late cancel struck the next operation in the slot");
    other.put("y");
    CHECK_EQUAL(driver.finish(second), 1, "the next operation is untouched");
}

/// No place for the cancel in the submission queue; the operation ends meanwhile.
void while_its_cancel_has_no_place(const UringOptions& options) {
    Driver driver(options);
    const Pair pair = Pair::sockets();
    const Pair other = Pair::sockets();
    driver.run(traps::Nop{});
    char c = 0;
    Operation first;
    driver.start(first, traps::Recv{pair.fd[0], 0, &c, 1});
    driver.turn();
    on_enter = [](const Enter&) { return -EBUSY; };
    std::vector<Operation> fillers(options.entries);
    for (Operation& filler : fillers)
        driver.start(filler, traps::Nop{});
    driver.cancel(first);
    pair.put("x");
    on_enter = [](Enter enter) { // completions are worked off, but nothing is taken
        enter.to_submit = 0;
        return enter.call();
    };
    for (int i = 0; i < 100 && !Driver::came_back(first); ++i)
        driver.turn();
    CHECK(Driver::came_back(first), "it completes though its cancel cannot be sent");
    first.task = nullptr;
    on_enter = nullptr;
    Operation second;
    driver.start(second, traps::Recv{other.fd[0], 0, &c, 1});
    for (int i = 0; i < 5; ++i)
        driver.turn();
    CHECK(!Driver::came_back(second), "the cancel of an ended operation was sent for another");
    other.put("y");
    CHECK_EQUAL(driver.finish(second), 1, "the next operation is untouched");
    while (driver.under_way() > 0)
        driver.turn(never);
}

} // namespace

int main() {
    for_each_ring([](const UringOptions& options) {
        while_it_waits_for_its_descriptor(options);
        while_it_is_paused(options);
        while_its_cancel_is_late(options);
        while_its_cancel_has_no_place(options);
    });
}
