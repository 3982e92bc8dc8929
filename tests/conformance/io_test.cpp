// P12 to P14: who may use a descriptor, what engines handle themselves, and what goes on without
// memory, descriptors or a ring.
#include "conformance.hpp"

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <random>
#include <thread>

#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sys/inotify.h>
#include <sys/syscall.h>

#include "../support/seccomp.hpp"

using namespace trapline;
using namespace trapline::test;

namespace {

Coro<void> receive_into(int fd, std::string& buffer, int& error) {
    const auto got = co_await traps::recv(fd, bytes_of(buffer));
    error = failure_of(got);
}

/// The text of the std::system_error that `what` ends in, "" if it ends well.
template <detail::Body W>
Coro<std::string> error_text_of(W what) {
    try {
        (void)co_await detail::begin(what);
    } catch (const std::system_error& error) {
        co_return error.what();
    }
    co_return "";
}

std::string pattern(std::size_t size) {
    std::string bytes(size, '\0');
    for (std::size_t i = 0; i < size; ++i)
        bytes[i] = static_cast<char>(i * 31 % 251);
    return bytes;
}

/// Fills what a descriptor takes without waiting.
void fill(int fd) {
    set_non_blocking(fd);
    const std::string data = pattern(4096);
    while (::send(fd, data.data(), data.size(), MSG_NOSIGNAL) > 0) {}
}

/// Bytes of address space in use.
rlim_t address_space() {
    long pages = 0;
    std::FILE* file = std::fopen("/proc/self/statm", "r");
    if (!file || std::fscanf(file, "%ld", &pages) != 1)
        pages = 0;
    if (file)
        std::fclose(file);
    return static_cast<rlim_t>(pages) * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE));
}

/// The lowest number that no descriptor has: all below are taken.
int lowest_free_number() {
    const int fd = must(::dup(STDIN_FILENO), "dup");
    ::close(fd);
    return fd;
}

} // namespace

// --- openat2: what a path may lead to ------------------------------------------------------

TEST_CASE("P13: openat2 answers a descriptor that is closed on exec, or why there is none") {
    each_io_run([]() -> Coro<void> {
        const Descriptor root{must(::open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC), "open")};
        const auto open = [&](const char* path, std::uint64_t resolve) -> Coro<int> {
            open_how how{.flags = O_RDONLY, .mode = 0, .resolve = resolve};
            const auto answer = co_await traps::open_at2(root.get(), path, how);
            if (!answer)
                co_return -answer.error().value();
            const Descriptor file{*answer};
            co_return ::fcntl(file.get(), F_GETFD) & FD_CLOEXEC ? 0 : 1;
        };
        const int inside = co_await open("self/status", RESOLVE_BENEATH);
        const int parent = co_await open("../etc/passwd", RESOLVE_BENEATH);
        const int absolute = co_await open("/etc/passwd", RESOLVE_BENEATH);
        const int magic = co_await open("self/exe", RESOLVE_NO_MAGICLINKS);
        const int link = co_await open("self/status", RESOLVE_NO_SYMLINKS);
        const int missing = co_await open("self/missing", RESOLVE_BENEATH);
        const int unknown = co_await open("self/status", std::uint64_t{1} << 40);
        const int unlimited = co_await open("../etc/passwd", 0);
        CHECK(inside == 0);
        CHECK(parent == -EXDEV);
        CHECK(absolute == -EXDEV);
        CHECK(magic == -ELOOP);
        CHECK(link == -ELOOP);
        CHECK(missing == -ENOENT);
        CHECK(unknown == -EINVAL);
        CHECK(unlimited == 0);
    });
}

TEST_CASE("P8: an openat2 that is cancelled at any point leaves no descriptor behind") {
    each_io_run([]() -> Coro<void> {
        const auto opens = [](int& opened) -> Coro<void> {
            open_how how{.flags = O_RDONLY, .mode = 0, .resolve = RESOLVE_NO_MAGICLINKS};
            const auto answer = co_await traps::open_at2(AT_FDCWD, "/proc/self/status", how);
            if (answer) {
                const Descriptor file{*answer};
                ++opened;
            }
            co_await sleep_forever();
        };
        int opened = 0;
        int cancelled = 0;
        constexpr int rounds = 50;
        for (int round = 0; round < rounds; ++round) {
            const Task<void> task = co_await spawn(opens(opened));
            co_await let_others_run(round % 5);
            cancelled += co_await task.cancel();
        }
        CHECK(cancelled == rounds);
        CHECK(opened < rounds); // at once: nothing was begun
    });
}

// --- P12: one reader, one writer -----------------------------------------------------------

TEST_CASE("P12: a second reader of a descriptor gets device_or_resource_busy, at once") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        std::string first(8, '\0');
        std::string second(8, '\0');
        int first_error = -1;
        co_await spawn(receive_into(ends.a.get(), first, first_error));
        co_await yield_now();
        bool another_ran = false;
        co_await spawn([&]() -> Coro<void> {
            another_ran = true;
            co_return;
        });
        const auto received = co_await traps::recv(ends.a.get(), bytes_of(second));
        const auto polled = co_await traps::read_wait(ends.a.get());
        const auto read = co_await traps::read(ends.a.get(), bytes_of(second));
        CHECK(received.error() == std::errc::device_or_resource_busy);
        CHECK(polled.error() == std::errc::device_or_resource_busy);
        CHECK(read.error() == std::errc::device_or_resource_busy);
        CHECK_FALSE(another_ran);
        write_all(ends.b.get(), "x");
        while (first_error < 0)
            co_await yield_now();
        CHECK(first[0] == 'x'); // the first one was not disturbed
        write_all(ends.b.get(), "y");
        const auto later = co_await traps::recv(ends.a.get(), bytes_of(second));
        CHECK(later == 1);
    });
}

TEST_CASE("P13: a receive that asks not to wait is answered EAGAIN, all others wait") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        std::string buffer(8, '\0');
        const auto none = co_await traps::recv(ends.a.get(), bytes_of(buffer), MSG_DONTWAIT);
        CHECK(none.error() == std::errc::resource_unavailable_try_again);
        write_all(ends.b.get(), "ab");
        const auto some = co_await traps::recv(ends.a.get(), bytes_of(buffer), MSG_DONTWAIT);
        CHECK(some == 2);
    });
}

