// Files to record into, and a program that is recorded and then replayed.
#pragma once

#include <atomic>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>

#include <unistd.h>

#include <trapline/kernel/kernel.hpp>
#include <trapline/kernel/options.hpp>

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
