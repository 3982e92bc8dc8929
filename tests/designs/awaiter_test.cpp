#include "../../bench/designs/awaiter/io.hpp"
#include "../../bench/designs/awaiter/scheduler.hpp"
#include "../../bench/designs/awaiter/scopes.hpp"
#include "../../bench/designs/awaiter/sync.hpp"

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <sys/socket.h>

#include <trapline/io/descriptor.hpp>
#include <trapline/kernel/engines/epoll.hpp>

#include "../kernel/manual_engine.hpp"
#include "../support/leaks.hpp"

using namespace awaiter_design;
using namespace std::chrono_literals;
using trapline::Descriptor;
using trapline::test::Counted;
using trapline::test::LeakGuard;

namespace {

/// Its time is a number.
struct World {
    Scheduler scheduler{std::make_unique<trapline::ManualEngine>()};
    TimePoint start = scheduler.now();
    Duration passed() { return scheduler.now() - start; }
};

Task<int> answer(int n) {
    const Counted frame;
    co_return n;
}

Task<int> sum_below(int depth) {
    const Counted frame;
    if (depth == 0)
        co_return co_await answer(1);
    co_return 1 + co_await sum_below(depth - 1);
}

Task<> note(std::string& order, std::string what, int turns) {
    const Counted frame;
    for (int turn = 0; turn < turns; ++turn) {
        order += what + std::to_string(turn) + " ";
        co_await yield();
    }
}

Task<> fail(Duration after, std::string why) {
    const Counted frame;
    co_await sleep(after);
    throw std::runtime_error(why);
}

Task<int> answer_after(Duration delay, int n) {
    const Counted frame;
    co_await sleep(delay);
    co_return n;
}

/// Says how its wait ended.
template <class Wait>
Task<> tell(std::string& how, Wait wait) {
    const Counted frame;
    try {
        co_await wait();
        how += "had ";
    } catch (const Stopped&) {
        how += "stopped ";
        throw;
    }
}

Task<> wait_for(Event& event) {
    const Counted frame;
    co_await event.wait();
}

} // namespace

TEST_CASE("awaiters: a task answers what its coroutines answer, however deep") {
    const LeakGuard guard;
    World world;
    CHECK(world.scheduler.run(sum_below(1000)) == 1001);
}

TEST_CASE("awaiters: chains take turns") {
    const LeakGuard guard;
    World world;
    std::string order;
    world.scheduler.run([](std::string& to) -> Task<> {
        Scheduler& here = co_await scheduler();
        const auto a = here.spawn(note(to, "a", 3));
        const auto b = here.spawn(note(to, "b", 2));
        co_await a.join();
        co_await b.join();
    }(order));
    CHECK(order == "a0 b0 a1 b1 a2 ");
}

TEST_CASE("awaiters: an exception goes to who joins, once") {
    const LeakGuard guard;
    World world;
    std::string why;
    world.scheduler.run([](std::string& to) -> Task<> {
        const auto failing = (co_await scheduler()).spawn(fail(1s, "broken"));
        try {
            co_await failing.join();
        } catch (const std::runtime_error& failure) {
            to = failure.what();
        }
    }(why));
    CHECK(why == "broken");
    CHECK(world.passed() == 1s);
}

TEST_CASE("awaiters: a chain whose handle was dropped goes on") {
    const LeakGuard guard;
    World world;
    std::string order;
    world.scheduler.run([](std::string& to) -> Task<> {
        (void)(co_await scheduler()).spawn(note(to, "a", 2));
        co_await sleep(1s);
        to += "main";
    }(order));
    CHECK(order == "a0 a1 main");
}

TEST_CASE("awaiters: who is left when main ends is stopped, and cleans up") {
    const LeakGuard guard;
    World world;
    std::string how;
    world.scheduler.run([](std::string& to) -> Task<> {
        Scheduler& here = co_await scheduler();
        (void)here.spawn(tell(to, [] { return sleep(1h); }));
        co_await yield();
    }(how));
    CHECK(how == "stopped ");
    CHECK(world.passed() == 0s);
}

TEST_CASE("awaiters: main that nothing can end is an error") {
    const LeakGuard guard;
    World world;
    Event never;
    CHECK_THROWS_AS(world.scheduler.run(wait_for(never)), std::runtime_error);
}

TEST_CASE("awaiters: a limit that runs out answers nothing, at its time") {
    const LeakGuard guard;
    World world;
    const bool in_time =
        world.scheduler.run([]() -> Task<bool> { co_return co_await timeout(1s, sleep(2s)); }());
    CHECK_FALSE(in_time);
    CHECK(world.passed() == 1s);
}

