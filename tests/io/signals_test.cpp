#include <trapline/io/signals.hpp>

#include <csignal>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <system_error>
#include <thread>

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
