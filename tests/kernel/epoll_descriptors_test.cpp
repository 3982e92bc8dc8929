// The epoll engine and descriptors that come and go without its knowing: numbers that are another
// file's by now, duplicates that keep a closed one's registration alive, and descriptors in
// blocking mode, which stay as they are.
#include <trapline/kernel/kernel.hpp>

#include <array>
#include <cerrno>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <poll.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <trapline/trapline.hpp>

#include "../support/leaks.hpp"
#include "../support/process.hpp"
#include "../support/sockets.hpp"

using namespace trapline;
using namespace trapline::test;
using namespace std::chrono_literals;

namespace {

template <class Main>
void on_epoll(Main main) {
    const LeakGuard guard;
    run(main, {.engine = "epoll"});
}

Coro<std::string> received(int fd) {
    std::string buffer(64, '\0');
    const auto got = co_await traps::recv(fd, std::as_writable_bytes(std::span(buffer)));
    if (!got)
        co_return "error " + std::to_string(got.error().value());
    buffer.resize(*got);
    co_return buffer;
}

/// Receives on fd until the engine has it registered, and has seen it empty.
Coro<void> talk(int fd, int peer) {
    for (int round = 0; round < 3; ++round) {
        const Task<std::string> receiver = co_await spawn(received(fd));
        co_await yield_now();
        co_await yield_now();
        write_all(peer, "hello");
        CHECK((co_await receiver.join()) == "hello");
    }
}

/// Makes `number` another name of what `of` is; what it was is closed by plain means.
void become(int number, Descriptor of) { must(::dup3(of.get(), number, O_CLOEXEC), "dup3"); }

bool is_blocking(int fd) { return (must(::fcntl(fd, F_GETFL), "F_GETFL") & O_NONBLOCK) == 0; }

std::string pattern(std::size_t size) {
    std::string bytes(size, '\0');
    for (std::size_t i = 0; i < size; ++i)
        bytes[i] = static_cast<char>(i * 31 % 251);
    return bytes;
}

} // namespace

// --- numbers -------------------------------------------------------------------------------

TEST_CASE("epoll: a number that is another socket's by now is received from as that") {
    on_epoll([]() -> Coro<void> {
        for (int round = 0; round < 20; ++round) {
            Ends old = round % 2 ? tcp_pair() : socket_pair();
            const int number = old.a.get();
            co_await talk(number, old.b.get());
            Ends fresh = round % 4 < 2 ? tcp_pair() : socket_pair();
            become(number, std::move(fresh.a));
            const Task<std::string> receiver = co_await spawn(received(number));
            co_await yield_now();
            co_await yield_now();
            write_all(fresh.b.get(), "fresh");
            CHECK((co_await receiver.join()) == "fresh");
        }
    });
}

// The one case that trusts a registration: it has emptied a TCP stream under that very number.
TEST_CASE("epoll: a task whose number became another socket's between two receives is told soon") {
    on_epoll([]() -> Coro<void> {
        Ends old = tcp_pair();
        const int number = old.a.get();
        for (int round = 0; round < 3; ++round) {
            const Task<void> writer = co_await spawn([&]() -> Coro<void> {
                write_all(old.b.get(), "hello");
                co_return;
            });
            CHECK((co_await received(number)) == "hello");
            co_await writer.join();
        }
        Ends fresh = tcp_pair();
        become(number, std::move(fresh.a));
        write_all(fresh.b.get(), "fresh");
        const TimePoint asked = co_await now();
        const std::string got = co_await timeout_after(5s, received(number));
        const TimePoint told = co_await now();
        CHECK(got == "fresh");
        CHECK(told - asked < 1s);
    });
}

TEST_CASE("epoll: a task whose number became a file's or nobody's between two receives is told") {
    on_epoll([]() -> Coro<void> {
        for (const bool closed : {true, false}) {
            Ends old = tcp_pair();
            const int number = old.a.get();
            for (int round = 0; round < 3; ++round) {
                co_await spawn([](int peer) -> Coro<void> {
                    write_all(peer, "hello");
                    co_return;
                }(old.b.get()));
                CHECK((co_await received(number)) == "hello");
            }
            if (closed)
                old.a = Descriptor{};
            else
                become(number,
                       Descriptor{must(::open("/proc/self/stat", O_RDONLY | O_CLOEXEC), "open")});
            const std::string got = co_await timeout_after(5s, received(number));
            CHECK(got == "error " + std::to_string(closed ? EBADF : ENOTSOCK));
        }
    });
}

