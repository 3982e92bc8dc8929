#include <trapline/traps/portal.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/trapline.hpp>

#include "../conformance/conformance.hpp"
#include "../support/virtual_time.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

std::vector<KernelOptions> both() { return {KernelOptions{}, test::virtual_time()}; }

template <class Body>
void on_both(Body body) {
    for (const KernelOptions& options : both()) {
        const test::LeakGuard guard;
        run(body, options);
    }
}

Coro<int> plus_one(int x) {
    const test::Counted frame;
    co_await yield_now();
    co_return x + 1;
}

Coro<int> forever() {
    const test::Counted frame;
    co_await sleep(Duration::max());
    co_return 0;
}

/// What becomes of a call on a plain thread, in a word.
template <class... Args>
std::string outcome_of(Portal& portal, Args... args) {
    try {
        return std::to_string(portal.run(args...));
    } catch (const PortalClosed&) {
        return "closed";
    } catch (const std::exception& failure) {
        return failure.what();
    }
}

} // namespace

TEST_CASE("portal.hpp: the example") {
    const auto body = []() -> Coro<int> {
        Portal portal;
        Task<> serving = co_await spawn(portal.serve());
        const auto later = [](int x) -> Coro<int> {
            co_await sleep(1ms); // on the kernel that serves
            co_return x + 1;
        };
        int two = co_await run_in_thread([&] { return portal.run(later, 1); });
        portal.close();
        co_await serving.join();
        co_return two;
    };
    CHECK(run(body()) == 2);
}

TEST_CASE("a coroutine runs on the kernel that serves; results and exceptions come back") {
    on_both([]() -> Coro<void> {
        Portal portal;
        const Task<void> serving = co_await spawn(portal.serve());
        const std::thread::id kernel = std::this_thread::get_id();
        co_await run_in_thread([&] {
            const auto here = []() -> Coro<std::thread::id> {
                co_await yield_now();
                co_return std::this_thread::get_id();
            };
            CHECK(portal.run(here) == kernel);
            const auto moves = [](std::unique_ptr<int> given) -> Coro<std::unique_ptr<int>> {
                co_await yield_now();
                co_return given;
            };
            CHECK(*portal.run(moves, std::make_unique<int>(3)) == 3);
            const auto throws = [](int n) -> Coro<void> {
                co_await yield_now();
                throw std::out_of_range(std::to_string(n));
            };
            for (int i = 0; i < 50; ++i) {
                std::string text;
                try {
                    portal.run(throws, i);
                } catch (const std::out_of_range& thrown) {
                    text = thrown.what();
                }
                CHECK(text == std::to_string(i));
            }
            const auto refuses = [](bool refuse) { // before it is a coroutine
                if (refuse)
                    throw std::logic_error("no");
                return plus_one(1);
            };
            CHECK(outcome_of(portal, refuses, true) == "no");
        });
        portal.close();
        co_await serving.join();
    });
}

TEST_CASE("calls of many threads run beside each other") {
    on_both([]() -> Coro<void> {
        Portal portal;
        const Task<void> serving = co_await spawn(portal.serve());
        constexpr int threads = 4;
        constexpr int rounds = test::sanitized ? 30 : 200;
        int inside = 0;
        int most = 0;
        const auto meets = [&](int n) -> Coro<int> {
            most = std::max(most, ++inside);
            while (most < 2) // until another one is here
                co_await yield_now();
            --inside;
            co_return n;
        };
        std::atomic<int> right = 0;
        std::atomic<int> left = threads;
        std::vector<std::jthread> callers;
        for (int t = 0; t < threads; ++t) {
            callers.emplace_back([&, t] {
                for (int i = 0; i < rounds; ++i)
                    right += portal.run(meets, t * rounds + i) == t * rounds + i;
                if (--left == 0)
                    portal.close();
            });
        }
        co_await serving.join();
        callers.clear();
        CHECK(right == threads * rounds);
        CHECK(most >= 2);
    });
}

TEST_CASE("a closed portal carries out what was asked before, and refuses what comes after") {
    on_both([]() -> Coro<void> {
        Portal portal;
        std::string before;
        std::jthread caller{[&] { before = outcome_of(portal, plus_one, 1); }};
        std::this_thread::sleep_for(1ms); // usually it is in by now: both are right
        const Task<void> serving = co_await spawn(portal.serve());
        co_await sleep(1ms);
        portal.close();
        portal.close();
        CHECK(portal.closed());
        co_await serving.join();
        caller.join();
        CHECK((before == "2" || before == "closed"));
        CHECK(outcome_of(portal, plus_one, 1) == "closed");
    });
}