TEST_CASE("P12: a second writer of a descriptor gets device_or_resource_busy, at once") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        fill(ends.a.get());
        const std::string data = pattern(64);
        const Task<void> writer = co_await spawn([&]() -> Coro<void> {
            (void)co_await traps::send(ends.a.get(), std::as_bytes(std::span(data)));
        });
        co_await let_others_run();
        CHECK(writer.state() == TaskState::blocked);
        const auto sent = co_await traps::send(ends.a.get(), std::as_bytes(std::span(data)));
        const auto polled = co_await traps::write_wait(ends.a.get());
        CHECK(sent.error() == std::errc::device_or_resource_busy);
        CHECK(polled.error() == std::errc::device_or_resource_busy);
        (void)co_await writer.cancel();
    });
}

TEST_CASE("P12: a second accept on a listener gets device_or_resource_busy") {
    each_io_run([]() -> Coro<void> {
        const Descriptor listener = tcp_listener();
        const Task<void> first =
            co_await spawn([&]() -> Coro<void> { (void)co_await traps::accept(listener.get()); });
        co_await let_others_run();
        const auto second = co_await traps::accept(listener.get());
        CHECK(second.error() == std::errc::device_or_resource_busy);
        (void)co_await first.cancel();
    });
}

TEST_CASE("P12: one may read while another writes") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        std::string buffer(8, '\0');
        int error = -1;
        const Task<void> reader = co_await spawn(receive_into(ends.a.get(), buffer, error));
        co_await let_others_run();
        const auto sent = co_await traps::send(ends.a.get(), std::as_bytes(std::span("abc", 3)));
        const auto writable = co_await traps::write_wait(ends.a.get());
        CHECK(sent == 3);
        CHECK(writable.has_value());
        CHECK(read_waiting(ends.b.get()) == "abc");
        write_all(ends.b.get(), "z");
        co_await reader.join();
        CHECK(error == 0);
        CHECK(buffer[0] == 'z');
    });
}

TEST_CASE("P12: the side is free again after a result, an error and a cancellation") {
    each_io_run([]() -> Coro<void> {
        Ends ends = socket_pair();
        std::string buffer(8, '\0');
        const Task<void> cancelled = co_await spawn(
            [&]() -> Coro<void> { (void)co_await traps::recv(ends.a.get(), bytes_of(buffer)); });
        co_await let_others_run();
        (void)co_await cancelled.cancel();
        write_all(ends.b.get(), "x");
        const auto wrong =
            co_await traps::recv(ends.a.get(), {static_cast<std::byte*>(nullptr), 8});
        CHECK(failure_of(wrong) == EFAULT);
        const auto got = co_await traps::recv(ends.a.get(), bytes_of(buffer));
        CHECK(got == 1);
        ends.b = {};
        const auto end = co_await traps::recv(ends.a.get(), bytes_of(buffer));
        CHECK(end == 0);
    });
}

// --- P12: closing --------------------------------------------------------------------------

TEST_CASE("P12: close ends what is in flight on the descriptor with operation_canceled") {
    each_io_run([]() -> Coro<void> {
        Ends ends = socket_pair();
        fill(ends.a.get());
        const int fd = ends.a.release();
        std::string buffer(8, '\0');
        int receive_error = -1;
        int send_error = -1;
        const Task<void> reader = co_await spawn(receive_into(fd, buffer, receive_error));
        const Task<void> writer = co_await spawn([&]() -> Coro<void> {
            const auto sent = co_await traps::send(fd, std::as_bytes(std::span("x", 1)));
            send_error = failure_of(sent);
        });
        co_await let_others_run();
        const auto closed = co_await traps::close(fd);
        CHECK(closed.has_value());
        CHECK(receive_error == ECANCELED); // they have gone on before the close was over
        CHECK(send_error == ECANCELED);
        CHECK(reader.terminated());
        CHECK(writer.terminated());
        CHECK_FALSE(reader.cancelled());
        CHECK(::fcntl(fd, F_GETFD) == -1);
        // The peer sees the end after what had been sent.
        CHECK(read_all(ends.b.get()).size() > 0);
    });
}

TEST_CASE("P12: close ends an accept, a wait for readability, and a whole transfer") {
    each_io_run([]() -> Coro<void> {
        Descriptor listener = tcp_listener();
        Ends waited = socket_pair();
        Ends whole = socket_pair();
        const int fds[3] = {listener.release(), waited.a.release(), whole.a.release()};
        int errors[3] = {-1, -1, -1};
        std::string buffer(8, '\0');
        std::size_t progress = 0;
        co_await spawn([&]() -> Coro<void> {
            const auto accepted = co_await traps::accept(fds[0]);
            errors[0] = failure_of(accepted);
        });
        co_await spawn([&]() -> Coro<void> {
            const auto ready = co_await traps::read_wait(fds[1]);
            errors[1] = failure_of(ready);
        });
        TcpStream stream{Descriptor{fds[2]}, {}};
        co_await spawn([&]() -> Coro<void> {
            try {
                (void)co_await stream.recv_exactly(bytes_of(buffer));
            } catch (const TransferError& error) {
                errors[2] = error.code().value();
                progress = error.progress();
            }
        });
        write_all(whole.b.get(), "abc");
        co_await let_others_run();
        (void)co_await traps::close(fds[0]);
        (void)co_await traps::close(fds[1]);
        co_await stream.close();
        CHECK(errors[0] == ECANCELED);
        CHECK(errors[1] == ECANCELED);
        CHECK(errors[2] == ECANCELED);
        CHECK(progress == 3);
    });
}

