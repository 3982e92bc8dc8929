// Files to record into, and a program that is recorded and then replayed.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <utility>

#include <unistd.h>

#include <trapline/kernel/kernel.hpp>
#include <trapline/kernel/options.hpp>
#include <trapline/kernel/recording.hpp>
#include <trapline/traps/calls.hpp>

#include "../support/sockets.hpp"

namespace trapline::test {

/// A file name of its own; what lies there is removed when it goes.
class RecordingFile {
public:
    RecordingFile()
        : path("/tmp/trapline-recording-" + std::to_string(::getpid()) + "-" +
               std::to_string(++count_)) {}
    RecordingFile(const RecordingFile&) = delete;
    RecordingFile& operator=(const RecordingFile&) = delete;
    ~RecordingFile() { std::remove(path.c_str()); }

    std::string bytes() const {
        std::ifstream file{path, std::ios::binary};
        return {std::istreambuf_iterator<char>(file), {}};
    }
    void write(const std::string& bytes) const {
        std::ofstream{path, std::ios::binary | std::ios::trunc} << bytes;
    }

    const std::string path;

private:
    static inline std::atomic<int> count_ = 0;
};

/// Runs the test case `name` of this program, one that is skipped else, in a process of its own
/// with these variables, "A=1 B=2". Answers what it printed.
inline std::string started(const std::string& name, const std::string& variables) {
    std::array<char, 4096> self{};
    must(::readlink("/proc/self/exe", self.data(), self.size() - 1), "readlink");
    const std::string command =
        variables + " '" + self.data() + "' --no-skip --test-case='" + name + "' 2>&1";
    std::FILE* output = ::popen(command.c_str(), "re");
    std::string text;
    for (int c = output ? std::fgetc(output) : EOF; c != EOF; c = std::fgetc(output))
        text += static_cast<char>(c);
    if (output && ::pclose(output) != 0)
        text += "(it failed)";
    return text;
}

/// The events of a recording, without what stands around them.
inline std::string events_of(const std::string& file) {
    std::string events;
    for (std::size_t at = recording::header_bytes; at + 8 <= file.size();) {
        std::uint32_t length = 0;
        std::memcpy(&length, &file[at], sizeof length);
        events += file.substr(at + 8, length);
        at += 8 + length;
    }
    return events;
}

/// A recording with the header of `file` and these events, few enough for a block. Its checksums
/// are right.
inline std::string with_events(const std::string& file, const std::string& events) {
    std::string covered(12, '\0'); // number and length of the block
    const auto length = static_cast<std::uint32_t>(events.size());
    std::memcpy(&covered[8], &length, sizeof length);
    covered += events;
    const std::uint32_t sum = recording::crc32c(std::as_bytes(std::span(covered)));
    std::string block(8, '\0');
    std::memcpy(&block[0], &length, sizeof length);
    std::memcpy(&block[4], &sum, sizeof sum);
    return file.substr(0, recording::header_bytes) + block + events;
}

/// Numbers as a recording has them.
inline std::string number(std::uint64_t value) {
    std::string bytes;
    for (; value >= 0x80; value >>= 7)
        bytes += static_cast<char>(value | 0x80);
    return bytes + static_cast<char>(value);
}
inline std::string signed_number(std::int64_t value) {
    return number((static_cast<std::uint64_t>(value) << 1) ^
                  static_cast<std::uint64_t>(value >> 63));
}

/// A program whose child does `work`.
inline Coro<void> with_child(Coro<void> (*work)()) {
    const Task<> child = co_await spawn(work(), {.name = "child"});
    co_await child.join();
}

/// The text of what `f` throws.
template <class F>
std::string thrown_by(F&& f) {
    try {
        f();
    } catch (const std::exception& failure) {
        return failure.what();
    }
    return "nothing";
}

/// What `program(log)`, a coroutine, adds to its log: when it is recorded, and when it is replayed.
struct Logs {
    std::string recorded;
    std::string replayed;
};

template <class Program>
Logs record_and_replay(const RecordingFile& file, Program program, KernelOptions options = {}) {
    Logs logs;
    options.record = file.path;
    run(program(logs.recorded), options);
    options.record.clear();
    options.replay = file.path;
    run(program(logs.replayed), options);
    return logs;
}

template <class Program>
Logs record_and_replay(Program program, KernelOptions options = {}) {
    const RecordingFile file;
    return record_and_replay(file, std::move(program), std::move(options));
}

} // namespace trapline::test
