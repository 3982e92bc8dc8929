// The epoll engine's threads for files, its turns and its clock.
#include <trapline/kernel/kernel.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <trapline/trapline.hpp>
#include <trapline/traps/sanitizers.hpp>

#include "../support/leaks.hpp"
#include "../support/process.hpp"
#include "../support/seccomp.hpp"
#include "../support/sockets.hpp"

using namespace trapline;
using namespace trapline::test;
using namespace std::chrono_literals;

namespace {

template <class Main>
void on_epoll(Main main, unsigned threads = 4) {
    const LeakGuard guard;
    run(main, {.engine = "epoll", .epoll = {.threads = threads}});
}

/// A folder for one test.
class Folder {
public:
    Folder() {
        std::string name = (std::filesystem::temp_directory_path() / "trapline-XXXXXX").string();
        REQUIRE(::mkdtemp(name.data()));
        path_ = name;
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    ~Folder() { std::filesystem::remove_all(path_); }
    std::string operator/(const char* name) const { return (path_ / name).string(); }

private:
    std::filesystem::path path_;
};

std::vector<std::string> threads_here() {
    std::vector<std::string> ids;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task"))
        ids.push_back(entry.path().filename());
    return ids;
}

/// The mask of blocked signals as Linux shows it.
std::string blocked_signals_of(const std::string& thread) {
    std::ifstream status("/proc/self/task/" + thread + "/status");
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with("SigBlk:"))
            return line.substr(line.find_first_not_of(" \t", 7));
    }
    return "";
}

/// Whether a thread of this process is within a system call, says Linux.
bool any_thread_in(long call) {
    const std::string number = std::to_string(call) + " ";
    return std::ranges::any_of(threads_here(), [&](const std::string& thread) {
        std::ifstream file("/proc/self/task/" + thread + "/syscall");
        std::string line;
        return std::getline(file, line) && line.starts_with(number);
    });
}

} // namespace

TEST_CASE("epoll: threads begin with the first file, block all signals, and end with the kernel") {
    const std::size_t before = threads_here().size();
    std::optional<Kernel> kernel;
    kernel.emplace(KernelOptions{.engine = "epoll", .epoll = {.threads = 2}});
    kernel->run([&]() -> Coro<void> {
        (void)co_await traps::nop();
        CHECK(threads_here().size() == before);
        std::vector<Task<void>> tasks;
        for (int n = 0; n < 20; ++n) {
            tasks.push_back(co_await spawn([]() -> Coro<void> {
                const auto fd = co_await traps::open_at(AT_FDCWD, "/dev/null", O_RDONLY);
                REQUIRE(fd.has_value());
                (void)co_await traps::close(*fd);
            }));
        }
        for (Task<void>& task : tasks)
            co_await task.join();
    });
    const std::vector<std::string> now = threads_here();
    CHECK(now.size() > before);
    constexpr std::size_t of_the_sanitizer = TRAPLINE_THREAD_SANITIZER;
    CHECK(now.size() <= before + 2 + of_the_sanitizer);
    int blocking_all = 0;
    for (const std::string& thread : now) // but SIGKILL, SIGSTOP and two of the C library's own
        blocking_all += blocked_signals_of(thread).starts_with("fffffff");
    CHECK(blocking_all >= static_cast<int>(now.size() - before - of_the_sanitizer));
    kernel.reset();
    // Linux lists a thread for a moment after it was joined.
    for (int i = 0; i < 1000 && threads_here().size() > before + of_the_sanitizer; ++i)
        ::usleep(100);
    CHECK(threads_here().size() <= before + of_the_sanitizer);
}

TEST_CASE("epoll: what waits for a thread is taken back by a cancel, what runs is waited for") {
    const Folder folder;
    const std::string fifo = folder / "fifo";
    must(::mkfifo(fifo.c_str(), 0600), "mkfifo");
    on_epoll(
        [&]() -> Coro<void> {
            // Blocks the only thread until somebody writes.
            std::string ended = "not";
            int opened = -1;
            Task<void> opening = co_await spawn([&]() -> Coro<void> {
                try {
                    const auto fd = co_await traps::open_at(AT_FDCWD, fifo.c_str(), O_RDONLY);
                    opened = fd.value_or(-1);
                    co_await yield_now();
                    ended = "well";
                } catch (const TaskCancelled&) {
                    ended = "cancelled after";
                }
            });
            while (!any_thread_in(SYS_openat))
                co_await sleep(100us);
            struct ::statx status{};
            Task<void> asking = co_await spawn([&]() -> Coro<void> {
                (void)co_await traps::stat_at(AT_FDCWD, "/", 0, STATX_TYPE, status);
            });
            co_await yield_now();
            co_await yield_now();
            CHECK_FALSE(asking.terminated());
            CHECK((co_await asking.cancel()));
            CHECK(status.stx_mode == 0);

            const Task<void> cancelling =
                co_await spawn([&]() -> Coro<void> { (void)co_await opening.cancel(); });
            co_await yield_now();
            co_await yield_now();
            CHECK_FALSE(opening.terminated());
            const Descriptor writer{
                must(::open(fifo.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC), "open")};
            co_await cancelling.join();
            const Descriptor reader{opened};
            CHECK(opened >= 0); // what was opened is not lost
            CHECK(ended == "cancelled after");
        },
        1);
}

