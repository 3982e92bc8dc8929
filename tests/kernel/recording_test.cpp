// Recordings that are damaged, cut off, or made up: each is refused with a text, or followed as far
// as it goes.
#include <trapline/kernel/recording.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <trapline/trapline.hpp>

#include <trapline/kernel/recorder.hpp>

#include "../support/leaks.hpp"
#include "../support/process.hpp"
#include "recordings.hpp"

using namespace trapline;
using namespace std::chrono_literals;

using test::Counted;
using test::events_of;
using test::in_child;
using test::LeakGuard;
using test::number;
using test::RecordingFile;
using test::signed_number;
using test::thrown_by;
using test::with_child;
using test::with_events;

namespace {

Coro<void> work() {
    const Counted frame;
    co_await sleep(1us);
    co_await yield_now();
}

std::string replayed(const RecordingFile& file) {
    return thrown_by([&] { run(with_child(work), {.replay = file.path}); });
}

std::string event(recording::Event kind, std::uint64_t task) {
    return static_cast<char>(kind) + number(task);
}

/// A reply to task 1, with bytes that Linux has written.
std::string reply_of(std::int64_t value, const std::string& written = "") {
    std::string bytes = event(recording::Event::replied, 1) + (written.empty() ? '\x08' : '\x48');
    bytes += signed_number(value);
    return written.empty() ? bytes : bytes + number(written.size()) + written;
}

using Program = std::function<Coro<void>()>;

/// What comes of a recording that stops where `program` waits, and goes on with `events`.
std::string made_up(const Program& program, const std::string& events) {
    const RecordingFile file;
    std::string so_far;
    {
        Recorder recorder{file.path};
        Kernel kernel{{.observer = &recorder}};
        const Task<> task = kernel.spawn(program());
        kernel.run_once();
        recorder.flush();
        so_far = file.bytes();
    }
    file.write(with_events(so_far, events_of(so_far) + events));
    return thrown_by([&] {
        Kernel kernel{{.replay = file.path, .log = [](std::string_view) {}}};
        const Task<> task = kernel.spawn(program());
        kernel.shutdown();
    });
}

} // namespace

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
    run(with_child(work), {.record = file.path});
    const std::string whole = file.bytes();
    const auto with = [&](std::size_t at, char byte) {
        std::string bytes = whole;
        bytes[at] = byte;
        file.write(bytes);
        return replayed(file);
    };
    CHECK(with(20, '?').contains("the checksum of its header is wrong"));
    CHECK(with(80, '?').contains("is damaged: the checksum of block 0, at byte 64, is wrong"));
    CHECK(with(67, '?').contains("block 0, at byte 64, has a length that cannot be"));
    CHECK(with(65, 0x10).contains(" was not written any further (block 0, at byte 64, is cut off "
                                  "after "));
    std::string header = whole.substr(0, 60);
    header[16] = header[16] == 'x' ? 'y' : 'x';
    std::uint32_t sum = recording::crc32c(std::as_bytes(std::span(header)));
    header.append(reinterpret_cast<const char*>(&sum), sizeof sum);
    const std::string other_program = header + whole.substr(64);
    file.write(other_program);
    CHECK(replayed(file).contains(" is of another program: it has "));
    CHECK(with(8, 9).contains("the checksum of its header is wrong"));
    header = whole.substr(0, 60);
    header[8] = 9;
    sum = recording::crc32c(std::as_bytes(std::span(header)));
    header.append(reinterpret_cast<const char*>(&sum), sizeof sum);
    file.write(header + whole.substr(64));
    CHECK(replayed(file).contains("has version 9 of the format; this program reads version 1"));
    file.write(other_program);
    CHECK(in_child([&]() -> std::string {
              ::setenv("TRAPLINE_REPLAY_ANYWAY", "1", 1);
              return replayed(file);
          }) == "nothing");
}

