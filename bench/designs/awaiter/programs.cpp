// The programs in the awaiter design: as somebody who likes it writes them.
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <csignal>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <trapline/io/descriptor.hpp>
#include <trapline/kernel/engines/uring.hpp>

#include "../program.hpp"
#include "io.hpp"
#include "linked_timeout.hpp"
#include "scheduler.hpp"
#include "scopes.hpp"
#include "sync.hpp"

using namespace awaiter_design;
using namespace std::chrono_literals;
using designs::Random;
using designs::Run;
using trapline::Descriptor;

namespace {

/// Runs what `main` answers, on io_uring.
template <class Main>
void measure(Run& run, Main main, Run::Warm warm = Run::Warm::yes) {
    Scheduler scheduler{trapline::make_uring_engine({})};
    run.measure([&] { return scheduler.engine().counters().system_calls; },
                [&] { return scheduler.run(main()); }, warm);
}

// --- switch

Task<> yields(int count) {
    for (int i = 0; i < count; ++i)
        co_await yield();
}

Task<> yields_below(int depth, int count) {
    if (depth > 1)
        co_await yields_below(depth - 1, count);
    else
        co_await yields(count);
}

Task<std::uint64_t> switching(int tasks, int depth, int operations) {
    Scheduler& here = co_await scheduler();
    const int each = operations / tasks;
    std::vector<JoinHandle<>> running;
    for (int i = 0; i < tasks; ++i)
        running.push_back(here.spawn(depth > 1 ? yields_below(depth - 1, each) : yields(each)));
    for (const JoinHandle<>& task : running)
        co_await task.join();
    co_return static_cast<std::uint64_t>(each) * static_cast<std::uint64_t>(tasks);
}

void switch_tasks(Run& run) {
    measure(run, [&] { return switching(run["tasks"], run["depth"], run["operations"]); });
}

// --- spawn_join

Task<> empty() { co_return; }

Task<std::uint64_t> spawns(int operations) {
    Scheduler& here = co_await scheduler();
    for (int i = 0; i < operations; ++i) {
        const auto task = here.spawn(empty());
        co_await task.join();
    }
    co_return operations;
}

void spawn_join(Run& run) {
    measure(run, [&] { return spawns(run["operations"]); });
}

// --- gather

Task<int> number(int n) { co_return n; }

Task<std::uint64_t> gathers(int width, int operations) {
    std::uint64_t done = 0;
    std::uint64_t sum = 0;
    while (done < static_cast<std::uint64_t>(operations)) {
        std::vector<Task<int>> children;
        for (int i = 0; i < width; ++i)
            children.push_back(number(i));
        for (int n : co_await when_all(std::move(children)))
            sum += static_cast<std::uint64_t>(n);
        done += static_cast<std::uint64_t>(width);
    }
    co_return sum > 0 ? done : 0;
}

void gather_children(Run& run) {
    measure(run, [&] { return gathers(run["width"], run["operations"]); });
}

// --- timers

Task<> sleeps(int seed, int count) {
    Random random{seed};
    for (int i = 0; i < count; ++i) {
        const std::chrono::microseconds limit{random.below(designs::longest_sleep_us)};
        co_await timeout(limit,
                         sleep(std::chrono::microseconds{random.below(designs::longest_sleep_us)}));
    }
}

Task<std::uint64_t> storm(int tasks, int operations) {
    Scheduler& here = co_await scheduler();
    const int each = operations / tasks;
    std::vector<JoinHandle<>> running;
    for (int i = 0; i < tasks; ++i)
        running.push_back(here.spawn(sleeps(i, each)));
    for (const JoinHandle<>& task : running)
        co_await task.join();
    co_return static_cast<std::uint64_t>(each) * static_cast<std::uint64_t>(tasks);
}

void timers(Run& run) {
    measure(run, [&] { return storm(run["tasks"], run["operations"]); });
}

// --- limit

Task<std::uint64_t> limits(int operations) {
    for (int i = 0; i < operations; ++i)
        co_await timeout(10s, nop());
    co_return operations;
}

void limit(Run& run) {
    measure(run, [&] { return limits(run["operations"]); });
}

// --- cancel

Task<> waits(Event& event) { co_await event.wait(); }

Task<std::uint64_t> cancels(int tasks) {
    Scheduler& here = co_await scheduler();
    Event never_set;
    std::vector<JoinHandle<>> waiting;
    for (int i = 0; i < tasks; ++i)
        waiting.push_back(here.spawn(waits(never_set)));
    co_await yield();
    for (const JoinHandle<>& task : waiting) {
        task.request_stop();
        try {
            co_await task.join();
        } catch (const Stopped&) {}
    }
    co_return tasks;
}

void cancel(Run& run) {
    measure(run, [&] { return cancels(run["tasks"]); });
}

// --- lock

Task<> locks(Mutex& mutex, int count) {
    for (int i = 0; i < count; ++i) {
        const auto held = co_await mutex.lock();
        co_await yield();
    }
}

Task<std::uint64_t> contention(int tasks, int operations) {
    Scheduler& here = co_await scheduler();
    const int each = operations / tasks;
    Mutex mutex;
    std::vector<JoinHandle<>> running;
    for (int i = 0; i < tasks; ++i)
        running.push_back(here.spawn(locks(mutex, each)));
    for (const JoinHandle<>& task : running)
        co_await task.join();
    co_return static_cast<std::uint64_t>(each) * static_cast<std::uint64_t>(tasks);
}

void lock(Run& run) {
    measure(run, [&] { return contention(run["tasks"], run["operations"]); });
}

// --- queue

Task<> answers(Queue<int>& from, Queue<int>& to) {
    while (const std::optional<int> n = co_await from.get())
        co_await to.put(*n + 1);
}

Task<std::uint64_t> ping_pong(int operations) {
    Queue<int> ping{1};
    Queue<int> pong{1};
    const auto other = (co_await scheduler()).spawn(answers(ping, pong));
    int n = 0;
    while (n < operations / 2) {
        co_await ping.put(n);
        n = *co_await pong.get();
    }
    ping.close();
    co_await other.join();
    co_return 2 * static_cast<std::uint64_t>(n);
}

void queue(Run& run) {
    measure(run, [&] { return ping_pong(run["operations"]); });
}

// --- nop

Task<> nops(int count) {
    for (int i = 0; i < count; ++i)
        co_await nop();
}

Task<std::uint64_t> all_nops(int tasks, int operations) {
    Scheduler& here = co_await scheduler();
    const int each = operations / tasks;
    std::vector<JoinHandle<>> running;
    for (int i = 0; i < tasks; ++i)
        running.push_back(here.spawn(nops(each)));
    for (const JoinHandle<>& task : running)
        co_await task.join();
    co_return static_cast<std::uint64_t>(each) * static_cast<std::uint64_t>(tasks);
}

void nop_operations(Run& run) {
    measure(run, [&] { return all_nops(run["tasks"], run["operations"]); });
}

// --- pipe

using Message = std::array<std::byte, 64>;

struct Pipe {
    Descriptor reader;
    Descriptor writer;
    static Pipe open() {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0)
            throw std::system_error(errno, std::system_category(), "pipe");
        return {Descriptor{ends[0]}, Descriptor{ends[1]}};
    }
};

