// P8 and P13: what requests mean in their corners, alike on every engine: messages that are moved
// whole, accepts of what does not listen, masks of polls; and numbers of descriptors that are
// another file's by now.
#include "conformance.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <poll.h>
#include <sys/un.h>

using namespace trapline;
using namespace trapline::test;

namespace {

Ends pair_of(int type) {
    int fds[2];
    must(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), "socketpair");
    return {Descriptor{fds[0]}, Descriptor{fds[1]}};
}

/// Room for a message, and for descriptors if they are wanted.
struct Message {
    explicit Message(std::size_t size, bool descriptors = false) : text(size, '\0') {
        part = {text.data(), text.size()};
        header.msg_iov = &part;
        header.msg_iovlen = 1;
        if (descriptors) {
            header.msg_control = control.data();
            header.msg_controllen = control.size();
        }
    }

    /// Those that came.
    std::vector<Descriptor> descriptors() {
        std::vector<Descriptor> all;
        for (cmsghdr* at = CMSG_FIRSTHDR(&header); at; at = CMSG_NXTHDR(&header, at)) {
            for (std::size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= at->cmsg_len; ++i) {
                int fd;
                std::memcpy(&fd, CMSG_DATA(at) + i * sizeof fd, sizeof fd);
                all.emplace_back(fd);
            }
        }
        return all;
    }

    std::string text;
    iovec part{};
    alignas(cmsghdr) std::array<char, 256> control{};
    msghdr header{};
};

/// Sends `text` together with a descriptor, by a plain call.
void send_with(int socket, std::string text, int fd) {
    Message message{text.size(), true};
    message.text = std::move(text);
    message.part.iov_base = message.text.data();
    message.header.msg_controllen = CMSG_SPACE(sizeof fd);
    cmsghdr* const head = CMSG_FIRSTHDR(&message.header);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(head), &fd, sizeof fd);
    must(::sendmsg(socket, &message.header, 0), "sendmsg");
}

void fill(int fd) {
    const std::string data(4096, 'x');
    while (::send(fd, data.data(), data.size(), MSG_NOSIGNAL | MSG_DONTWAIT) > 0) {}
}

/// Takes all free numbers below `number`, which will be the next.
std::vector<Descriptor> plugs_below(int number) {
    std::vector<Descriptor> plugs;
    do
        plugs.emplace_back(must(::dup(STDIN_FILENO), "dup"));
    while (plugs.back().get() < number);
    plugs.pop_back();
    return plugs;
}

/// Receives twice on `fd` when there is something, the second time in vain: an engine may have
/// learned then that this task has emptied it.
Coro<void> empty(int fd, int peer) {
    std::string buffer(64, '\0');
    for (int round = 0; round < 2; ++round) {
        const Task<> writer = co_await spawn(
            [](int to) -> Coro<void> {
                write_all(to, "hello");
                co_return;
            },
            peer);
        (void)co_await traps::recv(fd, bytes_of(buffer));
    }
}

} // namespace

// --- messages ------------------------------------------------------------------------------

TEST_CASE("P13: a message with MSG_WAITALL is whole, however it comes") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        Message message{10};
        const Task<std::size_t> receiver = co_await spawn([&]() -> Coro<std::size_t> {
            const auto got =
                co_await traps::recv_message(ends.a.get(), message.header, MSG_WAITALL);
            co_return got.value_or(0);
        });
        for (const char* part : {"abc", "d", "efghij", "more"}) {
            co_await let_others_run();
            write_all(ends.b.get(), part);
        }
        CHECK((co_await receiver.join()) == 10);
        CHECK(message.text == "abcdefghij");
        CHECK(read_waiting(ends.a.get()) == "more");
    });
}

TEST_CASE("P13: a message with room for descriptors ends with what came with them, whole or not") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        send_with(ends.b.get(), "abc", STDIN_FILENO);
        send_with(ends.b.get(), "def", STDIN_FILENO);
        for (const char* expected : {"abc", "def"}) {
            Message message{6, true};
            const auto got =
                co_await traps::recv_message(ends.a.get(), message.header, MSG_WAITALL);
            CHECK(got == 3);
            CHECK(message.text.starts_with(expected));
            CHECK(message.descriptors().size() == 1);
            CHECK((message.header.msg_flags & MSG_CTRUNC) == 0);
        }
    });
}

