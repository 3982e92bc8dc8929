// The programs in the trap design: as a user of this library writes them.
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <unistd.h>

#include <trapline/trapline.hpp>

#include "../program.hpp"

using namespace trapline;
using namespace std::chrono_literals;
using designs::Random;
using designs::Run;

namespace {

/// Runs what `main` answers, on a kernel with io_uring.
template <class Main>
void measure(Run& run, Main main, Run::Warm warm = Run::Warm::yes) {
    Kernel kernel{{.engine = "uring"}};
    run.measure([&] { return kernel.counters().engine.system_calls; },
                [&] { return kernel.run(main()); }, warm);
}

// --- switch

Coro<> yields(int count) {
    for (int i = 0; i < count; ++i)
        co_await yield_now();
}

Coro<> yields_below(int depth, int count) {
    if (depth > 1)
        co_await yields_below(depth - 1, count);
    else
        co_await yields(count);
}

Coro<std::uint64_t> switching(int tasks, int depth, int operations) {
    const int each = operations / tasks;
    std::vector<Task<>> running;
    for (int i = 0; i < tasks; ++i)
        running.push_back(co_await spawn(depth > 1 ? yields_below(depth - 1, each) : yields(each)));
    for (const Task<>& task : running)
        co_await task.join();
    co_return static_cast<std::uint64_t>(each) * static_cast<std::uint64_t>(tasks);
}

void switch_tasks(Run& run) {
    measure(run, [&] { return switching(run["tasks"], run["depth"], run["operations"]); });
}

// --- spawn_join

Coro<> empty() { co_return; }

Coro<std::uint64_t> spawns(int operations) {
    for (int i = 0; i < operations; ++i) {
        auto task = co_await spawn(empty());
        co_await task.join();
    }
    co_return operations;
}

void spawn_join(Run& run) {
    measure(run, [&] { return spawns(run["operations"]); });
}

// --- gather

Coro<int> number(int n) { co_return n; }

Coro<std::uint64_t> gathers(int width, int operations) {
    std::uint64_t done = 0;
    std::uint64_t sum = 0;
    while (done < static_cast<std::uint64_t>(operations)) {
        std::vector<Coro<int>> children;
        for (int i = 0; i < width; ++i)
            children.push_back(number(i));
        for (int n : co_await gather(std::move(children)))
            sum += static_cast<std::uint64_t>(n);
        done += static_cast<std::uint64_t>(width);
    }
    co_return sum > 0 ? done : 0;
}

void gather_children(Run& run) {
    measure(run, [&] { return gathers(run["width"], run["operations"]); });
}

// --- timers

Coro<> sleeps(int seed, int count) {
    Random random{seed};
    for (int i = 0; i < count; ++i) {
        const std::chrono::microseconds limit{random.below(designs::longest_sleep_us)};
        co_await ignore_after(
            limit, sleep(std::chrono::microseconds{random.below(designs::longest_sleep_us)}));
    }
}

Coro<std::uint64_t> storm(int tasks, int operations) {
    const int each = operations / tasks;
    std::vector<Task<>> running;
    for (int i = 0; i < tasks; ++i)
        running.push_back(co_await spawn(sleeps(i, each)));
    for (const Task<>& task : running)
        co_await task.join();
    co_return static_cast<std::uint64_t>(each) * static_cast<std::uint64_t>(tasks);
}

void timers(Run& run) {
    measure(run, [&] { return storm(run["tasks"], run["operations"]); });
}

// --- limit

Coro<std::uint64_t> limits(int operations) {
    for (int i = 0; i < operations; ++i)
        co_await timeout_after(10s, traps::nop());
    co_return operations;
}

void limit(Run& run) {
    measure(run, [&] { return limits(run["operations"]); });
}

// --- cancel

Coro<> waits(Event& never_set) { co_await never_set.wait(); }

Coro<std::uint64_t> cancels(int tasks) {
    Event never_set;
    std::vector<Task<>> waiting;
    for (int i = 0; i < tasks; ++i)
        waiting.push_back(co_await spawn(waits(never_set)));
    co_await yield_now();
    for (Task<>& task : waiting)
        co_await task.cancel();
    co_return tasks;
}

void cancel(Run& run) {
    measure(run, [&] { return cancels(run["tasks"]); });
}

// --- lock

Coro<> locks(Lock& lock, int count) {
    for (int i = 0; i < count; ++i) {
        auto held = co_await lock.hold();
        co_await yield_now();
    }
}

Coro<std::uint64_t> contention(int tasks, int operations) {
    const int each = operations / tasks;
    Lock lock;
    std::vector<Task<>> running;
    for (int i = 0; i < tasks; ++i)
        running.push_back(co_await spawn(locks(lock, each)));
    for (const Task<>& task : running)
        co_await task.join();
    co_return static_cast<std::uint64_t>(each) * static_cast<std::uint64_t>(tasks);
}

void lock(Run& run) {
    measure(run, [&] { return contention(run["tasks"], run["operations"]); });
}

// --- queue

Coro<> answers(Queue<int>& from, Queue<int>& to) {
    while (const std::optional<int> n = co_await from.next())
        co_await to.put(*n + 1);
}

Coro<std::uint64_t> ping_pong(int operations) {
    Queue<int> ping{1};
    Queue<int> pong{1};
    auto other = co_await spawn(answers(ping, pong));
    int n = 0;
    while (n < operations / 2) {
        co_await ping.put(n);
        n = co_await pong.get();
    }
    ping.close();
    co_await other.join();
    co_return 2 * static_cast<std::uint64_t>(n);
}

void queue(Run& run) {
    measure(run, [&] { return ping_pong(run["operations"]); });
}

// --- nop

Coro<> nops(int count) {
    for (int i = 0; i < count; ++i)
        co_await traps::nop();
}

Coro<std::uint64_t> all_nops(int tasks, int operations) {
    const int each = operations / tasks;
    std::vector<Task<>> running;
    for (int i = 0; i < tasks; ++i)
        running.push_back(co_await spawn(nops(each)));
    for (const Task<>& task : running)
        co_await task.join();
    co_return static_cast<std::uint64_t>(each) * static_cast<std::uint64_t>(tasks);
}

void nop(Run& run) {
    measure(run, [&] { return all_nops(run["tasks"], run["operations"]); });
}

// --- pipe

using Message = std::array<std::byte, 64>;

Coro<> sends_back(PipeReader from, PipeWriter to) {
    Message message;
    while (std::size_t n = co_await from.recv(message))
        co_await to.send_all(std::span(message).first(n));
}

Coro<std::uint64_t> pipe_ping_pong(int operations) {
    Pipe there = co_await Pipe::open();
    Pipe back = co_await Pipe::open();
    auto other = co_await spawn(sends_back(std::move(there.reader), std::move(back.writer)));
    Message message{};
    for (int i = 0; i < operations / 2; ++i) {
        co_await there.writer.send_all(message);
        std::size_t got = 0;
        while (got < message.size())
            got += co_await back.reader.recv(std::span(message).subspan(got));
    }
    co_await there.writer.close();
    co_await other.join();
    co_return static_cast<std::uint64_t>(operations) / 2 * 2;
}

void pipe(Run& run) {
    measure(run, [&] { return pipe_ping_pong(run["operations"]); });
}

// --- waiting

Coro<std::uint64_t> crowd(Run& run, int tasks) {
    Event over;
    std::vector<Task<>> waiting;
    for (int i = 0; i < tasks; ++i)
        waiting.push_back(co_await spawn(waits(over)));
    co_await yield_now();
    run.note_memory();
    over.set();
    for (const Task<>& task : waiting)
        co_await task.join();
    co_return tasks;
}

void waiting(Run& run) {
    measure(run, [&] { return crowd(run, run["tasks"]); }, Run::Warm::no);
}

// --- echo

Coro<> echo_client(TcpStream client) {
    std::array<std::byte, 4096> buffer;
    while (std::size_t n = co_await client.recv(buffer))
        co_await client.send_all(std::span(buffer).first(n));
}

// --- server

Coro<> accepts(TcpListener& listener, Coro<> (*handler)(TcpStream)) {
    for (;;)
        co_await spawn(handler(co_await listener.accept()), {.daemon = true});
}

Coro<std::uint64_t> server(int port, Coro<> (*handler)(TcpStream)) {
    SignalSet stop{SIGTERM};
    TcpListener listener =
        co_await TcpListener::bind(SocketAddress::parse("127.0.0.1:" + std::to_string(port)));
    auto accepting = co_await spawn(accepts(listener, handler));
    co_await stop.next();
    co_await accepting.cancel();
    co_return 0;
}

void echo(Run& run) {
    measure(run, [&] { return server(run["port"], echo_client); }, Run::Warm::no);
}

// --- http

Coro<> http_client(TcpStream client) {
    std::array<char, 4096> buffer;
    std::size_t filled = 0;
    while (std::size_t n = co_await timeout_after(
               5s, client.recv(std::as_writable_bytes(std::span(buffer).subspan(filled))))) {
        filled += n;
        if (!std::string_view(buffer.data(), filled).ends_with("\r\n\r\n"))
            continue;
        co_await client.send_all(std::as_bytes(std::span(designs::http_answer)));
        filled = 0;
    }
}

void http(Run& run) {
    measure(run, [&] { return server(run["port"], http_client); }, Run::Warm::no);
}

constexpr designs::Program all[] = {
    {"switch", switch_tasks}, {"spawn_join", spawn_join}, {"gather", gather_children},
    {"timers", timers},       {"limit", limit},           {"cancel", cancel},
    {"lock", lock},           {"queue", queue},           {"nop", nop},
    {"pipe", pipe},           {"waiting", waiting},       {"echo", echo},
    {"http", http},
};

} // namespace

const std::span<const designs::Program> designs::programs = all;
