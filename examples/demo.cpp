// The same coroutines, driven in every way there is: a countdown and an echo server with its
// clients, on the io_uring kernel, on the loop of own_loop.hpp, and by hand with Routine. Neither
// is compiled twice nor knows the difference.
#include <cstdio>
#include <ctime>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <sys/socket.h>

#include <trapline/trapline.hpp>

#include "echo.hpp"
#include "own_loop.hpp"
#include "rockets.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

constexpr unsigned clients = 64;
constexpr unsigned messages = 100'000;
constexpr Duration tick = 100ms;

/// How many messages the client of this number exchanges, so that all make `messages`.
constexpr unsigned share(unsigned client) {
    return messages / clients + (client < messages % clients ? 1 : 0);
}

struct Outcome {
    std::uint64_t traps = 0;
    std::optional<std::uint64_t> system_calls;
};

// --- on the kernel -------------------------------------------------------------------------

Coro<void> launch_site() {
    std::vector<Task<Duration>> rockets;
    rockets.push_back(co_await spawn(countdown("Ariane", 5, 0, tick)));
    rockets.push_back(co_await spawn(countdown("Soyuz", 3, 2, tick)));
    rockets.push_back(co_await spawn(countdown("Falcon", 4, 1, tick)));
    for (const Task<Duration>& rocket : rockets)
        co_await rocket.join();
}

Coro<void> serve(TcpListener& listener) {
    for (;;)
        co_await spawn(echo(co_await listener.accept()));
}

Coro<void> client(SocketAddress server, unsigned number) {
    co_await exchange(co_await TcpStream::connect(server), number, share(number));
}

Coro<void> server_and_clients() {
    TcpListener listener = co_await TcpListener::bind(SocketAddress::parse("127.0.0.1:0"));
    auto serving = co_await spawn(serve(listener));
    std::vector<Task<void>> running;
    for (unsigned number = 0; number < clients; ++number)
        running.push_back(co_await spawn(client(listener.local_address(), number)));
    for (const Task<void>& task : running)
        co_await task.join();
    co_await serving.cancel();
}

Outcome on_kernel(Coro<void> main) {
    Kernel kernel;
    kernel.run(std::move(main));
    kernel.shutdown();
    return {kernel.counters().traps, kernel.counters().engine.system_calls};
}

// --- on a loop of its own ------------------------------------------------------------------

Outcome countdown_on_own_loop() {
    OwnLoop<Duration> loop;
    loop.launch(countdown("Ariane", 5, 0, tick));
    loop.launch(countdown("Soyuz", 3, 2, tick));
    loop.launch(countdown("Falcon", 4, 1, tick));
    loop.run();
    return {loop.traps(), {}};
}

// --- by hand -------------------------------------------------------------------------------

/// One rocket at a time, in a time of our own that does not wait for anybody.
Outcome countdown_by_hand() {
    Outcome outcome;
    for (const auto& [rocket, count, delay] :
         {std::tuple("Ariane", 5, 0), std::tuple("Soyuz", 3, 2), std::tuple("Falcon", 4, 1)}) {
        TimePoint time{};
        Routine<Duration> routine{countdown(rocket, count, delay, tick)};
        for (const Trap* trap = routine.start(); trap; trap = routine.send(Reply::time(time))) {
            if (const auto* sleep = std::get_if<traps::Sleep>(trap))
                time += sleep->duration;
            ++outcome.traps;
        }
        if (routine.result() != (count + delay) * tick)
            throw std::runtime_error("the countdown took another time than it should");
    }
    return outcome;
}

/// Answers a request by its plain system call; nothing if that would have to wait.
std::optional<Reply> try_now(const traps::IoRequest& request, std::size_t& done) {
    const auto reply = [](ssize_t result) { return Reply{result < 0 ? -errno : result}; };
    if (const auto* shutdown = std::get_if<traps::Shutdown>(&request))
        return reply(::shutdown(shutdown->fd, shutdown->how));
    ssize_t result = -1;
    std::size_t wanted = 1;
    if (const auto* recv = std::get_if<traps::Recv>(&request)) {
        result = ::recv(recv->fd, static_cast<char*>(recv->data) + done, recv->size - done,
                        MSG_DONTWAIT);
        wanted = recv->flags & MSG_WAITALL ? recv->size : 1;
    } else if (const auto* send = std::get_if<traps::Send>(&request)) {
        result = ::send(send->fd, static_cast<const char*>(send->data) + done, send->size - done,
                        MSG_DONTWAIT | MSG_NOSIGNAL);
        wanted = send->size;
    } else {
        return Reply{-ENOSYS};
    }
    if (result < 0)
        return errno == EAGAIN ? std::nullopt : std::optional(reply(-1));
    done += static_cast<std::size_t>(result);
    if (result > 0 && done < wanted)
        return std::nullopt;
    return Reply{static_cast<std::int64_t>(done)};
}

