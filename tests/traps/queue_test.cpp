#include <trapline/traps/queue.hpp>

#include <array>
#include <csignal>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/kernel/kernel.hpp>
#include <trapline/traps/cancel.hpp>
#include <trapline/traps/routine.hpp>

#include "../support/process.hpp"
#include "../support/virtual_time.hpp"
#include "counted_new.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

using Numbers = std::vector<int>;

/// Runs `main`, a callable that returns a coroutine, in virtual time; nothing may be left.
template <class Main>
void play(Main main) {
    Kernel kernel{test::virtual_time()};
    kernel.run(std::move(main));
    CHECK(kernel.task_count() == 0);
}

template <class Q>
Coro<void> put_into(Q& queue, int item) {
    co_await queue.put(item);
}

/// Gets one item and notes it; what ends it otherwise is noted as a negative number.
template <class Q>
Coro<void> get_from(Q& queue, Numbers& got, int otherwise = -1) {
    try {
        got.push_back(co_await queue.get());
    } catch (const QueueClosed&) {
        got.push_back(otherwise);
    }
}

template <class Q>
Numbers drained(Q& queue) {
    Numbers items;
    while (std::optional<int> item = queue.try_get())
        items.push_back(*item);
    return items;
}

/// The text of the exception that `what` ends with.
template <class W>
Coro<std::string> failure_of(W what) {
    try {
        co_await std::move(what);
    } catch (const std::exception& failure) {
        co_return failure.what();
    }
    co_return "";
}

Coro<void> let_them_wait() {
    co_await yield_now();
    co_await yield_now();
}

} // namespace

TEST_CASE("queue.hpp: the example in the header") {
    int result = 0;
    play([&]() -> Coro<void> {
        Queue<int> queue{16}; // of at most 16 items; without a number it is unbounded
        auto consume = [](Queue<int>& q, int& sum) -> Coro<void> {
            while (std::optional<int> item = co_await q.next()) {
                sum += *item;
                q.task_done();
            }
        };
        int sum = 0;
        auto consumer = co_await spawn(consume(queue, sum));
        for (int i = 1; i <= 4; ++i)
            co_await queue.put(i);
        co_await queue.join(); // all items are done
        queue.close();
        co_await consumer.join();
        result = sum;
    });
    CHECK(result == 10);
}

TEST_CASE("a Queue is first in, first out, through any number of items") {
    Queue<int> queue;
    int in = 0;
    int out = 0;
    for (int round = 1; round < 40; ++round) { // it grows, and its items go round in circles
        for (int i = 0; i < 2 * round; ++i)
            CHECK(queue.try_put(in++));
        for (int i = 0; i < round; ++i)
            CHECK(queue.try_get() == out++);
    }
    CHECK(queue.size() == static_cast<std::size_t>(in - out));
    for (const int item : drained(queue))
        CHECK(item == out++);
    CHECK(in == out);
}

TEST_CASE("a LifoQueue is last in, first out") {
    LifoQueue<int> queue;
    for (const int i : {1, 2, 3})
        queue.try_put(i);
    CHECK(queue.try_get() == 3);
    queue.try_put(4);
    CHECK(drained(queue) == Numbers{4, 2, 1});
}

TEST_CASE("a PriorityQueue answers the smallest first, or whatever comes first by its order") {
    PriorityQueue<int> smallest;
    PriorityQueue<int, std::greater<int>> largest;
    for (const int i : {3, 1, 4, 1, 5, 9, 2, 6}) {
        smallest.try_put(i);
        largest.try_put(i);
    }
    CHECK(drained(smallest) == Numbers{1, 1, 2, 3, 4, 5, 6, 9});
    CHECK(drained(largest) == Numbers{9, 6, 5, 4, 3, 2, 1, 1});

    const auto by_last_digit = [](int a, int b) { return a % 10 < b % 10; };
    PriorityQueue<int, decltype(by_last_digit)> own{0, by_last_digit};
    for (const int i : {19, 35, 21})
        own.try_put(i);
    CHECK(drained(own) == Numbers{21, 35, 19});
}

TEST_CASE("size, empty, full and capacity say what is in") {
    Queue<int> queue{2};
    CHECK(queue.capacity() == 2);
    CHECK(queue.empty());
    CHECK(queue.try_put(1));
    CHECK_FALSE(queue.full());
    CHECK(queue.try_put(2));
    CHECK(queue.full());
    CHECK(queue.size() == 2);
    CHECK_FALSE(queue.try_put(3));

    Queue<int> unbounded;
    CHECK(unbounded.capacity() == 0);
    CHECK_FALSE(unbounded.full());
}

