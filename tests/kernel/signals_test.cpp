// KernelOptions::cancel_on: signals that cancel main.
#include <trapline/kernel/kernel.hpp>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include <poll.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <trapline/io/signals.hpp>
#include <trapline/traps/resource.hpp>

#include "../support/leaks.hpp"
#include "../support/process.hpp"
#include "../support/sockets.hpp"
#include "manual_engine.hpp"

using namespace trapline;
using namespace std::chrono_literals;
using test::LeakGuard;
using test::must;

namespace {

bool is_blocked(int signal) {
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    return sigismember(&mask, signal) == 1;
}

/// To this thread, so that only its mask counts.
void raise_here(int signal) { pthread_kill(pthread_self(), signal); }

KernelOptions stoppable() { return {.cancel_on = stop_signals}; }

/// Whether a thread of this process waits in Linux for something.
bool waits(pid_t thread) {
    std::ifstream file{"/proc/self/task/" + std::to_string(thread) + "/stat"};
    std::string text{std::istreambuf_iterator<char>{file}, {}};
    return text.substr(text.rfind(')') + 1).starts_with(" S");
}

Coro<void> sleep_forever() { co_await sleep(Duration::max()); }

/// What ends `run(main, options)`: "done", the interrupt's or the error's text.
template <class F>
std::string outcome_of(F main, KernelOptions options = stoppable()) {
    try {
        run(std::move(main), std::move(options));
        return "done";
    } catch (const Cancelled& interrupt) {
        return interrupt.what();
    } catch (const std::exception& failure) {
        return failure.what();
    }
}

/// Runs `program(ready)` in a child, which calls ready() when it may be sent `signal`. Answers how
/// the child ended: what it answered, or which signal killed it.
template <class F>
std::string after_signal(int signal, F program) {
    test::Ends report = test::pipe_ends();
    std::fflush(nullptr);
    const pid_t child = must(::fork(), "fork");
    if (child == 0) {
        const auto say = [&](std::string_view text) {
            [[maybe_unused]] const ssize_t n = ::write(report.b.get(), text.data(), text.size());
        };
        std::signal(signal, SIG_DFL); // what reports crashes of tests has taken it
        std::string text;
        try {
            text = program([&] { say("!"); });
        } catch (const Cancelled&) {
            text = "interrupted";
        } catch (const std::exception& failure) {
            text = failure.what();
        }
        say(text);
        ::_exit(0);
    }
    report.b = Descriptor{};
    char ready = 0;
    if (::read(report.a.get(), &ready, 1) == 1)
        ::kill(child, signal);
    std::string text = test::read_all(report.a.get());
    int status = 0;
    must(::waitpid(child, &status, 0), "waitpid");
    if (WIFSIGNALED(status))
        text += " (killed by " + std::to_string(WTERMSIG(status)) + ")";
    return text;
}

} // namespace

TEST_CASE("a signal cancels main, its cleanup runs, and run throws what main threw") {
    const LeakGuard guard;
    for (const int signal : stop_signals) {
        std::string log;
        const auto main = [&]() -> Coro<void> {
            raise_here(signal);
            co_await with_resource([]() -> Coro<void> { co_return; },
                                   [] { return sleep_forever(); },
                                   [&]() -> Coro<void> {
                                       co_await sleep(1ms); // not interrupted again
                                       log += "cleaned up";
                                   });
        };
        CHECK(outcome_of(main) == "task cancelled");
        CHECK(log == "cleaned up");
    }
}

TEST_CASE("a main that catches the cancellation answers what it likes") {
    const auto main = []() -> Coro<int> {
        raise_here(SIGTERM);
        try {
            co_await sleep_forever();
        } catch (const TaskCancelled&) {
            co_return 143;
        }
        co_return 0;
    };
    CHECK(run(main, stoppable()) == 143);
}

TEST_CASE("a program that is sent a signal from outside cleans up and ends well") {
    for (const int signal : stop_signals) {
        const std::string end = after_signal(signal, [](const auto& ready) -> std::string {
            std::string log;
            const auto child_task = [&]() -> Coro<void> {
                try {
                    co_await sleep_forever();
                } catch (const Cancelled&) {
                    log += ", child";
                    throw;
                }
            };
            try {
                run(
                    [&]() -> Coro<void> {
                        co_await spawn(child_task);
                        co_await yield_now();
                        ready();
                        try {
                            co_await sleep_forever();
                        } catch (const Cancelled&) {
                            log += "main";
                            throw;
                        }
                    },
                    stoppable());
            } catch (const TaskCancelled&) {
                return log + ", ended";
            }
            return "not interrupted";
        });
        CHECK(end == "main, child, ended");
    }
}

