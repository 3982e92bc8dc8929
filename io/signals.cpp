#include "signals.hpp"

#include <array>
#include <cerrno>
#include <cstddef>
#include <string>

#include <pthread.h>
#include <sys/signalfd.h>

#include "../traps/calls.hpp"
#include "errors.hpp"

namespace trapline {

namespace {

/// What SignalSets did to a signal in this thread. The mask is the thread's, and so is this.
struct Blocking {
    unsigned sets = 0;             ///< that have the signal
    bool blocked_by_other = false; ///< it was blocked before the first of them
};

constinit thread_local std::array<Blocking, NSIG> blocking{};

template <class F>
void for_each_signal(const sigset_t& signals, F&& f) {
    for (int signal = 1; signal < NSIG; ++signal) {
        if (sigismember(&signals, signal) == 1)
            f(signal, blocking[static_cast<std::size_t>(signal)]);
    }
}

} // namespace

SignalSet::SignalSet(std::initializer_list<int> signals) {
    sigemptyset(&signals_);
    for (const int signal : signals) {
        if (sigaddset(&signals_, signal) != 0)
            detail::raise_error(errno, "signal " + std::to_string(signal));
    }
    descriptor_ = Descriptor{signalfd(-1, &signals_, SFD_NONBLOCK | SFD_CLOEXEC)};
    if (!descriptor_)
        detail::raise_error(errno, "signalfd");
    sigset_t before;
    if (const int error = pthread_sigmask(SIG_BLOCK, &signals_, &before))
        detail::raise_error(error, "pthread_sigmask");
    for_each_signal(signals_, [&](int signal, Blocking& of) {
        if (of.sets++ == 0)
            of.blocked_by_other = sigismember(&before, signal) == 1;
    });
}

SignalSet::~SignalSet() {
    sigset_t freed;
    sigemptyset(&freed);
    for_each_signal(signals_, [&](int signal, Blocking& of) {
        if (--of.sets == 0 && !of.blocked_by_other)
            sigaddset(&freed, signal);
    });
    pthread_sigmask(SIG_UNBLOCK, &freed, nullptr);
}

Coro<int> SignalSet::next() {
    for (;;) {
        // Waiting takes no signal away; the read that follows waits only if another one took it.
        const auto ready = co_await traps::read_wait(descriptor_.get());
        if (!ready)
            detail::raise_error(ready.error().value(), "wait for a signal");
        // By a trap, so that whoever records or replays traps knows which signal it was.
        signalfd_siginfo info{};
        const auto got =
            co_await traps::read(descriptor_.get(), std::as_writable_bytes(std::span(&info, 1)));
        if (!got)
            detail::raise_error(got.error().value(), "read of a signal");
        if (*got == sizeof info)
            co_return static_cast<int>(info.ssi_signo);
    }
}

AsyncGenerator<int> SignalSet::values() {
    for (;;) {
        const int signal = co_await next();
        co_yield signal;
    }
}

} // namespace trapline