TEST_CASE("P13: a datagram is whole, and waits for no other one") {
    each_io_run([]() -> Coro<void> {
        for (const int type : {SOCK_DGRAM, SOCK_SEQPACKET}) {
            const Ends ends = pair_of(type);
            must(::send(ends.b.get(), "hello", 5, 0), "send");
            Message message{100};
            const auto got = co_await ignore_after(
                5s, traps::recv_message(ends.a.get(), message.header, MSG_WAITALL));
            CHECK((got && *got == 5));
        }
    });
}

TEST_CASE("P8: a whole message that is cancelled half way says how far it came") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        write_all(ends.b.get(), "hello");
        Message message{100};
        std::size_t progress = 0;
        const Task<> receiver = co_await spawn([&]() -> Coro<void> {
            try {
                (void)co_await traps::recv_message(ends.a.get(), message.header, MSG_WAITALL);
            } catch (const TaskCancelled& interrupt) {
                progress = interrupt.progress();
                throw;
            }
        });
        co_await let_others_run(10);
        CHECK((co_await receiver.cancel()));
        CHECK(progress == 5);
        CHECK(message.text.starts_with("hello"));
        CHECK(read_waiting(ends.a.get()).empty());

        std::string big(4 << 20, 'x');
        iovec part{big.data(), big.size()};
        msghdr sent{};
        sent.msg_iov = &part;
        sent.msg_iovlen = 1;
        const Task<> sender = co_await spawn([&]() -> Coro<void> {
            try {
                (void)co_await traps::send_message(ends.a.get(), sent, MSG_WAITALL);
            } catch (const TaskCancelled& interrupt) {
                progress = interrupt.progress();
                throw;
            }
        });
        co_await let_others_run(10);
        CHECK((co_await sender.cancel()));
        CHECK(progress > 5);
        CHECK(read_waiting(ends.b.get()).size() == progress);
    });
}

// --- accepts, connects and polls -----------------------------------------------------------

TEST_CASE("P13: an accept of what does not listen is refused at once") {
    each_io_run([]() -> Coro<void> {
        const Ends connected = tcp_pair();
        const Ends pipe = pipe_ends();
        const Ends datagrams = pair_of(SOCK_DGRAM);
        const Descriptor fresh{must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")};
        const Descriptor nothing{must(::open("/dev/null", O_RDWR | O_CLOEXEC), "open")};
        const Descriptor file{must(::open("/proc/self/stat", O_RDONLY | O_CLOEXEC), "open")};
        const Descriptor folder{must(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open")};
        struct Case {
            int fd;
            int error;
        };
        for (const Case each : {Case{connected.a.get(), EINVAL}, Case{fresh.get(), EINVAL},
                                Case{datagrams.a.get(), EOPNOTSUPP}, Case{pipe.a.get(), ENOTSOCK},
                                Case{nothing.get(), ENOTSOCK}, Case{file.get(), ENOTSOCK},
                                Case{folder.get(), ENOTSOCK}, Case{-1, EBADF}}) {
            const auto refused = co_await ignore_after(5s, traps::accept(each.fd));
            REQUIRE(refused.has_value());
            CHECK(failure_of(*refused) == each.error);
        }
    });
}

TEST_CASE("P13: connects that find a Unix-domain listener's backlog full wait for their turn") {
    each_io_engine([](const KernelOptions& options) {
        Kernel kernel{options};
        kernel.run([&]() -> Coro<void> {
            const Descriptor listener{
                must(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")};
            sockaddr_un name{};
            name.sun_family = AF_UNIX;
            socklen_t length = sizeof(sa_family_t);
            must(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&name), length), "bind");
            must(::listen(listener.get(), 1), "listen");
            length = sizeof name;
            must(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &length),
                 "getsockname");
            std::vector<Task<int>> connects;
            for (int n = 0; n < 10; ++n) {
                connects.push_back(co_await spawn([&, n]() -> Coro<int> {
                    const int flags = n % 2 ? SOCK_NONBLOCK : 0;
                    const Descriptor socket{
                        must(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0), "socket")};
                    const auto done = co_await traps::connect(
                        socket.get(), reinterpret_cast<const sockaddr*>(&name), length);
                    co_return failure_of(done);
                }));
            }
            const std::uint64_t calls = kernel.counters().engine.system_calls;
            co_await let_others_run(200);
            // A look for each of the turns, and no connect beside it.
            CHECK(kernel.counters().engine.system_calls - calls < 300);
            for (int n = 0; n < 10; ++n)
                Descriptor{(co_await traps::accept(listener.get())).value()};
            for (const Task<int>& connect : connects)
                CHECK((co_await connect.join()) == 0);
        });
    });
}

TEST_CASE(
    "P13: a wait until something can be written does not end because the peer will not send") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        fill(ends.a.get());
        const Task<short> waiter = co_await spawn([&]() -> Coro<short> {
            const auto seen = co_await traps::write_wait(ends.a.get());
            co_return seen.value_or(0);
        });
        co_await let_others_run();
        must(::shutdown(ends.b.get(), SHUT_WR), "shutdown");
        co_await let_others_run(10);
        CHECK_FALSE(waiter.terminated());
        (void)read_waiting(ends.b.get());
        CHECK((co_await waiter.join()) == POLLOUT);

        // And can be cancelled.
        fill(ends.a.get());
        const Task<> in_vain = co_await spawn(
            [](int fd) -> Coro<void> { (void)co_await traps::write_wait(fd); }, ends.a.get());
        co_await let_others_run(10);
        CHECK((co_await in_vain.cancel()));
    });
}