Task<> write_all(int fd, std::span<const std::byte> data) {
    while (!data.empty())
        data = data.subspan(co_await write(fd, data));
}

Task<> sends_back(Descriptor from, Descriptor to) {
    Message message;
    while (std::size_t n = co_await read(from.get(), message))
        co_await write_all(to.get(), std::span(message).first(n));
}

Task<std::uint64_t> pipe_ping_pong(int operations) {
    Pipe there = Pipe::open();
    Pipe back = Pipe::open();
    const auto other =
        (co_await scheduler()).spawn(sends_back(std::move(there.reader), std::move(back.writer)));
    Message message{};
    for (int i = 0; i < operations / 2; ++i) {
        co_await write_all(there.writer.get(), message);
        std::size_t got = 0;
        while (got < message.size())
            got += co_await read(back.reader.get(), std::span(message).subspan(got));
    }
    there.writer = {};
    co_await other.join();
    co_return static_cast<std::uint64_t>(operations) / 2 * 2;
}

void pipe(Run& run) {
    measure(run, [&] { return pipe_ping_pong(run["operations"]); });
}

// --- waiting

Task<std::uint64_t> crowd(Run& run, int tasks) {
    Scheduler& here = co_await scheduler();
    Event over;
    std::vector<JoinHandle<>> waiting;
    for (int i = 0; i < tasks; ++i)
        waiting.push_back(here.spawn(waits(over)));
    co_await yield();
    run.note_memory();
    over.set();
    for (const JoinHandle<>& task : waiting)
        co_await task.join();
    co_return tasks;
}

