// A kernel inside another loop, which here is a poll(2): what the host puts in, what it is told,
// and that it is told nothing when there is nothing to do.
#include <trapline/kernel/kernel.hpp>

#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/resource.h>

#include <trapline/trapline.hpp>

#include "../support/engines.hpp"
#include "../support/leaks.hpp"
#include "../support/sockets.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

/// Calls `body(kernel)` with a kernel of each engine that has a descriptor.
template <class Body>
void each_kernel(Body body) {
    for (const test::EngineChoice& engine : test::engines()) {
        INFO("engine: " << engine.name);
        const test::LeakGuard guard;
        Kernel kernel{engine.options};
        body(kernel);
    }
}

bool readable(Kernel& kernel, int wait_ms = 0) {
    pollfd at{kernel.pollable_fd(), POLLIN, 0};
    return ::poll(&at, 1, wait_ms) == 1;
}

/// As told(), of a descriptor that was asked for once.
bool told(int fd, int wait_ms = 0) {
    pollfd at{fd, POLLIN, 0};
    return ::poll(&at, 1, wait_ms) == 1;
}

/// Turns until nothing is to be done at once. Answers how many.
int settle(Kernel& kernel, int fd) {
    int turns = 0;
    for (; told(fd) && turns < 100; ++turns)
        kernel.run_once();
    CHECK(turns < 100);
    return turns;
}