TEST_CASE("items need not be copyable, and one that cannot be put is left alone") {
    Queue<std::unique_ptr<int>> queue{1};
    auto first = std::make_unique<int>(1);
    auto second = std::make_unique<int>(2);
    CHECK(queue.try_put(std::move(first)));
    CHECK_FALSE(queue.try_put(std::move(second)));
    CHECK(second != nullptr);
    play([&]() -> Coro<void> {
        auto putter =
            co_await spawn([&]() -> Coro<void> { co_await queue.put(std::move(second)); });
        co_await let_them_wait();
        const std::unique_ptr<int> got = co_await queue.get();
        CHECK(*got == 1);
        const std::optional<std::unique_ptr<int>> next = co_await queue.next();
        REQUIRE(next);
        CHECK(**next == 2);
        co_await putter.join();
    });
    queue.try_put(std::make_unique<int>(3)); // what is left is destroyed with the queue
}

TEST_CASE("what need not wait does not trap") {
    Queue<int> queue{1};
    const auto body = [](Queue<int>& q) -> Coro<int> {
        int sum = 0;
        for (int i = 1; i <= 3; ++i) {
            co_await q.put(i);
            sum += co_await q.get();
            q.task_done();
        }
        co_await q.join();
        q.close();
        sum += (co_await q.next()).value_or(10);
        co_return sum;
    };
    Routine<int> routine{body(queue)};
    CHECK(routine.start() == nullptr);
    CHECK(routine.result() == 16);
}

TEST_CASE("items go to the longest waiting get, and nobody gets in between") {
    Numbers got;
    play([&]() -> Coro<void> {
        Queue<int> queue;
        auto first = co_await spawn(get_from(queue, got));
        auto second = co_await spawn(get_from(queue, got));
        co_await let_them_wait();
        CHECK(queue.try_put(1));
        CHECK(queue.try_put(2));
        CHECK(queue.empty()); // they lie in the hands of those who wait
        CHECK_FALSE(queue.try_get());
        co_await first.join();
        co_await second.join();
    });
    CHECK(got == Numbers{1, 2});
}

TEST_CASE("room goes to the longest waiting put, and nobody gets in between") {
    play([]() -> Coro<void> {
        Queue<int> queue{1};
        co_await queue.put(0);
        auto first = co_await spawn(put_into(queue, 1));
        auto second = co_await spawn(put_into(queue, 2));
        co_await let_them_wait();
        CHECK(queue.size() == 1);
        CHECK(queue.try_get() == 0);
        CHECK(queue.full());
        CHECK_FALSE(queue.try_put(9));
        co_await first.join();
        CHECK(queue.try_get() == 1);
        CHECK(queue.try_get() == 2);
        CHECK(queue.empty());
        co_await second.join();
    });
}

TEST_CASE("a full PriorityQueue takes the longest waiting item in, and then answers the smallest") {
    play([]() -> Coro<void> {
        PriorityQueue<int> queue{2};
        co_await queue.put(5);
        co_await queue.put(6);
        auto first = co_await spawn(put_into(queue, 9));
        auto second = co_await spawn(put_into(queue, 1));
        co_await let_them_wait();
        CHECK(drained(queue) == Numbers{5, 6, 1, 9});
        co_await first.join();
        co_await second.join();
    });
}

TEST_CASE("a closed queue gives what is in it, then says that it is closed") {
    play([]() -> Coro<void> {
        Queue<int> queue;
        co_await queue.put(1);
        co_await queue.put(2);
        CHECK_FALSE(queue.closed());
        queue.close();
        queue.close();
        CHECK(queue.closed());
        CHECK_FALSE(queue.try_put(3));
        std::string put = co_await failure_of(queue.put(3));
        CHECK(put == "put of a Queue that is closed");
        const int first = co_await queue.get();
        CHECK(first == 1);
        const std::optional<int> second = co_await queue.next();
        CHECK(second == 2);
        const std::optional<int> third = co_await queue.next();
        CHECK_FALSE(third);
        CHECK_FALSE(queue.try_get());
        std::string got = co_await failure_of(queue.get());
        CHECK(got == "get of a Queue that is closed");

        PriorityQueue<int> other;
        other.close();
        got = co_await failure_of(other.get());
        CHECK(got == "get of a PriorityQueue that is closed");
        LifoQueue<int> third_kind;
        third_kind.close();
        put = co_await failure_of(third_kind.put(1));
        CHECK(put == "put of a LifoQueue that is closed");
    });
}

TEST_CASE("closing wakes everybody who waits to get") {
    Numbers got;
    play([&]() -> Coro<void> {
        Queue<int> queue;
        auto first = co_await spawn(get_from(queue, got, -1));
        auto second = co_await spawn(get_from(queue, got, -2));
        co_await let_them_wait();
        queue.close();
        co_await first.join();
        co_await second.join();
    });
    CHECK(got == Numbers{-1, -2});
}