TEST_CASE("epoll: a duplicate that lives on disturbs nobody who has the number after it") {
    on_epoll([]() -> Coro<void> {
        Ends old = tcp_pair();
        const int number = old.a.get();
        co_await talk(number, old.b.get());
        const Descriptor duplicate{must(::fcntl(number, F_DUPFD_CLOEXEC, 0), "dup")};
        Ends fresh = tcp_pair();
        become(number, std::move(fresh.a));

        const Task<short> waiter = co_await spawn([&]() -> Coro<short> {
            const auto ready = co_await traps::read_wait(number);
            co_return ready.value();
        });
        co_await yield_now();
        write_all(old.b.get(), "for the duplicate"); // reported for the old registration
        for (int turn = 0; turn < 5; ++turn)
            co_await yield_now();
        CHECK_FALSE(waiter.terminated());
        CHECK((co_await received(duplicate.get())) == "for the duplicate");
        write_all(fresh.b.get(), "fresh");
        CHECK(((co_await waiter.join()) & POLLIN));
        CHECK((co_await received(number)) == "fresh");

        // Back to the file that never left the epoll set.
        must(::dup3(duplicate.get(), number, O_CLOEXEC), "dup3");
        co_await talk(number, old.b.get());
        // Once more, after the engine has given the number to somebody.
        old.a = Descriptor{};
        const auto somebody = co_await traps::socket(AF_INET, SOCK_STREAM);
        REQUIRE(somebody == number);
        must(::dup3(duplicate.get(), number, O_CLOEXEC), "dup3");
        old.a = Descriptor{number};
        co_await talk(number, old.b.get());
        CHECK((co_await traps::close(old.a.release())).has_value());
        const Task<std::string> other = co_await spawn(received(duplicate.get()));
        co_await yield_now();
        write_all(old.b.get(), "still here");
        CHECK((co_await other.join()) == "still here");
    });
}

// A report of the last file's is the number's own by its generation, for that stayed registered.
TEST_CASE("epoll: who trusts the registration of a duplicate's file is told all the same") {
    on_epoll([]() -> Coro<void> {
        Ends old = tcp_pair();
        const int number = old.a.get();
        std::string big(4 << 20, 'x'); // registered for writing, too
        (void)co_await ignore_after(20ms, [&]() -> Coro<void> {
            (void)co_await traps::send(number, std::as_bytes(std::span(big)), MSG_WAITALL);
        });
        co_await talk(number, old.b.get());
        const Descriptor duplicate{must(::fcntl(number, F_DUPFD_CLOEXEC, 0), "dup")};
        const Ends fresh = tcp_pair();
        must(::dup3(fresh.a.get(), number, O_CLOEXEC), "dup3");

        write_all(fresh.b.get(), "first");
        std::string got;
        const Task<> reader = co_await spawn([&]() -> Coro<void> {
            got += co_await received(number);
            got += co_await received(number); // trusting
        });
        while (got.empty())
            co_await yield_now();
        co_await yield_now();
        // The old file can be written to again, which is reported under the number.
        while (!read_waiting(old.b.get()).empty()) {}
        co_await sleep(2ms);
        write_all(fresh.b.get(), "second");
        co_await timeout_after(5s, reader.join());
        CHECK(got == "firstsecond");
    });
}

