#include <trapline/io/signals.hpp>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <pthread.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <trapline/kernel/kernel.hpp>

#include "../support/leaks.hpp"

using namespace trapline;
using namespace std::chrono_literals;
using test::LeakGuard;

namespace {

bool is_blocked(int signal) {
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    return sigismember(&mask, signal) == 1;
}

/// To this thread, so that only its mask counts.
void raise_here(int signal) { pthread_kill(pthread_self(), signal); }

} // namespace

TEST_CASE("a program waits for the signal that stops it") {
    const LeakGuard guard;
    const auto stopper = []() -> Coro<void> {
        raise_here(SIGTERM);
        co_return;
    };
    const auto body = [&]() -> Coro<int> {
        co_await spawn(stopper()); // runs when this task waits
        SignalSet stop{SIGINT, SIGTERM};
        int signal = co_await stop.next();
        co_return signal;
    };
    CHECK(run(body()) == SIGTERM);
}

TEST_CASE("a signal that comes is what next() answers") {
    const LeakGuard guard;
    const auto body = []() -> Coro<int> {
        SignalSet signals{SIGUSR1, SIGUSR2};
        raise_here(SIGUSR2);
        co_return co_await signals.next();
    };
    CHECK(run(body()) == SIGUSR2);
}

TEST_CASE("a task waits for a signal while others run") {
    const LeakGuard guard;
    const auto waits = [](SignalSet& signals) -> Coro<int> { co_return co_await signals.next(); };
    const auto body = [&]() -> Coro<int> {
        SignalSet signals{SIGUSR1};
        Task<int> task = co_await spawn(waits(signals));
        co_await yield_now();
        co_await yield_now();
        raise_here(SIGUSR1);
        co_return co_await task.join();
    };
    CHECK(run(body()) == SIGUSR1);
}

TEST_CASE("a signal sent by another thread to the process arrives") {
    const LeakGuard guard;
    const auto body = []() -> Coro<int> {
        SignalSet signals{SIGUSR1}; // before the thread starts, which inherits the mask
        std::jthread sender{[] { kill(getpid(), SIGUSR1); }};
        co_return co_await signals.next();
    };
    CHECK(run(body()) == SIGUSR1);
}

TEST_CASE("signals arrive one by one, equal ones that pend together as one") {
    const auto body = []() -> Coro<std::string> {
        SignalSet signals{SIGUSR1, SIGUSR2};
        raise_here(SIGUSR1);
        raise_here(SIGUSR1);
        raise_here(SIGUSR2);
        const int first = co_await signals.next();
        const int second = co_await signals.next();
        const auto third = co_await ignore_after(1ms, signals.next());
        co_return std::string(first != second ? "two" : "equal") + (third ? ", more" : "");
    };
    CHECK(run(body()) == "two");
}

TEST_CASE("a wait that is cancelled has taken no signal") {
    const LeakGuard guard;
    const auto body = []() -> Coro<int> {
        SignalSet signals{SIGUSR1};
        const auto none = co_await ignore_after(1ms, signals.next());
        raise_here(SIGUSR1);
        const int signal = co_await signals.next();
        co_return none ? -1 : signal;
    };
    CHECK(run(body()) == SIGUSR1);
}

TEST_CASE("signals are blocked while the set lives, and as before after") {
    CHECK_FALSE(is_blocked(SIGUSR1));
    {
        const SignalSet outer{SIGUSR1};
        CHECK(is_blocked(SIGUSR1));
        {
            const SignalSet inner{SIGUSR2};
            CHECK(is_blocked(SIGUSR1));
            CHECK(is_blocked(SIGUSR2));
        }
        CHECK(is_blocked(SIGUSR1));
        CHECK_FALSE(is_blocked(SIGUSR2));
    }
    CHECK_FALSE(is_blocked(SIGUSR1));
}

TEST_CASE("a number that is no signal is refused, and blocks nothing") {
    const LeakGuard guard;
    CHECK_THROWS_WITH_AS((SignalSet{SIGUSR1, 12345}), "signal 12345: Invalid argument",
                         std::system_error);
    CHECK_FALSE(is_blocked(SIGUSR1));
}

TEST_CASE("of sets that overlap, each keeps its signals blocked until it goes, in any order") {
    auto older = std::make_unique<SignalSet>(std::initializer_list<int>{SIGUSR1, SIGHUP});
    auto newer = std::make_unique<SignalSet>(std::initializer_list<int>{SIGUSR2, SIGHUP});
    older.reset();
    CHECK_FALSE(is_blocked(SIGUSR1));
    CHECK(is_blocked(SIGUSR2));
    CHECK(is_blocked(SIGHUP));
    newer.reset();
    CHECK_FALSE(is_blocked(SIGUSR2));
    CHECK_FALSE(is_blocked(SIGHUP));
}

TEST_CASE("a signal that was blocked before stays so after the set") {
    sigset_t usr1;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &usr1, nullptr);
    { const SignalSet set{SIGUSR1}; }
    CHECK(is_blocked(SIGUSR1));
    pthread_sigmask(SIG_UNBLOCK, &usr1, nullptr);
}