TEST_CASE("P12: close ends those that are on no side of the descriptor, and nobody else") {
    each_io_run([]() -> Coro<void> {
        Ends ends = socket_pair();
        Ends others = socket_pair();
        const int fd = ends.a.release();
        std::array<std::int64_t, 5> answers{};
        const auto waits = [&answers](int on, std::size_t which, traps::Side side) -> Coro<void> {
            const auto seen = co_await traps::Io{traps::Poll{on, POLLIN, side}};
            answers[which] = seen ? *seen : -seen.error().value();
        };
        std::vector<Task<void>> ended;
        for (std::size_t i = 0; i < 3; ++i)
            ended.push_back(co_await spawn(waits, fd, i, traps::Side::none));
        ended.push_back(co_await spawn(waits, fd, std::size_t{3}, traps::Side::read));
        const Task<void> stays =
            co_await spawn(waits, others.a.get(), std::size_t{4}, traps::Side::none);
        co_await let_others_run();
        const auto closed = co_await traps::close(fd);
        CHECK(closed.has_value());
        for (std::size_t i = 0; i < ended.size(); ++i) {
            CHECK(ended[i].terminated());
            CHECK(answers[i] == -ECANCELED);
        }
        co_await let_others_run();
        CHECK_FALSE(stays.terminated());
        (void)co_await traps::send(others.b.get(), std::as_bytes(std::span("x", 1)));
        co_await stays.join();
        CHECK((answers[4] & POLLIN) != 0);
    });
}

TEST_CASE("P12: a close waits for who asks about the descriptor, and who looks up beneath it") {
    each_io_run([]() -> Coro<void> {
        for (int round = 0; round < 30; ++round) {
            const int fd = must(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), "open");
            struct ::statx status{};
            int errors[2] = {-1, -1};
            const Task<void> asking = co_await spawn([&]() -> Coro<void> {
                const auto answer =
                    co_await traps::stat_at(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, status);
                errors[0] = failure_of(answer);
            });
            const Task<void> opening = co_await spawn([&]() -> Coro<void> {
                const auto opened = co_await traps::open_at(fd, "dev/null", O_RDONLY);
                errors[1] = failure_of(opened);
                if (opened)
                    ::close(*opened);
            });
            co_await let_others_run(1 + round % 3);
            const auto closed = co_await traps::close(fd);
            CHECK(closed.has_value());
            CHECK(asking.terminated()); // whatever they came to, nothing is done on the number now
            CHECK(opening.terminated());
            CHECK((errors[0] == 0 || errors[0] == ECANCELED));
            CHECK((errors[1] == 0 || errors[1] == ECANCELED));
        }
    });
}

TEST_CASE("P12: the number of a closed descriptor is not reused before its operations have ended") {
    each_io_run([]() -> Coro<void> {
        for (int round = 0; round < 20; ++round) {
            Ends old = socket_pair();
            const int fd = old.a.release();
            std::string buffer(8, '#');
            int error = -1;
            const Task<void> reader = co_await spawn(receive_into(fd, buffer, error));
            co_await let_others_run(round % 4);
            const Task<void> closer =
                co_await spawn([fd]() -> Coro<void> { (void)co_await traps::close(fd); });
            // Whoever gets the number meanwhile must not feed the old operation.
            bool reused = false;
            for (int turn = 0; turn < 50 && !reused; ++turn) {
                const Ends fresh = socket_pair();
                reused = fresh.a.get() == fd || fresh.b.get() == fd;
                write_all(fresh.a.get(), "new");
                write_all(fresh.b.get(), "new");
                if (reused)
                    CHECK((error == ECANCELED || error == EBADF));
                co_await yield_now();
            }
            co_await closer.join();
            co_await reader.join();
            CHECK(reused);
            CHECK(buffer == "########");
        }
    });
}

TEST_CASE("P12: a number that is free again can be used at once") {
    each_io_run([]() -> Coro<void> {
        int reused = 0;
        for (int round = 0; round < 10; ++round) {
            Ends old = socket_pair();
            const int number = old.a.get();
            int right = 0;
            co_await spawn(
                [fd = old.a.release()]() -> Coro<void> { (void)co_await traps::close(fd); });
            // So many that a full ring is handed over in the middle of the turn.
            std::vector<Task<void>> others;
            for (int i = 0; i < 600; ++i) {
                others.push_back(
                    co_await spawn([]() -> Coro<void> { (void)co_await traps::nop(); }));
            }
            const Task<void> user = co_await spawn([&]() -> Coro<void> {
                const Ends fresh = socket_pair();
                reused += fresh.a.get() == number || fresh.b.get() == number;
                std::string buffer(2, '\0');
                write_all(fresh.a.get(), "a");
                write_all(fresh.b.get(), "b");
                const auto from_a = co_await traps::recv(fresh.b.get(), bytes_of(buffer));
                const auto from_b = co_await traps::recv(fresh.a.get(), bytes_of(buffer));
                CHECK(failure_of(from_a) == 0);
                CHECK(failure_of(from_b) == 0);
                right = from_a == 1 && from_b == 1;
            });
            co_await user.join();
            for (const Task<void>& other : others)
                co_await other.join();
            CHECK(right == 1);
        }
        CHECK(reused > 0);
    });
}

TEST_CASE(
    "P12: what begins on a descriptor while it is being closed fails, and so does a second close") {
    each_io_run([]() -> Coro<void> {
        Ends ends = socket_pair();
        const int fd = ends.a.release();
        std::string buffer(8, '\0');
        std::string other(8, '\0');
        int error = -1;
        int late_error = -1;
        int second_error = -1;
        co_await spawn(receive_into(fd, buffer, error));
        co_await let_others_run();
        const Task<void> closer =
            co_await spawn([fd]() -> Coro<void> { (void)co_await traps::close(fd); });
        const Task<void> late = co_await spawn(receive_into(fd, other, late_error));
        const Task<void> second = co_await spawn([&]() -> Coro<void> {
            const auto closed = co_await traps::close(fd);
            second_error = failure_of(closed);
        });
        co_await closer.join();
        co_await late.join();
        co_await second.join();
        CHECK(error == ECANCELED);
        CHECK(late_error == EBADF);
        CHECK(second_error == EBADF);
    });
}

