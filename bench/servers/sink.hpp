// A TCP connection to a process that reads all that comes, pinned to the load's core: what the
// programs that measure how bytes are best sent send to.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <memory>

#include <csignal>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "measured.hpp"

/// Processor time in nanoseconds.
inline std::uint64_t cpu_ns_of(clockid_t clock) {
    timespec time{};
    clock_gettime(clock, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000u +
           static_cast<std::uint64_t>(time.tv_nsec);
}

class Sink {
public:
    static constexpr int core = 1;

    /// Starts the process. It tells whenever another `report_bytes` have arrived.
    explicit Sink(std::uint64_t report_bytes) : report_bytes_(report_bytes) {
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof at;
        const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (bind(listener, reinterpret_cast<sockaddr*>(&at), size) != 0 ||
            listen(listener, 1) != 0 ||
            getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size) != 0)
            fail("listen", errno);
        process_ = fork();
        if (process_ < 0)
            fail("fork", errno);
        if (process_ == 0)
            drain(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
        close(listener);
        fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const int on = 1;
        if (connect(fd_, reinterpret_cast<sockaddr*>(&at), size) != 0 ||
            setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
            fail("connect", errno);
        if (clock_getcpuclockid(process_, &clock_) != 0)
            fail("the sink's clock");
    }
    Sink(const Sink&) = delete;
    Sink& operator=(const Sink&) = delete;
    ~Sink() {
        shutdown(fd_, SHUT_RDWR);
        waitpid(process_, nullptr, 0);
    }

    /// The connection to it. Whoever closes it takes it over.
    int fd() const { return fd_; }

    /// Waits until it has all, after so many bytes were sent.
    void wait_for_report() const {
        char byte = 0;
        for (;;) {
            const ssize_t n = recv(fd_, &byte, 1, 0);
            if (n == 1)
                return;
            if (n < 0 && errno == EAGAIN)
                usleep(100);
            else if (n == 0 || errno != EINTR)
                fail("the sink has gone", n < 0 ? errno : 0);
        }
    }

    /// What it has used of its processor.
    std::uint64_t cpu_ns() const { return cpu_ns_of(clock_); }

private:
    [[noreturn]] void drain(int fd) const {
        cpu_set_t cores;
        CPU_ZERO(&cores);
        CPU_SET(core, &cores);
        sched_setaffinity(0, sizeof cores, &cores);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        constexpr std::size_t room = 256 * 1024;
        const auto buffer = std::make_unique_for_overwrite<char[]>(room);
        std::uint64_t left = report_bytes_;
        for (;;) {
            const ssize_t n = recv(fd, buffer.get(), room, 0);
            if (n <= 0)
                std::_Exit(0);
            for (left -= static_cast<std::uint64_t>(n); static_cast<std::int64_t>(left) <= 0;
                 left += report_bytes_)
                send(fd, "", 1, MSG_NOSIGNAL);
        }
    }

    std::uint64_t report_bytes_;
    pid_t process_ = -1;
    int fd_ = -1;
    clockid_t clock_{};
};

/// A row of a RESULT: what a byte costs, sent in that way and size, in picoseconds.
struct Cost {
    std::uint64_t bytes;
    const char* way;
    double sender_ps;
    double sink_ps;
};

/// Runs `send`, which sends `total` bytes, and takes the processor time of both sides.
template <class Send>
Cost cost_of(const Sink& sink, std::uint64_t bytes, const char* way, std::uint64_t total,
             Send send) {
    const std::uint64_t sender = cpu_ns_of(CLOCK_PROCESS_CPUTIME_ID);
    const std::uint64_t receiver = sink.cpu_ns();
    send();
    sink.wait_for_report();
    const auto each = [&](std::uint64_t before, std::uint64_t after) {
        return static_cast<double>(after - before) * 1e3 / static_cast<double>(total);
    };
    return {bytes, way, each(sender, cpu_ns_of(CLOCK_PROCESS_CPUTIME_ID)),
            each(receiver, sink.cpu_ns())};
}

/// The RESULT line of a program that measures costs, for as long as it lives.
class Costs {
public:
    void add(const Cost& cost) {
        std::printf("%8llu B, %-20s %6.0f ps a byte; the sink %6.0f\n",
                    static_cast<unsigned long long>(cost.bytes), cost.way, cost.sender_ps,
                    cost.sink_ps);
        rows_ += (rows_.empty() ? "" : ", ");
        rows_ += "{\"bytes\": " + std::to_string(cost.bytes) + ", \"way\": \"" + cost.way +
                 "\", \"cpu_ps\": " + std::to_string(cost.sender_ps) +
                 ", \"sink_ps\": " + std::to_string(cost.sink_ps) + "}";
    }
    void print() const {
        const ProcessorTime now = ProcessorTime::of(getpid());
        const auto wall_ns = static_cast<double>(now_ns() - start_ns_);
        std::printf("RESULT {\"rows\": [%s], \"waited_percent\": %.2f, "
                    "\"stolen_percent\": %.2f}\n",
                    rows_.c_str(),
                    static_cast<double>(now.waited_ns - start_.waited_ns) / wall_ns * 100,
                    static_cast<double>(now.stolen_ns - start_.stolen_ns) / wall_ns * 100);
    }

private:
    std::string rows_;
    std::uint64_t start_ns_ = now_ns();
    ProcessorTime start_ = ProcessorTime::of(getpid());
};
