#include <trapline/traps/thread.hpp>

#include <atomic>
#include <memory>
#include <semaphore>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/traps/calls.hpp>
#include <trapline/traps/routine.hpp>

using namespace trapline;

namespace {

struct Counter {
    std::atomic<int> calls = 0;
    Waker waker() {
        return {[](void* self) noexcept { ++static_cast<Counter*>(self)->calls; }, this};
    }
};

} // namespace

TEST_CASE("a task waits for what another thread works out") {
    const auto body = []() -> Coro<std::int64_t> {
        const auto work = [] { return std::int64_t{42}; };
        ThreadCompletion done;
        std::jthread worker{[&] { done.complete(work()); }};
        std::int64_t value = (co_await traps::AwaitThread{&done}).value();
        co_return value;
    };
    std::binary_semaphore woken{0}; // outlives the thread
    Routine<std::int64_t> routine{body()};
    const Trap* trap = routine.start();
    REQUIRE(trap);
    ThreadCompletion& awaited = *std::get<traps::AwaitThread>(*trap).completion;
    const auto wake = [](void* context) noexcept {
        static_cast<std::binary_semaphore*>(context)->release();
    };
    if (awaited.await({wake, &woken}) == ThreadCompletion::Await::waiting)
        woken.acquire();
    CHECK(routine.send({awaited.value()}) == nullptr);
    CHECK(routine.result() == 42);
}

TEST_CASE("a completion that came first is there, and nobody is called") {
    ThreadCompletion done;
    Counter counter;
    CHECK_FALSE(done.completed());
    done.complete(42);
    CHECK(done.completed());
    CHECK(done.value() == 42);
    CHECK(done.await(counter.waker()) == ThreadCompletion::Await::completed);
    CHECK(counter.calls == 0);
}

TEST_CASE("a completion that is awaited calls the waker, once") {
    ThreadCompletion done;
    Counter counter;
    CHECK(done.await(counter.waker()) == ThreadCompletion::Await::waiting);
    CHECK(counter.calls == 0);
    done.complete(7);
    CHECK(counter.calls == 1);
    CHECK(done.value() == 7);
}

TEST_CASE("a waker that was forgotten is not called") {
    ThreadCompletion done;
    Counter counter;
    CHECK(done.await(counter.waker()) == ThreadCompletion::Await::waiting);
    CHECK(done.forget());
    done.complete();
    CHECK(counter.calls == 0);
    CHECK(done.completed());
}

TEST_CASE("what was completed cannot be forgotten any more, nor what nobody awaits") {
    ThreadCompletion done;
    Counter counter;
    CHECK_FALSE(done.forget());
    CHECK(done.await(counter.waker()) == ThreadCompletion::Await::waiting);
    done.complete();
    CHECK_FALSE(done.forget());
}

TEST_CASE("after forgetting one may await again") {
    ThreadCompletion done;
    Counter first;
    Counter second;
    done.await(first.waker());
    done.forget();
    CHECK(done.await(second.waker()) == ThreadCompletion::Await::waiting);
    done.complete(1);
    CHECK(first.calls == 0);
    CHECK(second.calls == 1);
}

TEST_CASE("a thread's completion and the wait for it may cross: the value arrives exactly once") {
    for (int round = 0; round < 200; ++round) {
        ThreadCompletion done;
        Counter counter;
        std::atomic<bool> go = false;
        std::thread other([&] {
            while (!go) {}
            done.complete(round);
        });
        go = true;
        const bool called_later = done.await(counter.waker()) == ThreadCompletion::Await::waiting;
        other.join();
        CHECK(counter.calls == (called_later ? 1 : 0));
        CHECK(done.value() == round);
    }
}

TEST_CASE("a thread's completion and forgetting may cross: either is called or forgotten") {
    for (int round = 0; round < 200; ++round) {
        ThreadCompletion done;
        Counter counter;
        done.await(counter.waker());
        std::atomic<bool> go = false;
        std::thread other([&] {
            while (!go) {}
            done.complete();
        });
        go = true;
        const bool forgotten = done.forget();
        other.join();
        CHECK(counter.calls == (forgotten ? 0 : 1));
    }
}

TEST_CASE("what a thread wrote before it completed is there for who sees it completed") {
    for (int round = 0; round < 200; ++round) {
        ThreadCompletion done;
        int written = -1;
        std::thread other([&] {
            written = round;
            done.complete(round);
        });
        while (!done.completed())
            std::this_thread::yield();
        CHECK(written == round);
        CHECK(done.value() == round);
        other.join();
    }
}

