// P7 to P9: how interrupts arrive, that nothing is lost by them, and what cancel() promises.
#include "conformance.hpp"

#include <algorithm>
#include <atomic>
#include <deque>
#include <optional>
#include <random>
#include <thread>

using namespace trapline;
using namespace trapline::test;

namespace {

/// Spawns a task that awaits what `block` makes, lets it block, cancels it, and answers which
/// interrupt it saw.
template <class Block>
Coro<std::string> cancelled_in(Block block) {
    std::string seen;
    const Task<void> task =
        co_await spawn([&]() -> Coro<void> { seen = co_await interrupt_of(block); });
    co_await let_others_run();
    CHECK(task.state() == TaskState::blocked);
    const bool cancelled = co_await task.cancel();
    CHECK(cancelled);
    co_return seen;
}

/// Sends a cancellation without waiting for the end.
Coro<traps::Delivery> send_cancel(Task<void> task) {
    const auto delivery = co_await traps::Cancel{task.record()};
    co_return delivery.value();
}

/// Bytes that count up, so that a lost, doubled or swapped one shows.
class CountingBytes {
public:
    std::string next(std::size_t count) {
        std::string bytes(count, '\0');
        for (char& byte : bytes)
            byte = static_cast<char>(at_++ % 251);
        return bytes;
    }

    /// Whether `bytes` are the next ones.
    bool take(std::string_view bytes) {
        bool right = true;
        for (const char byte : bytes)
            right = byte == static_cast<char>(at_++ % 251) && right;
        return right;
    }

    std::size_t count() const noexcept { return at_; }

private:
    std::size_t at_ = 0;
};

} // namespace

// --- P7 ------------------------------------------------------------------------------------

static_assert(!std::is_base_of_v<std::exception, Cancelled>);
static_assert(!std::is_base_of_v<std::exception, TaskCancelled>);
static_assert(!std::is_base_of_v<std::exception, TaskTimeout>);
static_assert(!std::is_base_of_v<std::exception, TimeoutCancellation>);
static_assert(std::is_base_of_v<std::runtime_error, UncaughtTimeout>);
static_assert(std::is_base_of_v<std::runtime_error, TaskError>);
static_assert(std::is_base_of_v<std::runtime_error, Deadlock>);

TEST_CASE("P7: an interrupt arrives where the task is blocked: sleep") {
    each_run([]() -> Coro<void> {
        const std::string in_sleep = co_await cancelled_in([] { return sleep(1h); });
        const std::string until = co_await cancelled_in([] { return sleep_until(never); });
        CHECK(in_sleep == "TaskCancelled");
        CHECK(until == "TaskCancelled");
    });
}

TEST_CASE("P7: an interrupt arrives where the task is blocked: park and join") {
    each_run([]() -> Coro<void> {
        WaitQueue queue;
        const std::string parked = co_await cancelled_in([&] { return park_on(queue); });
        CHECK(parked == "TaskCancelled");
        CHECK(queue.empty());
        const Task<void> task = co_await spawn(sleep_forever());
        const std::string joining = co_await cancelled_in([&] { return task.join(); });
        const std::string waiting = co_await cancelled_in([&] { return task.wait(); });
        CHECK(joining == "TaskCancelled");
        CHECK(waiting == "TaskCancelled");
        CHECK_FALSE(task.terminated());
    });
}

TEST_CASE("P7: an interrupt arrives where the task is blocked: waiting for a thread") {
    each_run([]() -> Coro<void> {
        ThreadCompletion completion;
        const std::string seen =
            co_await cancelled_in([&] { return TrapCall{traps::AwaitThread{&completion}}; });
        CHECK(seen == "TaskCancelled");
        completion.complete(1); // nobody waits any more
        const auto value = co_await traps::AwaitThread{&completion};
        CHECK(value == 1);
    });
}

TEST_CASE("P7: an interrupt arrives where the task is blocked: waiting for a descriptor") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = pipe_ends();
        const std::string reading =
            co_await cancelled_in([&] { return traps::read_wait(ends.a.get()); });
        set_non_blocking(ends.b.get());
        while (::write(ends.b.get(), "0123456789abcdef", 16) > 0) {}
        const std::string writing =
            co_await cancelled_in([&] { return traps::write_wait(ends.b.get()); });
        CHECK(reading == "TaskCancelled");
        CHECK(writing == "TaskCancelled");
    });
}

TEST_CASE("P7: an interrupt arrives where the task is blocked: every operation that may wait") {
    each_io_run([]() -> Coro<void> {
        const Descriptor listener = tcp_listener();
        const std::string accepting =
            co_await cancelled_in([&] { return traps::accept(listener.get()); });
        CHECK(accepting == "TaskCancelled");

        const Ends ends = socket_pair();
        std::string buffer(16, '\0');
        const std::string receiving =
            co_await cancelled_in([&] { return traps::recv(ends.a.get(), bytes_of(buffer)); });
        CHECK(receiving == "TaskCancelled");
        const std::string whole = co_await cancelled_in(
            [&] { return traps::recv(ends.a.get(), bytes_of(buffer), MSG_WAITALL); });
        CHECK(whole == "TaskCancelled");
        iovec part{buffer.data(), buffer.size()};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        const std::string message_in =
            co_await cancelled_in([&] { return traps::recv_message(ends.a.get(), message); });
        CHECK(message_in == "TaskCancelled");
        const std::string reading =
            co_await cancelled_in([&] { return traps::read(ends.a.get(), bytes_of(buffer)); });
        CHECK(reading == "TaskCancelled");

        const Ends pipe = pipe_ends();
        const Ends another = pipe_ends();
        // Waits in a thread of Linux's.
        const std::string splicing = co_await cancelled_in(
            [&] { return traps::splice(pipe.a.get(), another.b.get(), 100); });
        CHECK(splicing == "TaskCancelled");

        set_non_blocking(ends.a.get());
        while (::send(ends.a.get(), buffer.data(), buffer.size(), 0) > 0) {}
        const std::string sending =
            co_await cancelled_in([&] { return traps::send(ends.a.get(), bytes_of(buffer)); });
        CHECK(sending == "TaskCancelled");
    });
}

