// Failure: a Unix-domain datagram has been copied by the time Linux finds the receiver's queue
// full. The ring waits for room and tries again by itself, with what is left to be copied: nothing.
// An empty message arrives instead, and the sender is answered 0. Proves: a message that waits for
// room arrives whole, and once; so does one to a receiver that the sender is not connected to, of
// which Linux tells nobody when it has room again; one that is cancelled while it waits never
// arrives. Seen on Linux 6.18: the bare ring answers 0 for 7 bytes, and the receiver gets 0.
#include "../support/ring.hpp"

#include <string>

#include <sys/un.h>

using namespace ring_test;

namespace {

constexpr std::string_view text = "message";

/// A receiver with a name, and a sender that may be connected to it.
struct Datagrams {
    Datagrams(bool connected) {
        receiver = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        address.sun_family = AF_UNIX;
        socklen_t length = sizeof(sa_family_t); // Linux finds a name
        CHECK(bind(receiver, where(), length) == 0, "bind");
        length = sizeof address;
        CHECK(getsockname(receiver, where(), &length) == 0, "getsockname");
        size = length;
        CHECK(!connected || connect(sender, where(), size) == 0, "connect");
        part = {const_cast<char*>(text.data()), text.size()};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        if (!connected) {
            message.msg_name = &address;
            message.msg_namelen = size;
        }
    }
    Datagrams(const Datagrams&) = delete;
    Datagrams& operator=(const Datagrams&) = delete;
    ~Datagrams() {
        ::close(receiver);
        ::close(sender);
    }

    sockaddr* where() { return reinterpret_cast<sockaddr*>(&address); }

    /// Answers how many it took until no more went in.
    int fill() {
        int count = 0;
        while (sendmsg(sender, &message, MSG_DONTWAIT) == static_cast<ssize_t>(text.size()))
            ++count;
        CHECK(errno == EAGAIN && count > 0, "the queue is full");
        return count;
    }
    /// Receives one if there is one; all must be whole.
    bool take() {
        char buffer[64];
        const ssize_t got = recv(receiver, buffer, sizeof buffer, MSG_DONTWAIT);
        if (got < 0)
            return false;
        CHECK_EQUAL(got, text.size(), "each message arrives whole");
        return true;
    }

    int receiver;
    int sender;
    sockaddr_un address{};
    socklen_t size = 0;
    iovec part{};
    msghdr message{};
};

void waits_for_room(Driver& driver, bool connected) {
    Datagrams pair{connected};
    int sent = pair.fill();
    int taken = 0;
    for (int round = 0; round < 20; ++round) {
        Operation send;
        driver.start(send, traps::SendMsg{pair.sender, 0, &pair.message});
        for (int turn = 0; turn < 3; ++turn)
            driver.turn();
        CHECK(!driver.came_back(send), "it waits while the queue is full");
        CHECK(pair.take(), "there is one to be taken");
        ++taken;
        CHECK_EQUAL(driver.finish(send), text.size(), "then it goes");
        ++sent;
    }
    while (pair.take())
        ++taken;
    CHECK_EQUAL(taken, sent, "each arrives once");
}

void is_cancelled(Driver& driver, bool connected) {
    Datagrams pair{connected};
    const int sent = pair.fill();
    Operation send;
    driver.start(send, traps::SendMsg{pair.sender, 0, &pair.message});
    for (int turn = 0; turn < 3; ++turn)
        driver.turn();
    driver.cancel(send);
    CHECK_EQUAL(driver.finish(send), -ECANCELED, "cancelled");
    int taken = 0;
    while (pair.take())
        ++taken;
    CHECK_EQUAL(taken, sent, "nothing arrives of one that was cancelled");
}

} // namespace

int main() {
    for_each_ring(
        [](const UringOptions& options) {
            Driver driver(options);
            for (const bool connected : {true, false}) {
                waits_for_room(driver, connected);
                is_cancelled(driver, connected);
            }
        },
        {2, 64});
}