TEST_CASE("a signal that nobody asked for kills the program as ever") {
    const std::string end = after_signal(SIGTERM, [](const auto& ready) -> std::string {
        run(
            [&]() -> Coro<void> {
                ready();
                co_await sleep_forever();
            },
            {.cancel_on = {SIGINT}});
        return "not interrupted";
    });
    CHECK(end == " (killed by " + std::to_string(SIGTERM) + ")");
}

TEST_CASE("signals are blocked during run(), and as before after, however it ends") {
    const LeakGuard guard;
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    const auto blocked = []() -> Coro<std::string> {
        co_return std::string(is_blocked(SIGINT) ? "INT " : "") +
            (is_blocked(SIGTERM) ? "TERM" : "");
    };
    const auto fails = []() -> Coro<void> { throw std::runtime_error("failed"); };
    const auto signalled = []() -> Coro<void> {
        raise_here(SIGTERM);
        co_await sleep_forever();
    };
    for (const bool before : {false, true}) {
        pthread_sigmask(before ? SIG_BLOCK : SIG_UNBLOCK, &interrupt, nullptr);
        Kernel kernel{stoppable()};
        CHECK_FALSE(is_blocked(SIGTERM));
        CHECK(kernel.run(blocked) == "INT TERM");
        CHECK_FALSE(is_blocked(SIGTERM));
        CHECK(is_blocked(SIGINT) == before);
        CHECK_THROWS_AS(kernel.run(fails), std::runtime_error);
        CHECK_FALSE(is_blocked(SIGTERM));
        CHECK_THROWS_AS(kernel.run(signalled), TaskCancelled);
        CHECK_FALSE(is_blocked(SIGTERM));
        CHECK(is_blocked(SIGINT) == before);
        kernel.shutdown();
        CHECK(outcome_of(signalled) == "task cancelled");
        CHECK_FALSE(is_blocked(SIGTERM));
        CHECK(is_blocked(SIGINT) == before);
    }
    pthread_sigmask(SIG_UNBLOCK, &interrupt, nullptr);
}

TEST_CASE("further signals change nothing, neither in cleanup nor in the shutdown that follows") {
    const std::string report = test::in_child([]() -> std::string {
        std::string log;
        const auto child_task = [&]() -> Coro<void> {
            try {
                co_await sleep_forever();
            } catch (const Cancelled&) {
                raise_here(SIGTERM);
                log += ", child";
            }
        };
        const auto clean_up = [&]() -> Coro<void> {
            raise_here(SIGTERM);
            co_await sleep(1ms);
            raise_here(SIGINT);
            co_await sleep(1ms);
            log += "main";
        };
        const auto main = [&]() -> Coro<void> {
            co_await spawn(child_task);
            raise_here(SIGINT);
            co_await with_resource([]() -> Coro<void> { co_return; },
                                   [] { return sleep_forever(); }, clean_up);
        };
        const std::string end = outcome_of(main);
        return log + ", " + end; // the process lives
    });
    CHECK(report == "main, child, task cancelled");
}

TEST_CASE("a cancellation by a signal waits where cancellation is disabled") {
    std::string log;
    const auto main = [&]() -> Coro<void> {
        co_await disable_cancellation([&]() -> Coro<void> {
            raise_here(SIGTERM);
            co_await sleep(1ms);
            const bool pending = co_await check_cancellation();
            log += pending ? "pending" : "not there";
        });
        co_await yield_now();
        log += ", not interrupted";
    };
    CHECK(outcome_of(main) == "task cancelled");
    CHECK(log == "pending");
}

TEST_CASE("a signal reaches a main that never waits for long, and one that is being timed") {
    const auto busy = []() -> Coro<void> {
        raise_here(SIGTERM);
        for (;;)
            co_await yield_now();
    };
    const auto timed = []() -> Coro<void> {
        raise_here(SIGTERM);
        co_await timeout_after(1h, sleep_forever());
    };
    CHECK(outcome_of(busy) == "task cancelled");
    CHECK(outcome_of(timed) == "task cancelled");
}

TEST_CASE("a signal that was pending when run() began counts") {
    sigset_t terminate;
    sigemptyset(&terminate);
    sigaddset(&terminate, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &terminate, nullptr);
    raise_here(SIGTERM);
    CHECK(outcome_of([] { return sleep_forever(); }) == "task cancelled");
    pthread_sigmask(SIG_UNBLOCK, &terminate, nullptr); // it was taken
}

TEST_CASE("a signal that comes too late for main does what the program has set up") {
    const std::string report = test::in_child([]() -> std::string {
        static volatile std::sig_atomic_t handled = 0;
        std::signal(SIGTERM, [](int) { handled = handled + 1; });
        const auto main = []() -> Coro<void> {
            co_await yield_now();
            raise_here(SIGTERM);
        };
        Kernel kernel{stoppable()};
        kernel.run(main);
        return handled == 1 ? "" : "handled " + std::to_string(handled) + " times";
    });
    CHECK(report == "");
}

