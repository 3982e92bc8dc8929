// The programs in the future design: as somebody who likes asyncio writes them.
#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include <trapline/kernel/engines/uring.hpp>

#include "../program.hpp"
#include "gather.hpp"
#include "queue.hpp"
#include "server.hpp"
#include "signals.hpp"
#include "waiting.hpp"

using namespace future_design;
using namespace std::chrono_literals;
using designs::Random;
using designs::Run;

namespace {

/// Runs what `main` answers, on a loop with io_uring.
template <class Main>
void measure(Run& run, Main main, Run::Warm warm = Run::Warm::yes) {
    std::signal(SIGPIPE, SIG_IGN); // as Python does
    Loop loop{trapline::make_uring_engine({})};
    run.measure([&] { return loop.engine().counters().system_calls; },
                [&] { return loop.run_until_complete(main()); }, warm);
}

Coroutine<> all_of(std::vector<Task<>> tasks) {
    for (const Task<>& task : tasks)
        co_await task;
}

// --- switch

Coroutine<> yields(int count) {
    for (int i = 0; i < count; ++i)
        co_await sleep(0s);
}

Coroutine<> yields_below(int depth, int count) {
    if (depth > 1)
        co_await yields_below(depth - 1, count);
    else
        co_await yields(count);
}

Coroutine<std::uint64_t> switching(int tasks, int depth, int operations) {
    Loop& loop = co_await running_loop();
    const int each = operations / tasks;
    std::vector<Task<>> running;
    for (int i = 0; i < tasks; ++i)
        running.push_back(
            loop.create_task(depth > 1 ? yields_below(depth - 1, each) : yields(each)));
    co_await all_of(std::move(running));
    co_return static_cast<std::uint64_t>(each) * static_cast<std::uint64_t>(tasks);
}

void switch_tasks(Run& run) {
    measure(run, [&] { return switching(run["tasks"], run["depth"], run["operations"]); });
}

// --- spawn_join

Coroutine<> empty() { co_return; }

Coroutine<std::uint64_t> spawns(int operations) {
    Loop& loop = co_await running_loop();
    for (int i = 0; i < operations; ++i)
        co_await loop.create_task(empty());
    co_return operations;
}

void spawn_join(Run& run) {
    measure(run, [&] { return spawns(run["operations"]); });
}

// --- gather

Coroutine<int> number(int n) { co_return n; }

Coroutine<std::uint64_t> gathers(int width, int operations) {
    Loop& loop = co_await running_loop();
    std::uint64_t done = 0;
    std::uint64_t sum = 0;
    while (done < static_cast<std::uint64_t>(operations)) {
        std::vector<Future<int>> children;
        for (int i = 0; i < width; ++i)
            children.push_back(loop.create_task(number(i)));
        const std::vector<int> numbers = co_await gather(loop, std::move(children));
        for (int n : numbers)
            sum += static_cast<std::uint64_t>(n);
        done += static_cast<std::uint64_t>(width);
    }
    co_return sum > 0 ? done : 0;
}

void gather_children(Run& run) {
    measure(run, [&] { return gathers(run["width"], run["operations"]); });
}

// --- timers

Coroutine<> sleeps(int seed, int count) {
    Random random{seed};
    for (int i = 0; i < count; ++i) {
        const std::chrono::microseconds limit{random.below(designs::longest_sleep_us)};
        const std::chrono::microseconds time{random.below(designs::longest_sleep_us)};
        try {
            co_await timeout(limit, sleep(time));
        } catch (const TimeoutError&) {} // as often as not
    }
}

Coroutine<std::uint64_t> storm(int tasks, int operations) {
    Loop& loop = co_await running_loop();
    const int each = operations / tasks;
    std::vector<Task<>> running;
    for (int i = 0; i < tasks; ++i)
        running.push_back(loop.create_task(sleeps(i, each)));
    co_await all_of(std::move(running));
    co_return static_cast<std::uint64_t>(each) * static_cast<std::uint64_t>(tasks);
}

void timers(Run& run) {
    measure(run, [&] { return storm(run["tasks"], run["operations"]); });
}

// --- limit

Coroutine<std::uint64_t> limits(int operations) {
    Loop& loop = co_await running_loop();
    for (int i = 0; i < operations; ++i)
        co_await wait_for(nop(loop), 10s);
    co_return operations;
}

void limit(Run& run) {
    measure(run, [&] { return limits(run["operations"]); });
}

// --- cancel

Coroutine<> waits(Event& never_set) { co_await never_set.wait(); }

Coroutine<std::uint64_t> cancels(int tasks) {
    Loop& loop = co_await running_loop();
    Event never_set{loop};
    std::vector<Task<>> waiting;
    for (int i = 0; i < tasks; ++i)
        waiting.push_back(loop.create_task(waits(never_set)));
    co_await sleep(0s);
    for (Task<>& task : waiting) {
        task.cancel();
        try {
            co_await task;
        } catch (const CancelledError&) {}
    }
    co_return tasks;
}

void cancel(Run& run) {
    measure(run, [&] { return cancels(run["tasks"]); });
}

// --- lock

Coroutine<> locks(Lock& lock, int count) {
    for (int i = 0; i < count; ++i) {
        const Lock::Held held = co_await lock.hold();
        co_await sleep(0s);
    }
}

Coroutine<std::uint64_t> contention(int tasks, int operations) {
    Loop& loop = co_await running_loop();
    const int each = operations / tasks;
    Lock lock;
    std::vector<Task<>> running;
    for (int i = 0; i < tasks; ++i)
        running.push_back(loop.create_task(locks(lock, each)));
    co_await all_of(std::move(running));
    co_return static_cast<std::uint64_t>(each) * static_cast<std::uint64_t>(tasks);
}

void lock(Run& run) {
    measure(run, [&] { return contention(run["tasks"], run["operations"]); });
}

// --- queue

Coroutine<> answers(Queue<int>& from, Queue<int>& to) {
    for (;;) {
        const int n = co_await from.get();
        co_await to.put(n + 1);
    }
}

Coroutine<std::uint64_t> ping_pong(int operations) {
    Loop& loop = co_await running_loop();
    Queue<int> ping{loop, 1};
    Queue<int> pong{loop, 1};
    Task<> other = loop.create_task(answers(ping, pong));
    int n = 0;
    while (n < operations / 2) {
        co_await ping.put(n);
        n = co_await pong.get();
    }
    other.cancel();
    co_await wait(std::vector<Future<void>>{other});
    co_return 2 * static_cast<std::uint64_t>(n);
}

void queue(Run& run) {
    measure(run, [&] { return ping_pong(run["operations"]); });
}

// --- nop

Coroutine<> nops(int count) {
    Loop& loop = co_await running_loop();
    for (int i = 0; i < count; ++i)
        co_await nop(loop);
}

Coroutine<std::uint64_t> all_nops(int tasks, int operations) {
    Loop& loop = co_await running_loop();
    const int each = operations / tasks;
    std::vector<Task<>> running;
    for (int i = 0; i < tasks; ++i)
        running.push_back(loop.create_task(nops(each)));
    co_await all_of(std::move(running));
    co_return static_cast<std::uint64_t>(each) * static_cast<std::uint64_t>(tasks);
}

void nop_program(Run& run) {
    measure(run, [&] { return all_nops(run["tasks"], run["operations"]); });
}

// --- pipe

constexpr std::size_t message_bytes = 64;

struct Pipe {
    Socket reader;
    Socket writer;
};

Pipe open_pipe(Loop& loop) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
        throw std::system_error(errno, std::system_category(), "pipe");
    return {Socket{loop, ends[0]}, Socket{loop, ends[1]}};
}