TEST_CASE("epoll: while no thread is free a file is closed all the same, and at once") {
    const Folder folder;
    const std::string fifo = folder / "fifo";
    must(::mkfifo(fifo.c_str(), 0600), "mkfifo");
    on_epoll(
        [&]() -> Coro<void> {
            const Task<int> opening = co_await spawn([&]() -> Coro<int> {
                const auto fd = co_await traps::open_at(AT_FDCWD, fifo.c_str(), O_RDONLY);
                co_return fd.value_or(-1);
            });
            while (!any_thread_in(SYS_openat))
                co_await sleep(100us);
            const int file = must(::open("/proc/self/stat", O_RDONLY | O_CLOEXEC), "open");
            const Task<> closing = co_await spawn([](int fd) -> Coro<void> {
                const auto closed = co_await traps::close(fd);
                CHECK(closed.has_value());
            }(file));
            for (int turn = 0; turn < 5; ++turn)
                co_await yield_now();
            CHECK(closing.terminated());
            CHECK(::fcntl(file, F_GETFD) < 0);
            const Descriptor writer{
                must(::open(fifo.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC), "open")};
            const Descriptor reader{co_await opening.join()};
            CHECK(reader.get() >= 0);
        },
        1);
}

TEST_CASE("epoll: files are read and written at offsets and at their position, to the last byte") {
    const Folder folder;
    const std::string path = folder / "file";
    on_epoll([&]() -> Coro<void> {
        const Descriptor file{
            (co_await traps::open_at(AT_FDCWD, path.c_str(), O_RDWR | O_CREAT, 0600)).value()};
        std::string data(3'000'000, 'x');
        for (std::size_t i = 0; i < data.size(); ++i)
            data[i] = static_cast<char>(i % 251);
        const auto at_position =
            co_await traps::write(file.get(), std::as_bytes(std::span(data).first(1'000'001)));
        CHECK(at_position == 1'000'001);
        const auto at_offset = co_await traps::write(
            file.get(), std::as_bytes(std::span(data).subspan(1'000'001)), 1'000'001);
        CHECK(at_offset == data.size() - 1'000'001);
        CHECK((co_await traps::fsync(file.get())).has_value());
        std::string got(data.size() + 100, '\0');
        // All but the beginning out of the cache, as far as Linux follows advice.
        ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
        ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_RANDOM);
        must(::pread(file.get(), got.data(), 50'000, 0), "pread");
        const auto read_all =
            co_await traps::read(file.get(), std::as_writable_bytes(std::span(got)), 0);
        CHECK(read_all == data.size()); // a short count is the end of the file, not of the cache
        got.resize(data.size());
        CHECK((got == data));
        const auto end = co_await traps::read(file.get(), std::as_writable_bytes(std::span(got)),
                                              std::int64_t(data.size()));
        CHECK(end == 0);
        const auto position =
            co_await traps::read(file.get(), std::as_writable_bytes(std::span(got).first(10)));
        CHECK(position == 10);
        CHECK(got.substr(0, 10) == data.substr(1'000'001, 10));
        CHECK((co_await traps::close(
                   Descriptor{must(::fcntl(file.get(), F_DUPFD_CLOEXEC, 0), "dup")}.release()))
                  .has_value());

        const Descriptor directory{
            (co_await traps::open_at(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY)).value()};
        const auto no_file =
            co_await traps::read(directory.get(), std::as_writable_bytes(std::span(got).first(10)));
        CHECK((!no_file && no_file.error() == std::errc::is_a_directory));
    });
}

TEST_CASE("epoll: who always finds something starves nobody") {
    on_epoll([]() -> Coro<void> {
        const Ends ends = socket_pair();
        write_all(ends.b.get(), std::string(200, 'x'));
        const Descriptor zeros{must(::open("/dev/zero", O_RDONLY | O_CLOEXEC), "open")};
        int turns = 0;
        const Task<void> ticker = co_await spawn([&]() -> Coro<void> {
            for (;;) {
                ++turns;
                co_await yield_now();
            }
        });
        std::byte byte{};
        for (int n = 0; n < 200; ++n) {
            const auto got = co_await traps::recv(ends.a.get(), std::span(&byte, 1));
            REQUIRE(got == 1);
        }
        CHECK(turns > 60);
        turns = 0;
        for (int n = 0; n < 200; ++n) {
            const auto got = co_await traps::read(zeros.get(), std::span(&byte, 1));
            REQUIRE(got == 1);
        }
        CHECK(turns > 60);
        turns = 0;
        std::array<std::byte, 1> drained;
        for (int n = 0; n < 200; ++n) {
            const auto sent = co_await traps::send(ends.b.get(), drained);
            REQUIRE(sent == 1);
        }
        CHECK(turns > 60);
        co_await ticker.cancel();
    });
}

TEST_CASE("epoll: without a timer of nanoseconds sleepers wake late by less, and never early") {
    for (const int error : {ENOSYS, EPERM}) {
        const std::string answer = in_child([&]() -> std::string {
            must_forbid(SYS_epoll_pwait2, error);
            Kernel kernel{{.engine = "epoll"}};
            bool early = false;
            kernel.run([&]() -> Coro<void> {
                for (const Duration nap : {Duration{1}, Duration{300us}, Duration{1500us}}) {
                    const TimePoint from = co_await now();
                    const TimePoint woken = co_await sleep(nap);
                    early = early || woken - from < nap;
                }
            });
            if (early)
                return "woke early";
            return kernel.describe().contains("milliseconds") ? "" : kernel.describe();
        });
        CHECK(answer == "");
    }
}

TEST_CASE("epoll: where Linux has no reads and writes that do not wait, threads make them") {
    const std::string answer = in_child([]() -> std::string {
        must_forbid(SYS_preadv2, EOPNOTSUPP);
        must_forbid(SYS_pwritev2, EOPNOTSUPP);
        const std::string data(300'000, 'x');
        return run(
            [&]() -> Coro<std::string> {
                const Ends pipe = pipe_ends();
                std::array<std::byte, 7000> buffer;
                const auto waits = co_await ignore_after(2ms, traps::read(pipe.a.get(), buffer));
                if (waits)
                    co_return "read from an empty pipe";
                const Task<void> writer = co_await spawn([&]() -> Coro<void> {
                    std::size_t written = 0;
                    while (written < data.size()) {
                        const auto wrote = co_await traps::write(
                            pipe.b.get(), std::as_bytes(std::span(data).subspan(written)));
                        written += wrote.value();
                    }
                });
                std::size_t got = 0;
                while (got < data.size()) {
                    const auto n = co_await traps::read(pipe.a.get(), buffer);
                    got += n.value();
                }
                co_await writer.join();
                const Descriptor file{
                    (co_await traps::open_at(AT_FDCWD, "/proc/self/stat", O_RDONLY)).value()};
                const auto first = co_await traps::read(file.get(), buffer);
                const auto at_offset = co_await traps::read(file.get(), buffer, 3);
                co_return first.value() > at_offset.value() && *at_offset > 0 ? "" : "a file";
            },
            {.engine = "epoll"});
    });
    CHECK(answer == "");
}

TEST_CASE("epoll: a forked child must not use its parent's kernel, and may destroy it") {
    const std::string answer = in_child([]() -> std::string {
        auto kernel = std::make_unique<Kernel>(KernelOptions{.engine = "epoll"});
        kernel->run([]() -> Coro<void> { // so that there are threads
            const auto fd = co_await traps::open_at(AT_FDCWD, "/dev/null", O_RDONLY);
            (void)co_await traps::close(fd.value());
        });
        std::string said = in_child([&]() -> std::string {
            kernel.reset();
            return run(
                []() -> Coro<std::string> {
                    (void)co_await traps::nop();
                    co_return "destroyed";
                },
                {.engine = "epoll"});
        });
        const CapturedStderr captured;
        said += in_child([&]() -> std::string {
            std::signal(SIGABRT, SIG_DFL); // doctest has a word to say of it
            kernel->run([]() -> Coro<void> { (void)co_await traps::nop(); });
            return "it ran";
        });
        return said + captured.text();
    });
    CAPTURE(answer);
    CHECK(answer.contains("destroyed"));
    CHECK(answer.contains("signal 6"));
    CHECK(answer.contains("epoll engine: used in a forked child"));
}