TEST_CASE("P7: who is not blocked is interrupted at the next blocking trap, not at others") {
    each_run([]() -> Coro<void> {
        std::string steps;
        const Task<void> task = co_await spawn([&]() -> Coro<void> {
            steps += 'a';
            (void)co_await now();
            (void)co_await current_task();
            const bool pending = co_await check_cancellation();
            CHECK(pending);
            steps += 'b';
            try {
                co_await yield_now();
                steps += 'x';
            } catch (const TaskCancelled&) {
                steps += 'c';
                throw;
            }
        });
        const traps::Delivery delivery = co_await send_cancel(task); // it has not begun
        CHECK(delivery == traps::Delivery::pending);
        co_await task.wait();
        CHECK(steps == "abc");
        CHECK(task.cancelled());
    });
}

TEST_CASE("P7: catch of std::exception does not swallow an interrupt") {
    each_run([]() -> Coro<void> {
        bool swallowed = false;
        const Task<void> task = co_await spawn([&]() -> Coro<void> {
            try {
                co_await sleep(1h);
            } catch (const std::exception&) {
                swallowed = true;
            }
        });
        co_await yield_now();
        const bool cancelled = co_await task.cancel();
        CHECK(cancelled);
        CHECK_FALSE(swallowed);
        CHECK(task.cancelled());
    });
}

TEST_CASE("P7: an interrupt arrives once; what is awaited after it works") {
    each_io_run([]() -> Coro<void> {
        int interrupts = 0;
        bool read = false;
        const Ends ends = socket_pair();
        write_all(ends.b.get(), "x");
        const Task<void> task = co_await spawn([&]() -> Coro<void> {
            const std::string first = co_await interrupt_of([] { return sleep(1h); });
            interrupts += first != "none";
            const std::string second = co_await interrupt_of([] { return sleep(100us); });
            interrupts += second != "none";
            const std::string third = co_await interrupt_of(let_others_run());
            interrupts += third != "none";
            std::string buffer(1, '\0');
            const auto got = co_await traps::recv(ends.a.get(), bytes_of(buffer));
            read = got == 1;
        });
        co_await yield_now();
        const bool cancelled = co_await task.cancel();
        CHECK(cancelled);
        CHECK(interrupts == 1);
        CHECK(read);
        CHECK_FALSE(task.cancelled());
    });
}

TEST_CASE("P7: an interrupt passes through joins of nobody but the one who was cancelled") {
    each_run([]() -> Coro<void> {
        const Task<void> child = co_await spawn(sleep_forever());
        const Task<void> parent =
            co_await spawn([child]() -> Coro<void> { co_await child.join(); });
        co_await let_others_run();
        const bool cancelled = co_await parent.cancel();
        CHECK(cancelled);
        CHECK(parent.cancelled());
        CHECK_FALSE(child.terminated());
    });
}

TEST_CASE("P7: operations that are not interruptible finish, and the interrupt waits") {
    each_io_run([]() -> Coro<void> {
        Ends ends = socket_pair();
        bool closed = false;
        std::string after;
        const Task<void> task = co_await spawn([&]() -> Coro<void> {
            const auto answer = co_await traps::close(ends.a.release());
            closed = answer.has_value();
            after = co_await interrupt_of(yield_now());
        });
        const traps::Delivery delivery = co_await send_cancel(task);
        CHECK(delivery == traps::Delivery::pending);
        co_await task.wait();
        CHECK(closed);
        CHECK(after == "TaskCancelled");
    });
}

// --- P8: cancelling races with completing --------------------------------------------------

namespace {

/// What a task that receives once came to.
struct Received {
    std::string bytes;
    std::string first_interrupt = "none"; ///< at the recv
    std::string next_interrupt = "none";  ///< at the next blocking trap
};

Coro<void> receive_once(int fd, Received& result) {
    std::string buffer(16, '\0');
    try {
        const auto got = co_await traps::recv(fd, bytes_of(buffer));
        result.bytes = buffer.substr(0, got.value());
    } catch (const TaskCancelled&) {
        result.first_interrupt = "TaskCancelled";
    }
    result.next_interrupt = co_await interrupt_of(yield_now());
}

/// Either the byte or the interrupt, and if the byte, then the interrupt at the next trap.
void check_received(const Received& result, int fd) {
    CHECK(result.bytes + read_waiting(fd) == "x");
    CHECK((result.first_interrupt == "none") == (result.bytes == "x"));
    CHECK((result.next_interrupt == "none") == (result.bytes != "x"));
}

} // namespace

TEST_CASE("P8: a received byte is never lost when recv is cancelled: the byte comes first") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        Received result;
        const Task<void> task = co_await spawn(receive_once(ends.a.get(), result));
        co_await let_others_run();
        write_all(ends.b.get(), "x");
        (void)co_await task.cancel();
        check_received(result, ends.a.get());
    });
}

TEST_CASE("P8: a received byte is never lost when recv is cancelled: the cancellation first") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        Received result;
        const Task<void> task = co_await spawn(receive_once(ends.a.get(), result));
        co_await let_others_run();
        (void)co_await send_cancel(task);
        write_all(ends.b.get(), "x");
        co_await task.wait();
        check_received(result, ends.a.get());
    });
}