TEST_CASE("cancelling serve() cancels its calls, waits for their cleanup and tells the threads") {
    on_both([]() -> Coro<void> {
        Portal portal;
        const Task<void> serving = co_await spawn(portal.serve());
        int begun = 0;
        int cleaned = 0;
        const auto cleans_up = [&]() -> Coro<int> {
            ++begun;
            detail::Outcome<int> outcome;
            co_await detail::Attempt{forever(), outcome};
            co_await yield_now();
            ++cleaned;
            co_return outcome.take();
        };
        std::vector<std::string> seen(3);
        std::vector<std::jthread> callers;
        for (std::string& outcome : seen)
            callers.emplace_back([&] { outcome = outcome_of(portal, cleans_up); });
        while (begun < 3)
            co_await yield_now();
        const bool cancelled = co_await serving.cancel();
        CHECK(cancelled);
        CHECK(cleaned == 3);
        callers.clear();
        CHECK(seen == std::vector<std::string>(3, "closed"));
        CHECK(portal.closed());
    });
}

TEST_CASE("a call that finishes although it is cancelled gives its result") {
    on_both([]() -> Coro<void> {
        Portal portal;
        const Task<void> serving = co_await spawn(portal.serve());
        bool begun = false;
        const auto insists = [&]() -> Coro<int> {
            begun = true;
            co_await ignore_after(1h, disable_cancellation(sleep(1ms)));
            co_return 5;
        };
        std::string seen;
        std::jthread caller{[&] { seen = outcome_of(portal, insists); }};
        while (!begun)
            co_await yield_now();
        co_await serving.cancel();
        caller.join();
        CHECK(seen == "5");
    });
}

TEST_CASE("a kernel may shut down while threads wait: they are told") {
    for (const KernelOptions& options : both()) {
        const test::LeakGuard guard;
        for (int round = 0; round < 20; ++round) {
            Portal portal;
            std::vector<std::string> seen(3);
            std::vector<std::jthread> callers;
            std::atomic<int> threads = 0;
            {
                Kernel kernel{options};
                kernel.run([&]() -> Coro<void> {
                    co_await spawn(portal.serve());
                    for (std::string& outcome : seen) {
                        callers.emplace_back([&] {
                            ++threads;
                            outcome = outcome_of(portal, forever);
                        });
                    }
                    while (round % 2 && threads < 3)
                        co_await yield_now();
                });
            }
            callers.clear();
            CHECK(seen == std::vector<std::string>(3, "closed"));
        }
    }
}

TEST_CASE("a serve() that never runs, or a portal that nobody serves, leaves no thread waiting") {
    for (const bool ask_to_serve : {true, false}) {
        auto portal = std::make_unique<Portal>();
        std::string seen;
        std::atomic<bool> in = false;
        std::jthread caller{[&seen, &in, &portal = *portal] {
            in = true;
            seen = outcome_of(portal, plus_one, 1);
        }};
        while (!in)
            std::this_thread::yield();
        std::this_thread::sleep_for(2ms);
        if (ask_to_serve) {
            Coro<void> serving = portal->serve();
            serving = {};
        } else {
            portal->close();
        }
        caller.join();
        CHECK(seen == "closed");
    }
}

TEST_CASE("a portal may go while it is served: serve() ends when its calls have") {
    on_both([]() -> Coro<void> {
        auto portal = std::make_unique<Portal>();
        const Task<void> serving = co_await spawn(portal->serve());
        bool begun = false;
        bool go_on = false;
        const auto waits = [&]() -> Coro<int> {
            begun = true;
            while (!go_on)
                co_await yield_now();
            co_return 7;
        };
        std::string seen;
        std::jthread caller{[&] { seen = outcome_of(*portal, waits); }};
        while (!begun)
            co_await yield_now();
        portal.reset();
        for (int i = 0; i < 10; ++i)
            co_await yield_now();
        CHECK_FALSE(serving.terminated());
        go_on = true;
        co_await serving.join();
        caller.join();
        CHECK(seen == "7");
    });
}

TEST_CASE("misuse is refused: on the kernel's own thread, and serving twice") {
    on_both([]() -> Coro<void> {
        Portal portal;
        const Task<void> serving = co_await spawn(portal.serve());
        CHECK_THROWS_AS(portal.run(plus_one, 1), std::logic_error);
        CHECK_THROWS_AS((void)portal.serve(), std::logic_error);
        CHECK_FALSE(portal.closed());
        portal.close();
        co_await serving.join();
    });
}

TEST_CASE("a time limit that a call does not catch reaches the thread as what it is") {
    on_both([]() -> Coro<void> {
        Portal portal;
        const Task<void> serving = co_await spawn(portal.serve());
        const bool timed_out = co_await run_in_thread([&] {
            try {
                portal.run([] { return timeout_after(1ms, forever()); });
            } catch (const TaskTimeout&) {
                return true;
            }
            return false;
        });
        CHECK(timed_out);
        portal.close();
        co_await serving.join();
    });
}
