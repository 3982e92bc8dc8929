#include <trapline/kernel/replay.hpp>

#include <array>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <future>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <trapline/trapline.hpp>

#include <trapline/kernel/recorder.hpp>
#include <trapline/kernel/recording.hpp>

#include "../support/leaks.hpp"
#include "../support/process.hpp"
#include "../support/seccomp.hpp"
#include "../support/sockets.hpp"
#include "recordings.hpp"

using namespace trapline;
using namespace std::chrono_literals;
using test::Counted;
using test::in_child;
using test::LeakGuard;
using test::Logs;
using test::record_and_replay;
using test::RecordingFile;
using test::thrown_by;

namespace {

/// Set by tests that change a program between its recording and its replay.
bool changed = false;
constexpr int changed_line = __LINE__ + 6;

Coro<void> work() {
    const Counted frame;
    co_await sleep(1us);
    if (changed)
        co_await sleep(2us);
    else
        co_await yield_now();
}

Coro<void> works_with_children() {
    Task<> child = co_await spawn(work(), {.name = "child"});
    co_await child.join();
}

std::string replayed(const RecordingFile& file) {
    return thrown_by([&] { run(works_with_children(), {.replay = file.path}); });
}

void check_same(const Logs& logs) {
    CHECK_FALSE(logs.recorded.empty());
    CHECK(logs.recorded == logs.replayed);
}

std::span<std::byte> bytes_of(std::string& text) { return std::as_writable_bytes(std::span(text)); }

/// Blocking clients on threads, each with its own random messages; what comes back is checked.
class Clients {
public:
    Clients(std::uint16_t port, int count) {
        for (int i = 0; i < count; ++i)
            threads_.emplace_back([port, i] { talk(port, static_cast<unsigned>(i)); });
    }

private:
    static void talk(std::uint16_t port, unsigned seed) {
        std::mt19937 dice{seed};
        const Descriptor socket = test::tcp_connect(port);
        for (int message = 0; message < 20; ++message) {
            std::string text(1 + dice() % 10'000, '\0');
            for (char& c : text)
                c = static_cast<char>('a' + dice() % 26);
            if (!test::write_all(socket.get(), text))
                return;
            std::string back(text.size(), '\0');
            if (::recv(socket.get(), back.data(), back.size(), MSG_WAITALL) !=
                    static_cast<ssize_t>(text.size()) ||
                back != text)
                std::fputs("a client got something else back\n", stderr);
        }
    }

    std::vector<std::jthread> threads_;
};

/// Serves as many clients as come; the recorded world starts them.
Coro<void> echo_server(std::string& log, int clients, bool lent) {
    TcpListener listener = co_await TcpListener::bind(SocketAddress::parse("127.0.0.1:0"));
    log += "at " + listener.local_address().to_string() + "\n";
    std::unique_ptr<Clients> world;
    if (!changed)
        world = std::make_unique<Clients>(listener.local_address().port(), clients);
    const auto serve = [&log, lent](TcpStream client) -> Coro<void> {
        const Counted frame;
        std::array<std::byte, 4096> buffer;
        log += "from " + client.peer_address().to_string() + "\n";
        if (lent) {
            while (const BufferLease data = co_await client.receive()) {
                log += data.text();
                co_await client.send_all(data);
            }
        } else {
            while (const std::size_t n = co_await client.recv(buffer)) {
                log.append(reinterpret_cast<const char*>(buffer.data()), n);
                co_await client.send_all(std::span(buffer).first(n));
            }
        }
        log += "end at " + std::to_string((co_await now()).time_since_epoch().count()) + "\n";
    };
    std::vector<Task<>> tasks;
    for (int i = 0; i < clients; ++i)
        tasks.push_back(co_await spawn(serve, co_await listener.accept()));
    for (const Task<>& task : tasks)
        co_await task.join();
}

/// As `changed` says: with clients, and then without.
Logs record_with_clients(bool lent) {
    const RecordingFile file;
    Logs logs;
    changed = false;
    run(echo_server(logs.recorded, 5, lent), {.record = file.path});
    changed = true;
    run(echo_server(logs.replayed, 5, lent), {.replay = file.path});
    changed = false;
    return logs;
}

} // namespace

// --- the same once more --------------------------------------------------------------------

TEST_CASE("a program that does something else ends with what differs") {
    const LeakGuard guard;
    const RecordingFile file;
    const std::string& path = file.path;
    run(work(), {.record = path});
    // Throws ReplayDiverged, which names the trap, the task, where it awaits, and what it did.
    run(work(), {.replay = path});
    changed = true;
    std::uint64_t at = 0;
    try {
        run(work(), {.replay = path});
    } catch (const ReplayDiverged& difference) {
        at = difference.trap();
    }
    changed = false;
    CHECK(at == 2);
}

TEST_CASE("sleeps are over at once, and the clock says what it said") {
    const LeakGuard guard;
    const auto program = [](std::string& log, Duration duration) -> Coro<void> {
        for (int i = 0; i < 5; ++i) {
            const TimePoint woke = co_await sleep(duration);
            log += std::to_string(woke.time_since_epoch().count()) + " ";
            log += std::to_string((co_await now()).time_since_epoch().count()) + "\n";
        }
    };
    const auto check = [&](KernelOptions options, Duration duration) {
        const RecordingFile file;
        Logs logs;
        options.record = file.path;
        run(program(logs.recorded, duration), options);
        run(program(logs.replayed, duration), {.replay = file.path});
        check_same(logs);
    };
    check({}, 1ms);
    check({.engine = "simulation"}, 24h); // no test would last that long
}

TEST_CASE("an echo server is replayed without its clients") {
    const LeakGuard guard;
    check_same(record_with_clients(false));
    check_same(record_with_clients(true));
}

TEST_CASE("cancellations and time limits strike where they struck") {
    const LeakGuard guard;
    check_same(record_and_replay([](std::string& log) -> Coro<void> {
        const auto sleeper = [&log](int number) -> Coro<void> {
            const Counted frame;
            try {
                co_await timeout_after(1ms * number, sleep(2ms));
                log += std::to_string(number) + " slept\n";
            } catch (const TaskTimeout&) {
                log += std::to_string(number) + " timed out\n";
            } catch (const TaskCancelled&) {
                log += std::to_string(number) + " cancelled\n";
                throw;
            }
            const auto in_time = co_await ignore_after(1us, disable_cancellation(sleep(1ms)));
            log += in_time ? "in time\n" : "too late\n";
            const bool pending = co_await check_cancellation();
            log += pending ? "pending\n" : "none\n";
        };
        std::vector<Task<>> tasks;
        for (int i = 0; i < 5; ++i)
            tasks.push_back(co_await spawn(sleeper(i)));
        co_await sleep(1ms);
        for (std::size_t i = 0; i < 3; ++i) {
            const bool reached = co_await tasks[i].cancel();
            log += reached ? "reached\n" : "late\n";
        }
        for (const Task<>& task : tasks)
            co_await task.wait();
    }));
}

TEST_CASE("queues, locks and semaphores hand over in the same order") {
    const LeakGuard guard;
    check_same(record_and_replay([](std::string& log) -> Coro<void> {
        Queue<int> queue{2};
        Semaphore permits{1};
        const auto consumer = [&](char name) -> Coro<void> {
            const Counted frame;
            for (;;) {
                const auto got = co_await ignore_after(300us, queue.get());
                if (!got)
                    co_return;
                const auto permit = co_await permits.hold();
                log += name + std::to_string(*got) + " ";
                co_await sleep(50us);
            }
        };
        std::vector<Task<>> tasks;
        for (const char name : {'a', 'b', 'c'})
            tasks.push_back(co_await spawn(consumer(name)));
        for (int i = 0; i < 30; ++i)
            co_await queue.put(i);
        for (const Task<>& task : tasks)
            co_await task.join();
    }));
}

TEST_CASE("what policies made of a program is replayed, and nobody asks them again") {
    int asked = 0;
    struct Slow final : Policy {
        explicit Slow(int& times) : asked(times) {}
        Verdict trapped(Asking& asking) noexcept override {
            ++asked;
            return std::holds_alternative<traps::Io>(asking.trap) ? Verdict::delay(2ms)
                                                                  : Verdict::allow();
        }
        int& asked;
    };
    const auto program = [&asked](std::string& log) -> Coro<void> {
        const auto told = [&log](const auto& answer) {
            log += (answer ? "done" : answer.error().message()) + "\n";
        };
        const test::Ends ends = test::socket_pair();
        std::string room(10, '\0');
        co_await with_policy(allow_only({}), [&]() -> Coro<void> {
            told(co_await traps::recv(ends.a.get(), bytes_of(room)));
        });
        co_await with_policy(std::make_shared<Slow>(asked), [&]() -> Coro<void> {
            told(co_await traps::send(ends.b.get(), bytes_of(room)));
            told(co_await traps::recv(ends.a.get(), bytes_of(room)));
            const auto late = co_await ignore_after(1ms, traps::recv(ends.a.get(), bytes_of(room)));
            log += late ? "in time\n" : "late\n";
            Task<> waits = co_await spawn(
                [](int fd) -> Coro<void> {
                    std::string own(10, '\0');
                    (void)co_await traps::recv(fd, bytes_of(own));
                },
                ends.a.get());
            co_await yield_now();
            log += (co_await waits.cancel()) ? "cancelled\n" : "too late\n";
        });
        const std::string path = "/no/such/file";
        co_await with_policy(retry({.attempts = 3, .first = 1ms, .errors = {ENOENT}}),
                             [&]() -> Coro<void> {
                                 told(co_await traps::open_at(AT_FDCWD, path.c_str(), O_RDONLY));
                             });
    };
    const RecordingFile file;
    Logs logs;
    run(program(logs.recorded), {.record = file.path});
    const int asked_then = std::exchange(asked, 0);
    run(program(logs.replayed), {.replay = file.path});
    check_same(logs);
    CHECK(asked_then > 4);
    CHECK(asked == 0);
}

TEST_CASE("functions on threads run again, and what they give counts") {
    const LeakGuard guard;
    check_same(record_and_replay([](std::string& log) -> Coro<void> {
        const auto ask = [&log](int number) -> Coro<void> {
            const int doubled = co_await run_in_thread([number] {
                std::this_thread::sleep_for(1ms);
                return 2 * number;
            });
            log += std::to_string(doubled) + " ";
        };
        for (int i = 0; i < 3; ++i)
            co_await ask(i);
        const bool in_time =
            co_await ignore_after(100us, run_in_thread([] { std::this_thread::sleep_for(20ms); }));
        log += in_time ? "in time" : "too late";
    }));
}

TEST_CASE("a file that is gone reads as it did") {
    const LeakGuard guard;
    const RecordingFile data;
    const auto program = [&](std::string& log) -> Coro<void> {
        File file = co_await File::open(data.path, O_RDWR | O_CREAT | O_TRUNC);
        co_await file.write_all("what was in the file\n");
        const FileStatus status = co_await file.stat();
        log += std::to_string(status.size) + " bytes\n";
        std::string text(64, '\0');
        const std::size_t got = co_await file.read_at(bytes_of(text), 5);
        log += text.substr(0, got);
        co_await file.close();
        try {
            (void)co_await File::open(data.path + "-not");
        } catch (const std::system_error& failure) {
            log += failure.what();
        }
    };
    const RecordingFile file;
    Logs logs;
    run(program(logs.recorded), {.record = file.path});
    std::remove(data.path.c_str());
    run(program(logs.replayed), {.replay = file.path});
    check_same(logs);
    struct ::stat status{};
    CHECK(::stat(data.path.c_str(), &status) != 0); // nothing was written
}

TEST_CASE("an opened file is of the type, size and age that it had") {
    const LeakGuard guard;
    const RecordingFile data;
    data.write(std::string(12'345, 'x'));
    const auto program = [&](std::string& log) -> Coro<void> {
        for (const std::string& path : {data.path, std::string("/tmp")}) {
            File file = co_await File::open(path);
            struct ::stat about{};
            ::fstat(file.fd(), &about);
            log += S_ISREG(about.st_mode) ? "file" : S_ISDIR(about.st_mode) ? "directory" : "?";
            if (S_ISREG(about.st_mode))
                log += " of " + std::to_string(about.st_size) + " bytes, changed at " +
                       std::to_string(about.st_mtim.tv_sec) + "." +
                       std::to_string(about.st_mtim.tv_nsec) + "\n";
        }
    };
    const RecordingFile file;
    Logs logs;
    run(program(logs.recorded), {.record = file.path});
    data.write("other");
    run(program(logs.replayed), {.replay = file.path});
    check_same(logs);
    CHECK(logs.recorded.contains("file of 12345 bytes"));
    CHECK(logs.recorded.ends_with("directory"));
}

TEST_CASE("datagrams come with their senders") {
    const LeakGuard guard;
    check_same(record_and_replay([](std::string& log) -> Coro<void> {
        UdpSocket server = co_await UdpSocket::bind(SocketAddress::parse("127.0.0.1:0"));
        UdpSocket client = co_await UdpSocket::bind(SocketAddress::parse("127.0.0.1:0"));
        SocketAddress at; // by a trap: local_address() asks Linux itself
        (void)co_await traps::socket_name(server.fd(), at.fill(), at.fill_size());
        for (const char* text : {"one", "two", "three"}) {
            co_await client.send_to(text, at);
            std::array<std::byte, 100> buffer;
            const Datagram got = co_await server.recv_from(buffer);
            log.append(reinterpret_cast<const char*>(got.data.data()), got.data.size());
            log += " from " + got.from.to_string() + "\n";
        }
    }));
}

TEST_CASE("descriptors that are passed can be closed, pipes and pairs used") {
    const LeakGuard guard;
    check_same(record_and_replay([](std::string& log) -> Coro<void> {
        UnixStreamPair pair = co_await UnixStream::pair();
        Pipe pipe = co_await Pipe::open();
        const int fds[] = {pipe.reader.fd(), pipe.writer.fd()};
        co_await pair.a.send_descriptors("take", fds);
        std::array<std::byte, 16> buffer;
        const DescriptorMessage got = co_await pair.b.recv_descriptors(buffer);
        log += std::to_string(got.descriptors.size()) + " descriptors\n";
        for (const Descriptor& descriptor : got.descriptors)
            log += ::fcntl(descriptor.get(), F_GETFD) >= 0 ? "open\n" : "closed\n";
        co_await pipe.writer.send(std::as_bytes(std::span("xyz", 3)));
        const std::size_t size = co_await pipe.reader.recv(buffer);
        log.append(reinterpret_cast<const char*>(buffer.data()), size);
        co_await pipe.writer.close();
        co_await pair.a.close();
    }));
}

TEST_CASE("descriptor numbers that are taken here are compared by what they stand for") {
    const RecordingFile file;
    const auto program = [](std::string& log) -> Coro<void> {
        for (int i = 0; i < 3; ++i) {
            File first = co_await File::open("/dev/zero");
            File second = co_await File::open("/dev/zero");
            std::string text(4, 'x');
            co_await second.read(bytes_of(text));
            co_await first.close();
            log += text == std::string(4, '\0') ? "zeros " : "other ";
        }
    };
    Logs logs;
    run(program(logs.recorded), {.record = file.path});
    std::vector<Descriptor> taken;
    for (int i = 0; i < 20; ++i)
        taken.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const LeakGuard guard;
    run(program(logs.replayed), {.replay = file.path});
    check_same(logs);
}

TEST_CASE("a signal that ended a server ends its replay") {
    const LeakGuard guard;
    const auto program = [](std::string& log) -> Coro<void> {
        SignalSet signals{SIGUSR1};
        if (!changed)
            pthread_kill(pthread_self(), SIGUSR1);
        log += std::to_string(co_await signals.next());
    };
    const auto stopped = [](std::string& log) -> Coro<void> {
        if (!changed)
            pthread_kill(pthread_self(), SIGUSR2);
        try {
            co_await sleep(1h);
        } catch (const TaskCancelled&) {
            log += "stopped";
        }
    };
    const RecordingFile file;
    const RecordingFile other;
    Logs logs;
    run(program(logs.recorded), {.record = file.path});
    run(stopped(logs.recorded), {.record = other.path, .cancel_on = {SIGUSR2}});
    changed = true;
    run(program(logs.replayed), {.replay = file.path});
    run(stopped(logs.replayed), {.replay = other.path, .cancel_on = {SIGUSR2}});
    changed = false;
    check_same(logs);
}

TEST_CASE("a server with idle limits cuts off the same clients") {
    const LeakGuard guard;
    const test::CapturedStderr quiet; // it says whom it cut off
    const auto program = [](std::string& log) -> Coro<void> {
        const auto talk = [&log](TcpStream client) -> Coro<void> {
            std::array<std::byte, 16> buffer;
            while (const std::size_t n = co_await client.recv(buffer))
                log += std::to_string(n) + " bytes\n";
        };
        const auto ask = [&log](SocketAddress at) -> Coro<void> {
            TcpStream idle = co_await TcpStream::connect(at);
            co_await idle.send_all("hello");
            std::array<std::byte, 16> buffer;
            try {
                log += std::to_string(co_await idle.recv(buffer)) + " at the end\n";
            } catch (const std::system_error&) {
                log += "reset\n";
            }
        };
        Event listening;
        SocketAddress at;
        Task<> server = co_await spawn(
            tcp_server(SocketAddress::parse("127.0.0.1:0"), talk,
                       {.idle_limit = 5ms, .on_listening = [&](const SocketAddress& bound) {
                            at = bound;
                            listening.set();
                        }}));
        co_await listening.wait();
        co_await ask(at);
        co_await server.cancel();
    };
    check_same(record_and_replay(program));
}

TEST_CASE("a deadlock is thrown again with the same text, and those who wait are destroyed") {
    const LeakGuard guard;
    const RecordingFile file;
    const auto program = []() -> Coro<void> {
        const Counted frame;
        WaitQueue queue;
        co_await traps::Park{&queue};
    };
    std::string lines;
    const auto text_of = [&](KernelOptions options) {
        options.log = [&](std::string_view line) { lines += std::string(line) + "\n"; };
        return thrown_by([&] { run(program(), options); });
    };
    const std::string recorded = text_of({.record = file.path});
    const std::string logged = std::exchange(lines, "");
    CHECK(recorded.starts_with("deadlock: "));
    CHECK(text_of({.replay = file.path}) == recorded);
    CHECK(lines == logged);
}

TEST_CASE("several runs of one kernel, and its shutdown, are followed") {
    const LeakGuard guard;
    const RecordingFile file;
    const auto program = [&](KernelOptions options) {
        std::string log;
        const auto left = [&log]() -> Coro<void> {
            const Counted frame;
            try {
                co_await sleep(1h);
            } catch (const TaskCancelled&) {
                log += "cancelled ";
                throw;
            }
        };
        {
            Kernel kernel{options};
            for (int i = 0; i < 3; ++i) {
                kernel.run([&]() -> Coro<void> {
                    co_await spawn(left());
                    co_await yield_now();
                    log += "ran ";
                });
            }
            CHECK(kernel.task_count() == 3);
        }
        return log;
    };
    const std::string recorded = program({.record = file.path});
    CHECK(recorded == "ran ran ran cancelled cancelled cancelled ");
    CHECK(program({.replay = file.path}) == recorded);
}

TEST_CASE("a recording is replayed where io_uring is refused") {
    const RecordingFile file;
    run(works_with_children(), {.record = file.path});
    const std::string outcome = in_child([&]() -> std::string {
        if (!test::forbid(SYS_io_uring_setup, EPERM))
            return "no filter";
        if (thrown_by([] { Kernel{{.engine = "uring"}}; }) == "nothing")
            return "not refused";
        return replayed(file);
    });
    CHECK((outcome == "nothing" || outcome == "no filter"));
}

// --- what differs --------------------------------------------------------------------------

TEST_CASE("what differs is told with its trap, task and lines") {
    const LeakGuard guard;
    const RecordingFile file;
    run(works_with_children(), {.record = file.path});
    changed = true;
    const std::string text = replayed(file);
    changed = false;
    CAPTURE(text);
    CHECK(text.contains("differs at trap 4: task 2 'child' at "));
    CHECK(text.contains("replay_test.cpp:" + std::to_string(changed_line)));
    CHECK(text.contains("\n  recorded: Yield()\n  here:     Sleep(for 2000 ns)"));
    CHECK(replayed(file) == "nothing");
}

TEST_CASE("other arguments, an earlier end and another name are differences") {
    const LeakGuard guard;
    const RecordingFile file;
    const auto sleeps = [](Duration time, int count) -> Coro<void> {
        for (int i = 0; i < count; ++i)
            co_await sleep(time);
    };
    run(sleeps(1us, 2), {.record = file.path});
    CHECK(thrown_by([&] {
              run(sleeps(2us, 2), {.replay = file.path});
          }).contains("recorded: Sleep(for 1000 ns)\n  here:     Sleep(for 2000 ns)"));
    CHECK(thrown_by([&] {
              run(sleeps(1us, 1), {.replay = file.path});
          }).contains("'main' ended after it; recorded was Sleep(for 1000 ns)"));
    CHECK(thrown_by([&] {
              run(sleeps(1us, 3), {.replay = file.path});
          }).contains("recorded: its end\n  here:     Sleep(for 1000 ns)"));
    const auto named = [](std::string_view name) -> Coro<void> {
        const auto child = []() -> Coro<void> { co_return; };
        co_await spawn(child(), {.name = name});
        co_await yield_now();
    };
    run(named("first"), {.record = file.path});
    CHECK(thrown_by([&] {
              run(named("other"), {.replay = file.path});
          }).contains("task 2 was recorded as 'first', and is 'other' here"));
    const auto opens = [](std::string path) -> Coro<void> { (void)co_await File::open(path); };
    run(opens("/dev/null"), {.record = file.path});
    CHECK(thrown_by([&] {
              run(opens("/dev/zero"), {.replay = file.path});
          }).contains("'/dev/null')\n  here:     openat(directory -100"));
}

TEST_CASE("a task that nobody wakes here is a difference") {
    const LeakGuard guard;
    const RecordingFile file;
    const auto program = []() -> Coro<void> {
        Event event;
        const auto waiter = [&event]() -> Coro<void> { co_await event.wait(); };
        Task<> task = co_await spawn(waiter());
        co_await yield_now();
        if (!changed)
            event.set();
        co_await yield_now();
        event.set();
        co_await task.join();
    };
    run(program(), {.record = file.path});
    changed = true;
    const std::string text = thrown_by([&] { run(program(), {.replay = file.path}); });
    changed = false;
    CHECK(text.contains("was woken in the recording, and nobody wakes it here"));
}

TEST_CASE("a replay stops before a trap, and says who would go on") {
    const LeakGuard guard;
    const RecordingFile file;
    run(works_with_children(), {.record = file.path});
    const std::string text =
        thrown_by([&] { run(works_with_children(), {.replay = file.path, .replay_until = 4}); });
    CAPTURE(text);
    CHECK(text.starts_with("the replay stops before trap 4: task 2 'child' would go on from "));
    CHECK(text.contains("task 1 'main' waits in Join of task 2 'child' at "));
    CHECK(thrown_by([&] {
              run(works_with_children(), {.replay = file.path, .replay_until = 100});
          }) == "nothing");
}

// --- files that are none -------------------------------------------------------------------

TEST_CASE("a missing, an empty and a foreign file are told apart") {
    const LeakGuard guard;
    const RecordingFile file;
    CHECK(replayed(file) == "replay of " + file.path + ": No such file or directory");
    file.write("");
    CHECK(replayed(file) == "the recording " + file.path + " is empty");
    file.write("#!/bin/sh\necho\n");
    CHECK(replayed(file) == "the recording " + file.path + " is none: it does not begin as one");
    file.write("TRAPREC\n");
    CHECK(replayed(file) == "the recording " + file.path + " is cut off within its header");
}

TEST_CASE("another version, another program and damage are told") {
    const LeakGuard guard;
    const RecordingFile file;
    run(works_with_children(), {.record = file.path});
    const std::string whole = file.bytes();
    const auto with = [&](std::size_t at, char byte) {
        std::string bytes = whole;
        bytes[at] = byte;
        file.write(bytes);
        return replayed(file);
    };
    CHECK(with(8, 9).contains("has version 9 of the format; this program reads version 1"));
    CHECK(with(20, '?').contains("the checksum of its header is wrong"));
    CHECK(with(80, '?').contains("is damaged: the checksum of block 0, at byte 64, is wrong"));
    CHECK(with(67, '?').contains("block 0, at byte 64, has a length that cannot be"));
    std::string header = whole.substr(0, 60);
    header[16] = header[16] == 'x' ? 'y' : 'x';
    const std::uint32_t sum = recording::crc32c(std::as_bytes(std::span(header)));
    header.append(reinterpret_cast<const char*>(&sum), sizeof sum);
    file.write(header + whole.substr(64));
    CHECK(replayed(file).contains(" is of another program: it has "));
    CHECK(in_child([&]() -> std::string {
              ::setenv("TRAPLINE_REPLAY_ANYWAY", "1", 1);
              return replayed(file);
          }) == "nothing");
}

TEST_CASE("a recording that is cut anywhere is followed up to its last whole block") {
    const LeakGuard guard;
    const RecordingFile file;
    run(works_with_children(), {.record = file.path});
    const std::string whole = file.bytes();
    REQUIRE(replayed(file) == "nothing");
    for (std::size_t size = 64; size < whole.size(); ++size) {
        file.write(whole.substr(0, size));
        const std::string text = replayed(file);
        CAPTURE(size);
        const bool told = text.starts_with("the recording ends here, after trap ") ||
                          (text == "nothing" && size + 10 > whole.size());
        CHECK_MESSAGE(told, text);
    }
    CHECK(Counted::alive() == 0);
}

TEST_CASE("the checksum is CRC-32C") {
    CHECK(recording::crc32c(std::as_bytes(std::span("123456789", 9))) == 0xe3069283);
    CHECK(recording::crc32c({}) == 0);
}

TEST_CASE("a program that was killed is replayed up to its last block") {
    const RecordingFile file;
    const auto ticks = [](std::string& log) -> Coro<void> {
        for (int i = 0;; ++i) {
            log += std::to_string(i) + "\n";
            co_await sleep(100us);
        }
    };
    const pid_t child = ::fork();
    if (child == 0) {
        std::string log;
        run(ticks(log), {.record = file.path});
        ::_exit(1);
    }
    struct ::stat status{};
    while (::stat(file.path.c_str(), &status) != 0 || status.st_size < 2'000)
        std::this_thread::sleep_for(1ms);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const LeakGuard guard;
    std::string log;
    const std::string text = thrown_by([&] { run(ticks(log), {.replay = file.path}); });
    CHECK(text.contains(" was not written any further"));
    CHECK(text.contains("waits in Sleep at "));
    CHECK(log.size() > 100);
}