TEST_CASE("P8: a recv that is over gives its result, and the interrupt waits for the next trap") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        Received result;
        const Task<void> task = co_await spawn(receive_once(ends.a.get(), result));
        co_await let_others_run();
        write_all(ends.b.get(), "x");
        while (task.state() == TaskState::blocked)
            co_await yield_now();
        // The completion has made it ready, behind this task.
        CHECK(task.state() == TaskState::ready);
        const traps::Delivery delivery = co_await send_cancel(task);
        CHECK(delivery == traps::Delivery::pending);
        co_await task.wait();
        CHECK(result.bytes == "x");
        CHECK(result.next_interrupt == "TaskCancelled");
    });
}

TEST_CASE("P8: a recv that never began because of a pending interrupt took nothing") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        write_all(ends.b.get(), "x");
        Received result;
        const Task<void> task = co_await spawn(receive_once(ends.a.get(), result));
        (void)co_await send_cancel(task);
        co_await task.wait();
        CHECK(result.bytes == "");
        CHECK(result.first_interrupt == "TaskCancelled");
        CHECK(read_waiting(ends.a.get()) == "x");
    });
}

TEST_CASE("P8: nothing is written to the buffer of a cancelled recv after its end") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        std::string buffer(64, '#');
        for (int round = 0; round < 100; ++round) {
            const Task<void> task = co_await spawn([&]() -> Coro<void> {
                (void)co_await traps::recv(ends.a.get(), bytes_of(buffer));
            });
            co_await let_others_run(round % 4);
            (void)co_await task.cancel();
            write_all(ends.b.get(), "late");
            co_await let_others_run(2);
            CHECK(read_waiting(ends.a.get()) == "late");
        }
        CHECK(buffer == std::string(64, '#'));
    });
}

namespace {

/// A task that accepts for ever; each connection is counted and closed.
Coro<void> accept_all(int listener, long& accepted) {
    for (;;) {
        const auto connection = co_await traps::accept(listener);
        if (!connection)
            co_return;
        ++accepted;
        ::close(*connection);
    }
}

} // namespace

TEST_CASE("P8: no accepted descriptor leaks when accept is cancelled, in either order") {
    each_io_run([]() -> Coro<void> {
        const Descriptor listener = tcp_listener();
        const std::uint16_t port = port_of(listener.get());
        long accepted = 0;
        constexpr int rounds = 100;
        for (int round = 0; round < rounds; ++round) {
            const Task<void> task = co_await spawn(accept_all(listener.get(), accepted));
            co_await let_others_run(round % 5);
            if (round % 2)
                (void)co_await send_cancel(task);
            const Descriptor client = tcp_connect(port);
            (void)co_await task.cancel();
        }
        // Those that no cancelled accept has taken still wait.
        set_non_blocking(listener.get());
        for (int fd; (fd = ::accept4(listener.get(), nullptr, nullptr, 0)) >= 0; ++accepted)
            ::close(fd);
        CHECK(accepted == rounds);
    });
}

TEST_CASE("P8: join and cancel in the same turn: the result if the task ended first") {
    each_run([]() -> Coro<void> {
        WaitQueue gate;
        for (const bool cancelled_first : {false, true}) {
            CAPTURE(cancelled_first);
            const Task<int> task = co_await spawn([&]() -> Coro<int> {
                co_await traps::Park{&gate};
                co_return 5;
            });
            int result = 0;
            std::string next = "none";
            const Task<void> joiner = co_await spawn([&, task]() -> Coro<void> {
                try {
                    result = co_await task.join();
                } catch (const TaskCancelled&) {}
                next = co_await interrupt_of(yield_now());
            });
            co_await let_others_run();
            if (cancelled_first)
                (void)co_await send_cancel(joiner);
            gate.wake();
            while (!task.terminated())
                co_await yield_now();
            if (!cancelled_first)
                (void)co_await send_cancel(joiner);
            co_await joiner.wait();
            CHECK(result == (cancelled_first ? 0 : 5));
            CHECK(next == (cancelled_first ? "none" : "TaskCancelled"));
        }
    });
}

TEST_CASE(
    "P8: a woken task is never interrupted by the same park, an interrupted one never woken") {
    each_run([]() -> Coro<void> {
        for (const bool cancelled_first : {false, true}) {
            CAPTURE(cancelled_first);
            WaitQueue queue;
            bool woken = false;
            std::string next = "none";
            const Task<void> task = co_await spawn([&]() -> Coro<void> {
                try {
                    co_await traps::Park{&queue};
                    woken = true;
                } catch (const TaskCancelled&) {}
                next = co_await interrupt_of(yield_now());
            });
            co_await let_others_run();
            if (cancelled_first) {
                (void)co_await send_cancel(task);
                CHECK(queue.wake() == 0);
            } else {
                CHECK(queue.wake() == 1);
                (void)co_await send_cancel(task);
            }
            co_await task.wait();
            CHECK(woken != cancelled_first);
            CHECK(next == (cancelled_first ? "none" : "TaskCancelled"));
        }
    });
}

TEST_CASE("P8: sleep and cancel in the same turn: who has woken has slept, who has not has not") {
    each_io_run([]() -> Coro<void> {
        for (const bool cancelled_first : {false, true}) {
            CAPTURE(cancelled_first);
            bool right = false;
            for (const Duration lead : leads) {
                bool slept = false;
                std::string next = "none";
                const TimePoint at = co_await now() + lead;
                const Task<void> task = co_await spawn([&]() -> Coro<void> {
                    try {
                        co_await sleep_until(at);
                        slept = true;
                    } catch (const TaskCancelled&) {}
                    next = co_await interrupt_of(yield_now());
                });
                co_await let_others_run(2);
                const bool too_slow = task.state() != TaskState::blocked;
                if (cancelled_first) {
                    // The time passes within this turn, so the timer is due but has not fired.
                    for (TimePoint time{}; time < at;)
                        time = co_await now();
                } else {
                    while (task.state() == TaskState::blocked)
                        co_await yield_now();
                }
                (void)co_await send_cancel(task);
                co_await task.wait();
                if (too_slow)
                    continue;
                CHECK(slept != cancelled_first);
                CHECK(next == (cancelled_first ? "none" : "TaskCancelled"));
                right = true;
                break;
            }
            CHECK(right);
        }
    });
}