TEST_CASE("closing wakes everybody who waits to put, and their items are not in") {
    play([]() -> Coro<void> {
        Queue<int> queue{1};
        co_await queue.put(1);
        auto waiting = co_await spawn(
            [&]() -> Coro<std::string> { co_return co_await failure_of(queue.put(2)); });
        co_await let_them_wait();
        queue.close();
        const std::string failure = co_await waiting.join();
        CHECK(failure == "put of a Queue that is closed");
        CHECK(drained(queue) == Numbers{1});
    });
}

TEST_CASE("join waits until all that was put is done, and not for what is put after") {
    play([]() -> Coro<void> {
        Queue<int> queue{1};
        const auto join_it = [](Queue<int>& q) -> Coro<void> { co_await q.join(); };
        co_await queue.join(); // nothing was put
        co_await queue.put(1);
        auto putter = co_await spawn(put_into(queue, 2));
        auto first = co_await spawn(join_it(queue));
        auto second = co_await spawn(join_it(queue));
        co_await let_them_wait();
        CHECK(queue.try_get() == 1);
        queue.task_done(); // the waiting item was put by the get
        co_await let_them_wait();
        CHECK_FALSE(first.terminated());
        CHECK(queue.try_get() == 2);
        queue.task_done();
        CHECK(queue.try_put(3)); // later than the end that they waited for
        co_await first.join();
        co_await second.join();
        co_await putter.join();
        CHECK_THROWS_WITH_AS((queue.task_done(), queue.task_done()),
                             "task_done() of a Queue was called more often than items were put",
                             std::logic_error);
    });
}

TEST_CASE("closing does not end a join: what was put is still to be done") {
    play([]() -> Coro<void> {
        Queue<int> queue;
        co_await queue.put(1);
        auto joiner = co_await spawn([&]() -> Coro<void> { co_await queue.join(); });
        co_await let_them_wait();
        queue.close();
        co_await let_them_wait();
        CHECK_FALSE(joiner.terminated());
        CHECK(queue.try_get() == 1);
        queue.task_done();
        co_await joiner.join();
    });
}

TEST_CASE("a join in the turn of the last task_done and a cancellation: both orders") {
    play([]() -> Coro<void> {
        for (const bool done_first : {true, false}) {
            Queue<int> queue;
            bool joined = false;
            co_await queue.put(1);
            auto joiner = co_await spawn([&]() -> Coro<void> {
                co_await queue.join();
                joined = true;
            });
            co_await let_them_wait();
            CHECK(queue.try_get() == 1);
            if (done_first)
                queue.task_done();
            (void)co_await traps::Cancel{joiner.record()};
            if (!done_first)
                queue.task_done();
            co_await joiner.wait();
            CHECK(joined == done_first);
        }
    });
}

TEST_CASE("a hand-over counts as a put for join") {
    Numbers got;
    play([&]() -> Coro<void> {
        Queue<int> queue;
        auto getter = co_await spawn(get_from(queue, got));
        co_await let_them_wait();
        co_await queue.put(1);
        const bool joined = co_await ignore_after(1s, queue.join());
        CHECK_FALSE(joined);
        queue.task_done();
        co_await queue.join();
        co_await getter.join();
    });
}

TEST_CASE("an interrupted get takes nothing, whether the item comes before or after in that turn") {
    Numbers got;
    play([&]() -> Coro<void> {
        Queue<int> queue;
        auto early = co_await spawn(get_from(queue, got));
        auto late = co_await spawn(get_from(queue, got));
        co_await let_them_wait();
        (void)co_await traps::Cancel{early.record()};
        co_await queue.put(1); // to the next one who waits
        co_await late.wait();
        CHECK(early.cancelled());
        CHECK(got == Numbers{1});

        auto last = co_await spawn(get_from(queue, got));
        co_await let_them_wait();
        co_await queue.put(2);
        (void)co_await traps::Cancel{last.record()};
        co_await last.wait();
        CHECK_FALSE(last.cancelled());
        CHECK(got == Numbers{1, 2});
        CHECK(queue.empty());
    });
}

TEST_CASE("the item of an interrupted put is not put, unless it was taken before") {
    play([]() -> Coro<void> {
        Queue<int> queue{1};
        co_await queue.put(0);
        auto early = co_await spawn(put_into(queue, 1));
        auto late = co_await spawn(put_into(queue, 2));
        co_await let_them_wait();
        (void)co_await traps::Cancel{early.record()};
        CHECK(queue.try_get() == 0);
        (void)co_await traps::Cancel{late.record()};
        co_await early.wait();
        co_await late.wait();
        CHECK(early.cancelled());
        CHECK_FALSE(late.cancelled());
        CHECK(drained(queue) == Numbers{2});
    });
}