TEST_CASE("a main that waits for nothing waits for the signal, and is a deadlock after it") {
    const LeakGuard guard;
    WaitQueue queue;
    std::atomic<bool> parking = false;
    const auto parks = [&]() -> Coro<void> {
        parking = true;
        co_await traps::Park{&queue};
    };
    const pthread_t here = pthread_self();
    const pid_t thread = ::gettid();
    {
        std::jthread sender{[&] {
            while (!parking || !waits(thread)) // from then on nothing else can ever happen
                std::this_thread::yield();
            pthread_kill(here, SIGTERM);
        }};
        CHECK(outcome_of(parks) == "task cancelled");
    }
    const auto parks_again = [&]() -> Coro<void> {
        raise_here(SIGTERM);
        co_await disable_cancellation(parks);
    };
    KernelOptions options = stoppable();
    options.log = [](std::string_view) {}; // of the shutdown: main can never go on
    const std::string text = outcome_of(parks_again, options);
    CHECK(text.starts_with("deadlock: "));
    CHECK(text.contains("'main'"));
    CHECK(text.find("task ") == text.rfind("task ")); // no task of the kernel's own is listed
}

TEST_CASE("what waits for signals is no task") {
    struct Counting : Observer {
        void created(const TaskRecord&) noexcept override { ++tasks; }
        int tasks = 0;
    } observer;
    KernelOptions options = stoppable();
    options.observer = &observer;
    Kernel kernel{options};
    const std::size_t count = kernel.run([&]() -> Coro<std::size_t> {
        co_await yield_now();
        co_return kernel.task_count();
    });
    CHECK(count == 1);
    CHECK(observer.tasks == 1);
    CHECK(kernel.counters().spawned == 1);
    CHECK(kernel.task_count() == 0);
}

TEST_CASE("only main is cancelled, others when the kernel shuts down") {
    Kernel kernel{stoppable()};
    Task<> other;
    const auto main = [&]() -> Coro<void> {
        other = co_await spawn([] { return sleep_forever(); });
        raise_here(SIGINT);
        co_await sleep_forever();
    };
    CHECK_THROWS_AS(kernel.run(main), TaskCancelled);
    CHECK_FALSE(other.terminated());
    const auto answers = []() -> Coro<int> {
        co_await sleep(1ms);
        co_return 5;
    };
    CHECK(kernel.run(answers) == 5); // the next main is not concerned
    CHECK_FALSE(other.terminated());
    kernel.shutdown();
    CHECK(other.cancelled());
}

TEST_CASE("each main of a kernel can be cancelled by a signal of its own") {
    const LeakGuard guard;
    Kernel kernel{stoppable()};
    const auto main = []() -> Coro<void> {
        raise_here(SIGTERM);
        co_await sleep_forever();
    };
    for (int i = 0; i < 3; ++i)
        CHECK_THROWS_AS(kernel.run(main), TaskCancelled);
}

TEST_CASE("kernels on several threads are cancelled each by its own thread's signal") {
    const LeakGuard guard;
    std::string inner = "?";
    bool outer_went_on = false;
    const auto main = [&]() -> Coro<void> {
        std::jthread thread{[&] {
            inner = outcome_of([]() -> Coro<void> {
                raise_here(SIGTERM);
                co_await sleep_forever();
            });
            inner += is_blocked(SIGTERM) ? ", inherited" : ", free";
        }};
        thread.join();
        co_await sleep(1ms);
        outer_went_on = true;
        raise_here(SIGINT);
        co_await sleep_forever();
    };
    CHECK(outcome_of(main) == "task cancelled");
    CHECK(inner == "task cancelled, inherited"); // the mask of a thread from within a run
    CHECK(outer_went_on);
    CHECK_FALSE(is_blocked(SIGTERM));
}

TEST_CASE("a signal to the process cancels one of the kernels that wait for it") {
    const std::string report = test::in_child([]() -> std::string {
        sigset_t terminate;
        sigemptyset(&terminate);
        sigaddset(&terminate, SIGTERM);
        pthread_sigmask(SIG_BLOCK, &terminate, nullptr); // here: only the threads take it
        std::atomic<int> cancelled = 0;
        std::atomic<int> running = 0;
        const auto runs = [&] {
            cancelled += outcome_of([&]() -> Coro<void> {
                             ++running;
                             co_await sleep_forever();
                         }) == "task cancelled";
        };
        std::jthread first{runs};
        std::jthread second{runs};
        while (running < 2)
            std::this_thread::yield();
        ::kill(::getpid(), SIGTERM);
        while (cancelled < 1)
            std::this_thread::yield();
        ::kill(::getpid(), SIGTERM); // for the other one
        first.join();
        second.join();
        return cancelled == 2 ? "" : "cancelled " + std::to_string(cancelled);
    });
    CHECK(report == "");
}