TEST_CASE("P8: a value of another thread is not lost when the wait for it is cancelled") {
    each_run([]() -> Coro<void> {
        for (const bool cancelled_first : {false, true}) {
            CAPTURE(cancelled_first);
            ThreadCompletion completion;
            std::int64_t value = 0;
            std::string next = "none";
            const Task<void> task = co_await spawn([&]() -> Coro<void> {
                try {
                    const auto answer = co_await traps::AwaitThread{&completion};
                    value = answer.value();
                } catch (const TaskCancelled&) {}
                next = co_await interrupt_of(yield_now());
            });
            co_await let_others_run();
            if (cancelled_first)
                (void)co_await send_cancel(task);
            // Ended before the kernel's next turn begins.
            std::thread{[&] { completion.complete(9); }}.join();
            if (!cancelled_first)
                (void)co_await send_cancel(task);
            co_await task.wait();
            CHECK(value == (cancelled_first ? 0 : 9));
            CHECK(next == (cancelled_first ? "none" : "TaskCancelled"));
        }
    });
}

TEST_CASE("P8: a thread that completes while it is cancelled gives its value or nothing") {
    each_run([]() -> Coro<void> {
        for (int round = 0; round < 200; ++round) {
            ThreadCompletion completion;
            std::int64_t value = -1;
            const Task<void> task = co_await spawn([&]() -> Coro<void> {
                const auto answer = co_await traps::AwaitThread{&completion};
                value = answer.value();
            });
            std::thread thread{[&] { completion.complete(round); }};
            co_await let_others_run(round % 3);
            (void)co_await task.cancel();
            thread.join();
            CHECK((value == -1 || value == round));
            CHECK(task.cancelled() == (value == -1));
            CHECK(completion.value() == round);
        }
    });
}

TEST_CASE("P8: a wait for a thread that is given up again and again ends with its value") {
    each_run([]() -> Coro<void> {
        for (int round = 0; round < 50; ++round) {
            ThreadCompletion completion;
            int written = -1;
            std::atomic<bool> go = false;
            std::jthread thread{[&] {
                while (!go)
                    std::this_thread::yield();
                written = round;
                completion.complete(round);
            }};
            std::int64_t value = -1;
            int given_up = 0;
            while (value < 0) {
                const Task<void> task = co_await spawn([&]() -> Coro<void> {
                    const auto answer = co_await traps::AwaitThread{&completion};
                    value = answer.value();
                });
                co_await yield_now();
                const bool interrupted = co_await task.cancel();
                given_up += interrupted;
                go = given_up >= round % 5;
            }
            CHECK(value == round);
            CHECK(written == round);
        }
    });
}

TEST_CASE("P8: a thread can tell whether a task was interrupted, or will have what it leaves") {
    each_run([]() -> Coro<void> {
        for (const int turns : {0, 1, 3}) { // cancelled before it waits, and while it does
            ThreadCompletion completion;
            const Task<void> task = co_await spawn(
                [&]() -> Coro<void> { (void)co_await traps::AwaitThread{&completion}; });
            co_await let_others_run(turns);
            const bool interrupted = co_await task.cancel();
            CHECK(interrupted);
            CHECK_FALSE(completion.try_complete());
        }
        for (int round = 0; round < 50; ++round) { // cancelled at the same time
            ThreadCompletion completion;
            bool received = false;
            const Task<void> task = co_await spawn([&]() -> Coro<void> {
                (void)co_await traps::AwaitThread{&completion};
                received = true;
            });
            co_await let_others_run(round % 3);
            bool left = false;
            std::jthread thread{[&] { left = completion.try_complete(); }};
            if (round % 2)
                std::this_thread::yield();
            co_await task.cancel();
            thread.join();
            CHECK(left == received);
        }
    });
}

TEST_CASE("P8: waiting until a descriptor is readable consumes nothing, cancelled or not") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        for (int round = 0; round < 50; ++round) {
            const Task<void> task = co_await spawn(
                [&]() -> Coro<void> { (void)co_await traps::read_wait(ends.a.get()); });
            co_await let_others_run(round % 4);
            write_all(ends.b.get(), "x");
            (void)co_await task.cancel();
            CHECK(read_waiting(ends.a.get()) == "x");
        }
    });
}

// --- P8: nothing is lost, by the thousand --------------------------------------------------

TEST_CASE("P8: every byte is accounted for, in order, under thousands of cancelled receives") {
    each_io_run([]() -> Coro<void> {
        constexpr int rounds = 2000;
        const Ends ends = socket_pair();
        std::atomic<bool> stop = false;
        std::size_t written = 0;
        // At most a few bytes ahead, so that often there is none.
        std::jthread writer{[&] {
            CountingBytes bytes;
            std::mt19937 dice{1};
            while (!stop) {
                if (bytes_waiting(ends.a.get()) > 8) {
                    std::this_thread::yield();
                    continue;
                }
                if (!write_all(ends.b.get(), bytes.next(1 + dice() % 5)))
                    return;
            }
            written = bytes.count();
        }};
        CountingBytes expected;
        bool in_order = true;
        int cancelled = 0;
        std::mt19937 dice{2};
        const auto receive = [&]() -> Coro<void> {
            std::string buffer(16, '\0');
            for (;;) {
                const auto got = co_await traps::recv(ends.a.get(), bytes_of(buffer));
                in_order = expected.take(std::string_view(buffer).substr(0, *got)) && in_order;
            }
        };
        for (int round = 0; round < rounds; ++round) {
            const Task<void> task = co_await spawn(receive);
            co_await let_others_run(static_cast<int>(dice() % 4));
            const bool reached = co_await task.cancel();
            cancelled += reached;
        }
        stop = true;
        writer.join();
        in_order = expected.take(read_waiting(ends.a.get())) && in_order;
        CHECK(in_order);
        CHECK(expected.count() == written);
        CHECK(cancelled == rounds);
    });
}

