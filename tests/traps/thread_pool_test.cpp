#include <trapline/traps/thread_pool.hpp>

#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <sys/resource.h>

#include <doctest/doctest.h>

#include <trapline/trapline.hpp>

#include "../conformance/conformance.hpp"
#include "../support/leaks.hpp"
#include "../support/virtual_time.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

/// A door that threads stand at until it is opened.
class Door {
public:
    void open() noexcept {
        open_ = true;
        open_.notify_all();
    }
    void wait_open() noexcept {
        ++waiting_;
        open_.wait(false);
    }
    /// Waits until so many threads stand at it.
    void await_waiting(int count) const noexcept {
        while (waiting_ < count)
            std::this_thread::yield();
    }
    int waiting() const noexcept { return waiting_; }

private:
    std::atomic<bool> open_ = false;
    std::atomic<int> waiting_ = 0;
};

/// On io_uring, and on the engine in forty lines, whose time jumps.
std::vector<KernelOptions> both() { return {KernelOptions{}, test::virtual_time()}; }

template <class Body>
void on_both(Body body) {
    for (const KernelOptions& options : both()) {
        const test::LeakGuard guard;
        run(body, options);
    }
}

} // namespace

TEST_CASE("thread_pool.hpp: the example") {
    const auto body = []() -> Coro<int> {
        std::string name = co_await run_in_thread([] { return std::string("a slow look-up"); });

        ThreadPool pool{2}; // at most two of them at a time
        const auto power = [](int base, int n) { return n == 0 ? 1 : base * base; };
        int square = co_await pool.run(power, 7, 2);

        co_return square + static_cast<int>(name.size());
    };
    CHECK(run(body()) == 49 + 14);
}

TEST_CASE("a function runs on another thread and its result comes back, whatever it is") {
    on_both([]() -> Coro<void> {
        ThreadPool pool{1};
        const std::thread::id other = co_await pool.run([] { return std::this_thread::get_id(); });
        CHECK(other != std::this_thread::get_id());
        const std::unique_ptr<int> moved = co_await pool.run(
            [](std::unique_ptr<int> given) {
                ++*given;
                return given;
            },
            std::make_unique<int>(1));
        CHECK(*moved == 2);
        int target = 0;
        int& reference = co_await pool.run([&]() -> int& { return target; });
        CHECK(&reference == &target);
        co_await pool.run([&target] { target = 3; });
        CHECK(target == 3);
        CHECK(pool.size() == 1);
    });
}

TEST_CASE("other tasks run while a thread works") {
    on_both([]() -> Coro<void> {
        ThreadPool pool{1};
        Door door;
        const Task<void> waits = co_await spawn(
            [&]() -> Coro<void> { co_await pool.run([&door] { door.wait_open(); }); });
        for (int i = 0; i < 100; ++i)
            co_await yield_now();
        CHECK_FALSE(waits.terminated());
        door.open();
        co_await waits.join();
    });
}

TEST_CASE("what a function throws arrives at the task, once and whole") {
    on_both([]() -> Coro<void> {
        ThreadPool pool{2};
        for (int round = 0; round < 50; ++round) {
            std::string text;
            try {
                co_await pool.run([round] { throw std::out_of_range(std::to_string(round)); });
            } catch (const std::out_of_range& thrown) {
                text = thrown.what();
            }
            CHECK(text == std::to_string(round));
        }
    });
}

TEST_CASE("function and arguments are destroyed before the task goes on") {
    on_both([]() -> Coro<void> {
        ThreadPool pool{1};
        for (int round = 0; round < 50; ++round) {
            auto given = std::make_shared<int>(round);
            const std::weak_ptr<int> seen = given;
            const int got = co_await pool.run([](const std::shared_ptr<int>& n) { return *n; },
                                              std::move(given));
            CHECK(got == round);
            CHECK(seen.expired());
        }
    });
}

TEST_CASE("a pool has at most as many threads as it was told, and makes them on demand") {
    on_both([]() -> Coro<void> {
        ThreadPool pool{3};
        std::set<std::thread::id> seen;
        for (int i = 0; i < 10; ++i) // one after the other: a thread that is idle is taken
            seen.insert(co_await pool.run([] { return std::this_thread::get_id(); }));
        CHECK(seen.size() <= 3);

        Door door;
        std::atomic<int> at_once = 0;
        std::atomic<int> most = 0;
        std::vector<Task<void>> tasks;
        for (int i = 0; i < 8; ++i) {
            tasks.push_back(co_await spawn([&]() -> Coro<void> {
                co_await pool.run([&] {
                    const int now = ++at_once;
                    int before = most;
                    while (before < now && !most.compare_exchange_weak(before, now)) {}
                    door.wait_open();
                    --at_once;
                });
            }));
        }
        co_await yield_now();
        door.await_waiting(3);
        door.open();
        for (const Task<void>& task : tasks)
            co_await task.join();
        CHECK(most == 3);
        CHECK(door.waiting() == 8);
    });
}

