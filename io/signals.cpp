#include "signals.hpp"

#include <cerrno>

#include <pthread.h>
#include <sys/signalfd.h>

#include "../traps/calls.hpp"
#include "errors.hpp"

namespace trapline {

SignalSet::SignalSet(std::initializer_list<int> signals) {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : signals) {
        if (sigaddset(&set, signal) != 0)
            detail::raise_error(errno, "signal " + std::to_string(signal));
    }
    descriptor_ = Descriptor{signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC)};
    if (!descriptor_)
        detail::raise_error(errno, "signalfd");
    if (const int error = pthread_sigmask(SIG_BLOCK, &set, &previous_mask_))
        detail::raise_error(error, "pthread_sigmask");
}

SignalSet::~SignalSet() { pthread_sigmask(SIG_SETMASK, &previous_mask_, nullptr); }

Coro<int> SignalSet::next() {
    for (;;) {
        // Waiting takes no signal away; the read that follows does not wait.
        const auto ready = co_await traps::read_wait(descriptor_.get());
        if (!ready)
            detail::raise_error(ready.error().value(), "wait for a signal");
        signalfd_siginfo info{};
        const ssize_t got = ::read(descriptor_.get(), &info, sizeof info);
        if (got == static_cast<ssize_t>(sizeof info))
            co_return static_cast<int>(info.ssi_signo);
        if (got < 0 && errno != EAGAIN && errno != EINTR)
            detail::raise_error(errno, "read of a signal");
    }
}

} // namespace trapline