TEST_CASE("P8: every byte is accounted for under thousands of receives with time limits") {
    each_io_run([]() -> Coro<void> {
        constexpr int rounds = 1000;
        const Ends ends = tcp_pair();
        std::jthread writer{[&](const std::stop_token& stop) {
            CountingBytes bytes;
            while (!stop.stop_requested() && write_all(ends.b.get(), bytes.next(3))) {
                for (int i = 0; i < 20 && bytes_waiting(ends.a.get()) > 0; ++i)
                    std::this_thread::yield();
            }
            ::shutdown(ends.b.get(), SHUT_WR);
        }};
        CountingBytes expected;
        bool in_order = true;
        std::string buffer(7, '\0');
        for (int round = 0; round < rounds; ++round) {
            const auto got = co_await ignore_after(1us * (round % 30),
                                                   traps::recv(ends.a.get(), bytes_of(buffer)));
            if (got)
                in_order = expected.take(std::string_view(buffer).substr(0, **got)) && in_order;
        }
        writer.request_stop();
        for (;;) {
            const auto got = co_await traps::recv(ends.a.get(), bytes_of(buffer));
            if (!got || *got == 0)
                break;
            in_order = expected.take(std::string_view(buffer).substr(0, *got)) && in_order;
        }
        CHECK(in_order);
        CHECK(expected.count() % 3 == 0);
    });
}

TEST_CASE("P8: no descriptor is lost under a thousand cancelled accepts and a client thread") {
    each_io_run([]() -> Coro<void> {
        constexpr int connections = 500;
        const Descriptor listener = tcp_listener();
        std::jthread clients{[port = port_of(listener.get())] {
            for (int i = 0; i < connections; ++i)
                reset(tcp_connect(port));
        }};
        long accepted = 0;
        std::mt19937 dice{3};
        while (accepted < connections) {
            const Task<void> task = co_await spawn(accept_all(listener.get(), accepted));
            co_await let_others_run(static_cast<int>(dice() % 6));
            (void)co_await task.cancel();
        }
        CHECK(accepted == connections);
    });
}

TEST_CASE("P8: a permit is never handed to a task that then sees Cancelled instead") {
    each_run([]() -> Coro<void> {
        Permits permits{3};
        std::mt19937 dice{4};
        const auto use = [&]() -> Coro<void> {
            co_await permits.acquire();
            // From here on the permit is this task's, and it must give it back.
            struct Release {
                Permits& permits;
                ~Release() { permits.release(); }
            } const release{permits};
            co_await let_others_run(2);
        };
        std::deque<Task<void>> tasks;
        for (int round = 0; round < 3000; ++round) {
            tasks.push_back(co_await spawn(use));
            if (dice() % 3 == 0)
                co_await yield_now();
            if (dice() % 2 == 0)
                (void)co_await send_cancel(tasks[dice() % tasks.size()]);
            if (tasks.size() > 10) {
                co_await tasks.front().wait();
                tasks.pop_front();
            }
        }
        for (const Task<void>& task : tasks)
            co_await task.wait();
        CHECK(permits.free() == 3);
    });
}

TEST_CASE("P8: an item that is handed over is never lost by a cancellation") {
    each_run([]() -> Coro<void> {
        // A queue that hands an item to the getter it wakes: the getter's slot is filled already.
        struct Getter {
            std::optional<int> item;
            WaitQueue wait;
        };
        std::deque<Getter*> getters;
        std::vector<int> kept;
        std::vector<int> got;
        const auto get = [&]() -> Coro<void> {
            Getter self;
            getters.push_back(&self);
            try {
                co_await traps::Park{&self.wait};
            } catch (const Cancelled&) {
                CHECK_FALSE(self.item);
                std::erase(getters, &self);
                throw;
            }
            got.push_back(self.item.value());
        };
        std::mt19937 dice{5};
        std::deque<Task<void>> tasks;
        for (int item = 0; item < 2000; ++item) {
            tasks.push_back(co_await spawn(get));
            if (dice() % 2)
                co_await yield_now();
            const bool cancel_first = dice() % 2;
            const Task<void> victim = tasks[dice() % tasks.size()];
            if (cancel_first)
                (void)co_await send_cancel(victim);
            // A cancelled getter still stands in the list until it runs: skip those that cannot be
            // woken any more.
            bool given = false;
            while (!given && !getters.empty()) {
                Getter& first = *getters.front();
                if (first.wait.empty())
                    break;
                getters.pop_front();
                first.item = item;
                first.wait.wake();
                given = true;
            }
            if (!given)
                kept.push_back(item);
            if (!cancel_first)
                (void)co_await send_cancel(victim);
            while (tasks.size() > 8) {
                (void)co_await tasks.front().cancel();
                tasks.pop_front();
            }
        }
        for (const Task<void>& task : tasks)
            (void)co_await task.cancel();
        std::vector<int> all = got;
        all.insert(all.end(), kept.begin(), kept.end());
        std::ranges::sort(all);
        CHECK(all.size() == 2000);
        CHECK(std::ranges::adjacent_find(all) == all.end());
        CHECK(got.size() > 100);
    });
}