TEST_CASE("cancelled before it begins, a function never runs; its arguments go at once") {
    on_both([]() -> Coro<void> {
        ThreadPool pool{1};
        Door door;
        bool ran = false;
        const Task<void> first = co_await spawn(
            [&]() -> Coro<void> { co_await pool.run([&door] { door.wait_open(); }); });
        co_await yield_now();
        door.await_waiting(1);
        auto argument = std::make_shared<int>(1);
        const std::weak_ptr<int> seen = argument;
        const Task<void> second = co_await spawn([&]() -> Coro<void> {
            co_await pool.run([&ran](const std::shared_ptr<int>&) { ran = true; },
                              std::move(argument));
        });
        co_await yield_now();
        const bool cancelled = co_await second.cancel();
        CHECK(cancelled);
        CHECK(seen.expired());
        door.open();
        co_await first.join();
        CHECK_FALSE(ran);
    });
}

TEST_CASE("cancelled while it runs, a function goes on to its end and its result is dropped") {
    on_both([]() -> Coro<void> {
        for (const bool throws : {false, true}) {
            auto door = std::make_shared<Door>();
            auto kept = std::make_shared<int>(7);
            const std::weak_ptr<int> seen = kept;
            {
                ThreadPool pool{1};
                const Task<void> task = co_await spawn([&]() -> Coro<void> {
                    (void)co_await pool.run([door, throws, result = std::move(kept)] {
                        door->wait_open();
                        if (throws)
                            throw std::runtime_error("nobody hears this");
                        return result;
                    });
                });
                co_await yield_now();
                door->await_waiting(1);
                const bool cancelled = co_await task.cancel();
                CHECK(cancelled);
                CHECK_FALSE(seen.expired());
                door->open();
            } // waits for the thread
            CHECK(seen.expired());
        }
    });
}

TEST_CASE("a time limit ends the wait; with cancellation disabled it waits for the result") {
    on_both([]() -> Coro<void> {
        auto door = std::make_shared<Door>();
        ThreadPool pool{1};
        const bool in_time = co_await ignore_after(1ms, pool.run([door] { door->wait_open(); }));
        CHECK_FALSE(in_time);
        door->open();

        int result = 0;
        const Task<void> task = co_await spawn([&]() -> Coro<void> {
            result = co_await disable_cancellation(pool.run([] {
                std::this_thread::sleep_for(2ms);
                return 5;
            }));
        });
        co_await yield_now();
        co_await task.cancel();
        CHECK(result == 5);
    });
}

TEST_CASE("cancellation and the end of the function may cross: a result, or an interrupt") {
    on_both([]() -> Coro<void> {
        ThreadPool pool{2};
        for (int round = 0; round < 200; ++round) {
            std::shared_ptr<int> got;
            const Task<void> task = co_await spawn([&]() -> Coro<void> {
                got = co_await pool.run([round] { return std::make_shared<int>(round); });
            });
            for (int turn = 0; turn < round % 5; ++turn)
                co_await yield_now();
            const bool interrupted = co_await task.cancel();
            if (got)
                CHECK(*got == round);
            else
                CHECK(interrupted);
        }
    });
}

TEST_CASE("a pool that goes first does what tasks wait for") {
    on_both([]() -> Coro<void> {
        auto pool = std::make_unique<ThreadPool>(1);
        int sum = 0;
        std::vector<Task<void>> tasks;
        for (int i = 0; i < 5; ++i) {
            tasks.push_back(co_await spawn([&sum, &pool, i]() -> Coro<void> {
                sum += co_await pool->run([i] { return i; });
            }));
        }
        co_await yield_now();
        pool.reset();
        for (const Task<void>& task : tasks)
            co_await task.join();
        CHECK(sum == 10);
    });
}

TEST_CASE("shutdown of a kernel does not wait for threads whose tasks it cancels") {
    for (const KernelOptions& options : both()) {
        auto door = std::make_shared<Door>();
        {
            Kernel kernel{options};
            kernel.run([&]() -> Coro<void> {
                co_await spawn([door]() -> Coro<void> {
                    co_await run_in_thread([door] { door->wait_open(); });
                });
                co_await yield_now();
                door->await_waiting(1);
            });
        }
        door->open();
    }
}

TEST_CASE("tasks of several kernels share a pool") {
    ThreadPool pool{2};
    std::atomic<int> sum = 0;
    std::vector<std::jthread> kernels;
    for (int k = 0; k < 3; ++k) {
        kernels.emplace_back([&] {
            run([&]() -> Coro<void> {
                for (int i = 0; i < 100; ++i)
                    sum += co_await pool.run([i] { return i; });
            });
        });
    }
    kernels.clear();
    CHECK(sum == 3 * 4950);
}