Coroutine<> sends_back(Socket from, Socket to) {
    const Buffer message{message_bytes};
    while (const std::size_t n = co_await pipe_read_into(from, message))
        co_await pipe_write_all(to, message.bytes().first(n));
}

Coroutine<std::uint64_t> pipe_ping_pong(int operations) {
    Loop& loop = co_await running_loop();
    Pipe there = open_pipe(loop);
    Pipe back = open_pipe(loop);
    Task<> other = loop.create_task(sends_back(std::move(there.reader), std::move(back.writer)));
    const Buffer message{message_bytes};
    std::ranges::fill(message.span(), std::byte{});
    for (int i = 0; i < operations / 2; ++i) {
        co_await pipe_write_all(there.writer, message.bytes());
        std::size_t got = 0;
        while (got < message_bytes)
            got += co_await pipe_read_into(back.reader, message.from(got));
    }
    there.writer.close();
    co_await other;
    co_return static_cast<std::uint64_t>(operations) / 2 * 2;
}

void pipe(Run& run) {
    measure(run, [&] { return pipe_ping_pong(run["operations"]); });
}

// --- waiting

Coroutine<std::uint64_t> crowd(Run& run, int tasks) {
    Loop& loop = co_await running_loop();
    Event over{loop};
    std::vector<Task<>> waiting;
    for (int i = 0; i < tasks; ++i)
        waiting.push_back(loop.create_task(waits(over)));
    co_await sleep(0s);
    run.note_memory();
    over.set();
    co_await all_of(std::move(waiting));
    co_return tasks;
}