TEST_CASE("a recording that is cut anywhere is followed up to its last whole block") {
    const LeakGuard guard;
    const RecordingFile file;
    run(with_child(work), {.record = file.path});
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

// --- made up, with right checksums ---------------------------------------------------------

TEST_CASE("a reply that says more than there is room for is damage") {
    const LeakGuard guard;
    const Program receives = []() -> Coro<void> {
        const Counted frame;
        UnixStreamPair pair = co_await UnixStream::pair();
        std::array<std::byte, 8> buffer;
        co_await pair.b.recv(buffer);
    };
    CHECK(made_up(receives, reply_of(3, "abc")).contains("the recording ends here, after trap 1"));
    CHECK(made_up(receives, reply_of(1 << 20, "AAAAAAAA"))
              .contains("is damaged: a reply to recv says 1048576, after trap 1"));
    CHECK(made_up(receives, reply_of(-1'000'000))
              .contains("is damaged: a reply to recv says -1000000"));
    CHECK(made_up(receives, event(recording::Event::replied, 1) + '\x12' + number(9) + number(0))
              .contains("is damaged: a reply to recv says 9"));
    CHECK(made_up(receives, event(recording::Event::replied, 1) + '\x03')
              .contains("is damaged: it holds a reply that cannot be"));
    const Program lent = []() -> Coro<void> {
        UnixStreamPair pair = co_await UnixStream::pair();
        (void)co_await pair.b.receive();
    };
    CHECK(made_up(lent, reply_of(100, "abc"))
              .contains("is damaged: a reply to receive has other bytes than it says"));
}

TEST_CASE("lengths in what Linux is said to have written are checked") {
    const LeakGuard guard;
    const auto of = [](const auto& value) {
        return std::string(reinterpret_cast<const char*>(&value), sizeof value);
    };
    const Program descriptors = []() -> Coro<void> {
        UnixStreamPair pair = co_await UnixStream::pair();
        std::array<std::byte, 8> buffer;
        (void)co_await pair.b.recv_descriptors(buffer, 4);
    };
    const auto with_control = [&](std::size_t control, std::size_t length) {
        const std::size_t room = CMSG_SPACE(descriptors_max * sizeof(int));
        const cmsghdr header{.cmsg_len = length, .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        std::string bytes = of(int{0}) + of(control) + of(header) + std::string(4096, '\0');
        bytes.resize(4 + 8 + std::min(control, room));
        return made_up(descriptors, reply_of(1, bytes + "x"));
    };
    CHECK(with_control(CMSG_SPACE(0), CMSG_LEN(0)).contains("the recording ends here"));
    for (const std::size_t length : {CMSG_LEN(4), std::size_t{1} << 40, std::size_t{3}})
        CHECK(with_control(CMSG_SPACE(0), length).contains("has a length that cannot be"));
    CHECK(with_control(1 << 20, CMSG_LEN(0)).contains("has more than there is room for"));
    const Program datagrams = []() -> Coro<void> {
        UnixDatagramPair pair = co_await UnixDatagram::pair();
        std::array<std::byte, 8> buffer;
        const Datagram got = co_await pair.b.recv_from(buffer);
        (void)got.from.to_string();
    };
    SocketAddress room;
    (void)room.fill();
    const std::string rest = std::string(room.size(), '\1') + of(int{0}) + of(std::size_t{0}) + "x";
    CHECK(made_up(datagrams, reply_of(1, of(socklen_t{1 << 30}) + rest))
              .contains("a reply to recvmsg has more than there is room for"));
}

TEST_CASE("events that cannot follow each other are damage, whatever they are of") {
    const LeakGuard guard;
    const Program parks = []() -> Coro<void> {
        const Counted frame;
        WaitQueue queue;
        co_await traps::Park{&queue};
    };
    const Program threads = []() -> Coro<void> {
        const Counted frame;
        co_await run_in_thread([] { std::this_thread::sleep_for(3ms); });
    };
    const Program never = []() -> Coro<void> {
        const Counted frame;
        Event event;
        co_await event.wait();
    };
    constexpr auto wrong = " is damaged: its events are out of order, after trap 1";
    for (const Program& program : {parks, threads, never}) {
        CHECK(made_up(program, event(recording::Event::started, 1)).contains(wrong));
        CHECK(made_up(program, static_cast<char>(recording::Event::begun) + number(0))
                  .contains(wrong));
        CHECK(made_up(program, event(recording::Event::terminated, 1)) == "nothing");
        CHECK(made_up(program, event(recording::Event::replied, 2) + '\0')
                  .contains("it speaks of task 2, which there is not"));
    }
    CHECK(made_up(parks, event(recording::Event::interrupted, 1) +
                             event(recording::Event::replied, 1) + '\0')
              .contains(wrong));
    CHECK(made_up(parks, static_cast<char>(recording::Event::deadlock) + number(1) + "x")
              .contains(wrong)); // run() threw it, and shutdown() does not
    CHECK(made_up(parks, reply_of(-EPERM)).contains("a reply to Park says -1"));
    const Program clock = []() -> Coro<void> { co_await now(); };
    const RecordingFile file;
    run(clock(), {.record = file.path});
    std::string events = events_of(file.bytes());
    const std::size_t at = events.find(event(recording::Event::started, 1));
    REQUIRE(at != std::string::npos);
    const std::string whole = file.bytes();
    const auto with = [&](const std::string& rest) {
        file.write(with_events(whole, events.substr(0, at) + rest));
        return thrown_by([&] { run(clock(), {.replay = file.path}); });
    };
    CHECK(with(event(recording::Event::replied, 1) + '\0').contains("its events are out of order"));
    CHECK(with(event(recording::Event::interrupted, 1)).contains("its events are out of order"));
    CHECK(with(event(recording::Event::terminated, 1)).contains("its events are out of order"));
    const std::string traps = event(recording::Event::started, 1) +
                              event(recording::Event::trapped, 1) +
                              static_cast<char>(trap_index<traps::Clock>);
    CHECK(
        with(traps + event(recording::Event::replied, 1) + '\x02').contains("it interrupts Clock"));
    CHECK(with(traps + reply_of(-1)).contains("a reply to Clock says -1"));
    CHECK(with(traps + reply_of(std::int64_t{1} << 62 | 1)).contains("a reply to Clock says 461"));
}

TEST_CASE("a clock that would overflow stands still at the end of time") {
    const LeakGuard guard;
    const RecordingFile file;
    const auto program = []() -> Coro<void> {
        co_await timeout_after(1h, sleep(1us));
        co_await yield_now();
    };
    run(program(), {.record = file.path});
    const std::string whole = file.bytes();
    const std::string events = events_of(whole);
    const std::size_t at = events.find(event(recording::Event::started, 1));
    REQUIRE(at != std::string::npos);
    std::string turns;
    for (const std::int64_t by : {INT64_MAX, INT64_MAX, INT64_MIN, INT64_MIN, INT64_MAX})
        turns += static_cast<char>(recording::Event::turn) + signed_number(by);
    file.write(with_events(whole, events.substr(0, at) + turns + events.substr(at)));
    run(program(), {.replay = file.path});
}

TEST_CASE("a file that is changed while it is replayed is found out") {
    const LeakGuard guard;
    const RecordingFile file;
    const auto yields = []() -> Coro<void> {
        for (int i = 0; i < 50'000; ++i)
            co_await yield_now();
    };
    run(yields(), {.record = file.path});
    const std::string whole = file.bytes();
    Kernel cut{{.replay = file.path}};
    CHECK(::truncate(file.path.c_str(), 1000) == 0);
    CHECK(
        thrown_by([&] { cut.run(yields()); }).ends_with(" has been changed while it was replayed"));
    file.write(whole);
    Kernel other{{.replay = file.path}};
    std::string changed = whole;
    changed[70'000] ^= 1;
    file.write(changed);
    CHECK(thrown_by([&] {
              other.run(yields());
          }).contains("is damaged: the checksum of block 1, at byte "));
}

TEST_CASE("a recording that ends between a task's last reply and its end says that it has ended") {
    const LeakGuard guard;
    const RecordingFile file;
    Recorder* recorder = nullptr;
    std::string so_far;
    const auto program = [&]() -> Coro<void> {
        {
            const Task<> child = co_await spawn(work());
            co_await child.join();
        }
        if (recorder) {
            recorder->flush();
            so_far = file.bytes();
        }
    };
    {
        Recorder own{file.path};
        recorder = &own;
        run(program(), {.observer = &own});
        recorder = nullptr;
    }
    file.write(so_far);
    const std::string text = thrown_by([&] { run(program(), {.replay = file.path}); });
    CHECK(text.ends_with("\n  task 1 'main' has ended"));
}