TEST_CASE("epoll: registrations that were trusted are looked at in parts, a part a turn") {
    Kernel kernel{{.engine = "epoll"}};
    kernel.run([&]() -> Coro<void> {
        constexpr int connections = 600;
        std::vector<Ends> ends;
        std::vector<Task<std::string>> readers;
        for (int n = 0; n < connections; ++n) {
            ends.push_back(tcp_pair());
            write_all(ends.back().b.get(), "a");
            readers.push_back(co_await spawn([](int fd) -> Coro<std::string> {
                std::string all;
                while (all.size() < 3) // the third is waited for with trust
                    all += co_await received(fd);
                co_return all;
            }(ends.back().a.get())));
        }
        for (int turn = 0; turn < 5; ++turn)
            co_await yield_now();
        for (const Ends& each : ends)
            write_all(each.b.get(), "b");
        for (int turn = 0; turn < 5; ++turn)
            co_await yield_now();
        std::uint64_t largest = 0;
        std::uint64_t all = 0;
        const TimePoint end = co_await now() + 5s;
        while (all < connections && co_await now() < end) {
            const std::uint64_t before = kernel.counters().engine.system_calls;
            co_await yield_now();
            const std::uint64_t calls = kernel.counters().engine.system_calls - before;
            largest = std::max(largest, calls);
            all += calls > 1 ? calls : 0; // one to look
        }
        CHECK(all >= connections);
        CHECK(largest < 300);
        for (const Ends& each : ends)
            write_all(each.b.get(), "c");
        for (const Task<std::string>& reader : readers)
            CHECK((co_await reader.join()) == "abc");
    });
}

TEST_CASE("epoll: a descriptor that was released wakes nobody here") {
    Kernel kernel{{.engine = "epoll"}};
    kernel.run([&]() -> Coro<void> {
        const Ends ends = socket_pair();
        co_await talk(ends.a.get(), ends.b.get());
        co_await traps::IoRelease{ends.a.get()};
        const Ends waits = socket_pair();
        const Task<std::string> waiter = co_await spawn(received(waits.a.get()));
        co_await yield_now();
        const std::uint64_t calls = kernel.counters().engine.system_calls;
        std::thread elsewhere([&] {
            for (int n = 0; n < 20; ++n) {
                write_all(ends.b.get(), "x");
                CHECK(read_waiting(ends.a.get()) == "x");
            }
            write_all(waits.b.get(), "done");
        });
        CHECK((co_await waiter.join()) == "done");
        elsewhere.join();
        CHECK(kernel.counters().engine.system_calls - calls < 10);
        co_await talk(ends.a.get(), ends.b.get()); // and may come back
    });
}

TEST_CASE("epoll: two names of one socket are waited for at the same time") {
    on_epoll([]() -> Coro<void> {
        const Ends ends = socket_pair();
        const Descriptor again{must(::fcntl(ends.a.get(), F_DUPFD_CLOEXEC, 0), "dup")};
        const Task<std::string> first = co_await spawn(received(ends.a.get()));
        const Task<std::string> second = co_await spawn(received(again.get()));
        co_await yield_now();
        co_await yield_now();
        write_all(ends.b.get(), "one");
        while (!first.terminated() && !second.terminated())
            co_await yield_now();
        write_all(ends.b.get(), "two");
        const std::string a = co_await first.join();
        const std::string b = co_await second.join();
        CHECK((a + b == "onetwo" || a + b == "twoone"));
    });
}

TEST_CASE("epoll: a poll of what is no descriptor, was closed or never waits is answered at once") {
    on_epoll([]() -> Coro<void> {
        const auto none = co_await traps::read_wait(-1);
        CHECK((!none && none.error() == std::errc::bad_file_descriptor));
        const auto beyond = co_await traps::read_wait(1 << 30);
        CHECK((!beyond && beyond.error() == std::errc::bad_file_descriptor));
        const Descriptor file{must(::open("/proc/self/stat", O_RDONLY | O_CLOEXEC), "open")};
        const auto always = co_await traps::read_wait(file.get());
        CHECK((always && (*always & POLLIN)));
        Ends ends = socket_pair();
        ends.b = Descriptor{};
        const auto hung_up = co_await traps::read_wait(ends.a.get());
        CHECK((hung_up && (*hung_up & POLLIN) && (*hung_up & POLLHUP)));
    });
}