void waiting(Run& run) {
    measure(run, [&] { return crowd(run, run["tasks"]); }, Run::Warm::no);
}

// --- echo

Task<> echo_client(Descriptor client) {
    std::array<std::byte, 4096> buffer;
    while (std::size_t n = co_await recv(client.get(), buffer))
        co_await send_all(client.get(), std::span(buffer).first(n));
}

// --- server

Descriptor listen_at(int port) {
    Descriptor listener{::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    const int yes = 1;
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(static_cast<std::uint16_t>(port));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (!listener ||
        ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0 ||
        ::listen(listener.get(), SOMAXCONN) != 0)
        throw std::system_error(errno, std::system_category(), "listen");
    return listener;
}

Task<> accepts(Descriptor listener, Task<> (*handler)(Descriptor)) {
    Scheduler& here = co_await scheduler();
    for (;;)
        (void)here.spawn(handler(Descriptor{static_cast<int>(co_await accept(listener.get()))}));
}

Task<std::uint64_t> server(int port, Task<> (*handler)(Descriptor)) {
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigprocmask(SIG_BLOCK, &stop, nullptr);
    const Descriptor signals{::signalfd(-1, &stop, SFD_NONBLOCK | SFD_CLOEXEC)};
    const auto accepting = (co_await scheduler()).spawn(accepts(listen_at(port), handler));
    co_await readable(signals.get());
    co_return 0;
}

void echo(Run& run) {
    measure(run, [&] { return server(run["port"], echo_client); }, Run::Warm::no);
}

// --- http

Task<> http_client(Descriptor client) {
    std::array<char, 4096> buffer;
    std::size_t filled = 0;
    for (;;) {
        const auto free = std::as_writable_bytes(std::span(buffer).subspan(filled));
        const std::optional<std::size_t> n = co_await timeout(5s, recv(client.get(), free));
        if (!n || *n == 0)
            co_return;
        filled += *n;
        if (!std::string_view(buffer.data(), filled).ends_with("\r\n\r\n"))
            continue;
        co_await send_all(client.get(), std::as_bytes(std::span(designs::http_answer)));
        filled = 0;
    }
}

void http(Run& run) {
    measure(run, [&] { return server(run["port"], http_client); }, Run::Warm::no);
}

constexpr designs::Program all[] = {
    {"switch", switch_tasks},
    {"spawn_join", spawn_join},
    {"gather", gather_children},
    {"timers", timers},
    {"limit", limit},
    {"cancel", cancel},
    {"lock", lock},
    {"queue", queue},
    {"nop", nop_operations},
    {"pipe", pipe},
    {"waiting", waiting},
    {"echo", echo},
    {"http", http},
    {"limit_linked", limit_linked},
};

} // namespace

const std::span<const designs::Program> designs::programs = all;