TEST_CASE("P12: closing what is not open is an error, and nothing else") {
    each_io_run([]() -> Coro<void> {
        for (const int fd : {-1, 9'999, 1 << 30}) {
            const auto closed = co_await traps::close(fd);
            CHECK(failure_of(closed) == EBADF);
        }
        std::string buffer(8, '\0');
        for (const int fd : {-1, 9'999, 1 << 30}) {
            const auto got = co_await traps::recv(fd, bytes_of(buffer));
            CHECK(failure_of(got) == EBADF);
        }
    });
}

TEST_CASE("P12: a stream closes while another task receives on it, and closing twice is harmless") {
    each_io_run([]() -> Coro<void> {
        Ends ends = tcp_pair();
        TcpStream stream{std::move(ends.a), SocketAddress::ipv4("127.0.0.1", 4321)};
        std::string buffer(8, '\0');
        std::error_code code;
        std::string text;
        const Task<void> reader = co_await spawn([&]() -> Coro<void> {
            try {
                (void)co_await stream.recv(bytes_of(buffer));
            } catch (const std::system_error& error) {
                code = error.code();
                text = error.what();
            }
        });
        co_await let_others_run();
        co_await stream.close();
        co_await stream.close();
        co_await reader.join();
        CHECK(code == std::errc::operation_canceled);
        CAPTURE(text);
        CHECK(text.contains("recv from 127.0.0.1:4321"));
        CHECK_FALSE(static_cast<bool>(stream));
        const std::string after =
            co_await error_text_of([&] { return stream.recv(bytes_of(buffer)); });
        CAPTURE(after);
        CHECK(after.contains("a stream that was closed here"));
        CHECK(read_all(ends.b.get()) == "");
    });
}

TEST_CASE("P12: a task that is cancelled while its descriptor is being closed ends once") {
    each_io_run([]() -> Coro<void> {
        for (int round = 0; round < 30; ++round) {
            Ends ends = socket_pair();
            const int fd = ends.a.release();
            std::string buffer(8, '\0');
            int error = -1;
            const Task<void> reader = co_await spawn(receive_into(fd, buffer, error));
            co_await let_others_run(round % 3);
            const Task<void> closer =
                co_await spawn([fd]() -> Coro<void> { (void)co_await traps::close(fd); });
            if (round % 2)
                co_await yield_now();
            (void)co_await reader.cancel();
            co_await closer.join();
            CHECK((reader.cancelled() || error == ECANCELED || error == EBADF));
            CHECK(::fcntl(fd, F_GETFD) == -1);
        }
    });
}

TEST_CASE("P12: IoRelease ends what is in flight, and leaves the descriptor open") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        std::string buffer(8, '\0');
        int error = -1;
        const Task<void> reader = co_await spawn(receive_into(ends.a.get(), buffer, error));
        co_await let_others_run();
        const auto released = co_await traps::io_release(ends.a.get());
        CHECK(released.has_value());
        CHECK(reader.terminated());
        CHECK(error == ECANCELED);
        write_all(ends.b.get(), "x");
        const auto got = co_await traps::recv(ends.a.get(), bytes_of(buffer));
        CHECK(got == 1);
        const auto idle = co_await traps::io_release(ends.a.get()); // nothing to end
        CHECK(idle.has_value());
    });
}

// --- P13: handled inside the engine --------------------------------------------------------

TEST_CASE("P13: send_all sends everything, in order, through a small buffer") {
    each_io_run([]() -> Coro<void> {
        Ends ends = socket_pair();
        shrink_send_buffer(ends.a.get());
        const std::string data = pattern(300'000);
        std::string received;
        std::jthread reader{[&] { received = read_all(ends.b.get()); }};
        TcpStream stream{std::move(ends.a), {}};
        co_await stream.send_all(data);
        co_await stream.close();
        reader.join();
        CHECK(received == data);
    });
}

TEST_CASE("P13: recv_exactly puts together what comes in pieces") {
    each_io_run([]() -> Coro<void> {
        Ends ends = tcp_pair();
        const std::string data = pattern(5'000);
        std::jthread writer{[&] {
            for (std::size_t at = 0; at < data.size(); at += 50)
                write_all(ends.b.get(), std::string_view(data).substr(at, 50));
        }};
        TcpStream stream{std::move(ends.a), {}};
        std::string buffer(data.size(), '\0');
        const std::size_t got = co_await stream.recv_exactly(bytes_of(buffer));
        writer.join();
        CHECK(got == data.size());
        CHECK(buffer == data);
        ::shutdown(ends.b.get(), SHUT_WR);
        const std::size_t end = co_await stream.recv_exactly(bytes_of(buffer));
        CHECK(end == 0);
    });
}

TEST_CASE("P13: a stream that ends in the middle is told from one that ended before") {
    each_io_run([]() -> Coro<void> {
        Ends ends = tcp_pair();
        TcpStream stream{std::move(ends.a), {}};
        write_all(ends.b.get(), "abc");
        ends.b = {};
        std::string buffer(10, '\0');
        std::size_t progress = 0;
        try {
            (void)co_await stream.recv_exactly(bytes_of(buffer));
        } catch (const EndOfStream& end) {
            progress = end.progress();
        }
        CHECK(progress == 3);
    });
}

TEST_CASE("P13: descriptors in non-blocking mode wait like any other") {
    each_io_run([]() -> Coro<void> {
        const Descriptor listener = tcp_listener();
        set_non_blocking(listener.get());
        std::expected<int, std::error_code> accepted;
        const Task<void> acceptor = co_await spawn(
            [&]() -> Coro<void> { accepted = co_await traps::accept(listener.get()); });
        co_await let_others_run();
        const Descriptor client = tcp_connect(port_of(listener.get()));
        co_await acceptor.join();
        REQUIRE(accepted.has_value());
        const Descriptor server{*accepted};
        set_non_blocking(server.get());

        std::string buffer(8, '\0');
        int error = -1;
        const Task<void> reader = co_await spawn(receive_into(server.get(), buffer, error));
        co_await let_others_run();
        CHECK(reader.state() == TaskState::blocked);
        write_all(client.get(), "x");
        co_await reader.join();
        CHECK(error == 0);
        CHECK(buffer[0] == 'x');

        const Ends pipe = pipe_ends(O_NONBLOCK);
        std::size_t count = 0;
        const Task<void> pipe_reader = co_await spawn([&]() -> Coro<void> {
            const auto got = co_await traps::read(pipe.a.get(), bytes_of(buffer));
            count = got.value();
        });
        co_await let_others_run();
        const auto written =
            co_await traps::write(pipe.b.get(), std::as_bytes(std::span("abc", 3)));
        co_await pipe_reader.join();
        CHECK(written == 3);
        CHECK(count == 3);
    });
}

TEST_CASE("P13: a descriptor in non-blocking mode that is no socket or pipe waits, too") {
    each_io_run([]() -> Coro<void> {
        char folder[] = "/tmp/trapline-XXXXXX";
        REQUIRE(::mkdtemp(folder) != nullptr);
        const Descriptor watch{must(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC), "inotify_init1")};
        must(::inotify_add_watch(watch.get(), folder, IN_DELETE_SELF), "inotify_add_watch");
        std::string buffer(256, '\0');
        std::size_t count = 0;
        int error = -1;
        const auto read = [&]() -> Coro<void> {
            const auto got = co_await traps::read(watch.get(), bytes_of(buffer));
            error = failure_of(got);
            count = got.value_or(0);
        };
        const Task<void> cancelled = co_await spawn(read);
        co_await let_others_run(5);
        const bool reached = co_await cancelled.cancel();
        CHECK(reached);
        const Task<void> reader = co_await spawn(read);
        co_await let_others_run(5);
        CHECK(reader.state() == TaskState::blocked);
        ::rmdir(folder);
        co_await reader.join();
        CHECK(error == 0);
        CHECK(count >= sizeof(inotify_event));
    });
}

TEST_CASE("P13: a whole transfer over a non-blocking descriptor loses and doubles nothing") {
    each_io_run([]() -> Coro<void> {
        Ends ends = socket_pair(SOCK_NONBLOCK);
        shrink_send_buffer(ends.a.get());
        const std::string data = pattern(200'000);
        std::string received(data.size(), '\0');
        TcpStream out{std::move(ends.a), {}};
        TcpStream in{std::move(ends.b), {}};
        const Task<void> writer =
            co_await spawn([&]() -> Coro<void> { co_await out.send_all(data); });
        const std::size_t got = co_await in.recv_exactly(bytes_of(received));
        co_await writer.join();
        CHECK(got == data.size());
        CHECK(received == data);
    });
}

TEST_CASE("P13: a cancelled operation on a non-blocking descriptor ends, and loses nothing") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair(SOCK_NONBLOCK);
        std::string all;
        std::string buffer(4, '\0');
        for (int round = 0; round < 100; ++round) {
            const Task<void> reader = co_await spawn([&]() -> Coro<void> {
                const auto got = co_await traps::recv(ends.a.get(), bytes_of(buffer));
                all += buffer.substr(0, got.value());
            });
            co_await let_others_run(round % 5);
            if (round % 2)
                write_all(ends.b.get(), "ab");
            (void)co_await reader.cancel();
        }
        all += read_waiting(ends.a.get());
        CHECK(all.size() == 100);
    });
}

