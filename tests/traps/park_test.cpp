#include <trapline/traps/park.hpp>

#include <csignal>
#include <memory>
#include <stdexcept>
#include <string>

#include <trapline/traps/barrier.hpp>
#include <trapline/traps/channel.hpp>
#include <trapline/traps/condition.hpp>
#include <trapline/traps/event.hpp>
#include <trapline/traps/lock.hpp>
#include <trapline/traps/queue.hpp>
#include <trapline/traps/result.hpp>
#include <trapline/traps/select.hpp>
#include <trapline/traps/semaphore.hpp>

#include "../support/process.hpp"
#include "on_kernel.hpp"

using namespace trapline;
using namespace trapline::test;

namespace {

/// What is said when a primitive is destroyed while `wait(primitive)` waits on it, and how the
/// process ends.
template <class P, class Wait>
std::string destroyed_under(std::unique_ptr<P> primitive, Wait wait) {
    const CapturedStderr captured;
    const std::string end = in_child([&] {
        std::signal(SIGABRT, SIG_DFL); // doctest would report it
        Kernel kernel{test::virtual_time()};
        const auto main = [&]() -> Coro<void> {
            auto task = co_await spawn([&]() -> Coro<void> { co_await wait(*primitive); },
                                       {.name = "worker"});
            co_await settle();
            primitive.reset();
        };
        kernel.run(main());
        return std::string{};
    });
    return captured.text() + end;
}

bool names_both(const std::string& text, const std::string& primitive) {
    INFO(text);
    const bool says =
        text.starts_with("trapline: " + primitive + " is destroyed while task 'worker', at ") &&
        text.find("park_test.cpp:") != std::string::npos;
    const bool ends = text.ends_with("waits on it\n (child: signal 6)");
    CHECK(says);
    CHECK(ends);
    return says && ends;
}

} // namespace

#ifndef NDEBUG
TEST_CASE("an event, a result, a barrier destroyed under its waiters: a word about both, the end") {
    CHECK(names_both(destroyed_under(std::make_unique<Event>(), [](Event& e) { return e.wait(); }),
                     "an Event"));
    CHECK(names_both(destroyed_under(std::make_unique<Result<int>>(),
                                     [](Result<int>& r) -> Coro<void> { co_await r.unwrap(); }),
                     "a Result"));
    CHECK(names_both(destroyed_under(std::make_unique<Barrier>(2),
                                     [](Barrier& b) -> Coro<void> { co_await b.wait(); }),
                     "a Barrier"));
}

TEST_CASE("so with semaphores, locks and conditions") {
    CHECK(names_both(
        destroyed_under(std::make_unique<Semaphore>(0), [](Semaphore& s) { return s.acquire(); }),
        "a Semaphore"));
    CHECK(names_both(destroyed_under(std::make_unique<BoundedSemaphore>(0),
                                     [](BoundedSemaphore& s) { return s.acquire(); }),
                     "a BoundedSemaphore"));
    auto lock = std::make_unique<Lock>();
    REQUIRE(lock->try_acquire());
    CHECK(names_both(destroyed_under(std::move(lock), [](Lock& l) { return l.acquire(); }),
                     "a Lock"));
    CHECK(names_both(destroyed_under(std::make_unique<RLock>(),
                                     [](RLock& l) -> Coro<void> {
                                         Task<void> owner = co_await spawn([&l]() -> Coro<void> {
                                             co_await l.acquire(); // and it ends with that
                                         });
                                         co_await owner.join();
                                         co_await l.acquire();
                                     }),
                     "an RLock"));
    CHECK(names_both(destroyed_under(std::make_unique<Condition>(),
                                     [](Condition& c) -> Coro<void> {
                                         co_await c.lock().acquire();
                                         co_await c.wait();
                                     }),
                     "a Condition"));
    CHECK(names_both(destroyed_under(std::make_unique<Condition>(),
                                     [](Condition& c) -> Coro<void> {
                                         co_await c.lock().acquire();
                                         co_await c.wait_for([] { return false; });
                                     }),
                     "a Condition"));
}