// --- values() ------------------------------------------------------------------------------

TEST_CASE("a program takes one signal after the other, until one ends the loop") {
    const LeakGuard guard;
    const auto sender = []() -> Coro<void> {
        for (const int signal : {SIGHUP, SIGHUP, SIGTERM}) {
            raise_here(signal);
            for (int i = 0; i < 10; ++i) // the one before is taken meanwhile, or two were one
                co_await yield_now();
        }
    };
    const auto body = [&]() -> Coro<std::string> {
        std::string log;
        co_await spawn(sender()); // runs when this task waits
        SignalSet signals{SIGHUP, SIGTERM};
        co_await for_each(signals.values(), [&](int signal) {
            log += signal == SIGHUP ? "read the settings again, " : "stop";
            return signal == SIGHUP; // false ends the loop
        });
        co_return log;
    };
    CHECK(run(body()) == "read the settings again, read the settings again, stop");
}

TEST_CASE("values() takes no signal before it is asked, and none after it is dropped") {
    const LeakGuard guard;
    const auto body = []() -> Coro<std::vector<int>> {
        SignalSet signals{SIGUSR1, SIGUSR2};
        std::vector<int> seen;
        {
            const AsyncGenerator<int> never_asked = signals.values();
            raise_here(SIGUSR1);
            co_await yield_now();
        }
        {
            AsyncGenerator<int> values = signals.values();
            const std::optional<int> first = co_await values.next();
            seen.push_back(*first);
            raise_here(SIGUSR2);
            co_await yield_now();
        } // dropped half way
        const int second = co_await signals.next();
        seen.push_back(second);
        co_return seen;
    };
    CHECK(run(body()) == std::vector<int>{SIGUSR1, SIGUSR2});
}

TEST_CASE("equal signals that pend together are one value, those that come later are more") {
    const LeakGuard guard;
    const auto body = []() -> Coro<std::vector<int>> {
        SignalSet signals{SIGUSR1};
        AsyncGenerator<int> values = signals.values();
        raise_here(SIGUSR1);
        raise_here(SIGUSR1);
        std::vector<int> seen;
        const std::optional<int> first = co_await values.next();
        seen.push_back(*first);
        raise_here(SIGUSR1);
        const std::optional<int> second = co_await values.next();
        seen.push_back(*second);
        const bool third = (co_await ignore_after(1ms, signals.next())).has_value();
        if (third)
            seen.push_back(-1);
        co_return seen;
    };
    CHECK(run(body()) == std::vector<int>{SIGUSR1, SIGUSR1});
}

TEST_CASE("collect takes as many signals as it was told, and leaves the rest") {
    const LeakGuard guard;
    const auto body = []() -> Coro<std::vector<int>> {
        SignalSet signals{SIGUSR1, SIGUSR2, SIGHUP};
        for (const int signal : {SIGUSR1, SIGUSR2, SIGHUP})
            raise_here(signal);
        std::vector<int> seen = co_await collect(signals.values(), 2);
        const int rest = co_await signals.next();
        seen.push_back(rest);
        std::sort(seen.begin(), seen.end()); // Linux gives the smallest number first
        co_return seen;
    };
    std::vector<int> all{SIGUSR1, SIGUSR2, SIGHUP};
    std::sort(all.begin(), all.end());
    CHECK(run(body()) == all);
}

TEST_CASE("a loop over signals that is cancelled has taken none, and the set goes on") {
    const LeakGuard guard;
    const auto loops = [](SignalSet& signals, int& seen) -> Coro<void> {
        co_await for_each(signals.values(), [&seen](int) { ++seen; });
    };
    const auto body = [&]() -> Coro<std::string> {
        SignalSet signals{SIGUSR1};
        int seen = 0;
        Task<> task = co_await spawn(loops(signals, seen));
        co_await yield_now();
        co_await yield_now();
        const bool cancelled = co_await task.cancel();
        raise_here(SIGUSR1);
        const int signal = co_await signals.next();
        co_return std::string(cancelled && task.cancelled() ? "cancelled, " : "ended, ") +
            std::to_string(seen) + (signal == SIGUSR1 ? ", the signal is there" : ", lost");
    };
    CHECK(run(body()) == "cancelled, 0, the signal is there");
}

TEST_CASE("a time limit on a value ends the sequence, and another one goes on where it was") {
    const LeakGuard guard;
    const auto body = []() -> Coro<std::string> {
        SignalSet signals{SIGUSR1};
        AsyncGenerator<int> values = signals.values();
        const auto in_time = co_await ignore_after(1ms, values.next());
        std::string log = in_time ? "in time, " : "too late, ";
        log += values.ended() ? "ended, " : "goes on, ";
        raise_here(SIGUSR1);
        AsyncGenerator<int> others = signals.values();
        const std::optional<int> signal = co_await others.next();
        co_return log + (signal == SIGUSR1 ? "taken" : "lost");
    };
    CHECK(run(body()) == "too late, ended, taken");
}