void waiting(Run& run) {
    measure(run, [&] { return crowd(run, run["tasks"]); }, Run::Warm::no);
}

// --- echo

class EchoProtocol final : public Protocol {
public:
    void connection_made(Transport& transport) override { transport_ = &transport; }
    void data_received(Bytes data) override { transport_->write(std::move(data)); }
    void pause_writing() override { transport_->pause_reading(); }
    void resume_writing() override { transport_->resume_reading(); }

private:
    Transport* transport_ = nullptr;
};

// --- http

class HttpProtocol final : public Protocol {
public:
    void connection_made(Transport& transport) override {
        transport_ = &transport;
        set_limit();
    }
    void data_received(Bytes data) override {
        if (request_.empty() && data.text().ends_with(end)) { // as a rule it comes at once
            answer();
            return;
        }
        request_ += data.text();
        if (request_.size() > request_max)
            return transport_->abort();
        if (request_.ends_with(end))
            answer();
    }
    void connection_lost(const std::exception_ptr&) override { limit_.cancel(); }
    void pause_writing() override { transport_->pause_reading(); }
    void resume_writing() override { transport_->resume_reading(); }

private:
    static constexpr std::string_view end = "\r\n\r\n";
    static constexpr std::size_t request_max = 4096;

    void answer() {
        request_.clear();
        transport_->write(Bytes::of_static(designs::http_answer));
        set_limit();
    }
    /// For the next request.
    void set_limit() {
        limit_.cancel();
        limit_ = transport_->loop().call_later(5s, [this] { transport_->abort(); });
    }

    Transport* transport_ = nullptr;
    std::string request_; ///< what there is of it
    Handle limit_;
};

// --- server

template <class Made>
Coroutine<std::uint64_t> serve(int port) {
    Loop& loop = co_await running_loop();
    Event stopped{loop};
    const SignalHandler on_signal = add_signal_handler(loop, SIGTERM, [&] { stopped.set(); });
    Server server = create_server(
        loop, [] { return std::make_unique<Made>(); },
        trapline::SocketAddress::parse("127.0.0.1:" + std::to_string(port)));
    co_await stopped.wait();
    server.close();
    server.close_clients();
    co_await server.wait_closed();
    co_return 0;
}

void echo(Run& run) {
    measure(run, [&] { return serve<EchoProtocol>(run["port"]); }, Run::Warm::no);
}

void http(Run& run) {
    measure(run, [&] { return serve<HttpProtocol>(run["port"]); }, Run::Warm::no);
}

constexpr designs::Program all[] = {
    {"switch", switch_tasks}, {"spawn_join", spawn_join}, {"gather", gather_children},
    {"timers", timers},       {"limit", limit},           {"cancel", cancel},
    {"lock", lock},           {"queue", queue},           {"nop", nop_program},
    {"pipe", pipe},           {"waiting", waiting},       {"echo", echo},
    {"http", http},
};

} // namespace

const std::span<const designs::Program> designs::programs = all;