// --- P8: what was done half way ------------------------------------------------------------

TEST_CASE("P8: a cancelled send_all says how many bytes are on their way") {
    each_io_run([]() -> Coro<void> {
        Ends ends = socket_pair();
        shrink_send_buffer(ends.a.get());
        CountingBytes bytes;
        const std::string data = bytes.next(1 << 20);
        const TcpStream stream{std::move(ends.a), {}};
        std::size_t progress = 0;
        const Task<void> task = co_await spawn([&]() -> Coro<void> {
            try {
                co_await const_cast<TcpStream&>(stream).send_all(data);
            } catch (const Cancelled& interrupt) {
                progress = interrupt.progress();
                throw;
            }
        });
        co_await let_others_run(5);
        // What makes room is sent at once, or later, or in part: as the engine goes about it.
        std::string begun(3000, '\0');
        begun.resize(static_cast<std::size_t>(::read(ends.b.get(), begun.data(), begun.size())));
        co_await let_others_run(5);
        (void)co_await task.cancel();
        const std::string received = begun + read_waiting(ends.b.get());
        CHECK(progress > 0);
        CHECK(progress < data.size());
        CHECK(received == std::string_view(data).substr(0, progress));
    });
}

TEST_CASE("P8: a cancelled recv_exactly says how many bytes are in the buffer") {
    each_io_run([]() -> Coro<void> {
        Ends ends = tcp_pair();
        TcpStream stream{std::move(ends.a), {}};
        std::string buffer(100, '\0');
        std::size_t progress = 0;
        const Task<void> task = co_await spawn([&]() -> Coro<void> {
            try {
                (void)co_await stream.recv_exactly(bytes_of(buffer));
            } catch (const Cancelled& interrupt) {
                progress = interrupt.progress();
                throw;
            }
        });
        CountingBytes bytes;
        const std::string data = bytes.next(37);
        for (std::size_t at = 0; at < data.size(); at += 10) {
            write_all(ends.b.get(), std::string_view(data).substr(at, 10));
            co_await let_others_run(2);
        }
        (void)co_await task.cancel();
        CHECK(progress > 0);
        CHECK(buffer.substr(0, progress) + read_waiting(stream.fd()) == data);
    });
}

TEST_CASE("P8: a time limit on recv_exactly reports the progress, too") {
    each_io_run([]() -> Coro<void> {
        Ends ends = tcp_pair();
        TcpStream stream{std::move(ends.a), {}};
        std::string buffer(10, '\0');
        std::size_t progress = 0;
        write_all(ends.b.get(), "abc");
        for (const Duration lead : leads) {
            try {
                (void)co_await timeout_after(lead, stream.recv_exactly(bytes_of(buffer)));
            } catch (const TaskTimeout& timeout) {
                progress = timeout.progress();
            }
            if (progress > 0)
                break; // else the limit ran out before it began
        }
        CHECK(progress == 3);
        CHECK(buffer.substr(0, progress) == "abc");
    });
}

TEST_CASE("P8: a transfer that ends in full while it is cancelled is done, and the rest waits") {
    each_io_run([]() -> Coro<void> {
        Ends ends = socket_pair();
        TcpStream stream{std::move(ends.a), {}};
        std::string buffer(4, '\0');
        std::size_t progress = 0;
        bool whole = false;
        std::string next = "none";
        const Task<void> task = co_await spawn([&]() -> Coro<void> {
            try {
                (void)co_await stream.recv_exactly(bytes_of(buffer));
                whole = true;
            } catch (const Cancelled& interrupt) {
                progress = interrupt.progress();
            }
            next = co_await interrupt_of(yield_now());
        });
        write_all(ends.b.get(), "ab");
        co_await let_others_run();
        write_all(ends.b.get(), "cd");
        (void)co_await task.cancel();
        const std::size_t taken = whole ? 4 : progress;
        CHECK(buffer.substr(0, taken) + read_waiting(stream.fd()) == "abcd");
        CHECK((next == "TaskCancelled") == whole);
    });
}

TEST_CASE("P8: a cancelled connect leaves no descriptor, and the next one works") {
    each_io_run([]() -> Coro<void> {
        // Linux lets a listener's backlog of 0 hold one connection; further ones wait.
        Descriptor listener = tcp_listener(0);
        const std::uint16_t port = port_of(listener.get());
        const Descriptor first = tcp_connect(port);
        const std::vector<int> before = open_descriptors();
        const SocketAddress address = SocketAddress::ipv4("127.0.0.1", port);
        std::vector<Task<TcpStream>> waiting;
        for (int i = 0; i < 3; ++i)
            waiting.push_back(co_await spawn(TcpStream::connect(address)));
        co_await let_others_run(5);
        int blocked = 0;
        for (const Task<TcpStream>& task : waiting)
            blocked += !task.terminated();
        CHECK(blocked > 0);
        for (const Task<TcpStream>& task : waiting)
            (void)co_await task.cancel();
        waiting.clear();
        CHECK(open_descriptors() == before);
    });
}

// --- P9 ------------------------------------------------------------------------------------

TEST_CASE("P9: cancel waits until the task has ended, its cleanup included") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        std::string steps;
        const Task<void> task = co_await spawn([&]() -> Coro<void> {
            const std::string seen = co_await interrupt_of([] { return sleep(1h); });
            steps += seen + ",";
            co_await sleep(1ms);
            (void)co_await traps::send(ends.a.get(), std::as_bytes(std::span("bye", 3)));
            co_await let_others_run();
            steps += "clean,";
            throw TaskCancelled{};
        });
        co_await yield_now();
        const bool cancelled = co_await task.cancel();
        steps += "cancel";
        CHECK(cancelled);
        CHECK(task.terminated());
        CHECK(task.cancelled());
        CHECK(steps == "TaskCancelled,clean,cancel");
        CHECK(read_waiting(ends.b.get()) == "bye");
    });
}