TEST_CASE("so with queues and channels, on either side, and with those who join or select") {
    CHECK(names_both(
        destroyed_under(std::make_unique<Queue<int>>(), [](Queue<int>& q) { return q.next(); }),
        "a Queue"));
    CHECK(names_both(destroyed_under(std::make_unique<Queue<int>>(1),
                                     [](Queue<int>& q) -> Coro<void> {
                                         co_await q.put(1);
                                         co_await q.put(2);
                                     }),
                     "a Queue"));
    CHECK(names_both(destroyed_under(std::make_unique<Queue<int>>(),
                                     [](Queue<int>& q) -> Coro<void> {
                                         co_await q.put(1);
                                         co_await q.join();
                                     }),
                     "a Queue"));
    CHECK(names_both(destroyed_under(std::make_unique<LifoQueue<int>>(),
                                     [](LifoQueue<int>& q) { return q.next(); }),
                     "a LifoQueue"));
    CHECK(names_both(destroyed_under(std::make_unique<PriorityQueue<int>>(),
                                     [](PriorityQueue<int>& q) { return q.next(); }),
                     "a PriorityQueue"));
    using IntChannel = Channel<int>;
    CHECK(names_both(
        destroyed_under(std::make_unique<IntChannel>(), [](IntChannel& c) { return c.receive(); }),
        "a Channel"));
    CHECK(names_both(
        destroyed_under(std::make_unique<IntChannel>(), [](IntChannel& c) { return c.send(1); }),
        "a Channel"));
    CHECK(names_both(destroyed_under(std::make_unique<IntChannel>(),
                                     [](IntChannel& c) -> Coro<void> {
                                         IntChannel other;
                                         std::optional<int> got;
                                         co_await select(other.receiving(got), c.sending(1));
                                     }),
                     "a Channel"));
}
#endif

TEST_CASE("while an exception is on its way it is only said") {
    const CapturedStderr captured;
    Kernel kernel{test::virtual_time()};
    const auto main = []() -> Coro<void> {
        Event event;
        co_await spawn([&]() -> Coro<void> { co_await event.wait(); }, {.name = "worker"});
        co_await settle();
        throw std::runtime_error("main fails");
    };
    CHECK_THROWS_AS(kernel.run(main()), std::runtime_error);
    CHECK(captured.text().starts_with("trapline: an Event is destroyed while task 'worker'"));
    kernel.shutdown();
    CHECK(kernel.task_count() == 0);
}

namespace {

/// Interrupts `wait` and, when `let_go` has given it what it waits for, awaits it a second time.
template <class Wait, class LetGo>
Coro<void> await_again(Wait& wait, LetGo let_go) {
    bool over = false;
    const auto waits = [&]() -> Coro<void> {
        bool interrupted = false;
        try {
            co_await wait;
        } catch (const TaskCancelled&) {
            interrupted = true;
        }
        CHECK(interrupted);
        let_go();
        co_await wait;
        over = true;
    };
    Task<> task = co_await spawn(waits);
    co_await settle();
    co_await task.cancel();
    CHECK(over);
}

} // namespace

TEST_CASE("a wait that was interrupted can be awaited again, and knows nothing of the first time") {
    on_kernel([]() -> Coro<void> {
        Lock lock;
        REQUIRE(lock.try_acquire());
        auto locking = lock.acquire();
        co_await await_again(locking, [&] { lock.release(); });
        CHECK(lock.locked());

        Semaphore semaphore{0};
        auto acquiring = semaphore.acquire();
        co_await await_again(acquiring, [&] { semaphore.release(); });
        CHECK(semaphore.value() == 0);

        Event event;
        auto waiting = event.wait();
        co_await await_again(waiting, [&] { event.set(); });

        Result<int> result;
        auto unwrapping = result.unwrap();
        co_await await_again(unwrapping, [&] { result.set_value(1); });

        Queue<int> queue{1};
        auto getting = queue.next();
        co_await await_again(getting, [&] { queue.try_put(1); });
        CHECK(queue.empty());
        REQUIRE(queue.try_put(1));
        auto putting = queue.put(2);
        co_await await_again(putting, [&] { CHECK(queue.try_get() == 1); });
        CHECK(queue.try_get() == 2);

        Channel<int> channel{1};
        auto receiving = channel.receive();
        co_await await_again(receiving, [&] { channel.try_send(1); });
        CHECK_FALSE(channel.try_receive());

        Task<> other = co_await spawn([] { return sleep(1s); });
        auto joining = other.wait();
        co_await await_again(joining, [] {});
    });
}
