// Failure: a receive that is told to wait first, because the one before has emptied the socket,
// waits beside data that are there, or for a socket that was closed and has another one's number;
// or, of something else that has the number now, for what can never be received.
// Proves: the guess is made of what Linux says, for plain receives alone, and costs no byte, no end
// of the stream, no reset and no error when it is wrong.
#include "../support/ring.hpp"

#include <trapline/kernel/engines/uring_drained.hpp>

using namespace ring_test;

namespace {

void expect(const DrainedSockets& sockets, const traps::Recv& request, bool waits,
            const char* when) {
    Operation operation;
    io_uring_sqe sqe{};
    sockets.guess(sqe, request, operation);
    CHECK_EQUAL(sqe.ioprio == IORING_RECVSEND_POLL_FIRST, waits, when);
}

void guesses() {
    const traps::Recv recv{.fd = 7, .flags = 0, .data = nullptr, .size = 8};
    DrainedSockets none;
    none.note(recv, 5, 8, 0);
    expect(none, recv, false, "Linux before 5.19 would refuse it");
    DrainedSockets sockets{DrainedKnown::if_short};
    expect(sockets, recv, false, "nothing is known");
    sockets.note(recv, 5, 8, 0);
    expect(sockets, recv, true, "emptied");
    expect(sockets, {7, MSG_WAITALL, nullptr, 8}, true, "emptied, a whole transfer");
    expect(sockets, {7, MSG_DONTWAIT, nullptr, 8}, false, "is not to wait");
    expect(sockets, {7, MSG_PEEK, nullptr, 8}, false, "not a plain receive");
    expect(sockets, {8, 0, nullptr, 8}, false, "another socket");
    expect(sockets, {-1, 0, nullptr, 8}, false, "no socket");
    expect(sockets, {1 << 30, 0, nullptr, 8}, false, "no such socket");
    Operation again;
    again.retries = 1;
    io_uring_sqe sqe{};
    sockets.guess(sqe, recv, again);
    CHECK_EQUAL(sqe.ioprio, 0, "came back with nothing");
    sockets.note(recv, -EAGAIN, 8, 0);
    expect(sockets, recv, true, "an error says nothing new");
    sockets.note(recv, 5, 8, IORING_CQE_F_SOCK_NONEMPTY);
    expect(sockets, recv, false, "something was left");
    sockets.note(recv, 8, 8, 0);
    expect(sockets, recv, false, "filled its buffer, and Linux tells nothing of such sockets");
    DrainedSockets told{DrainedKnown::always};
    told.note(recv, 8, 8, 0);
    expect(told, recv, true, "filled its buffer, and Linux says that nothing was left");
}

/// Closed by the engine or not, made by the engine or not: one of both is enough.
void number_of_a_listener(const UringOptions& options) {
    for (const bool closed_by_engine : {false, true}) {
        Driver driver(options);
        Pair pair = Pair::sockets();
        char buffer[8] = {};
        pair.put("x");
        CHECK_EQUAL(driver.run(traps::Recv{pair.fd[0], 0, buffer, 8}), 1, "emptied");
        const int number = pair.fd[0];
        if (closed_by_engine) {
            CHECK_EQUAL(driver.run(traps::Close{std::exchange(pair.fd[0], -1)}), 0, "close");
            CHECK_EQUAL(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), number, "its number");
        } else {
            pair.close_one(0);
            CHECK_EQUAL(driver.run(traps::Socket{AF_INET, SOCK_STREAM, 0}), number, "its number");
        }
        CHECK(::listen(number, 1) == 0, "listen");
        CHECK_EQUAL(driver.run(traps::Recv{number, 0, buffer, 8}), -ENOTCONN, "a listener");
        ::close(number);
    }
}

/// A pair of which fd[0] was emptied.
Pair emptied(Driver& driver, int flags) {
    Pair pair = Pair::sockets(flags);
    char byte = 0;
    pair.put("x");
    CHECK_EQUAL(driver.run(traps::Recv{pair.fd[0], 0, &byte, 1}), 1, "the first byte");
    return pair;
}

void wrong_guesses(const UringOptions& options) {
    for (const int flags : {0, static_cast<int>(SOCK_NONBLOCK)}) {
        Driver driver(options);
        char buffer[8] = {};
        const auto recv = [&](const Pair& pair, int recv_flags = 0) {
            return traps::Recv{pair.fd[0], recv_flags, buffer, sizeof buffer};
        };
        Pair pair = emptied(driver, flags);
        pair.put("abc");
        CHECK_EQUAL(driver.run(recv(pair)), 3, "data came before the receive");
        CHECK(std::memcmp(buffer, "abc", 3) == 0, "other data");
        pair.put("ab");
        Operation whole;
        driver.start(whole, recv(pair, MSG_WAITALL));
        driver.turn();
        pair.put("cdefgh");
        CHECK_EQUAL(driver.finish(whole), 8, "the rest came later");
        CHECK(std::memcmp(buffer, "abcdefgh", 8) == 0, "other data");
        CHECK_EQUAL(driver.run(recv(pair, MSG_DONTWAIT)), -EAGAIN, "was not to wait");
        pair.put("de");
        CHECK_EQUAL(driver.run(recv(pair, MSG_PEEK)), 2, "a look");
        CHECK_EQUAL(driver.run(recv(pair)), 2, "what was looked at");

        const int number = pair.fd[0];
        pair.close_one(0);
        pair.close_one(1);
        Pair other = Pair::sockets(flags);
        CHECK_EQUAL(other.fd[0], number, "the number is used again");
        other.put("fgh");
        CHECK_EQUAL(driver.run(recv(other)), 3, "of another socket with that number");

        Operation cancelled;
        driver.start(cancelled, recv(other));
        driver.turn();
        driver.cancel(cancelled);
        CHECK_EQUAL(driver.finish(cancelled), -ECANCELED, "cancelled as it waited");
        other.put("ijk");
        CHECK_EQUAL(driver.run(recv(other)), 3, "after that");
        other.close_one(1);
        CHECK_EQUAL(driver.run(recv(other)), 0, "the end came before the receive");
    }
}

void reset(const UringOptions& options) {
    Driver driver(options);
    Listener listener;
    const int client = listener.connect();
    const int server = accept4(listener.fd, nullptr, nullptr, SOCK_CLOEXEC);
    char buffer[8] = {};
    CHECK_EQUAL(write(client, "abc", 3), 3, "write");
    CHECK_EQUAL(driver.run(traps::Recv{server, 0, buffer, 8}), 3, "recv");
    const linger at_once{.l_onoff = 1, .l_linger = 0};
    CHECK(setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0, "linger");
    close(client);
    CHECK_EQUAL(driver.run(traps::Recv{server, 0, buffer, 8}), -ECONNRESET, "a reset");
    close(server);
}

} // namespace

int main() {
    guesses();
    for_each_ring([](const UringOptions& options) {
        wrong_guesses(options);
        number_of_a_listener(options);
        reset(options);
    });
}
