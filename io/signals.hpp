// SignalSet: Unix signals as something to wait for.
//
//     SignalSet stop{SIGINT, SIGTERM};
//     int signal = co_await stop.next();
//
//     SignalSet signals{SIGHUP, SIGTERM};
//     co_await for_each(signals.values(), [&](int signal) {
//         log += signal == SIGHUP ? "read the settings again, " : "stop";
//         return signal == SIGHUP; // false ends the loop
//     });
//
// While it lives, its signals are blocked in the thread that made it (and in threads started from
// there since), so make it before other threads start: any thread that does not block a signal
// may be killed by it. It is destroyed on the thread that made it. Sets may overlap in signals and
// in time: each signal reaches one of those who wait for it, and is let through again when the
// last set with it is gone. Equal signals that come close together arrive as one.
#pragma once

#include <csignal>
#include <initializer_list>

#include "../traps/async_generator.hpp"
#include "../traps/coro.hpp"
#include "descriptor.hpp"

namespace trapline {

class SignalSet {
public:
    /// Throws std::system_error.
    explicit SignalSet(std::initializer_list<int> signals);
    SignalSet(const SignalSet&) = delete;
    SignalSet& operator=(const SignalSet&) = delete;
    ~SignalSet();

    /// Waits for the next signal; answers its number. Blocks. A cancelled one has taken none.
    Coro<int> next();

    /// One signal after the other, without end, for loops, for_each and collect. It takes a signal
    /// only when it is asked for the next one, so it may be dropped at any time: what comes later
    /// waits for the next to ask, next() or other values(). An interrupt that ends a wait has taken
    /// none, and ends the sequence. The set must outlive it.
    AsyncGenerator<int> values();

private:
    sigset_t signals_;
    Descriptor descriptor_;
};

} // namespace trapline
