#include "file_threads.hpp"

#include <csignal>
#include <new>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "requests.hpp"

namespace trapline {

namespace {

/// No signal is meant for these threads, and SIGPIPE of a write stays pending in the one that
/// wrote.
class AllSignalsBlocked {
public:
    AllSignalsBlocked() noexcept {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~AllSignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    AllSignalsBlocked(const AllSignalsBlocked&) = delete;
    AllSignalsBlocked& operator=(const AllSignalsBlocked&) = delete;

private:
    sigset_t before_;
};

} // namespace

FileThreads::FileThreads(unsigned threads_max, std::function<void()> done)
    : threads_max_(threads_max), on_done_(std::move(done)) {
    threads_.reserve(threads_max_);
}

std::unique_ptr<FileThreads> FileThreads::make(unsigned threads_max,
                                               std::function<void()> done) noexcept {
    try {
        return std::unique_ptr<FileThreads>{new FileThreads{threads_max, std::move(done)}};
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

FileThreads::~FileThreads() {
    {
        const std::lock_guard lock{mutex_};
        ending_ = true;
    }
    wanted_.notify_all();
    for (std::thread& thread : threads_)
        thread.join();
}

bool FileThreads::start_one() noexcept {
    const AllSignalsBlocked blocked; // a thread begins with the mask of who makes it
    try {
        threads_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
        return false;
    } catch (const std::bad_alloc&) {
        return false;
    }
    return true;
}

bool FileThreads::submit(Operation& operation, bool later) noexcept {
    {
        const std::lock_guard lock{mutex_};
        bool is_free = waiting_count_ < idle_;
        if (!is_free && threads_.size() < threads_max_)
            is_free = start_one();
        if (!is_free && (!later || threads_.empty()))
            return false;
        waiting_.push(operation);
        ++waiting_count_;
    }
    wanted_.notify_one();
    return true;
}

bool FileThreads::take_back(Operation& operation) noexcept {
    const std::lock_guard lock{mutex_};
    const bool waited = waiting_.remove(operation);
    waiting_count_ -= waited;
    return waited;
}

void FileThreads::take_done(OperationList& done) noexcept {
    const std::lock_guard lock{mutex_};
    while (Operation* operation = done_.pop())
        done.push(*operation);
}

void FileThreads::work() noexcept {
    std::unique_lock lock{mutex_};
    for (;;) {
        ++idle_;
        wanted_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
        --idle_;
        Operation* operation = waiting_.pop();
        if (!operation)
            return;
        --waiting_count_;
        lock.unlock();
        operation->result = call_that_waits(*operation);
        lock.lock();
        const bool first = done_.empty();
        done_.push(*operation);
        if (first)
            on_done_();
    }
}

std::int64_t call_that_waits(const Operation& operation) noexcept {
    const std::size_t done = operation.transferred;
    const auto at = [&](std::int64_t offset) {
        return static_cast<off64_t>(offset + static_cast<std::int64_t>(done));
    };
    return std::visit(
        Overloaded{
            [&](const traps::Read& r) {
                char* const data = static_cast<char*>(r.data) + done;
                return result_of_call(r.offset == -1
                                          ? ::read(r.fd, data, r.size - done)
                                          : ::pread64(r.fd, data, r.size - done, at(r.offset)));
            },
            [&](const traps::Write& r) {
                const char* const data = static_cast<const char*>(r.data) + done;
                return result_of_call(r.offset == -1
                                          ? ::write(r.fd, data, r.size - done)
                                          : ::pwrite64(r.fd, data, r.size - done, at(r.offset)));
            },
            [](const traps::OpenAt& r) {
                return result_of_call(::openat(r.directory, r.path, r.flags | O_CLOEXEC, r.mode));
            },
            [](const traps::OpenAt2& r) {
                r.how->flags |= O_CLOEXEC;
                return result_of_call(
                    ::syscall(SYS_openat2, r.directory, r.path, r.how, sizeof *r.how));
            },
            [](const traps::Close& r) { return result_of_call(::close(r.fd)); },
            [](const traps::Fsync& r) {
                return result_of_call(r.data_only ? ::fdatasync(r.fd) : ::fsync(r.fd));
            },
            [](const traps::Statx& r) {
                return result_of_call(::statx(r.directory, r.path, r.flags, r.mask, r.status));
            },
            // Both ends were ready; that it waits for a pipe is the last thing wanted here.
            [](const traps::Splice& r) { return splice_now(r, SPLICE_F_NONBLOCK); },
            [](const auto&) { return std::int64_t{-ENOSYS}; }, // not for a thread
        },
        *operation.request);
}

} // namespace trapline