TEST_CASE("P13: a splice that must not wait moves what there is, and answers EAGAIN for nothing") {
    each_io_run([]() -> Coro<void> {
        const Ends pipe = pipe_ends();
        const Ends sockets = socket_pair(SOCK_NONBLOCK);
        const auto moves = [&](std::size_t size) {
            return traps::splice(pipe.a.get(), sockets.a.get(), size, -1, -1, SPLICE_F_NONBLOCK);
        };
        const auto nothing = co_await moves(100);
        CHECK(failure_of(nothing) == EAGAIN);
        must(::write(pipe.b.get(), "hello", 5), "write");
        const auto some = co_await moves(3);
        CHECK((some && *some == 3));
        const auto rest = co_await moves(100);
        CHECK((rest && *rest == 2));
        CHECK(read_waiting(sockets.b.get()) == "hello");

        // Those on the same sides are refused as by any other.
        std::string buffer(8, '\0');
        int error = 0;
        Task<> receiving = co_await spawn(
            [](int fd, std::string& to, int& result) -> Coro<void> {
                result = failure_of(co_await traps::read(fd, bytes_of(to)));
            },
            pipe.a.get(), std::ref(buffer), std::ref(error));
        co_await let_others_run();
        const auto busy = co_await moves(100);
        CHECK(failure_of(busy) == EBUSY);
        must(::write(pipe.b.get(), "x", 1), "write");
        co_await receiving.join();
        CHECK(error == 0);
    });
}