TEST_CASE("awaiters: a limit is dropped when the wait is over") {
    const LeakGuard guard;
    World world;
    const bool in_time =
        world.scheduler.run([]() -> Task<bool> { co_return co_await timeout(1h, sleep(1s)); }());
    CHECK(in_time);
    CHECK(world.passed() == 1s);
}

TEST_CASE("awaiters: a limit around a task stops whatever it waits for") {
    const LeakGuard guard;
    World world;
    const auto [late, in_time] =
        world.scheduler.run([]() -> Task<std::pair<std::optional<int>, std::optional<int>>> {
            const auto first = co_await timeout(1s, answer_after(2s, 1));
            const auto second = co_await timeout(1s, answer_after(500ms, 2));
            co_return std::pair{first, second};
        }());
    CHECK_FALSE(late);
    CHECK(in_time == 2);
    CHECK(world.passed() == 1500ms);
}

TEST_CASE("awaiters: limits nest, and the sooner one counts") {
    const LeakGuard guard;
    World world;
    std::string which;
    world.scheduler.run([](std::string& to) -> Task<> {
        const auto inner = [](std::string& said) -> Task<> {
            const bool slept = co_await timeout(2s, sleep(5s));
            said += slept ? "slept " : "inner ";
        };
        to += co_await timeout(1s, inner(to)) ? "in time " : "outer ";
        to += co_await timeout(3s, inner(to)) ? "in time " : "outer ";
    }(which));
    CHECK(which == "outer inner in time ");
    CHECK(world.passed() == 3s);
}

TEST_CASE("awaiters: when_all answers in order") {
    const LeakGuard guard;
    World world;
    const std::vector<int> all = world.scheduler.run([]() -> Task<std::vector<int>> {
        std::vector<Task<int>> tasks;
        tasks.push_back(answer_after(2s, 1));
        tasks.push_back(answer(2));
        tasks.push_back(answer_after(1s, 3));
        co_return co_await when_all(std::move(tasks));
    }());
    CHECK(all == std::vector{1, 2, 3});
    CHECK(world.passed() == 2s);
}

TEST_CASE("awaiters: when one of all fails the others are stopped") {
    const LeakGuard guard;
    World world;
    std::string how;
    CHECK_THROWS_WITH(world.scheduler.run([](std::string& to) -> Task<> {
        std::vector<Task<>> tasks;
        tasks.push_back(tell(to, [] { return sleep(1h); }));
        tasks.push_back(fail(1s, "broken"));
        tasks.push_back(tell(to, [] { return sleep(1ms); }));
        co_await when_all(std::move(tasks));
    }(how)),
                      "broken");
    CHECK(how == "had stopped ");
    CHECK(world.passed() == 1s);
}

TEST_CASE("awaiters: a stop reaches all tasks of a when_all") {
    const LeakGuard guard;
    World world;
    std::string how;
    world.scheduler.run([](std::string& to) -> Task<> {
        const auto both = [](std::string& said) -> Task<> {
            std::vector<Task<>> tasks;
            tasks.push_back(tell(said, [] { return sleep(1h); }));
            tasks.push_back(tell(said, [] { return sleep(2h); }));
            co_await when_all(std::move(tasks));
        };
        to += co_await timeout(1s, both(to)) ? "in time" : "late";
    }(how));
    CHECK(how == "stopped stopped late");
}

TEST_CASE("awaiters: a lock is handed over in order, and not to who was stopped") {
    const LeakGuard guard;
    World world;
    std::string order;
    world.scheduler.run([](std::string& to) -> Task<> {
        const auto hold = [](Mutex& lock, std::string& said, std::string name) -> Task<> {
            const auto held = co_await lock.lock();
            said += name;
            co_await sleep(1s);
        };
        Scheduler& here = co_await scheduler();
        Mutex mutex;
        const auto a = here.spawn(hold(mutex, to, "a"));
        const auto b = here.spawn(hold(mutex, to, "b"));
        const auto c = here.spawn(hold(mutex, to, "c"));
        co_await sleep(500ms);
        b.request_stop();
        co_await a.join();
        co_await c.join();
        try {
            co_await b.join();
        } catch (const Stopped&) {
            to += " b stopped";
        }
    }(order));
    CHECK(order == "ac b stopped");
}

TEST_CASE("awaiters: what a queue handed over is not lost by a stop in the same turn") {
    const LeakGuard guard;
    World world;
    int got = 0;
    world.scheduler.run([](int& to) -> Task<> {
        const auto take = [](Queue<int>& from, int& into) -> Task<> {
            into = (co_await from.get()).value();
            co_await yield(); // here it notices
        };
        Queue<int> queue{1};
        const auto taker = (co_await scheduler()).spawn(take(queue, to));
        co_await yield();
        co_await queue.put(42);
        taker.request_stop();
        try {
            co_await taker.join();
            to = -1;
        } catch (const Stopped&) {}
    }(got));
    CHECK(got == 42);
}