TEST_CASE("a SignalSet takes other signals beside it") {
    const LeakGuard guard;
    std::vector<int> seen;
    const auto main = [&]() -> Coro<void> {
        SignalSet others{SIGUSR1, SIGHUP};
        raise_here(SIGUSR1);
        const int first = co_await others.next();
        seen.push_back(first);
        raise_here(SIGHUP);
        const int second = co_await others.next();
        seen.push_back(second);
        raise_here(SIGTERM);
        co_await others.next();
    };
    CHECK(outcome_of(main) == "task cancelled");
    CHECK(seen == std::vector<int>{SIGUSR1, SIGHUP});
    CHECK_FALSE(is_blocked(SIGUSR1));
}

TEST_CASE("a SignalSet for the same signal in a main that has been cancelled gets the next one") {
    const LeakGuard guard;
    int second = 0;
    const auto main = [&]() -> Coro<void> {
        raise_here(SIGTERM);
        try {
            co_await sleep_forever();
        } catch (const Cancelled&) {}
        SignalSet more{SIGTERM};
        raise_here(SIGTERM);
        second = co_await more.next(); // in a hurry now
    };
    CHECK(outcome_of(main) == "done");
    CHECK(second == SIGTERM);
    CHECK_FALSE(is_blocked(SIGTERM));
}

TEST_CASE("what is no signal, or cannot be held back, is refused when the kernel is made") {
    const LeakGuard guard;
    CHECK_THROWS_WITH_AS((Kernel{{.cancel_on = {SIGINT, 12345}}}),
                         "KernelOptions::cancel_on: signal 12345: Invalid argument",
                         std::system_error);
    CHECK_THROWS_AS((Kernel{{.cancel_on = {SIGKILL}}}), std::system_error);
    CHECK_THROWS_AS((Kernel{{.cancel_on = {SIGSTOP}}}), std::system_error);
    CHECK_THROWS_AS((Kernel{{.cancel_on = {0}}}), std::system_error);
}

TEST_CASE("a wait for signals that ends without one begins again, or is given up with a word") {
    ManualEngine* engine = nullptr;
    std::vector<std::string> lines;
    KernelOptions options = manual(&engine);
    options.cancel_on = stop_signals;
    options.log = [&](std::string_view line) { lines.emplace_back(line); };
    {
        Kernel kernel{options};
        const auto main = [&]() -> Coro<void> {
            const bool first = engine->complete_poll(POLLIN); // another thread was faster
            co_await sleep(1ms);
            co_await sleep(1ms);
            raise_here(SIGTERM);
            const bool second = engine->complete_poll(POLLIN);
            CHECK(first);
            CHECK(second);
            co_await sleep(1ms);
            co_await sleep(1ms);
        };
        CHECK_THROWS_AS(kernel.run(main), TaskCancelled);
        CHECK(lines.empty());
    }
    {
        Kernel kernel{options};
        const auto main = [&]() -> Coro<int> {
            engine->complete_poll(-ENOMEM);
            co_await sleep(1ms);
            co_await sleep(1ms);
            co_return 3;
        };
        CHECK(kernel.run(main) == 3);
    }
    REQUIRE(lines.size() == 1);
    CHECK(lines[0] == "KernelOptions::cancel_on: signals can no longer be waited for: "
                      "Cannot allocate memory");
}

namespace {

/// Knows no I/O, or says at once that there is something to read.
class AtOnce : public ManualEngine {
public:
    explicit AtOnce(int answer) : answer_(answer) {}
    Started start(Operation& operation) noexcept override {
        operation.result = answer_;
        return Started::done;
    }

private:
    int answer_;
};

} // namespace

TEST_CASE("an engine that cannot wait for signals refuses the run, and main never begins") {
    const LeakGuard guard;
    bool began = false;
    KernelOptions options = stoppable();
    options.make_engine = [] { return std::make_unique<AtOnce>(-ENOSYS); };
    const auto main = [&]() -> Coro<void> {
        began = true;
        co_return;
    };
    CHECK(outcome_of(main, options) ==
          "KernelOptions::cancel_on: wait for a signal: Function not implemented");
    CHECK_FALSE(began);
    CHECK_FALSE(is_blocked(SIGTERM));
}

TEST_CASE("an engine may see the signal before main begins") {
    const LeakGuard guard;
    KernelOptions options = stoppable();
    options.make_engine = [] { return std::make_unique<AtOnce>(POLLIN); };
    sigset_t terminate;
    sigemptyset(&terminate);
    sigaddset(&terminate, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &terminate, nullptr);
    raise_here(SIGTERM);
    CHECK(outcome_of([] { return sleep_forever(); }, options) == "task cancelled");
    pthread_sigmask(SIG_UNBLOCK, &terminate, nullptr);
}