TEST_CASE("P13: signals that interrupt the engine are not seen by anybody") {
    struct sigaction ours{};
    struct sigaction before{};
    ours.sa_handler = [](int) {};
    sigaction(SIGUSR1, &ours, &before);
    each_io_run([]() -> Coro<void> {
        Ends ends = socket_pair();
        shrink_send_buffer(ends.a.get());
        const std::string data = pattern(100'000);
        std::string received(data.size(), '\0');
        std::jthread pest{[self = pthread_self()](const std::stop_token& stop) {
            while (!stop.stop_requested()) {
                pthread_kill(self, SIGUSR1);
                std::this_thread::yield();
            }
        }};
        TcpStream out{std::move(ends.a), {}};
        TcpStream in{std::move(ends.b), {}};
        const Task<void> writer =
            co_await spawn([&]() -> Coro<void> { co_await out.send_all(data); });
        const std::size_t got = co_await in.recv_exactly(bytes_of(received));
        co_await writer.join();
        const TimePoint start = co_await now();
        const TimePoint woke = co_await sleep(1ms);
        CHECK(got == data.size());
        CHECK(received == data);
        CHECK(woke - start >= 1ms);
    });
    sigaction(SIGUSR1, &before, nullptr);
}

TEST_CASE("P13: more operations than the queues hold all complete, each once") {
    each_io_engine([](KernelOptions options) {
        options.uring.entries = 4;
        options.uring.completions = 8;
        options.uring.entries_min = 1;
        run(
            []() -> Coro<void> {
                constexpr int operations = 1000;
                std::vector<int> completed(operations);
                std::vector<Task<void>> tasks;
                for (int i = 0; i < operations; ++i) {
                    tasks.push_back(co_await spawn([&completed, i]() -> Coro<void> {
                        const auto answer = co_await traps::nop();
                        if (answer)
                            ++completed[static_cast<std::size_t>(i)];
                    }));
                }
                for (const Task<void>& task : tasks)
                    co_await task.join();
                CHECK(std::ranges::count(completed, 1) == operations);
            },
            options);
    });
}

TEST_CASE("P13: kernels on two threads talk to each other, and neither disturbs the other") {
    each_io_engine([](const KernelOptions& options) {
        constexpr int connections = 30;
        TcpListener listener;
        ThreadCompletion listening;
        int served = 0;
        const auto echo = [&](TcpStream stream) -> Coro<void> {
            const Counted frame;
            std::string buffer(64, '\0');
            while (const std::size_t n = co_await stream.recv(bytes_of(buffer)))
                co_await stream.send_all(std::string_view(buffer).substr(0, n));
            co_await stream.close();
            ++served;
        };
        std::thread server{[&] {
            run(
                [&]() -> Coro<void> {
                    listener = co_await TcpListener::bind(SocketAddress::parse("127.0.0.1:0"));
                    listening.complete();
                    std::vector<Task<void>> tasks;
                    for (int i = 0; i < connections; ++i)
                        tasks.push_back(co_await spawn(echo, co_await listener.accept()));
                    for (const Task<void>& task : tasks)
                        co_await task.wait();
                },
                options);
        }};
        int echoed = 0;
        run(
            [&]() -> Coro<void> {
                (void)co_await traps::AwaitThread{&listening};
                for (int i = 0; i < connections; ++i) {
                    TcpStream stream = co_await TcpStream::connect(listener.local_address());
                    const std::string text = std::to_string(i);
                    co_await stream.send_all(text);
                    std::string buffer(text.size(), '\0');
                    const auto got =
                        co_await ignore_after(1h, stream.recv_exactly(bytes_of(buffer)));
                    echoed += got && buffer == text;
                    // Closed by turns by the object, and by the ring.
                    if (i % 2)
                        co_await stream.close();
                }
            },
            options);
        server.join();
        CHECK(echoed == connections);
        CHECK(served == connections);
        listener = {};
    });
}

TEST_CASE("P13: many receives that complete together each get their own byte") {
    each_io_engine([](KernelOptions options) {
        options.uring.entries = 4;
        options.uring.completions = 8;
        options.uring.entries_min = 1;
        run(
            []() -> Coro<void> {
                constexpr std::size_t sockets = 100;
                std::vector<Ends> pairs;
                std::string received(sockets, '\0');
                std::vector<Task<void>> tasks;
                for (std::size_t i = 0; i < sockets; ++i) {
                    pairs.push_back(socket_pair());
                    tasks.push_back(
                        co_await spawn([&received, i, fd = pairs[i].a.get()]() -> Coro<void> {
                            (void)co_await traps::recv(fd, bytes_of(received).subspan(i, 1));
                        }));
                }
                co_await let_others_run();
                const std::string data = pattern(sockets);
                for (std::size_t i = 0; i < sockets; ++i)
                    write_all(pairs[i].b.get(), std::string_view(data).substr(i, 1));
                for (const Task<void>& task : tasks)
                    co_await task.join();
                CHECK(received == data);
            },
            options);
    });
}

TEST_CASE("P13: many operations cancelled at once end, on queues however small") {
    each_io_engine([](KernelOptions options) {
        options.uring.entries = 4;
        options.uring.completions = 8;
        options.uring.entries_min = 1;
        run(
            []() -> Coro<void> {
                std::vector<Ends> pairs;
                std::vector<Task<void>> tasks;
                for (int i = 0; i < 100; ++i) {
                    pairs.push_back(socket_pair());
                    tasks.push_back(co_await spawn([fd = pairs.back().a.get()]() -> Coro<void> {
                        std::string buffer(8, '\0');
                        (void)co_await traps::recv(fd, bytes_of(buffer));
                    }));
                }
                co_await let_others_run();
                for (const Task<void>& task : tasks)
                    (void)co_await traps::Cancel{task.record()};
                for (const Task<void>& task : tasks)
                    co_await task.wait();
                CHECK(std::ranges::all_of(tasks, [](const auto& t) { return t.cancelled(); }));
            },
            options);
    });
}

TEST_CASE("P13: accept without descriptors backs off, disturbs nobody, and goes on") {
    each_io_engine([](const KernelOptions& options) {
        Kernel kernel{options};
        kernel.run([&]() -> Coro<void> {
            const Descriptor listener = tcp_listener();
            std::vector<Descriptor> clients;
            for (int i = 0; i < 3; ++i)
                clients.push_back(tcp_connect(port_of(listener.get())));
            Descriptor spare = pipe_ends().a;
            std::vector<Descriptor> accepted;
            int error = 0;
            const Task<void> acceptor = co_await spawn([&]() -> Coro<void> {
                for (std::size_t i = 0; i < 3; ++i) {
                    const auto connection = co_await traps::accept(listener.get());
                    error = error ? error : failure_of(connection);
                    if (connection)
                        accepted.emplace_back(*connection);
                }
            });
            {
                const DescriptorLimit none_left(static_cast<rlim_t>(lowest_free_number()));
                const std::uint64_t before = kernel.counters().turns;
                while (kernel.counters().engine.accept_pauses == 0 &&
                       kernel.counters().turns - before < 100'000)
                    co_await yield_now();
                CHECK(kernel.counters().engine.accept_pauses > 0); // an engine counts them itself
                const TimePoint start = co_await now();
                const TimePoint woke = co_await sleep(100us); // others go on
                CHECK(woke - start >= 100us);
                CHECK(accepted.empty());
                CHECK_FALSE(acceptor.terminated());
                // One descriptor becomes free, and one connection is accepted with it.
                (void)co_await traps::close(spare.release());
                while (accepted.empty())
                    co_await yield_now();
                co_await let_others_run();
                CHECK(accepted.size() == 1);
            }
            co_await acceptor.join();
            CHECK(accepted.size() == 3);
            CHECK(error == 0);
        });
    });
}

TEST_CASE("P13: an accept that waits for descriptors can be cancelled, and closed") {
    each_io_engine([](const KernelOptions& options) {
        Kernel kernel{options};
        kernel.run([&]() -> Coro<void> {
            Descriptor listener = tcp_listener();
            const Descriptor client = tcp_connect(port_of(listener.get()));
            int error = 0;
            const auto accept = [&]() -> Coro<void> {
                const auto connection = co_await traps::accept(listener.get());
                error = failure_of(connection);
            };
            const DescriptorLimit none_left(static_cast<rlim_t>(lowest_free_number()));
            const Task<void> cancelled = co_await spawn(accept);
            while (kernel.counters().engine.accept_pauses < 1)
                co_await yield_now();
            const bool reached = co_await cancelled.cancel();
            CHECK(reached);
            CHECK(cancelled.cancelled());
            const Task<void> closed = co_await spawn(accept);
            while (kernel.counters().engine.accept_pauses < 2)
                co_await yield_now();
            (void)co_await traps::close(listener.release());
            co_await closed.join();
            CHECK(error == ECANCELED);
        });
    });
}

TEST_CASE("P13: SIGPIPE is never raised: the writer is told EPIPE") {
    each_io_engine([](const KernelOptions& options) {
        const std::string complaint = in_child([&]() -> std::string {
            std::signal(SIGPIPE, SIG_DFL);
            return run(
                []() -> Coro<std::string> {
                    Ends sockets = socket_pair();
                    Ends written = socket_pair();
                    Ends pipe = pipe_ends();
                    sockets.b = {};
                    written.b = {};
                    pipe.a = {};
                    const auto data = std::as_bytes(std::span("x", 1));
                    const auto sent = co_await traps::send(sockets.a.get(), data);
                    const auto socket = co_await traps::write(written.a.get(), data);
                    const auto piped = co_await traps::write(pipe.b.get(), data);
                    co_return failure_of(sent) == EPIPE&& failure_of(socket) ==
                            EPIPE&& failure_of(piped) == EPIPE
                        ? ""
                        : "not EPIPE";
                },
                options);
        });
        CHECK(complaint == "");
    });
}

TEST_CASE("P13: a peer's reset is an error that names the peer, for who receives and who sends") {
    each_io_run([]() -> Coro<void> {
        const Descriptor listener = tcp_listener();
        Descriptor client = tcp_connect(port_of(listener.get()));
        const auto accepted = co_await traps::accept(listener.get());
        TcpStream stream{Descriptor{accepted.value()}, SocketAddress::ipv4("127.0.0.1", 77)};
        std::string buffer(8, '\0');
        std::string text;
        const Task<void> reader = co_await spawn([&]() -> Coro<void> {
            text = co_await error_text_of([&] { return stream.recv(bytes_of(buffer)); });
        });
        co_await let_others_run();
        reset(std::move(client));
        co_await reader.join();
        CAPTURE(text);
        CHECK(text.contains("recv from 127.0.0.1:77"));
        CHECK(text.contains("reset"));
        const std::string sending = co_await error_text_of([&] { return stream.send_all("abc"); });
        CAPTURE(sending);
        CHECK(sending.contains("send to 127.0.0.1:77"));
    });
}

TEST_CASE("P13: 10,000 connections opened and dropped at random leave nothing behind") {
    bool first_engine = true;
    each_io_engine([&](const KernelOptions& options) {
        // The other engines get fewer: the machine's ports are not without end.
        const int connections =
            std::exchange(first_engine, false) ? (sanitized ? 2'000 : 10'000) : 500;
        Kernel kernel{options};
        kernel.run([&]() -> Coro<void> {
            constexpr std::size_t at_once = 100;
            const Descriptor listener = tcp_listener();
            std::jthread clients{[connections, port = port_of(listener.get())] {
                std::mt19937 dice{6};
                std::vector<Descriptor> open;
                for (int i = 0; i < connections; ++i) {
                    open.push_back(tcp_connect(port));
                    if (dice() % 2)
                        write_all(open[dice() % open.size()].get(), "hello");
                    if (open.size() < at_once && dice() % 2)
                        continue;
                    std::swap(open.back(), open[dice() % open.size()]);
                    // Nearly always by a reset, which leaves no port waiting.
                    if (dice() % 50 == 0)
                        open.back() = Descriptor{};
                    else
                        reset(std::move(open.back()));
                    open.pop_back();
                }
                while (!open.empty()) {
                    reset(std::move(open.back()));
                    open.pop_back();
                }
            }};
            std::mt19937 dice{7};
            std::vector<Task<void>> tasks;
            const auto serve = [](TcpStream stream) -> Coro<void> {
                const Counted frame;
                std::string buffer(64, '\0');
                try {
                    while (const std::size_t n = co_await stream.recv(bytes_of(buffer)))
                        co_await stream.send_all(std::string_view(buffer).substr(0, n));
                } catch (const std::system_error&) {}
            };
            for (int i = 0; i < connections; ++i) {
                const auto connection = co_await traps::accept(listener.get());
                REQUIRE(connection.has_value());
                tasks.push_back(co_await spawn(serve, TcpStream{Descriptor{*connection}, {}}));
                if (dice() % 4 == 0)
                    (void)co_await traps::Cancel{tasks[dice() % tasks.size()].record()};
                if (tasks.size() > at_once) {
                    (void)co_await tasks.front().cancel();
                    std::swap(tasks.front(), tasks.back());
                    tasks.pop_back();
                }
            }
            for (const Task<void>& task : tasks)
                (void)co_await task.cancel();
        });
        CHECK(kernel.task_count() == 0);
        CHECK(Counted::alive() == 0);
    });
}

// --- P14 -----------------------------------------------------------------------------------

TEST_CASE("P14: without descriptors a kernel cannot be made, says why, and all else goes on") {
    each_io_engine([](const KernelOptions& options) {
        const std::string complaint = in_child([&]() -> std::string {
            Kernel first{options};
            first.run(let_others_run());
            std::string text;
            std::error_code code;
            {
                const DescriptorLimit none_left(static_cast<rlim_t>(lowest_free_number()));
                try {
                    const Kernel second{options};
                } catch (const std::system_error& error) {
                    text = error.what();
                    code = error.code();
                }
            }
            if (code != std::errc::too_many_files_open)
                return "not EMFILE: " + text;
            if (!text.contains("ulimit -n"))
                return "no remedy: " + text;
            first.run(let_others_run());
            Kernel third{options};
            third.run(let_others_run());
            return "";
        });
        CHECK(complaint == "");
    });
}

TEST_CASE("P14: a ring that the system forbids is refused with the reason and the remedy") {
    const std::string complaint = in_child([]() -> std::string {
        must_forbid(SYS_io_uring_setup, EPERM);
        const LeakGuard guard;
        try {
            (void)run(let_others_run(), {.engine = "uring"});
        } catch (const std::system_error& error) {
            const std::string text = error.what();
            return error.code() == std::errc::operation_not_permitted && text.contains("seccomp")
                       ? ""
                       : text;
        }
        return "it was not refused";
    });
    CHECK(complaint == "");
}

TEST_CASE("P14: without lockable memory a ring is refused with the reason and the remedy") {
    if (::geteuid() != 0) {
        MESSAGE("skipped: only root can give up being root");
        return;
    }
    const std::string complaint = in_child([]() -> std::string {
        const rlimit none{0, 0};
        must(::setrlimit(RLIMIT_MEMLOCK, &none), "setrlimit");
        must(::setuid(65534), "setuid");
        try {
            run(let_others_run(), {.engine = "uring"});
        } catch (const std::system_error& error) {
            const std::string text = error.what();
            return error.code() == std::errc::not_enough_memory && text.contains("ulimit -l")
                       ? ""
                       : text;
        }
        return ""; // this Linux counts no locked memory for rings
    });
    CHECK(complaint == "");
}

TEST_CASE("P14: an engine that does not exist is an error that names it") {
    std::string text;
    try {
        run(let_others_run(), {.engine = "steam"});
    } catch (const std::invalid_argument& error) {
        text = error.what();
    }
    CAPTURE(text);
    CHECK(text.contains("steam"));
}

TEST_CASE("P14: out of descriptors, the call that needs one fails, and all else goes on") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        std::string buffer(8, '\0');
        int error = -1;
        const Task<void> reader = co_await spawn(receive_into(ends.a.get(), buffer, error));
        std::string text;
        {
            const DescriptorLimit none_left(static_cast<rlim_t>(lowest_free_number()));
            const auto socket = co_await traps::socket(AF_INET, SOCK_STREAM);
            CHECK(failure_of(socket) == EMFILE);
            const auto file = co_await traps::open_at(AT_FDCWD, "/dev/null", O_RDONLY);
            CHECK(failure_of(file) == EMFILE);
            open_how how{.flags = O_RDONLY, .mode = 0, .resolve = RESOLVE_NO_SYMLINKS};
            const auto resolved = co_await traps::open_at2(AT_FDCWD, "/dev/null", how);
            CHECK(failure_of(resolved) == EMFILE);
            text = co_await error_text_of(
                [] { return TcpListener::bind(SocketAddress::ipv4("127.0.0.1", 0)); });
            write_all(ends.b.get(), "x");
            co_await reader.join();
        }
        CAPTURE(text);
        CHECK(text.contains("127.0.0.1:0"));
        CHECK(text.contains("Too many open files"));
        CHECK(error == 0);
        const TcpListener listener =
            co_await TcpListener::bind(SocketAddress::ipv4("127.0.0.1", 0));
        CHECK(static_cast<bool>(listener));
    });
}