TEST_CASE("awaiters: a queue is bounded, keeps its order, and ends when it is closed") {
    const LeakGuard guard;
    World world;
    std::string order;
    world.scheduler.run([](std::string& to) -> Task<> {
        const auto fill = [](Queue<int>& queue, std::string& said) -> Task<> {
            for (int i = 0; i < 3; ++i) {
                co_await queue.put(i);
                said += "put" + std::to_string(i) + " ";
            }
            queue.close();
        };
        Queue<int> queue{1};
        const auto filling = (co_await scheduler()).spawn(fill(queue, to));
        co_await sleep(1s);
        while (const std::optional<int> n = co_await queue.get())
            to += "got" + std::to_string(*n) + " ";
        co_await filling.join();
    }(order));
    CHECK(order == "put0 got0 got1 put1 put2 got2 ");
}

TEST_CASE("awaiters: an event wakes all who wait, and nobody waits after it") {
    const LeakGuard guard;
    World world;
    std::string how;
    world.scheduler.run([](std::string& to) -> Task<> {
        Scheduler& here = co_await scheduler();
        Event event;
        const auto a = here.spawn(tell(to, [&event] { return event.wait(); }));
        const auto b = here.spawn(tell(to, [&event] { return event.wait(); }));
        co_await yield();
        b.request_stop();
        event.set();
        co_await a.join();
        co_await event.wait();
    }(how));
    CHECK(how == "stopped had ");
}

TEST_CASE("awaiters: who is over in the same turn as another is not stopped any more") {
    const LeakGuard guard;
    World world;
    std::string how;
    world.scheduler.run([](std::string& to) -> Task<> {
        const auto stops = [](std::string& said, std::optional<JoinHandle<>>& other) -> Task<> {
            co_await nop();
            other->request_stop();
            said += "first ";
        };
        const auto goes_on = [](std::string& said) -> Task<> {
            co_await nop();
            said += "second ";
            co_await yield(); // here it notices
            said += "too far";
        };
        Scheduler& here = co_await scheduler();
        std::optional<JoinHandle<>> second;
        const auto first = here.spawn(stops(to, second));
        second.emplace(here.spawn(goes_on(to)));
        co_await first.join();
        try {
            co_await second->join();
        } catch (const Stopped&) {
            to += "stopped";
        }
    }(how));
    CHECK(how == "first second stopped");
}

TEST_CASE("awaiters: bytes go through sockets, and a limit takes a receive back") {
    const LeakGuard guard;
    Scheduler scheduler{trapline::make_epoll_engine({})};
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    const Descriptor one{ends[0]};
    const Descriptor two{ends[1]};
    const std::string heard = scheduler.run([](int from, int to) -> Task<std::string> {
        std::array<std::byte, 16> buffer{};
        std::string said;
        if (!co_await timeout(1ms, recv(from, buffer)))
            said = "nothing yet, ";
        co_await send_all(to, std::as_bytes(std::span("hello", 5)));
        const std::size_t n = co_await recv(from, buffer);
        said.append(reinterpret_cast<const char*>(buffer.data()), n);
        co_return said;
    }(one.get(), two.get()));
    CHECK(heard == "nothing yet, hello");
}

TEST_CASE("awaiters: a failed operation is a system_error that names it") {
    const LeakGuard guard;
    Scheduler scheduler{trapline::make_epoll_engine({})};
    CHECK_THROWS_WITH_AS(scheduler.run([]() -> Task<> {
        std::array<std::byte, 1> buffer{};
        co_await recv(-1, buffer);
    }()),
                         "recv: Bad file descriptor", std::system_error);
}

TEST_CASE("awaiters: a stop takes a receive back") {
    const LeakGuard guard;
    Scheduler scheduler{trapline::make_epoll_engine({})};
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    const Descriptor one{ends[0]};
    const Descriptor two{ends[1]};
    std::string how;
    std::array<std::byte, 16> buffer{};
    scheduler.run([](std::string& to, int from, std::span<std::byte> into) -> Task<> {
        const auto receiving = (co_await awaiter_design::scheduler()).spawn(tell(to, [from, into] {
            return recv(from, into);
        }));
        co_await sleep(1ms);
        receiving.request_stop();
        try {
            co_await receiving.join();
        } catch (const Stopped&) {
            to += "and told";
        }
    }(how, one.get(), buffer));
    CHECK(how == "stopped and told");
}
