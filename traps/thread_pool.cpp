#include "thread_pool.hpp"

#include <csignal>
#include <stdexcept>
#include <system_error>

namespace trapline {

namespace {

/// A thread inherits what its maker blocks. Those of a pool take no signals: they would take them
/// from a SignalSet, which relies on all threads having them blocked. Faults stay open.
class SignalsBlocked {
public:
    SignalsBlocked() noexcept {
        sigset_t all;
        sigfillset(&all);
        for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT})
            sigdelset(&all, fault);
        pthread_sigmask(SIG_BLOCK, &all, &before_);
    }
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;

private:
    sigset_t before_;
};

} // namespace

void detail::raise_run_twice() { throw std::logic_error("one ThreadPool::run was awaited twice"); }

void detail::raise_not_run() {
    throw std::logic_error("a policy answered for a thread whose result cannot be made up");
}

void detail::ThreadJob::submit(void* job) noexcept {
    auto& self = *static_cast<ThreadJob*>(job);
    self.submitted = true;
    self.pool_.submit(self);
}

ThreadPool::ThreadPool(std::size_t size) : size_(size) {
    if (size == 0)
        throw std::invalid_argument("a ThreadPool needs at least one thread");
}

ThreadPool::~ThreadPool() {
    {
        const std::scoped_lock lock{mutex_};
        ending_ = true;
    }
    work_.notify_all();
    for (std::thread& thread : threads_)
        thread.join();
}

Coro<void> ThreadPool::close() {
    bool all_ended = false;
    {
        const std::scoped_lock lock{mutex_};
        ending_ = true;
        all_ended = alive_ == 0;
    }
    work_.notify_all();
    if (all_ended)
        co_return;
    if (const auto ended = co_await traps::AwaitThread{&ended_}; !ended)
        throw std::system_error(ended.error(), "close of a ThreadPool");
}

void ThreadPool::submit(detail::ThreadJob& job) noexcept {
    const std::scoped_lock lock{mutex_};
    try {
        if (ending_)
            throw std::logic_error("ThreadPool::run of a pool that was closed");
        if (queued_ >= idle_ && threads_.size() < size_)
            start_thread();
    } catch (...) {
        job.fail(std::current_exception());
        return job.done.complete();
    }
    job.share();
    job.queued = true;
    job.previous = last_;
    job.next = nullptr;
    (last_ ? last_->next : first_) = &job;
    last_ = &job;
    ++queued_;
    work_.notify_one();
}

/// The pool goes on with the threads it has if there can be no more.
void ThreadPool::start_thread() {
    try {
        threads_.reserve(threads_.size() + 1);
        const SignalsBlocked blocked;
        threads_.emplace_back([this] { work(); });
        ++alive_;
    } catch (...) {
        if (threads_.empty())
            throw;
    }
}

/// Takes the job back unless it has begun.
void ThreadPool::withdraw(detail::ThreadJob& job) noexcept {
    const std::scoped_lock lock{mutex_};
    if (!job.queued)
        return;
    unlink(job);
    job.drop(); // the pool's share; the caller has another
}

void ThreadPool::unlink(detail::ThreadJob& job) noexcept {
    (job.previous ? job.previous->next : first_) = job.next;
    (job.next ? job.next->previous : last_) = job.previous;
    job.queued = false;
    --queued_;
}

void ThreadPool::work() noexcept {
    std::unique_lock lock{mutex_};
    for (;;) {
        ++idle_;
        work_.wait(lock, [this] { return first_ || ending_; });
        --idle_;
        if (!first_)
            break;
        detail::ThreadJob& job = *first_;
        unlink(job);
        lock.unlock();
        job.work();
        job.done.complete();
        job.drop();
        lock.lock();
    }
    if (--alive_ == 0)
        ended_.complete();
}

ThreadPool& detail::shared_thread_pool() {
    static ThreadPool& pool = *new ThreadPool{run_in_thread_max};
    return pool;
}

} // namespace trapline
