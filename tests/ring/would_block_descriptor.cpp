// Failure: a descriptor in non-blocking mode answers EAGAIN instead of waiting (RELIABILITY 2, row
// 20); so does one that another process shares and reads first, time and again.
// Proves: reads, writes, accept, connect and splice wait on such descriptors as on others, for the
// side that is not ready, without spinning; no number of unlucky tries makes EAGAIN visible.
// Seen on Linux 6.18: with O_NONBLOCK only splice, and connect to a Unix listener whose backlog is
// full, answer EAGAIN; read, write, recv, send, accept and TCP's connect wait inside of Linux all
// the same.
#include "../support/ring.hpp"

#include <sys/mman.h>
#include <sys/un.h>

using namespace ring_test;

namespace {

/// Starts `request`, sees that it waits without spinning, makes it ready, answers its result.
template <class F>
std::int64_t waits_until(Driver& driver, const traps::IoRequest& request, F&& make_ready) {
    Operation operation;
    driver.start(operation, request);
    const std::uint64_t calls = driver.engine->counters().system_calls;
    const TimePoint end = driver.engine->now() + 3ms;
    while (driver.engine->now() < end)
        driver.turn(end);
    CHECK(!Driver::came_back(operation), "it came back though nothing was ready");
    CHECK(driver.engine->counters().system_calls - calls < 30, "waiting spins");
    make_ready();
    return driver.finish(operation);
}

void all_kinds(const UringOptions& options) {
    Driver driver(options);
    char buffer[8] = {};
    static char big[1 << 20];
    {
        const Pair pipe = Pair::pipe(O_NONBLOCK);
        CHECK_EQUAL(
            waits_until(driver, traps::Read{pipe.fd[0], buffer, 8}, [&] { pipe.put("abc"); }), 3,
            "read of a pipe");
        while (write(pipe.fd[1], big, 4096) > 0) {}
        CHECK_EQUAL(waits_until(driver, traps::Write{pipe.fd[1], big, 4096},
                                [&] { CHECK_EQUAL(read(pipe.fd[0], big, 4096), 4096, "read"); }),
                    4096, "write to a pipe");
    }
    {
        const Pair pair = Pair::sockets(SOCK_NONBLOCK);
        CHECK_EQUAL(
            waits_until(driver, traps::Recv{pair.fd[0], 0, buffer, 8}, [&] { pair.put("abc"); }), 3,
            "recv");
        while (write(pair.fd[1], big, 4096) > 0) {}
        CHECK(waits_until(driver, traps::Send{pair.fd[1], 0, big, 100},
                          [&] {
                              while (read(pair.fd[0], big, sizeof big) > 0) {}
                          }) > 0,
              "send");
    }
    {
        Listener listener(64, SOCK_NONBLOCK);
        int client = -1;
        const auto fd = waits_until(driver, traps::Accept{listener.fd, 0, nullptr, nullptr},
                                    [&] { client = listener.connect(); });
        CHECK(fd >= 0, "accept");
        ::close(static_cast<int>(fd));
        ::close(client);
        client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        CHECK_EQUAL(driver.run(traps::Connect{client, listener.where(), sizeof listener.address}),
                    0, "connect");
        ::close(client);
    }
}

/// Each time it is ready, somebody else is faster.
void a_thief(const UringOptions& options) {
    Driver driver(options);
    const Pair from = Pair::pipe(O_NONBLOCK);
    const Pair to = Pair::pipe(O_NONBLOCK);
    Operation splice;
    driver.start(splice, traps::Splice{from.fd[0], to.fd[1], -1, -1, 1, 0});
    const auto steal = [&] {
        char c = 0;
        return read(from.fd[0], &c, 1) == 1;
    };
    int stolen = 0;
    for (int i = 0; stolen < 300; ++i) {
        CHECK(i < 10'000, "nothing could be stolen");
        // The wait is over, the next try is queued: now.
        from.put("x");
        driver.turn();
        if (Driver::came_back(splice)) {
            CHECK_EQUAL(splice.result, 1, "EAGAIN became visible after so many unlucky tries");
            CHECK_EQUAL(read(to.fd[0], &i, 1), 1, "it was faster this once");
            splice.task = nullptr;
            driver.start(splice, traps::Splice{from.fd[0], to.fd[1], -1, -1, 1, 0});
        } else {
            stolen += steal();
        }
        driver.turn();
    }
    from.put("y");
    CHECK_EQUAL(driver.finish(splice), 1, "at last");
}

void splices(const UringOptions& options) {
    // The side that is not ready is the one that is waited for.
    static char big[1 << 20];
    for (const int mode : {0, O_NONBLOCK}) {
        Driver driver(options);
        const Pair from = Pair::pipe(mode);
        const Pair to = Pair::pipe(mode);
        CHECK_EQUAL(waits_until(driver, traps::Splice{from.fd[0], to.fd[1], -1, -1, 4096, 0},
                                [&] { from.put("abc"); }),
                    3, "splice from an empty pipe");
        fcntl(to.fd[1], F_SETFL, O_NONBLOCK);
        while (write(to.fd[1], big, 4096) > 0) {}
        fcntl(to.fd[1], F_SETFL, mode);
        from.put("def");
        CHECK_EQUAL(waits_until(driver, traps::Splice{from.fd[0], to.fd[1], -1, -1, 4096, 0},
                                [&] { CHECK(::read(to.fd[0], big, sizeof big) > 0, "read"); }),
                    3, "splice to a full pipe");
        fcntl(to.fd[1], F_SETFL, O_NONBLOCK);
        while (write(to.fd[1], big, 4096) > 0) {}
        fcntl(to.fd[1], F_SETFL, mode);
        const int file = memfd_create("splice", MFD_CLOEXEC);
        CHECK_EQUAL(write(file, "0123456789", 10), 10, "write to a file");
        CHECK_EQUAL(waits_until(driver, traps::Splice{file, to.fd[1], 0, -1, 4096, 0},
                                [&] { CHECK(::read(to.fd[0], big, sizeof big) > 0, "read"); }),
                    10, "splice from a file to a full pipe");
        ::close(file);
    }
}

/// Its socket is always ready to write, and connect always answers EAGAIN.
void full_backlog(const UringOptions& options) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX; // in the abstract name space: by number, and gone with its socket
    std::snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "trapline-%d", getpid());
    const auto* where = reinterpret_cast<const sockaddr*>(&address);
    const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(listener, where, sizeof address) == 0 && listen(listener, 0) == 0, "listen");
    const auto client = [] {
        return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    };
    const int first = client();
    CHECK(connect(first, where, sizeof address) == 0, "connect by a plain system call");
    Driver driver(options);
    const int second = client();
    Operation operation;
    driver.start(operation, traps::Connect{second, where, sizeof address});
    const std::uint64_t calls = driver.engine->counters().system_calls;
    const TimePoint end = driver.engine->now() + 60ms;
    while (driver.engine->now() < end)
        driver.turn(end);
    CHECK(!Driver::came_back(operation), "EAGAIN became visible");
    CHECK(driver.engine->counters().system_calls - calls < 1'000, "it spins");
    ::close(accept(listener, nullptr, nullptr));
    CHECK_EQUAL(driver.finish(operation), 0, "there is room: connected");
    for (const int fd : {first, second, listener})
        ::close(fd);
}

} // namespace

int main() {
    for_each_ring([](const UringOptions& options) {
        all_kinds(options);
        if (options.entries == 64)
            a_thief(options);
        if (options.entries == 64)
            full_backlog(options);
        splices(options);
    });
}