TEST_CASE("P13: a poll answers what was asked for, a hang-up and errors, and nothing else") {
    each_io_run([]() -> Coro<void> {
        Ends sockets = socket_pair();
        sockets.b = Descriptor{};
        CHECK((co_await traps::read_wait(sockets.a.get())) == short(POLLIN | POLLHUP));
        CHECK((co_await traps::write_wait(sockets.a.get())) == short(POLLOUT | POLLHUP));
        Ends pipe = pipe_ends();
        pipe.b = Descriptor{};
        CHECK((co_await traps::read_wait(pipe.a.get())) == short(POLLHUP));
        pipe = pipe_ends();
        pipe.a = Descriptor{};
        CHECK((co_await traps::write_wait(pipe.b.get())) == short(POLLOUT | POLLERR));
    });
}

// --- numbers -------------------------------------------------------------------------------

TEST_CASE("P13: who gets the number of an object that is gone is served at once") {
    each_io_run([]() -> Coro<void> {
        const Task<int> worker = co_await spawn([]() -> Coro<int> {
            int served = 0;
            for (int round = 0; round < 5; ++round) {
                Ends old = tcp_pair();
                co_await empty(old.a.get(), old.b.get());
                const std::vector<Descriptor> plugs = plugs_below(old.a.get());
                old = Ends{};
                const auto pair = co_await UnixStream::pair();
                std::string buffer(64, '\0');
                for (const UnixStream* each : {&pair.a, &pair.b})
                    write_all(each == &pair.a ? pair.b.fd() : pair.a.fd(), "hello");
                for (const UnixStream* each : {&pair.a, &pair.b}) {
                    const auto got = co_await traps::recv(each->fd(), bytes_of(buffer));
                    served += got == 5;
                }
            }
            co_return served;
        });
        co_await let_others_run(2000); // with no time to lose
        CHECK(worker.terminated());
        CHECK((co_await worker.join()) == 10);
    });
}

TEST_CASE("P13: who is sent descriptors whose numbers were another file's is served at once") {
    each_io_run([]() -> Coro<void> {
        const Ends line = socket_pair();
        const Task<int> worker = co_await spawn([&]() -> Coro<int> {
            int served = 0;
            for (int round = 0; round < 5; ++round) {
                Ends fresh = tcp_pair();
                send_with(line.b.get(), "x", fresh.a.get());
                fresh.a = Descriptor{};
                Ends old = tcp_pair();
                co_await empty(old.a.get(), old.b.get());
                const std::vector<Descriptor> plugs = plugs_below(old.a.get());
                ::close(old.a.release()); // and nobody is told
                Message message{1, true};
                (void)co_await traps::recv_message(line.a.get(), message.header);
                const std::vector<Descriptor> came = message.descriptors();
                write_all(fresh.b.get(), "hello");
                std::string buffer(64, '\0');
                const auto got = co_await traps::recv(came.at(0).get(), bytes_of(buffer));
                served += got == 5;
            }
            co_return served;
        });
        co_await let_others_run(2000);
        CHECK(worker.terminated());
        CHECK((co_await worker.join()) == 5);
    });
}