TEST_CASE("epoll: an error that stays reported, and cannot be received, does not keep it busy") {
    Kernel kernel{{.engine = "epoll"}};
    kernel.run([&]() -> Coro<void> {
        const Descriptor socket{must(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket")};
        const int on = 1;
        must(::setsockopt(socket.get(), IPPROTO_IP, IP_RECVERR, &on, sizeof on), "IP_RECVERR");
        const std::uint16_t nobody = port_of(tcp_listener().get());
        const sockaddr_in address = loopback(nobody);
        must(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
             "connect");
        must(::send(socket.get(), "x", 1, 0), "send");
        const std::string refused = co_await received(socket.get());
        CHECK(refused == "error " + std::to_string(ECONNREFUSED));
        // Its error queue still holds it: POLLERR for ever.
        const std::uint64_t calls = kernel.counters().engine.system_calls;
        const auto waits = co_await ignore_after(30ms, received(socket.get()));
        CHECK_FALSE(waits.has_value());
        CHECK(kernel.counters().engine.system_calls - calls < 20);
    });
}

// Linux says that such a socket is writable, and reports nothing when the peer has room again.
TEST_CASE("epoll: a datagram to a full peer that the socket is not connected to is sent in time") {
    on_epoll([]() -> Coro<void> {
        const Descriptor peer{must(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket")};
        sockaddr_un name{};
        name.sun_family = AF_UNIX;
        must(::bind(peer.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(sa_family_t)),
             "bind"); // to a name of Linux's choice
        socklen_t length = sizeof name;
        must(::getsockname(peer.get(), reinterpret_cast<sockaddr*>(&name), &length), "name");
        const Descriptor socket{must(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket")};
        char letter = 'x';
        iovec part{&letter, 1};
        msghdr message{};
        message.msg_name = &name;
        message.msg_namelen = length;
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        while (::sendmsg(socket.get(), &message, MSG_DONTWAIT) == 1) {}
        const Task<std::size_t> sender = co_await spawn([&]() -> Coro<std::size_t> {
            const auto sent = co_await traps::send_message(socket.get(), message);
            co_return sent.value();
        });
        for (int turn = 0; turn < 10; ++turn)
            co_await yield_now();
        CHECK_FALSE(sender.terminated());
        (void)read_waiting(peer.get());
        CHECK((co_await timeout_after(5s, sender.join())) == 1);
    });
}

// --- blocking mode -------------------------------------------------------------------------

TEST_CASE("epoll: blocking sockets, listeners and pipes wait without blocking, and stay blocking") {
    on_epoll([]() -> Coro<void> {
        const Descriptor listener = tcp_listener();
        const Task<int> accepting = co_await spawn([&]() -> Coro<int> {
            const auto fd = co_await traps::accept(listener.get());
            co_return fd.value();
        });
        co_await yield_now();
        const Descriptor client{must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")};
        const sockaddr_in address = loopback(port_of(listener.get()));
        const auto connected = co_await traps::connect(
            client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
        CHECK(connected.has_value());
        const Descriptor server{co_await accepting.join()};

        const Ends pipe = pipe_ends();
        std::string in(4, '\0');
        const Task<std::size_t> reading = co_await spawn([&]() -> Coro<std::size_t> {
            const auto got =
                co_await traps::read(pipe.a.get(), std::as_writable_bytes(std::span(in)));
            co_return got.value();
        });
        co_await talk(server.get(), client.get());
        CHECK_FALSE(reading.terminated());
        const auto wrote = co_await traps::write(pipe.b.get(), std::as_bytes(std::span("pipe", 4)));
        CHECK(wrote == 4);
        CHECK((co_await reading.join()) == 4);
        CHECK(in == "pipe");
        for (const Descriptor* each : {&listener, &client, &server, &pipe.a, &pipe.b})
            CHECK(is_blocking(each->get()));
    });
}

TEST_CASE("epoll: a socket whose connect was refused may try again, and succeed") {
    on_epoll([]() -> Coro<void> {
        const Descriptor socket{must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")};
        Descriptor listener{must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")};
        sockaddr_in address = loopback(0);
        const auto* where = reinterpret_cast<const sockaddr*>(&address);
        must(::bind(listener.get(), where, sizeof address), "bind"); // and nobody listens yet
        address = loopback(port_of(listener.get()));
        for (int n = 0; n < 3; ++n) {
            const auto refused = co_await traps::connect(socket.get(), where, sizeof address);
            CHECK((!refused && refused.error() == std::errc::connection_refused));
        }
        must(::listen(listener.get(), 1), "listen");
        const auto connected = co_await traps::connect(socket.get(), where, sizeof address);
        CHECK(connected.has_value());
        CHECK(is_blocking(socket.get()));
        const auto twice = co_await traps::connect(socket.get(), where, sizeof address);
        CHECK((!twice && twice.error() == std::errc::already_connected));
    });
}

TEST_CASE("epoll: a write to a full pipe in blocking mode waits until there is room") {
    on_epoll([]() -> Coro<void> {
        const Ends pipe = pipe_ends();
        const std::string data = pattern(300'000);
        Task<void> writer = co_await spawn([&]() -> Coro<void> {
            std::size_t written = 0;
            while (written < data.size()) {
                const auto wrote = co_await traps::write(
                    pipe.b.get(), std::as_bytes(std::span(data).subspan(written)));
                REQUIRE(wrote.has_value());
                written += *wrote;
            }
        });
        std::string got;
        std::array<std::byte, 7000> buffer;
        while (got.size() < data.size()) {
            const auto n = co_await traps::read(pipe.a.get(), buffer);
            REQUIRE(n.has_value());
            got.append(reinterpret_cast<const char*>(buffer.data()), *n);
        }
        co_await writer.join();
        CHECK((got == data));
        CHECK(is_blocking(pipe.b.get()));
    });
}

TEST_CASE("epoll: descriptors that know no call without waiting are read when they are ready") {
    on_epoll([]() -> Coro<void> {
        for (const int mode : {0, int{TFD_NONBLOCK}}) {
            const Descriptor timer{
                must(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | mode), "timerfd")};
            const itimerspec soon{{}, {0, 2'000'000}};
            must(::timerfd_settime(timer.get(), 0, &soon, nullptr), "settime");
            std::uint64_t count = 0;
            const auto got =
                co_await traps::read(timer.get(), std::as_writable_bytes(std::span(&count, 1)));
            CHECK(got == sizeof count);
            CHECK(count == 1);
        }
    });
}

// Two names of one listener stand for two processes that share it: both are told, one is late.
TEST_CASE("epoll: an accept that somebody else was faster at waits on, and blocks nobody") {
    on_epoll([]() -> Coro<void> {
        const Descriptor listener = tcp_listener();
        const Descriptor again{must(::fcntl(listener.get(), F_DUPFD_CLOEXEC, 0), "dup")};
        int accepted = 0;
        const auto serve = [](int fd, int& count) -> Coro<void> {
            for (;;) {
                const Descriptor client{(co_await traps::accept(fd)).value()};
                ++count;
            }
        };
        Task<void> first = co_await spawn(serve, listener.get(), std::ref(accepted));
        Task<void> second = co_await spawn(serve, again.get(), std::ref(accepted));
        const std::uint16_t port = port_of(listener.get());
        for (int n = 1; n <= 20; ++n) {
            co_await yield_now();
            co_await yield_now();
            const Descriptor client = tcp_connect(port);
            while (accepted < n) // a kernel that blocks never comes back here
                co_await yield_now();
        }
        CHECK(is_blocking(listener.get()));
        co_await first.cancel();
        co_await second.cancel();
    });
}

// --- whole messages ------------------------------------------------------------------------

TEST_CASE("epoll: a whole message of hundreds of parts arrives, in order, through a small buffer") {
    on_epoll([]() -> Coro<void> {
        const Ends ends = socket_pair();
        shrink_send_buffer(ends.a.get());
        const std::string data = pattern(200'000);
        std::vector<iovec> parts;
        for (std::size_t at = 0; at < data.size(); at += 1000)
            parts.push_back({const_cast<char*>(data.data() + at), 1000});
        msghdr message{};
        message.msg_iov = parts.data();
        message.msg_iovlen = parts.size();
        const Task<std::size_t> sender = co_await spawn([&]() -> Coro<std::size_t> {
            const auto sent = co_await traps::send_message(ends.a.get(), message, MSG_WAITALL);
            co_return sent.value();
        });
        std::string got(data.size(), '\0');
        std::vector<iovec> pieces;
        for (std::size_t at = 0; at < got.size(); at += 500)
            pieces.push_back({got.data() + at, 500});
        msghdr into{};
        into.msg_iov = pieces.data();
        into.msg_iovlen = pieces.size();
        const auto received_bytes = co_await traps::recv_message(ends.b.get(), into, MSG_WAITALL);
        CHECK(received_bytes == data.size());
        CHECK((co_await sender.join()) == data.size());
        CHECK((got == data));
    });
}