TEST_CASE("a pool's threads take no signals, so a SignalSet gets them") {
    const auto body = []() -> Coro<bool> {
        const bool blocked = co_await run_in_thread([] {
            sigset_t now;
            pthread_sigmask(SIG_BLOCK, nullptr, &now);
            return sigismember(&now, SIGTERM) == 1 && sigismember(&now, SIGSEGV) == 0;
        });
        co_return blocked;
    };
    CHECK(run(body()));
}

TEST_CASE("a pool without threads is refused") {
    CHECK_THROWS_AS(ThreadPool{0}, std::invalid_argument);
}

TEST_CASE("close() waits for what runs, while the kernel goes on") {
    run([]() -> Coro<void> {
        Portal portal;
        Task<> serving = co_await spawn(portal.serve());
        ThreadPool pool{2};
        co_await pool.close(); // nothing was begun
        ThreadPool other{2};
        std::atomic<bool> inside = false;
        int answered = 0;
        Task<> asking = co_await spawn([&]() -> Coro<void> {
            answered = co_await other.run([&] {
                inside = true;
                return portal.run([]() -> Coro<int> { // on the kernel of those who wait
                    co_await sleep(1ms);
                    co_return 7;
                });
            });
        });
        while (!inside)
            co_await sleep(100us);
        co_await other.close();
        co_await asking.join();
        CHECK(answered == 7);
        std::string refused;
        try {
            co_await other.run([] {});
        } catch (const std::logic_error& failure) {
            refused = failure.what();
        }
        CHECK(refused == "ThreadPool::run of a pool that was closed");
        co_await other.close(); // harmless
        portal.close();
        co_await serving.join();
    });
}

TEST_CASE("a pool is closed by one task at a time") {
    run([]() -> Coro<void> {
        ThreadPool pool{1};
        Door door;
        Task<> waits =
            co_await spawn([&]() -> Coro<void> { co_await pool.run([&] { door.wait_open(); }); });
        co_await yield_now();
        Task<> closes = co_await spawn(pool.close());
        co_await yield_now();
        std::error_code refused;
        try {
            co_await pool.close();
        } catch (const std::system_error& failure) {
            refused = failure.code();
        }
        CHECK(refused == std::errc::device_or_resource_busy);
        door.open();
        co_await closes.join();
        co_await waits.join();
    });
}

TEST_CASE("close() that was interrupted can be awaited again") {
    run([]() -> Coro<void> {
        ThreadPool pool{1};
        Door door;
        Task<> waits =
            co_await spawn([&]() -> Coro<void> { co_await pool.run([&] { door.wait_open(); }); });
        co_await yield_now();
        const bool early = co_await ignore_after(1ms, pool.close());
        CHECK_FALSE(early);
        door.open();
        co_await pool.close();
        co_await waits.join();
    });
}

TEST_CASE("a run is awaited once") {
    std::string text;
    run([&]() -> Coro<void> {
        auto job = run_in_thread([] { return 5; });
        const int first = co_await job;
        CHECK(first == 5);
        try {
            (void)co_await job;
        } catch (const std::logic_error& failure) {
            text = failure.what();
        }
    });
    CHECK(text == "one ThreadPool::run was awaited twice");
}

TEST_CASE("where no thread can be had at all a run says so, and the next one may be luckier") {
    if (test::sanitized)
        return; // its shadow memory is beyond any limit
    const std::string complaint = test::in_child([] {
        return run([]() -> Coro<std::string> {
            Door door;
            std::vector<std::jthread> others;
            others.reserve(1000);
            ThreadPool pool{1};
            rlimit before{};
            test::must(::getrlimit(RLIMIT_AS, &before), "getrlimit");
            const rlimit none{1 << 20, before.rlim_max}; // no room for a stack
            test::must(::setrlimit(RLIMIT_AS, &none), "setrlimit");
            try { // those that threads before have left
                for (;;)
                    others.emplace_back([&door] { door.wait_open(); });
            } catch (const std::system_error&) {}
            bool refused = false;
            try {
                co_await pool.run([] { return 1; });
            } catch (const std::system_error&) {
                refused = true;
            }
            door.open();
            test::must(::setrlimit(RLIMIT_AS, &before), "setrlimit");
            const int luckier = co_await pool.run([] { return 2; });
            co_return refused&& luckier == 2 ? "" : "not refused";
        });
    });
    CHECK(complaint == "");
}

TEST_CASE("a run that is never awaited never runs") {
    bool ran = false;
    {
        ThreadPool pool{1};
        [[maybe_unused]] const auto dropped = pool.run([&ran] { ran = true; });
    }
    CHECK_FALSE(ran);
}