/// Waits as a host does, until `done`.
template <class Done>
void serve_until(Kernel& kernel, int fd, Done done) {
    while (!done()) {
        REQUIRE(told(fd, 10'000));
        kernel.run_once();
    }
}

Coro<int> answers(int value) {
    co_await yield_now();
    co_return value;
}

Coro<void> fails() {
    co_await yield_now();
    throw std::runtime_error("on purpose");
}

Coro<std::size_t> receives(int fd, std::string& text) {
    text.resize(100);
    const auto got = co_await traps::recv(fd, std::as_writable_bytes(std::span(text)));
    text.resize(got.value());
    co_return got.value();
}

} // namespace

TEST_CASE("a host spawns, waits for the descriptor, and runs a turn when it is readable") {
    each_kernel([](Kernel& kernel) {
        const int fd = kernel.pollable_fd();
        CHECK(fd == kernel.pollable_fd());
        settle(kernel, fd);
        CHECK_FALSE(told(fd));
        Task<int> task = kernel.spawn(answers(5), {.name = "five"});
        CHECK(task.name() == "five");
        serve_until(kernel, fd, [&] { return task.terminated(); });
        CHECK(task.result() == 5);
        CHECK(kernel.task_count() == 0);
        settle(kernel, fd);
        CHECK_FALSE(told(fd, 5));
    });
}

TEST_CASE("the descriptor tells of what was there before anybody asked for it") {
    each_kernel([](Kernel& kernel) {
        const Task<int> task = kernel.spawn([value = std::make_unique<int>(7)]() -> Coro<int> {
            co_await yield_now();
            co_return *value;
        });
        CHECK(readable(kernel));
        serve_until(kernel, kernel.pollable_fd(), [&] { return task.terminated(); });
        CHECK(task.result() == 7);
    });
}

TEST_CASE("an event that the host sets between turns makes the descriptor readable") {
    each_kernel([](Kernel& kernel) {
        Event event;
        const int fd = kernel.pollable_fd();
        const Task<> task = kernel.spawn([&]() -> Coro<void> { co_await event.wait(); });
        settle(kernel, fd);
        CHECK_FALSE(told(fd));
        CHECK_FALSE(kernel.run_once()); // nothing is left to come but from the host: no Deadlock
        CHECK(kernel.task_count() == 1);
        event.set();
        CHECK(told(fd));
        kernel.run_once();
        CHECK(task.terminated());
    });
}

TEST_CASE("timers fire while the host is idle, never early, and it does nothing before") {
    each_kernel([](Kernel& kernel) {
        const int fd = kernel.pollable_fd();
        const auto start = std::chrono::steady_clock::now();
        const Task<TimePoint> task = kernel.spawn([] { return sleep(20ms); });
        settle(kernel, fd);
        const auto before = kernel.counters();
        CHECK(told(fd, 10'000));
        CHECK(std::chrono::steady_clock::now() - start >= 20ms);
        CHECK(kernel.counters().turns == before.turns);
        CHECK(kernel.counters().engine.system_calls == before.engine.system_calls);
        CHECK_FALSE(kernel.run_once());
        CHECK(task.terminated());
        CHECK(settle(kernel, fd) <= 1);
    });
}

TEST_CASE(
    "a sooner timer is waited for instead, and one that was dropped is looked at once at most") {
    each_kernel([](Kernel& kernel) {
        const int fd = kernel.pollable_fd();
        const Task<TimePoint> late = kernel.spawn([] { return sleep(1h); });
        settle(kernel, fd);
        const Task<TimePoint> soon = kernel.spawn([] { return sleep(10ms); });
        settle(kernel, fd);
        CHECK(kernel.cancel(soon));
        settle(kernel, fd);
        CHECK(soon.cancelled());
        int looks = 0;
        for (const auto end = std::chrono::steady_clock::now() + 30ms;
             std::chrono::steady_clock::now() < end; ++looks) {
            if (!told(fd, 30))
                break;
            kernel.run_once();
        }
        CHECK(looks <= 2);
        CHECK_FALSE(late.terminated());
    });
}

TEST_CASE("bytes that come make the descriptor readable, and what tasks start is under way") {
    each_kernel([](Kernel& kernel) {
        const test::Ends ends = test::socket_pair();
        const int fd = kernel.pollable_fd();
        std::string text;
        const Task<std::size_t> task = kernel.spawn(receives(ends.a.get(), text));
        settle(kernel, fd);
        CHECK_FALSE(told(fd));
        test::write_all(ends.b.get(), "hello");
        CHECK(told(fd, 10'000));
        serve_until(kernel, fd, [&] { return task.terminated(); });
        CHECK(text == "hello");
        settle(kernel, fd);
        CHECK_FALSE(told(fd));
    });
}

TEST_CASE("without the descriptor, too, what tasks start is under way when a turn has ended") {
    each_kernel([](Kernel& kernel) {
        const test::Ends ends = test::socket_pair();
        kernel.spawn([&]() -> Coro<void> {
            (void)co_await traps::send(ends.a.get(), std::as_bytes(std::span("x", 1)));
        });
        kernel.run_once();
        pollfd peer{ends.b.get(), POLLIN, 0};
        CHECK(::poll(&peer, 1, 10'000) == 1);
        while (kernel.run_once(10s)) {}
        CHECK(kernel.task_count() == 0);
    });
}

TEST_CASE("threads wake a kernel whose host waits, again and again") {
    each_kernel([](Kernel& kernel) {
        const int fd = kernel.pollable_fd();
        std::vector<ThreadCompletion> completions(50);
        const Task<int> task = kernel.spawn([&]() -> Coro<int> {
            int sum = 0;
            for (ThreadCompletion& completion : completions)
                sum += static_cast<int>((co_await traps::AwaitThread{&completion}).value());
            co_return sum;
        });
        const std::jthread thread{[&] {
            for (ThreadCompletion& completion : completions) {
                std::this_thread::yield();
                completion.complete(1);
            }
        }};
        serve_until(kernel, fd, [&] { return task.terminated(); });
        CHECK(task.result() == 50);
        settle(kernel, fd);
        CHECK_FALSE(told(fd, 5));
    });
}

TEST_CASE("who yields keeps the descriptor readable, and leaves the host its turns") {
    each_kernel([](Kernel& kernel) {
        const int fd = kernel.pollable_fd();
        int steps = 0;
        const Task<> task = kernel.spawn([&]() -> Coro<void> {
            for (; steps < 100; ++steps)
                co_await yield_now();
        });
        int turns = 0;
        serve_until(kernel, fd, [&] { return ++turns, task.terminated(); });
        CHECK(turns > 100);
    });
}

TEST_CASE("run_once waits as long as it is allowed to, and no longer than it must") {
    each_kernel([](Kernel& kernel) {
        CHECK_FALSE(kernel.run_once(1h)); // nothing to wait for
        const Task<TimePoint> task = kernel.spawn([] { return sleep(30ms); });
        const auto start = std::chrono::steady_clock::now();
        CHECK(kernel.run_once(1h)); // somebody was ready
        CHECK(kernel.run_once(5ms));
        CHECK(std::chrono::steady_clock::now() - start >= 5ms);
        while (kernel.run_once(1h)) {}
        CHECK(task.terminated());
        CHECK(std::chrono::steady_clock::now() - start >= 30ms);
    });
}

TEST_CASE("the host cancels what sleeps, parks and waits for I/O; once") {
    each_kernel([](Kernel& kernel) {
        const test::Ends ends = test::socket_pair();
        const int fd = kernel.pollable_fd();
        Event event;
        std::string text;
        const std::vector<Task<>> tasks{
            kernel.spawn([] { return sleep(1h); }),
            kernel.spawn([&]() -> Coro<void> { co_await event.wait(); }),
            kernel.spawn(receives(ends.a.get(), text)),
        };
        settle(kernel, fd);
        for (const Task<>& task : tasks) {
            CHECK(kernel.cancel(task));
            CHECK(kernel.cancel(task));
            CHECK_FALSE(task.terminated());
            serve_until(kernel, fd, [&] { return task.terminated(); });
            CHECK(task.cancelled());
            CHECK_FALSE(kernel.cancel(task));
        }
        settle(kernel, fd);
        CHECK_FALSE(told(fd));
    });
}

TEST_CASE("the host cannot cancel another kernel's task, nor nobody") {
    Kernel kernel;
    Kernel other;
    const Task<TimePoint> task = other.spawn([] { return sleep(1h); });
    CHECK_THROWS_AS(kernel.cancel(task), std::system_error);
    CHECK_THROWS_AS(kernel.cancel(Task<>{}), std::logic_error);
    CHECK(other.cancel(task));
}

TEST_CASE("results and exceptions are kept for the host, and disturb no turn") {
    each_kernel([](Kernel& kernel) {
        const Task<int> good = kernel.spawn(answers(3));
        const Task<> bad = kernel.spawn(fails());
        CHECK_THROWS_WITH_AS(good.result(), "the task has not ended, so it has no result yet",
                             std::logic_error);
        CHECK_THROWS_AS(bad.result(), std::logic_error);
        while (kernel.run_once()) {}
        CHECK(good.result() == 3);
        CHECK(good.result() == 3);
        std::string text;
        try {
            bad.result();
        } catch (const TaskError& e) {
            text = e.what();
        }
        CHECK(text.contains("on purpose"));
    });
}

TEST_CASE("run_once is refused within a running kernel, on another thread and after shutdown") {
    Kernel kernel;
    int refused = 0;
    std::string text;
    const auto try_it = [&](auto call) {
        try {
            call();
        } catch (const std::logic_error& error) {
            ++refused;
            text = error.what();
        }
    };
    kernel.run([&]() -> Coro<void> {
        try_it([&] { kernel.run_once(); });
        co_return;
    });
    CHECK(refused == 1);
    CHECK(text == "run_once() within a running kernel: await or spawn instead");
    std::thread([&] {
        try_it([&] { kernel.run_once(); });
        try_it([&] { kernel.spawn(answers(1)); });
        try_it([&] { kernel.cancel(kernel.spawn(answers(1))); });
        try_it([&] { (void)kernel.pollable_fd(); });
    }).join();
    CHECK(refused == 5);
    kernel.shutdown();
    try_it([&] { kernel.run_once(); });
    try_it([&] { kernel.spawn(answers(1)); });
    try_it([&] { (void)kernel.pollable_fd(); });
    CHECK(refused == 8);
}

TEST_CASE("tasks use spawn and cancel of their kernel, too") {
    each_kernel([](Kernel& kernel) {
        const int fd = kernel.pollable_fd();
        const Task<int> task = kernel.spawn([&]() -> Coro<int> {
            const Task<int> child = kernel.spawn(answers(4));
            const Task<TimePoint> sleeper = kernel.spawn([] { return sleep(1h); });
            CHECK(kernel.cancel(sleeper));
            co_await sleeper.wait();
            co_return co_await child.join();
        });
        serve_until(kernel, fd, [&] { return task.terminated(); });
        CHECK(task.result() == 4);
    });
}

TEST_CASE("a host may run a main in between, and what it left goes on in its turns") {
    each_kernel([](Kernel& kernel) {
        const test::Ends ends = test::socket_pair();
        const int fd = kernel.pollable_fd();
        std::string text;
        Task<std::size_t> receiver;
        CHECK(kernel.run([&]() -> Coro<int> {
            receiver = co_await spawn(receives(ends.a.get(), text));
            co_await yield_now();
            co_return 1;
        }) == 1);
        settle(kernel, fd);
        CHECK_FALSE(told(fd));
        test::write_all(ends.b.get(), "late");
        serve_until(kernel, fd, [&] { return receiver.terminated(); });
        CHECK(text == "late");
    });
}

TEST_CASE("shutdown between turns ends what is in flight, with its cleanup, and says no more") {
    each_kernel([](Kernel& kernel) {
        const test::Ends ends = test::socket_pair();
        const int fd = kernel.pollable_fd();
        std::string text;
        bool cleaned_up = false;
        const Task<std::size_t> receiver = kernel.spawn(receives(ends.a.get(), text));
        const Task<> careful = kernel.spawn([&]() -> Coro<void> {
            bool interrupted = false;
            try {
                co_await sleep(1h);
            } catch (const TaskCancelled&) {
                interrupted = true;
            }
            co_await sleep(1ms);
            cleaned_up = interrupted;
        });
        settle(kernel, fd);
        kernel.shutdown();
        CHECK(receiver.cancelled());
        CHECK(cleaned_up);
        CHECK_FALSE(told(fd));
    });
}

TEST_CASE("a kernel may go between two turns with everything in flight") {
    for (const test::EngineChoice& engine : test::engines()) {
        INFO("engine: " << engine.name);
        const test::LeakGuard guard;
        const test::Ends ends = test::socket_pair();
        std::optional<Kernel> kernel{engine.options};
        std::string text;
        const Task<std::size_t> receiver = kernel->spawn(receives(ends.a.get(), text));
        kernel->spawn([] { return sleep(1h); });
        settle(*kernel, kernel->pollable_fd());
        test::write_all(ends.b.get(), "x"); // the host has not come to look
        kernel.reset();
        CHECK(receiver.terminated());
    }
}

TEST_CASE("two kernels live in one host, and wake each other through it") {
    Kernel first;
    Kernel second;
    Event there;
    Event back;
    const auto waits = [](Event& mine, Event& other) -> Coro<void> {
        for (int i = 0; i < 100; ++i) {
            co_await mine.wait();
            mine.clear();
            other.set();
        }
    };
    const Task<> a = first.spawn(waits(there, back));
    const Task<> b = second.spawn(waits(back, there));
    pollfd host[] = {{first.pollable_fd(), POLLIN, 0}, {second.pollable_fd(), POLLIN, 0}};
    there.set();
    while (!a.terminated() || !b.terminated()) {
        REQUIRE(::poll(host, 2, 10'000) > 0);
        if (host[0].revents)
            first.run_once();
        if (host[1].revents)
            second.run_once();
    }
    CHECK(a.terminated());
}

TEST_CASE("a descriptor that cannot be had is an error where it was asked for, and no other") {
    Kernel kernel;
    rlimit old{};
    getrlimit(RLIMIT_NOFILE, &old);
    rlimit none = old;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none);
    std::exception_ptr refused;
    try {
        (void)kernel.pollable_fd();
    } catch (...) { // looked at below: a sanitizer needs descriptors for that
        refused = std::current_exception();
    }
    setrlimit(RLIMIT_NOFILE, &old);
    REQUIRE(refused);
    std::error_code code;
    try {
        std::rethrow_exception(refused);
    } catch (const std::system_error& e) {
        code = e.code();
    }
    CHECK(code == std::errc::too_many_files_open);
    CHECK(kernel.run(answers(2)) == 2);
    CHECK(readable(kernel));
}
