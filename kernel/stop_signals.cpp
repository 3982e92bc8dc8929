#include "stop_signals.hpp"

#include <cerrno>
#include <string>
#include <system_error>

#include <poll.h>
#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "kernel.hpp"

namespace trapline {

namespace {

[[noreturn]] void refuse(int error, const std::string& what) {
    throw std::system_error(error, std::system_category(), "KernelOptions::cancel_on: " + what);
}

} // namespace

StopSignals::StopSignals(const std::vector<int>& signals) {
    sigemptyset(&signals_);
    for (const int signal : signals) {
        if (signal == SIGKILL || signal == SIGSTOP || sigaddset(&signals_, signal) != 0)
            refuse(EINVAL, "signal " + std::to_string(signal));
    }
    fd_ = signalfd(-1, &signals_, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd_ < 0)
        refuse(errno, "signalfd");
    request_ = traps::Poll{fd_, POLLIN, traps::Side::none};
    operation.request = &request_;
}

StopSignals::~StopSignals() {
    let_through();
    ::close(fd_);
}

void StopSignals::block() {
    if (blocking_)
        return;
    sigset_t before;
    if (const int error = pthread_sigmask(SIG_BLOCK, &signals_, &before))
        refuse(error, "pthread_sigmask");
    sigemptyset(&freed_);
    for (int signal = 1; signal < NSIG; ++signal) {
        if (sigismember(&signals_, signal) == 1 && sigismember(&before, signal) == 0)
            sigaddset(&freed_, signal);
    }
    blocking_ = true;
    taken_ = false;
}

void StopSignals::let_through() noexcept {
    if (!blocking_)
        return;
    while (taken_ && take()) {}
    pthread_sigmask(SIG_UNBLOCK, &freed_, nullptr);
    blocking_ = false;
}

bool StopSignals::take() noexcept {
    signalfd_siginfo info{};
    ssize_t got = 0;
    do
        got = ::read(fd_, &info, sizeof info);
    while (got < 0 && errno == EINTR);
    const bool came = got == static_cast<ssize_t>(sizeof info);
    taken_ = taken_ || came;
    return came;
}

// --- the kernel's part ---------------------------------------------------------------------

/// Before main is there: where signals cannot be waited for, it must not begin.
Kernel::SignalScope::SignalScope(Kernel& kernel) : kernel_(kernel) {
    if (!kernel.stop_)
        return;
    kernel.stop_->block();
    const SignalWait outcome = kernel.wait_for_signal();
    came_ = outcome == SignalWait::came;
    if (outcome == SignalWait::failed) {
        kernel.stop_->let_through();
        refuse(static_cast<int>(-kernel.stop_->operation.result), "wait for a signal");
    }
}

Kernel::SignalScope::~SignalScope() {
    if (kernel_.stop_)
        kernel_.end_signal_wait();
}

void Kernel::SignalScope::cancel(TaskRecord& main) noexcept {
    if (!kernel_.stop_)
        return;
    kernel_.main_to_stop_ = &main;
    if (came_)
        kernel_.send_cancel(main);
}

Kernel::SignalWait Kernel::wait_for_signal() noexcept {
    Operation& operation = stop_->operation;
    do {
        operation.result = 0;
        operation.cancel_requested = false;
        if (engine_->start(operation) == Engine::Started::in_flight) {
            stop_->in_flight = true;
            ++awaited_;
            return SignalWait::waiting;
        }
        if (operation.result < 0)
            return SignalWait::failed;
    } while (!stop_->take()); // another thread was faster
    return SignalWait::came;
}

/// Once main is cancelled nobody waits for another one: it would change nothing, and a main that
/// can never go on is then a deadlock.
void Kernel::signal_came() noexcept {
    stop_->in_flight = false;
    if (!main_to_stop_)
        return;
    SignalWait outcome = SignalWait::failed;
    if (stop_->operation.result >= 0)
        outcome = stop_->take() ? SignalWait::came : wait_for_signal();
    if (outcome == SignalWait::came)
        send_cancel(*main_to_stop_);
    else if (outcome == SignalWait::failed)
        log("KernelOptions::cancel_on: signals can no longer be waited for: " +
            std::system_category().message(static_cast<int>(-stop_->operation.result)));
}

void Kernel::end_signal_wait() noexcept {
    main_to_stop_ = nullptr;
    if (stop_->in_flight) {
        stop_->operation.cancel_requested = true;
        engine_->cancel(stop_->operation);
        while (stop_->in_flight)
            serve_world(true);
    }
    if (!only_run_ || !stop_->taken())
        stop_->let_through();
}

} // namespace trapline