TEST_CASE("a thread's completion may cross waits that are given up: one is told, or the next sees "
          "it") {
    for (int round = 0; round < 200; ++round) {
        ThreadCompletion done;
        Counter counter;
        int written = -1;
        std::atomic<bool> go = false;
        std::thread other([&] {
            while (!go) {}
            written = round;
            done.complete(round);
        });
        go = true;
        bool told = false;
        while (!told && done.await(counter.waker()) == ThreadCompletion::Await::waiting)
            told = !done.forget();
        if (!told) { // seen without a call of the waker
            CHECK(written == round);
            CHECK(done.value() == round);
        }
        other.join();
        CHECK(counter.calls == (told ? 1 : 0));
        CHECK(done.value() == round);
    }
}

TEST_CASE("two threads may take turns in waiting: who waits at the end is told, nobody else") {
    struct Waiter {
        int calls = 0; // plain: it is handed over with the waker
        bool told = false;
        void wait_for(ThreadCompletion& done, std::atomic<int>& turns) {
            const Waker waker{[](void* self) noexcept { ++static_cast<Waiter*>(self)->calls; },
                              this};
            for (;;) {
                switch (done.await(waker)) {
                case ThreadCompletion::Await::completed: return;
                case ThreadCompletion::Await::taken: std::this_thread::yield(); break;
                case ThreadCompletion::Await::waiting:
                    told = !done.forget();
                    if (told)
                        return;
                    turns.fetch_add(1, std::memory_order_relaxed);
                }
            }
        }
    };
    for (int round = 0; round < 200; ++round) {
        ThreadCompletion done;
        Waiter waiters[2];
        std::atomic<int> turns = 0;
        std::thread first([&] { waiters[0].wait_for(done, turns); });
        std::thread second([&] { waiters[1].wait_for(done, turns); });
        while (turns.load(std::memory_order_relaxed) < 100)
            std::this_thread::yield();
        done.complete(round);
        first.join();
        second.join();
        for (const Waiter& waiter : waiters)
            CHECK(waiter.calls == (waiter.told ? 1 : 0));
        CHECK_FALSE((waiters[0].told && waiters[1].told));
    }
}

TEST_CASE("the waker may destroy the completion") {
    auto done = std::make_unique<ThreadCompletion>();
    done->await({[](void* owner) noexcept {
                     static_cast<std::unique_ptr<ThreadCompletion>*>(owner)->reset();
                 },
                 &done});
    done->complete(1);
    CHECK_FALSE(done);
}

TEST_CASE("a completion is not left for one who was interrupted, until he waits again") {
    ThreadCompletion done;
    Counter counter;
    CHECK(done.await(counter.waker()) == ThreadCompletion::Await::waiting);
    CHECK(done.forget());
    CHECK_FALSE(done.try_complete(1));
    CHECK_FALSE(done.completed());
    CHECK(done.await(counter.waker()) == ThreadCompletion::Await::waiting);
    CHECK(done.try_complete(2));
    CHECK(counter.calls == 1);
    CHECK(done.value() == 2);
}

TEST_CASE("a completion is left for one who has yet to come") {
    ThreadCompletion done;
    Counter counter;
    CHECK(done.try_complete(3));
    CHECK(done.await(counter.waker()) == ThreadCompletion::Await::completed);
    CHECK(counter.calls == 0);
    CHECK(done.value() == 3);
}

TEST_CASE("a thread's try_complete and forgetting may cross: exactly one of them wins") {
    for (int round = 0; round < 200; ++round) {
        ThreadCompletion done;
        Counter counter;
        done.await(counter.waker());
        std::atomic<bool> go = false;
        bool left = false;
        std::thread other([&] {
            while (!go) {}
            left = done.try_complete();
        });
        go = true;
        const bool forgotten = done.forget();
        other.join();
        CHECK(left != forgotten);
        CHECK(counter.calls == (left ? 1 : 0));
    }
}

TEST_CASE("a plain thread waits for a completion that comes, or came") {
    for (int round = 0; round < 100; ++round) {
        ThreadCompletion done;
        int written = 0;
        std::thread other([&] {
            written = round;
            done.complete(round);
        });
        if (round % 2)
            std::this_thread::yield();
        CHECK(done.wait() == round);
        CHECK(written == round);
        other.join();
    }
}

TEST_CASE("two cannot wait for one completion") {
    ThreadCompletion done;
    Counter counter;
    done.await(counter.waker());
    CHECK_THROWS_AS(done.wait(), std::logic_error);
}
