#include <trapline/kernel/recorder.hpp>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <trapline/kernel/kernel.hpp>
#include <trapline/kernel/replay.hpp>

#include "../support/leaks.hpp"
#include "../support/process.hpp"
#include "manual_engine.hpp"
#include "recordings.hpp"

using namespace trapline;
using namespace std::chrono_literals;
using test::in_child;
using test::LeakGuard;
using test::RecordingFile;
using test::started;
using test::thrown_by;

namespace {

Coro<void> work() {
    co_await now();
    co_await yield_now();
}

/// Writes a few hundred KiB of recording.
Coro<int> much_work() {
    int rounds = 0;
    for (; rounds < 50'000; ++rounds)
        co_await yield_now();
    co_return rounds;
}

/// "" if the program went on and one line said why the recording did not.
std::string record_much(const std::string& path, const std::string& why) {
    std::vector<std::string> log;
    const int rounds =
        run(much_work(),
            {.record = path, .log = [&](std::string_view line) { log.emplace_back(line); }});
    if (rounds != 50'000)
        return "the program did not go on";
    if (log.size() != 1)
        return std::to_string(log.size()) + " lines in the log";
    return log[0].contains(path) && log[0].contains(why) ? "" : log[0];
}

off_t size_of(const std::string& path) {
    struct ::stat status{};
    return ::stat(path.c_str(), &status) == 0 ? status.st_size : -1;
}

} // namespace

TEST_CASE("a recorder is an observer whose file can be replayed") {
    const LeakGuard guard;
    const RecordingFile file;
    const std::string& path = file.path;
    {
        Recorder recorder{path};
        run(work(), {.observer = &recorder});
        CHECK(recorder.traps() == 2);
    }
    CHECK(file.bytes().starts_with("TRAPREC\n"));
    run(work(), {.replay = path});
}

TEST_CASE("an observer sees everything beside a recorder, and in a replay") {
    struct Words final : Observer {
        void created(const TaskRecord& task) noexcept override { note(task, "created"); }
        void trapped(const TaskRecord& task, const Trap& trap) noexcept override {
            note(task, traps::name_of(trap));
        }
        void replied(const TaskRecord& task, const Reply&) noexcept override {
            note(task, "replied");
        }
        void terminated(const TaskRecord& task) noexcept override { note(task, "terminated"); }
        void cancelled(const TaskRecord& task) noexcept override { note(task, "cancelled"); }
        void interrupted(const TaskRecord& task) noexcept override { note(task, "interrupted"); }
        void note(const TaskRecord& task, const char* what) {
            text += task.name() + " " + what + ", ";
        }
        std::string text;
    };
    const RecordingFile file;
    const auto body = []() -> Coro<void> {
        const auto child = []() -> Coro<void> { co_await sleep(1h); };
        Task<> task = co_await spawn(child(), {.name = "child"});
        co_await yield_now();
        co_await task.cancel();
    };
    Words recorded;
    Words replayed;
    KernelOptions options = manual();
    options.record = file.path;
    options.observer = &recorded;
    run(body(), options);
    run(body(), {.observer = &replayed, .replay = file.path});
    CHECK(recorded.text.contains("child Sleep, main replied, main Cancel, child cancelled, "
                                 "child interrupted, main replied, main Join, child replied, "
                                 "child terminated"));
    CHECK(recorded.text == replayed.text);
}

TEST_CASE("a recording grows by whole blocks while the program runs") {
    const RecordingFile file;
    const auto body = [&]() -> Coro<off_t> {
        co_await much_work();
        co_return size_of(file.path);
    };
    const off_t size = run(body(), {.record = file.path});
    CHECK(size > 3 * 64 * 1024);
    CHECK(size_of(file.path) > size);
}

TEST_CASE("a kernel that waits has written all that happened") {
    const RecordingFile file;
    off_t before = 0;
    off_t after = 0;
    const auto body = [&]() -> Coro<void> {
        before = size_of(file.path);
        co_await sleep(1ms);
        after = size_of(file.path);
    };
    run(body(), {.record = file.path});
    CHECK(before < after);
}

TEST_CASE("a full disk ends the recording, and not the program") {
    const LeakGuard guard;
    CHECK(record_much("/dev/full", "No space left on device") == "");
}

TEST_CASE("a limit of file sizes ends the recording after a whole block, and not the program") {
    const RecordingFile file;
    CHECK(in_child([&]() -> std::string {
              const rlimit small{100'000, 100'000};
              ::setrlimit(RLIMIT_FSIZE, &small);
              return record_much(file.path, "File too large");
          }) == "");
    CHECK(size_of(file.path) > 60'000);
    CHECK(size_of(file.path) < 100'000);
    const std::string text = thrown_by([&] { run(much_work(), {.replay = file.path}); });
    CHECK(text.starts_with("the recording ends here, after trap "));
}

TEST_CASE("what cannot be recorded into is refused when the kernel is made") {
    const LeakGuard guard;
    CHECK(thrown_by([] { Kernel{{.record = "/nowhere/file"}}; }) ==
          "record into /nowhere/file: No such file or directory");
    const RecordingFile file;
    {
        const Recorder first{file.path};
        CHECK(thrown_by([&] { Recorder{file.path}; }) ==
              "record into " + file.path +
                  ", where another kernel records, or which one replays: Device or resource busy");
    }
    CHECK(thrown_by([&] { Kernel{{.record = file.path, .replay = file.path}}; }) ==
          "a kernel cannot both record and replay");
}

TEST_CASE("what is neither a file nor a device is neither recorded into nor replayed") {
    const LeakGuard guard;
    const RecordingFile fifo;
    REQUIRE(::mkfifo(fifo.path.c_str(), 0600) == 0);
    CHECK(thrown_by([&] { Recorder{fifo.path}; }) ==
          "record into " + fifo.path + ", which is neither a file nor a device: Invalid argument");
    CHECK(thrown_by([&] { Kernel{{.replay = fifo.path}}; }) ==
          "the recording " + fifo.path + " is no regular file: a replay reads it twice");
}

TEST_CASE("one recorder is for one kernel") {
    const RecordingFile file;
    std::string line;
    {
        Recorder recorder{file.path, {.log = [&](std::string_view text) { line = text; }}};
        run(work(), {.observer = &recorder});
        run(work(), {.observer = &recorder});
    }
    CHECK(line.starts_with("the recording " + file.path + " ends here, after "));
    CHECK(line.ends_with(" bytes: another kernel uses its recorder"));
    run(work(), {.replay = file.path});
}

TEST_CASE("a recorder whose descriptor is closed leaves what is opened under its number alone") {
    const RecordingFile file;
    CHECK(in_child([&]() -> std::string {
              std::string line;
              Recorder recorder{file.path, {.log = [&](std::string_view text) { line = text; }}};
              Kernel kernel{{.observer = &recorder}};
              kernel.run(work());
              int last = 0; // as daemons do
              for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
                  last = std::max(last, std::stoi(entry.path().filename()));
              const int own = ::memfd_create("own", 0);
              if (last < 64 || ::dup2(own, last) != last)
                  return "no such number";
              kernel.run(work());
              recorder.flush();
              struct ::stat status{};
              if (::fstat(last, &status) != 0 || status.st_size != 0)
                  return "written into, or closed";
              return line.ends_with("the program has closed its descriptor") ? "" : line;
          }) == "");
}

TEST_CASE("who records run_once, which no replay can follow, is told so once") {
    const RecordingFile file;
    std::string lines;
    Kernel kernel{{.record = file.path,
                   .log = [&](std::string_view line) { lines += std::string(line) + "\n"; }}};
    const Task<> task = kernel.spawn(work());
    while (kernel.run_once(1ms)) {}
    CHECK(lines == "what is recorded here cannot be replayed: a replay refuses run_once\n");
}

// --- files that the environment names ------------------------------------------------------

TEST_CASE("program: three kernels" * doctest::skip()) {
    int sum = 0;
    try {
        for (int i = 0; i < 3; ++i)
            sum += run([i]() -> Coro<int> {
                co_await sleep(1us * i);
                co_return i;
            });
    } catch (const std::exception& failure) {
        std::printf("thrown: %s\n", failure.what());
    }
    std::printf("sum %d\n", sum);
}

TEST_CASE("TRAPLINE_RECORD and TRAPLINE_REPLAY number the kernels of a program") {
    const RecordingFile file;
    const auto program = [](const std::string& variables) {
        return started("program: three kernels", variables);
    };
    const std::string record = "TRAPLINE_RECORD=" + file.path;
    const std::string replay = "TRAPLINE_REPLAY=" + file.path;
    CHECK(program(record).contains("sum 3\n"));
    for (const char* suffix : {"", ".2", ".3"})
        CHECK(size_of(file.path + suffix) > 64);
    CHECK(program(replay).contains("sum 3\n"));
    CHECK(program(replay + " TRAPLINE_REPLAY_UNTIL=1")
              .contains("thrown: the replay stops before trap 1: task 1 'main' would begin"));
    CHECK(program(replay + " TRAPLINE_REPLAY_UNTIL=9")
              .contains("the replay was to stop before trap 9, and there were 1\n"));
    for (const std::string wrong : {"abc", "-1", "0", "1x", "99999999999999999999"})
        CHECK(program(replay + " TRAPLINE_REPLAY_UNTIL=" + wrong)
                  .contains("thrown: TRAPLINE_REPLAY_UNTIL=" + wrong +
                            " is not the number of a trap, from 1"));
    CHECK(
        program(record + " " + replay).contains("thrown: a kernel cannot both record and replay"));
    for (const char* suffix : {".2", ".3"})
        std::remove((file.path + suffix).c_str());
}

TEST_CASE("program: starts another one when its kernel is gone" * doctest::skip()) {
    run(work());
    std::fputs(started("program: three kernels", "").c_str(), stdout);
}

TEST_CASE("a program that a recorded one starts has files of its own, and is not replayed") {
    const RecordingFile file;
    const std::string name = "program: starts another one when its kernel is gone";
    const std::string text = started(name, "TRAPLINE_RECORD=" + file.path);
    CAPTURE(text);
    CHECK(text.contains("sum 3\n"));
    const std::size_t at = text.find("records into " + file.path + "-");
    REQUIRE(at != std::string::npos);
    const std::string childs = text.substr(at + 13, text.find(':', at) - at - 13);
    for (const char* suffix : {"", ".2", ".3"})
        CHECK(size_of(childs + suffix) > 64);
    const std::string replayed = started(name, "TRAPLINE_REPLAY=" + file.path);
    CHECK(replayed.contains("not replayed: " + file.path));
    CHECK(replayed.contains("sum 3\n"));
    CHECK(started("program: three kernels", "TRAPLINE_REPLAY=" + childs).contains("sum 3\n"));
    for (const char* suffix : {"", ".2", ".3"})
        std::remove((childs + suffix).c_str());
}

TEST_CASE("each child that a program forks records into a file of its own") {
    const RecordingFile file;
    for (int i = 0; i < 2; ++i) {
        CHECK(in_child([&]() -> std::string {
                  ::setenv("TRAPLINE_RECORD", file.path.c_str(), 1);
                  std::string line;
                  run(work(), {.log = [&](std::string_view text) { line = text; }});
                  const std::string own = file.path + "-" + std::to_string(::getpid());
                  const bool recorded = size_of(own) > 64;
                  std::remove(own.c_str());
                  return recorded && line.starts_with("records into " + own) ? "" : line;
              }) == "");
    }
    CHECK(size_of(file.path) == -1);
}

TEST_CASE("a program of another one's day, which is recorded now, has a file of its own") {
    const RecordingFile file;
    const Recorder others{file.path};
    const std::string text = started("program: three kernels", "TRAPLINE_RECORD=" + file.path);
    const std::size_t at = text.find("records into " + file.path + "-");
    REQUIRE(at != std::string::npos);
    const std::string own = text.substr(at + 13, text.find(':', at) - at - 13);
    for (const char* suffix : {"", ".2", ".3"}) {
        CHECK(size_of(own + suffix) > 64);
        std::remove((own + suffix).c_str());
    }
}

TEST_CASE("a forked child leaves its parent's recording alone") {
    const RecordingFile file;
    const auto body = []() -> Coro<void> {
        co_await yield_now();
        const std::string failed = in_child([] { return ""; });
        CHECK(failed == "");
        co_await yield_now();
    };
    run(body(), {.record = file.path});
    run(body(), {.replay = file.path});
}