TEST_CASE("time limits end waiting on either side, and join; the queue is as before") {
    play([]() -> Coro<void> {
        Queue<int> queue{1};
        bool timed_out = false;
        try {
            co_await timeout_after(1s, queue.get());
        } catch (const TaskTimeout&) {
            timed_out = true;
        }
        CHECK(timed_out);
        const std::optional<std::optional<int>> next = co_await ignore_after(1s, queue.next());
        CHECK_FALSE(next);
        co_await queue.put(1);
        const bool put = co_await ignore_after(1s, queue.put(2));
        CHECK_FALSE(put);
        const bool joined = co_await ignore_after(1s, queue.join());
        CHECK_FALSE(joined);
        const int in_time = co_await timeout_after(1s, queue.get());
        CHECK(in_time == 1);
        CHECK(queue.empty());
    });
}

TEST_CASE("a task that is destroyed while it waits leaves its place") {
    Queue<int> queue{1};
    Numbers got;
    {
        Routine<void> getter{get_from(queue, got)};
        CHECK(getter.start() != nullptr);
    }
    CHECK(queue.try_put(1));
    {
        Routine<void> putter{put_into(queue, 2)};
        CHECK(putter.start() != nullptr);
        const auto join_it = [](Queue<int>& q) -> Coro<void> { co_await q.join(); };
        Routine<void> joiner{join_it(queue)};
        CHECK(joiner.start() != nullptr);
    }
    CHECK(drained(queue) == Numbers{1});
    queue.task_done();
    CHECK(got.empty());
}

TEST_CASE("a loop that does not know Park is told so") {
    Queue<int> queue;
    Numbers got;
    Routine<void> getter{get_from(queue, got)};
    getter.start();
    getter.send(Reply{-ENOSYS});
    CHECK_THROWS_WITH_AS(getter.result(), doctest::Contains("Park"), std::system_error);
    CHECK(queue.try_put(1));
    CHECK(queue.size() == 1);
}

TEST_CASE("items on their way through a queue that does not grow allocate nothing" *
          doctest::skip(!detail::frames_recycled)) {
    const auto echo = [](Queue<int>& in, Queue<int>& out) -> Coro<void> {
        while (const std::optional<int> item = co_await in.next())
            co_await out.put(*item);
    };
    std::size_t allocated = 1;
    play([&]() -> Coro<void> {
        Queue<int> there{4};
        Queue<int> back{4};
        LifoQueue<int> lifo;
        PriorityQueue<int> priority;
        auto other = co_await spawn(echo(there, back));
        for (int round = 0; round < 3; ++round) {
            const std::size_t before = allocation_counts().made;
            for (int i = 0; i < 100; ++i) {
                co_await there.put(i);
                co_await there.put(i);
                co_await lifo.put(co_await back.get());
                co_await priority.put(co_await back.get());
                lifo.try_get();
                priority.try_get();
            }
            allocated = allocation_counts().made - before;
        }
        there.close();
        co_await other.join();
    });
    CHECK(allocated == 0);
}

TEST_CASE("a queue that cannot grow says so, and the item stays with its owner" *
          doctest::skip(!detail::frames_recycled)) {
    Queue<std::unique_ptr<int>> queue;
    auto item = std::make_unique<int>(1);
    bool refused = false;
    {
        const NoMemory no_memory;
        try {
            queue.try_put(std::move(item));
        } catch (const std::bad_alloc&) {
            refused = true;
        }
    }
    CHECK(refused);
    CHECK(item != nullptr);
    CHECK(queue.empty());
    CHECK(queue.try_put(std::move(item)));
}

#ifndef NDEBUG
TEST_CASE("destroying a queue that a task waits on stops the program, which names both") {
    const test::CapturedStderr errors;
    const std::string death = test::in_child([]() -> std::string {
        std::signal(SIGABRT, SIG_DFL); // not doctest's
        play([]() -> Coro<void> {
            auto queue = std::make_unique<Queue<int>>();
            Numbers got;
            auto getter = co_await spawn(get_from(*queue, got), {.name = "getter"});
            co_await let_them_wait();
            queue.reset();
            co_await getter.join();
        });
        return "";
    });
    CHECK(death.contains("signal 6"));
    CHECK(errors.text().contains("a Queue is destroyed while task 'getter', at "));
    CHECK(errors.text().contains("queue_test.cpp"));
    CHECK(errors.text().contains("get_from"));
}
#endif

TEST_CASE("a queue may be destroyed while those who waited on it have yet to see their interrupt") {
    Numbers got;
    play([&]() -> Coro<void> {
        auto queue = std::make_unique<Queue<int>>();
        auto getter = co_await spawn(get_from(*queue, got));
        co_await let_them_wait();
        (void)co_await traps::Cancel{getter.record()};
        queue.reset();
        co_await getter.wait();
    });
    CHECK(got.empty());
}