TEST_CASE("P9: cancel says whether it cancelled the task or that ended first") {
    each_run([]() -> Coro<void> {
        const Task<void> ends_first = co_await spawn([]() -> Coro<void> { co_return; });
        const Task<void> ended = co_await spawn([]() -> Coro<void> { co_return; });
        const Task<void> blocked = co_await spawn(sleep_forever());
        const bool not_begun = co_await ends_first.cancel();
        CHECK(ended.terminated());
        const bool over = co_await ended.cancel();
        const bool reached = co_await blocked.cancel();
        const bool twice = co_await blocked.cancel();
        CHECK_FALSE(not_begun);
        CHECK_FALSE(over);
        CHECK(reached);
        CHECK_FALSE(twice);
        CHECK_FALSE(ended.cancelled());
        CHECK(blocked.cancelled());
    });
}

TEST_CASE("P9: cancelling twice does not interrupt the cleanup") {
    each_run([]() -> Coro<void> {
        int interrupts = 0;
        bool cleaned = false;
        const Task<void> task = co_await spawn([&]() -> Coro<void> {
            const std::string first = co_await interrupt_of([] { return sleep(1h); });
            interrupts += first != "none";
            const std::string second = co_await interrupt_of([] { return sleep(1ms); });
            interrupts += second != "none";
            const std::string third = co_await interrupt_of(let_others_run(5));
            interrupts += third != "none";
            cleaned = true;
            throw TaskCancelled{};
        });
        co_await yield_now();
        int answers = 0;
        std::vector<Task<void>> cancellers;
        for (int i = 0; i < 5; ++i) {
            cancellers.push_back(co_await spawn([&]() -> Coro<void> {
                const bool cancelled = co_await task.cancel();
                answers += cancelled;
            }));
            co_await yield_now();
        }
        for (const Task<void>& canceller : cancellers)
            co_await canceller.join();
        CHECK(interrupts == 1);
        CHECK(cleaned);
        CHECK(answers == 5);
    });
}

TEST_CASE("P9: cancelling disarms every time limit, outer ones too") {
    each_run([]() -> Coro<void> {
        std::string seen;
        bool cleaned = false;
        for (const Duration lead : leads) {
            const TimePoint inner = co_await now() + lead;
            const TimePoint outer = inner + 500us;
            const Task<void> task = co_await spawn([&]() -> Coro<void> {
                co_await timeout_at(outer, [&]() -> Coro<void> {
                    co_await timeout_at(inner, [&]() -> Coro<void> {
                        seen = co_await interrupt_of([] { return sleep(1h); });
                        co_await sleep_until(outer + 500us);
                        cleaned = true;
                        throw TaskCancelled{};
                    });
                });
            });
            co_await yield_now();
            (void)co_await task.cancel();
            if (seen != "TaskCancelled")
                continue; // the limits came first
            CHECK(cleaned);
            CHECK(task.cancelled());
            break;
        }
        CHECK(seen == "TaskCancelled");
    });
}

TEST_CASE("P9: a limit that cleanup sets for itself works, and restores none that was disarmed") {
    each_run([]() -> Coro<void> {
        std::string seen;
        bool limited = false;
        bool undisturbed = false;
        for (const Duration lead : leads) {
            const TimePoint outer = co_await now() + lead;
            const Task<void> task = co_await spawn([&]() -> Coro<void> {
                co_await timeout_at(outer, [&]() -> Coro<void> {
                    seen = co_await interrupt_of([] { return sleep(1h); });
                    const auto in_time = co_await ignore_after(100us, sleep(1h));
                    limited = !in_time.has_value();
                    co_await sleep_until(outer + 500us);
                    undisturbed = true;
                    throw TaskCancelled{};
                });
            });
            co_await yield_now();
            (void)co_await task.cancel();
            if (seen == "TaskCancelled")
                break; // else the limit came first
            limited = undisturbed = false;
        }
        CHECK(limited);
        CHECK(undisturbed);
    });
}

TEST_CASE("P9: a scope that is left after the cancellation does not set the outer limit again") {
    each_run([]() -> Coro<void> {
        std::string seen;
        bool undisturbed = false;
        for (const Duration lead : leads) {
            const TimePoint inner = co_await now() + lead;
            const TimePoint outer = inner + 500us;
            const Task<void> task = co_await spawn([&]() -> Coro<void> {
                co_await timeout_at(outer, [&]() -> Coro<void> {
                    seen = co_await timeout_at(inner, [] { return interrupt_of(sleep_forever()); });
                    co_await sleep_until(outer + 500us);
                    undisturbed = true;
                    throw TaskCancelled{};
                });
            });
            co_await yield_now();
            (void)co_await task.cancel();
            if (seen == "TaskCancelled")
                break; // else the limit came first
            undisturbed = false;
        }
        CHECK(undisturbed);
    });
}

TEST_CASE("P9: disable_cancellation holds interrupts back until the outermost scope is left") {
    each_run([]() -> Coro<void> {
        std::string steps;
        const Task<void> task = co_await spawn([&]() -> Coro<void> {
            co_await disable_cancellation([&]() -> Coro<void> {
                co_await disable_cancellation([&]() -> Coro<void> {
                    co_await let_others_run();
                    const bool pending = co_await check_cancellation();
                    steps += pending ? "held," : "none,";
                });
                co_await let_others_run();
                co_await sleep(100us);
                steps += "outer,";
            });
            steps += "left,";
            co_await yield_now();
            steps += "not here";
        });
        co_await yield_now();
        const bool cancelled = co_await task.cancel();
        CHECK(cancelled);
        CHECK(steps == "held,outer,left,");
    });
}