TEST_CASE("P14: a port in use and a refused connection are errors that name the address") {
    each_io_run([]() -> Coro<void> {
        Descriptor taken = tcp_listener();
        const SocketAddress address = SocketAddress::ipv4("127.0.0.1", port_of(taken.get()));
        const std::string in_use =
            co_await error_text_of([&] { return TcpListener::bind(address); });
        taken = {};
        const std::string refused =
            co_await error_text_of([&] { return TcpStream::connect(address); });
        CAPTURE(in_use);
        CAPTURE(refused);
        CHECK(in_use.contains(address.to_string()));
        CHECK(in_use.contains("in use"));
        CHECK(refused.contains("connect to " + address.to_string()));
        CHECK(refused.contains("refused"));
    });
}

namespace {

/// An argument that there is no memory for.
struct Heavy {
    Heavy() = default;
    Heavy(const Heavy&) { throw std::bad_alloc{}; }
};

} // namespace

TEST_CASE("P14: a spawn without memory throws where it was made, and all else goes on") {
    each_io_run([]() -> Coro<void> {
        bool threw = false;
        const Heavy heavy;
        try {
            (void)co_await spawn([](Heavy, Counted) -> Coro<void> { co_return; }, heavy, Counted{});
        } catch (const std::bad_alloc&) {
            threw = true;
        }
        CHECK(threw);
        const Task<int> task = co_await spawn([]() -> Coro<int> { co_return 1; });
        const int result = co_await task.join();
        CHECK(result == 1);
    });
}