/// All ends in turn: whoever's request can be done goes on.
Outcome echo_by_hand() {
    struct End {
        explicit End(Coro<void> coro) : routine(std::move(coro)) {}
        Routine<void> routine;
        const Trap* trap = nullptr;
        std::size_t done = 0;
    };
    std::vector<std::unique_ptr<End>> ends;
    for (unsigned number = 0; number < clients; ++number) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
            throw std::system_error(errno, std::system_category(), "socketpair");
        ends.push_back(std::make_unique<End>(echo({Descriptor{pair[0]}, {}})));
        ends.push_back(
            std::make_unique<End>(exchange({Descriptor{pair[1]}, {}}, number, share(number))));
    }
    Outcome outcome{.system_calls = 0};
    for (const auto& end : ends)
        end->trap = end->routine.start();
    for (std::size_t running = ends.size(); running > 0;) {
        running = 0;
        for (const auto& end : ends) {
            if (!end->trap)
                continue;
            ++running;
            ++*outcome.system_calls;
            const auto* io = std::get_if<traps::Io>(end->trap);
            const auto reply = io ? try_now(io->request, end->done) : Reply{-ENOSYS};
            if (!reply)
                continue;
            ++outcome.traps;
            end->done = 0;
            end->trap = end->routine.send(*reply);
        }
    }
    for (const auto& end : ends)
        end->routine.result();
    return outcome;
}

// --- the table -----------------------------------------------------------------------------

double seconds(clockid_t clock) {
    timespec time{};
    clock_gettime(clock, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

std::string measure(const char* program, const char* driver, const std::function<Outcome()>& drive,
                    unsigned messages_sent = 0) {
    std::printf("\n-- %s, %s\n", program, driver);
    const double start = seconds(CLOCK_MONOTONIC);
    const double cpu_start = seconds(CLOCK_PROCESS_CPUTIME_ID);
    const Outcome outcome = drive();
    const double time = seconds(CLOCK_MONOTONIC) - start;
    const double cpu_time = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_start;
    std::string calls = "-";
    char text[160];
    if (outcome.system_calls && messages_sent > 0) {
        std::snprintf(text, sizeof text, "%.2f",
                      static_cast<double>(*outcome.system_calls) / messages_sent);
        calls = text;
    }
    std::printf("done\n");
    std::snprintf(text, sizeof text, "%-31s %-18s %9llu %8.3f s %8.3f s %11.0f %14s\n", program,
                  driver, static_cast<unsigned long long>(outcome.traps), time, cpu_time,
                  cpu_time * 1e9 / static_cast<double>(outcome.traps), calls.c_str());
    return text;
}

} // namespace

int main() {
    try {
        const std::string echoing =
            "echo, " + std::to_string(clients) + " clients, " + std::to_string(messages) + " msgs";
        std::string table;
        table += measure("countdown", "io_uring kernel", [] { return on_kernel(launch_site()); });
        table += measure("countdown", "own loop", countdown_on_own_loop);
        table += measure("countdown", "by hand", countdown_by_hand);
        table += measure(
            echoing.c_str(), "io_uring kernel", [] { return on_kernel(server_and_clients()); },
            messages);
        table += measure(echoing.c_str(), "by hand", echo_by_hand, messages);
        std::printf("\n%-31s %-18s %9s %10s %10s %11s %14s\n%s", "what ran", "driven by", "traps",
                    "time", "CPU time", "CPU ns/trap", "sys calls/msg", table.c_str());
        std::printf("\nkernel: %s\n", Kernel{}.describe().c_str());
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "demo: %s\n", failure.what());
        return 1;
    }
}