TEST_CASE("P9: a task that ends with interrupts held back was not cancelled") {
    each_run([]() -> Coro<void> {
        const Task<int> task = co_await spawn([]() -> Coro<int> {
            co_return co_await disable_cancellation([]() -> Coro<int> {
                co_await let_others_run(5);
                co_return 4;
            });
        });
        co_await yield_now();
        const bool cancelled = co_await task.cancel();
        const int result = co_await task.join();
        CHECK_FALSE(cancelled);
        CHECK_FALSE(task.cancelled());
        CHECK(result == 4);
    });
}

TEST_CASE("P9: an operation under disable_cancellation is not touched by a cancellation") {
    each_io_run([]() -> Coro<void> {
        const Ends ends = socket_pair();
        std::string buffer(1, '\0');
        const Task<void> task = co_await spawn([&]() -> Coro<void> {
            const auto got = co_await disable_cancellation(
                [&] { return traps::recv(ends.a.get(), bytes_of(buffer)); });
            CHECK(got == 1);
            co_await yield_now();
        });
        co_await let_others_run();
        const traps::Delivery delivery = co_await send_cancel(task);
        co_await let_others_run(5);
        CHECK(delivery == traps::Delivery::pending);
        CHECK(task.state() == TaskState::blocked);
        write_all(ends.b.get(), "x");
        co_await task.wait();
        CHECK(buffer == "x");
        CHECK(task.cancelled());
    });
}

TEST_CASE("P9: disable_cancellation passes results and exceptions, and unmasks after both") {
    each_run([]() -> Coro<void> {
        bool threw = false;
        const int result = co_await disable_cancellation([]() -> Coro<int> { co_return 6; });
        try {
            co_await disable_cancellation([]() -> Coro<void> {
                throw std::runtime_error("own");
                co_return;
            });
        } catch (const std::runtime_error&) {
            threw = true;
        }
        CHECK(result == 6);
        CHECK(threw);
        const auto in_time = co_await ignore_after(200us, sleep(1h)); // interrupts arrive again
        CHECK_FALSE(in_time.has_value());
    });
}

TEST_CASE("P9: check_cancellation asks, without taking the interrupt") {
    each_run([]() -> Coro<void> {
        std::vector<bool> asked;
        const Task<void> task = co_await spawn([&]() -> Coro<void> {
            for (int i = 0; i < 3; ++i) {
                const bool pending = co_await check_cancellation();
                asked.push_back(pending);
            }
            (void)co_await interrupt_of(yield_now());
            const bool pending = co_await check_cancellation();
            asked.push_back(pending);
        });
        const bool of_main = co_await check_cancellation();
        (void)co_await task.cancel();
        CHECK_FALSE(of_main);
        CHECK(asked == std::vector<bool>{true, true, true, false});
    });
}

TEST_CASE("P9: if the one who cancels is interrupted, the task is cancelled none the less") {
    each_run([]() -> Coro<void> {
        bool cleaned = false;
        WaitQueue gate;
        const Task<void> task = co_await spawn([&]() -> Coro<void> {
            (void)co_await interrupt_of([] { return sleep(1h); });
            co_await traps::Park{&gate};
            cleaned = true;
            throw TaskCancelled{};
        });
        co_await yield_now();
        const auto in_time = co_await ignore_after(100us, task.cancel());
        CHECK_FALSE(in_time.has_value());
        CHECK_FALSE(task.terminated());
        gate.wake();
        co_await task.wait();
        CHECK(cleaned);
        CHECK(task.cancelled());
    });
}

TEST_CASE("P9: a task that cancels itself is told that it cannot wait for that") {
    each_run([]() -> Coro<void> {
        const Task<void> self = co_await current_task();
        std::error_code code;
        try {
            (void)co_await self.cancel();
        } catch (const std::system_error& error) {
            code = error.code();
        }
        CHECK(code == std::errc::resource_deadlock_would_occur);
    });
}

TEST_CASE("P9: cancel waits for a task that swallows the interrupt until it ends by itself") {
    each_run([]() -> Coro<void> {
        const Task<int> task = co_await spawn([]() -> Coro<int> {
            (void)co_await interrupt_of([] { return sleep(1h); });
            co_await let_others_run(5);
            co_return 8;
        });
        co_await yield_now();
        const bool reached = co_await task.cancel();
        const int result = co_await task.join();
        CHECK(reached);
        CHECK_FALSE(task.cancelled());
        CHECK(result == 8);
    });
}

TEST_CASE("P9: a task that two cancel while it is cancelling a third ends all of them") {
    each_run([]() -> Coro<void> {
        const Task<void> third = co_await spawn([]() -> Coro<void> {
            (void)co_await interrupt_of([] { return sleep(1h); });
            co_await sleep(500us);
            throw TaskCancelled{};
        });
        const Task<void> second =
            co_await spawn([third]() -> Coro<void> { (void)co_await third.cancel(); });
        co_await let_others_run();
        const bool cancelled = co_await second.cancel();
        co_await third.wait();
        CHECK(cancelled);
        CHECK(second.cancelled());
        CHECK(third.cancelled());
    });
}

TEST_CASE("P9: an empty coroutine is refused, and interrupts are not held back after it") {
    each_run([]() -> Coro<void> {
        const auto body = []() -> Coro<void> {
            Coro<int> empty;
            bool refused = false;
            try {
                co_await disable_cancellation(std::move(empty));
            } catch (const std::logic_error&) {
                refused = true;
            }
            CHECK(refused);
            co_await sleep(1h);
        };
        const Task<void> task = co_await spawn(body());
        co_await let_others_run();
        const bool reached = co_await task.cancel();
        CHECK(reached);
    });
}