TEST_CASE("P14: when memory runs out spawn throws bad_alloc, and what was spawned lives on") {
    if (sanitized)
        return; // its shadow memory is beyond any limit
    // Once: the engine plays no part in it.
    const std::string complaint = in_child([] {
        return run([]() -> Coro<std::string> {
            std::vector<Task<void>> tasks;
            tasks.reserve(1'000'000);
            bool threw = false;
            rlimit before{};
            must(::getrlimit(RLIMIT_AS, &before), "getrlimit");
            const rlimit low{address_space() + (8u << 20), before.rlim_max};
            must(::setrlimit(RLIMIT_AS, &low), "setrlimit");
            try {
                while (tasks.size() < 1'000'000)
                    tasks.push_back(co_await spawn(sleep_forever()));
            } catch (const std::bad_alloc&) {
                threw = true;
            }
            must(::setrlimit(RLIMIT_AS, &before), "setrlimit"); // to cancel takes memory, too
            std::size_t cancelled = 0;
            co_await yield_now();
            while (!tasks.empty()) {
                const bool reached = co_await tasks.back().cancel();
                cancelled += reached;
                tasks.pop_back();
            }
            if (!threw)
                co_return "there was memory without end";
            if (cancelled < 1000)
                co_return "only " + std::to_string(cancelled);
            co_return "";
        });
    });
    CHECK(complaint == "");
}
