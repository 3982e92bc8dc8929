// Internal. A few plain threads for the system calls that wait where no readiness tells about it:
// of files, mostly. They start with the first such call, and end with the engine.
//
// The operation that a thread works on is the thread's until it is done: nobody can stop it. One
// that has not begun can be taken back.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "../engine.hpp"

namespace trapline {

class FileThreads {
public:
    /// At most `threads_max` of them, not 0. `done` is called by any of them when there is
    /// something to take again. Null when there is no memory.
    static std::unique_ptr<FileThreads> make(unsigned threads_max,
                                             std::function<void()> done) noexcept;
    FileThreads(const FileThreads&) = delete;
    FileThreads& operator=(const FileThreads&) = delete;
    /// Waits for what is under way.
    ~FileThreads();

    /// Has the call of `operation` made, some time, or, if not `later`, by a thread that is free.
    /// False when none can be had.
    bool submit(Operation& operation, bool later) noexcept;

    /// Takes `operation` back; false when it has begun, or is done.
    bool take_back(Operation& operation) noexcept;

    /// Appends those that are done; the result of the call, or -errno, is theirs.
    void take_done(OperationList& done) noexcept;

private:
    FileThreads(unsigned threads_max, std::function<void()> done);
    bool start_one() noexcept;
    void work() noexcept;

    const unsigned threads_max_;
    const std::function<void()> on_done_;
    std::mutex mutex_;
    std::condition_variable wanted_;
    OperationList waiting_;
    OperationList done_;
    std::size_t waiting_count_ = 0;
    std::size_t idle_ = 0;
    bool ending_ = false;
    std::vector<std::thread> threads_;
};

/// Makes the system call of a request that may go to a thread. Answers its result, or -errno.
std::int64_t call_that_waits(const Operation& operation) noexcept;

} // namespace trapline
