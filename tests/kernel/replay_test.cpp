#include <trapline/kernel/replay.hpp>

#include <array>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <future>
#include <random>
#include <semaphore>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <trapline/trapline.hpp>

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
using test::with_child;

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

std::string replayed(const RecordingFile& file) {
    return thrown_by([&] { run(with_child(work), {.replay = file.path}); });
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
        UdpSocket connected = co_await UdpSocket::connect(server.local_address());
        log += "at " + server.local_address().to_string() + ", from " +
               connected.local_address().to_string() + "\n";
        co_await connected.send("zero");
        for (const char* text : {"one", "two", "three"}) {
            co_await client.send_to(text, server.local_address());
            std::array<std::byte, 100> buffer;
            const Datagram got = co_await server.recv_from(buffer);
            log.append(reinterpret_cast<const char*>(got.data.data()), got.data.size());
            log += " from " + got.from.to_string() + "\n";
        }
    }));
}

TEST_CASE("what a stream does not know in a replay it refuses to say") {
    const LeakGuard guard;
    const RecordingFile file;
    const auto program = [](std::string& log) -> Coro<void> {
        const auto told = [&log](const auto& ask) {
            try {
                ask();
                log += "told ";
            } catch (const std::system_error& failure) {
                log += failure.code() == std::errc::not_connected ? "refused " : failure.what();
            }
        };
        UnixListener local =
            co_await UnixListener::bind(SocketAddress::unix_abstract("trapline-replay-test"));
        UnixStream a = co_await UnixStream::connect(local.local_address());
        UnixStream b = co_await local.accept();
        told([&] {
            const uid_t who = b.peer_credentials().uid;
            CHECK(who == ::getuid());
        });
        TcpListener listener = co_await TcpListener::bind(SocketAddress::parse("127.0.0.1:0"));
        TcpStream c = co_await TcpStream::connect(listener.local_address());
        TcpStream d = co_await listener.accept();
        told([&] {
            const SocketAddress here = d.local_address();
            CHECK(here == listener.local_address());
        });
        SocketAddress known;
        (void)co_await traps::socket_name(d.fd(), known.fill(), known.fill_size());
        CHECK(known == listener.local_address());
    };
    const Logs logs = record_and_replay(file, program);
    CHECK(logs.recorded == "told told ");
    CHECK(logs.replayed == "refused refused ");
}

TEST_CASE("a file that is replaced is, again, no more than said to be") {
    const LeakGuard guard;
    const RecordingFile file;
    const RecordingFile data;
    data.write("old");
    const auto program = [&](std::string& log) -> Coro<void> {
        co_await write_file(data.path, "new"); // with the old one's permissions
        log += "written ";
        try {
            co_await write_file(data.path + "/below", "none");
        } catch (const std::system_error& failure) {
            log += failure.what();
        }
        const std::string folder = data.path + ".folder";
        std::filesystem::create_directory(folder);
        File other = co_await File::open(data.path, O_RDWR);
        co_await other.truncate(2);
        log += " truncated";
        std::filesystem::remove(folder);
    };
    Logs logs;
    run(program(logs.recorded), {.record = file.path});
    CHECK(data.bytes() == "ne");
    data.write("left alone");
    run(program(logs.replayed), {.replay = file.path});
    check_same(logs);
    CHECK(data.bytes() == "left alone");
}

