// The same coroutines, driven in every way there is: a countdown, and an echo server with its
// clients. They are compiled once, as demo_tasks.cpp, and linked with each of these kernels; none
// of them knows the difference.
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>

#include <unistd.h>

#include <future/traps_on_futures.hpp>
#include <trapline/trapline.hpp>

#include "demo_by_hand.hpp"
#include "demo_tasks.hpp"
#include "own_loop.hpp"

using namespace demo;

namespace {

// --- on the kernel, with each of its engines -----------------------------------------------

Outcome on_kernel(KernelOptions options, Coro<void> main) {
    Kernel kernel{std::move(options)};
    kernel.run(std::move(main));
    kernel.shutdown();
    return {kernel.counters().traps, kernel.counters().engine.system_calls};
}

/// A file that goes with the demo.
class Recording {
public:
    explicit Recording(const char* name)
        : path_(std::filesystem::temp_directory_path() /
                ("trapline-demo." + std::to_string(::getpid()) + name)) {}
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;
    ~Recording() { std::filesystem::remove(path_); }

    const std::string& path() const noexcept { return path_; }

private:
    std::string path_;
};

// --- on other loops ------------------------------------------------------------------------

Outcome on_futures(Coro<void> main) {
    future_design::FutureKernel kernel;
    kernel.run(std::move(main));
    kernel.shutdown();
    return {kernel.traps(), kernel.loop().engine().counters().system_calls};
}

Outcome countdown_on_own_loop() {
    OwnLoop<Duration> loop;
    loop.launch(rocket("Ariane", 5, 0));
    loop.launch(rocket("Soyuz", 3, 2));
    loop.launch(rocket("Falcon", 4, 1));
    loop.run();
    return {loop.traps(), {}};
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
        Recording rockets{".rockets"};
        Recording echoes{".echoes"};
        std::string table;
        const auto count_down = [&](const char* driver, const std::function<Outcome()>& drive) {
            table += measure("countdown", driver, drive);
        };
        const auto on = [](const char* engine) {
            return [engine] { return on_kernel({.engine = engine}, launch_site()); };
        };
        count_down("io_uring", on("uring"));
        count_down("epoll", on("epoll"));
        count_down("virtual time", on("simulation"));
        count_down("futures", [] { return on_futures(launch_site()); });
        count_down("own loop", countdown_on_own_loop);
        count_down("by hand", countdown_by_hand);
        count_down("io_uring, recorded", [&] {
            return on_kernel({.engine = "uring", .record = rockets.path()}, launch_site());
        });
        count_down("replay", [&] { return on_kernel({.replay = rockets.path()}, launch_site()); });

        const auto echo = [&](const char* driver, const std::function<Outcome()>& drive,
                              const char* ends = "clients") {
            const std::string program = "echo, " + std::to_string(clients) + " " + ends + ", " +
                                        std::to_string(messages) + " msgs";
            table += measure(program.c_str(), driver, drive, messages);
        };
        const auto serve_on = [](const char* engine) {
            return [engine] { return on_kernel({.engine = engine}, server_and_clients()); };
        };
        echo("io_uring", serve_on("uring"));
        echo("epoll", serve_on("epoll"));
        echo("futures", [] { return on_futures(server_and_clients()); });
        echo("by hand", echo_by_hand, "pairs");
        echo("io_uring, recorded", [&] {
            return on_kernel({.engine = "uring", .record = echoes.path()}, server_and_clients());
        });
        echo("replay", [&] { return on_kernel({.replay = echoes.path()}, server_and_clients()); });
        std::printf("\n%-31s %-18s %9s %10s %10s %11s %14s\n%s", "what ran", "driven by", "traps",
                    "time", "CPU time", "CPU ns/trap", "sys calls/msg", table.c_str());
        std::printf("\nclients: TCP over loopback; pairs: connected Unix sockets, with no server\n"
                    "kernel: %s\n",
                    Kernel{}.describe().c_str());
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "demo: %s\n", failure.what());
        return 1;
    }
}