TEST_CASE("what a program opens under a number that was taken when it was recorded stays open") {
    const LeakGuard guard;
    const RecordingFile file;
    const auto program = [](KernelOptions options, int inherited) {
        Kernel kernel{std::move(options)};
        ::close(inherited); // as daemons do
        Descriptor own{::open("/dev/null", O_RDWR | O_CLOEXEC)};
        CHECK(own.get() == inherited);
        kernel.run(work());
        return own;
    };
    const int inherited = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK(program({.record = file.path}, inherited));
    REQUIRE(::fcntl(inherited, F_GETFD) < 0);
    const Descriptor own = program({.replay = file.path}, inherited);
    CHECK(::fcntl(own.get(), F_GETFD) >= 0);
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

TEST_CASE("a number is another's while its close is not answered yet") {
    const LeakGuard guard;
    const auto passes_through_pair = [](std::string& log, int turns) -> Coro<void> {
        for (int turn = 0; turn < turns; ++turn)
            co_await yield_now();
        UnixStreamPair pair = co_await UnixStream::pair();
        co_await pair.a.send_all("x");
        std::array<std::byte, 8> buffer;
        log += std::to_string(co_await pair.b.recv(buffer)) + " bytes\n";
    };
    check_same(record_and_replay([&](std::string& log) -> Coro<void> {
        for (int turns = 0; turns < 4; ++turns) {
            File file = co_await File::open("/dev/null");
            const auto user = co_await spawn(passes_through_pair(log, turns));
            co_await file.close();
            co_await user.join();
        }
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

TEST_CASE("a signal that a program sends to itself does not strike when nobody waits for it") {
    const RecordingFile file;
    CHECK(in_child([&]() -> std::string {
              const auto program = [](std::string& log) -> Coro<void> {
                  SignalSet signals{SIGUSR1, SIGUSR2};
                  ::raise(SIGUSR1);
                  log += std::to_string(co_await signals.next()) + " ";
                  ::raise(SIGUSR2);
                  log += std::to_string(co_await signals.next());
              };
              const Logs logs = record_and_replay(file, program);
              return logs.recorded == logs.replayed ? "" : logs.replayed;
          }) == "");
    // It does where the replay ends before it is taken; but that has been said then.
    const RecordingFile said;
    const auto program = []() -> Coro<void> {
        SignalSet signals{SIGUSR1};
        ::raise(SIGUSR1);
        if (changed)
            co_await yield_now();
        co_await signals.next();
    };
    CHECK(in_child([&]() -> std::string {
              run(program(), {.record = said.path});
              changed = true;
              run(program(),
                  {.replay = said.path, .log = [&](auto line) { file.write(std::string(line)); }});
              return "";
          }).contains("signal " + std::to_string(SIGUSR1)));
    CHECK(file.bytes().contains("here:     Yield()"));
}

TEST_CASE("tasks that plain code spawns and cancels are, within a task and between two runs") {
    const LeakGuard guard;
    const RecordingFile file;
    const auto program = [](KernelOptions options) {
        std::string log;
        const auto sleeper = [&log](char name) -> Coro<void> {
            try {
                co_await sleep(1h);
            } catch (const TaskCancelled&) {
                log += name;
                throw;
            }
        };
        Kernel kernel{std::move(options)};
        const Task<> first = kernel.spawn(sleeper, 'a');
        const Task<> never = kernel.spawn(sleeper, 'b');
        CHECK(kernel.cancel(never));
        kernel.run([&]() -> Coro<void> {
            const Task<> second = kernel.spawn(sleeper, 'c');
            co_await yield_now();
            CHECK(kernel.cancel(second));
            CHECK(kernel.cancel(second));
            co_await second.wait();
            log += changed ? "" : " ";
        });
        CHECK(kernel.cancel(first));
        kernel.run(work());
        CHECK_FALSE(kernel.cancel(first));
        return log;
    };
    const std::string recorded = program({.record = file.path});
    CHECK(recorded == "bc a");
    CHECK(program({.replay = file.path}) == recorded);
    const auto other = [&] {
        Kernel kernel{{.replay = file.path}};
        kernel.run([&]() -> Coro<void> {
            kernel.spawn(work());
            co_return;
        });
    };
    CHECK(thrown_by(other).contains("task 1 was recorded as '', and is 'main' here"));
    CHECK(thrown_by([&] { Kernel{{.replay = file.path}}.run_once(); }) ==
          "run_once in a replay: Operation not supported");
}

TEST_CASE("what plain code does to tasks is compared, too, whoever catches it") {
    const LeakGuard guard;
    const RecordingFile file;
    const auto program = [](KernelOptions options) {
        Kernel kernel{std::move(options)};
        kernel.run([&]() -> Coro<void> {
            const Task<> task = kernel.spawn(work());
            try {
                if (changed)
                    kernel.cancel(task);
            } catch (const std::exception&) {
                // It is too late: the kernel knows.
            }
            co_await task.wait();
        });
    };
    program({.record = file.path});
    changed = true;
    CHECK(thrown_by([&] {
              program({.replay = file.path});
          }).contains("task 2 'task-2' is cancelled here; recorded was task 1: Join(task 2)"));
    changed = false;
}

TEST_CASE("what a policy refuses is neither begun nor closed") {
    const LeakGuard guard;
    struct Refuse final : Policy {
        Verdict trapped(Asking& asking) noexcept override {
            const auto* io = std::get_if<traps::Io>(&asking.trap);
            const bool refused = std::holds_alternative<traps::Spawn>(asking.trap) ||
                                 (io && std::holds_alternative<traps::Close>(io->request));
            return refused ? Verdict::refuse(EPERM) : Verdict::allow();
        }
    };
    const auto program = [](std::string& log, KernelOptions options) {
        const auto policed = [&log](int fd) -> Coro<void> {
            try {
                co_await spawn(work());
            } catch (const std::system_error& failure) {
                log += failure.what();
            }
            const auto closed = co_await traps::close(fd);
            log += closed ? " closed" : " not closed";
            log += ::fcntl(fd, F_GETFD) >= 0 ? ", open" : ", not open";
        };
        const Descriptor own{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
        Kernel kernel{std::move(options)};
        kernel.run(with_policy(std::make_shared<Refuse>(), policed(own.get())));
        kernel.run(with_child(work)); // its main was spawned by nobody
        CHECK(::fcntl(own.get(), F_GETFD) >= 0);
    };
    const RecordingFile file;
    Logs logs;
    program(logs.recorded, {.record = file.path});
    program(logs.replayed, {.replay = file.path});
    check_same(logs);
    CHECK(logs.recorded.ends_with(" not closed, open"));
}

TEST_CASE("a thread that a policy has answered for does not begin, one that it let does") {
    const LeakGuard guard;
    struct Answer final : Policy {
        Verdict trapped(Asking& asking) noexcept override {
            const auto* thread = std::get_if<traps::AwaitThread>(&asking.trap);
            if (!thread || !thread->completion->changes_files)
                return Verdict::allow();
            return refuses ? Verdict::refuse(EPERM) : Verdict::answer({});
        }
        bool refuses = false;
    };
    int began = 0;
    const auto program = [&began](std::string& log) -> Coro<void> {
        const auto policy = std::make_shared<Answer>();
        const auto policed = [&]() -> Coro<void> {
            const int other = co_await run_in_thread([] { return 7; });
            log += std::to_string(other) + " ";
            const int mine = co_await run_in_thread([&began] { return ++began; }).changing_files();
            log += std::to_string(mine) + " ";
            policy->refuses = true;
            const int none = co_await run_in_thread([&began] { return ++began; }).changing_files();
            log += std::to_string(none) + " ";
        };
        try {
            co_await with_policy(policy, policed());
        } catch (const std::system_error& failure) {
            log += failure.code().message();
        }
    };
    const Logs logs = record_and_replay(program);
    check_same(logs);
    CHECK(logs.recorded == "7 0 Operation not permitted");
    CHECK(began == 0);
}

TEST_CASE("a thread that waits for what tasks write does not keep a replay for ever") {
    const LeakGuard guard;
    const RecordingFile file;
    Descriptor reader; // the thread's, which outlives the task
    std::binary_semaphore ended{0};
    const auto program = [&]() -> Coro<void> {
        Pipe pipe = co_await Pipe::open();
        reader = Descriptor{::dup(pipe.reader.fd())};
        const auto writes = [](Pipe& to) -> Coro<void> { co_await to.writer.send_all("x"); };
        const Task<> task = co_await spawn(writes, std::ref(pipe));
        co_await run_in_thread([&] {
            char byte = 0;
            (void)!::read(reader.get(), &byte, 1);
            ended.release();
        });
        co_await task.join();
    };
    run(program(), {.record = file.path});
    ended.acquire();
    std::string lines;
    const std::string text = thrown_by([&] {
        run(program(), {.replay = file.path, .shutdown_patience = 1ms, .log = [&](auto line) {
                            lines += std::string(line) + "\n";
                        }});
    });
    CHECK(text.contains(" waits for a thread that does not end"));
    CHECK(lines.contains("replay: still waits for the thread that task 1 'main' at "));
    CHECK(lines.contains("replay: it differs at trap "));
    ended.acquire(); // nobody can write any more
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
    run(with_child(work), {.record = file.path});
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
    run(with_child(work), {.record = file.path});
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

TEST_CASE("what was recorded instead is named, and an exception that nobody recorded") {
    const LeakGuard guard;
    const RecordingFile file;
    const auto program = []() -> Coro<void> {
        const Task<> child =
            co_await spawn(work()); // the last line that it is known to have reached
        if (changed)
            throw std::runtime_error("only here");
        co_await child.join();
    };
    constexpr int last_line = __LINE__ - 5;
    run(program(), {.record = file.path});
    changed = true;
    const std::string text = thrown_by([&] { run(program(), {.replay = file.path}); });
    changed = false;
    CAPTURE(text);
    CHECK(text.contains("task 1 'main' ended after it by an exception: only here at "));
    CHECK(text.contains("replay_test.cpp:" + std::to_string(last_line)));
    CHECK(text.ends_with("; recorded was Join(task 2)"));

    const auto waits = [](UnixStream& stream) -> Coro<void> {
        std::array<std::byte, 8> buffer;
        co_await stream.recv(buffer);
    };
    const auto reads = [waits]() -> Coro<void> {
        UnixStreamPair pair = co_await UnixStream::pair();
        const Task<> task = co_await spawn(waits, std::ref(pair.a));
        co_await yield_now();
        if (changed)
            co_return;
        const Task<> other = co_await spawn(work());
        co_await pair.b.send_all("x");
        co_await task.join();
        co_await other.join();
    };
    run(reads(), {.record = file.path});
    const auto stopped = [&](std::uint64_t until) {
        return thrown_by([&] { run(reads(), {.replay = file.path, .replay_until = until}); });
    };
    CHECK(stopped(2).contains("task 1 'main' would go on from Spawn with 0\n"));
    CHECK(stopped(2).contains("task 2 'task-2' has not begun"));
    CHECK(stopped(4).contains("task 2 'task-2' waits in recv at "));
    changed = true;
    CHECK(thrown_by([&] {
              run(reads(), {.replay = file.path});
          }).ends_with("task 1 'main' ended after it; recorded was Spawn()"));
    changed = false;

    const auto sends = []() -> Coro<void> {
        UdpSocket socket = co_await UdpSocket::bind(SocketAddress::parse("127.0.0.1:0"));
        UdpSocket to = co_await UdpSocket::connect(socket.local_address());
        co_await to.send(changed ? "other" : "one"); // there is no address with it
    };
    run(sends(), {.record = file.path});
    changed = true;
    CHECK(thrown_by([&] { run(sends(), {.replay = file.path}); }).contains("address none)\n"));
    changed = false;
}

TEST_CASE("a task that waits for a thread, or does not, differs by who was faster") {
    const LeakGuard guard;
    const RecordingFile file;
    const auto program = []() -> Coro<void> {
        ThreadCompletion done;
        const std::jthread other{[&done] { done.complete(); }};
        if (!changed)
            co_await traps::AwaitThread{&done};
        co_await yield_now();
    };
    run(program(), {.record = file.path});
    changed = true;
    std::string line;
    const std::string text = thrown_by(
        [&] { run(program(), {.replay = file.path, .log = [&](auto said) { line = said; }}); });
    changed = false;
    CHECK(
        text.contains("recorded: AwaitThread()\n  here:     Yield()\n  Whether a task has to wait "
                      "for a thread depends on which of them is faster."));
    CHECK(line.contains("depends on which of them is faster."));
}

TEST_CASE("under a debugger a replay says where it stops, and goes on") {
    const RecordingFile file;
    run(with_child(work), {.record = file.path});
    const pid_t child = ::fork();
    if (child == 0) {
        ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
        std::string line;
        run(with_child(work),
            {.replay = file.path, .replay_until = 2, .log = [&](auto said) { line = said; }});
        ::_exit(line.starts_with("the replay stops before trap 2: task 1 'main' would go on") ? 7
                                                                                              : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFSTOPPED(status));
    CHECK(WSTOPSIG(status) == SIGTRAP);
    ::ptrace(PTRACE_CONT, child, nullptr, nullptr);
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 7);
}

TEST_CASE("a replay stops before a trap, and says who would go on") {
    const LeakGuard guard;
    const RecordingFile file;
    run(with_child(work), {.record = file.path});
    const std::string text =
        thrown_by([&] { run(with_child(work), {.replay = file.path, .replay_until = 4}); });
    CAPTURE(text);
    CHECK(text.starts_with("the replay stops before trap 4: task 2 'child' would go on from "));
    CHECK(text.contains("task 1 'main' waits in Join of task 2 'child' at "));
    std::string line;
    CHECK(
        thrown_by([&] {
            run(with_child(work),
                {.replay = file.path, .replay_until = 100, .log = [&](auto said) { line = said; }});
        }) == "nothing");
    CHECK(line == "the replay was to stop before trap 100, and there were 4");
}
