// What the programs in tests/ring share: a check that names itself when it fails, a loop over ring
// modes and sizes, an engine driven by hand, and a way to fault the one system call of a ring.
//
// Each program is its own main: it exits with 0 (passed), 77 (skipped, reason printed) or 1.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <unordered_map>
#include <utility>

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <trapline/kernel/engines/uring.hpp>
#include <trapline/kernel/kernel.hpp>

namespace ring_test {

using namespace trapline;
using namespace std::chrono_literals;

/// What is being tried, for messages; see for_each_ring.
inline char setting[128] = "";

[[noreturn]] inline void fail(const char* file, int line, const char* check, const char* text) {
    std::fprintf(stderr, "%s:%d: %s%s%s: %s\n", file, line, setting, *setting ? ": " : "", text,
                 check);
    std::fflush(nullptr);
    std::_Exit(1); // nothing is torn down: the ring may be in any state
}

/// Ends the program, naming the check and the ring it failed on, unless `condition` holds.
#define CHECK(condition, text)                                       \
    do {                                                             \
        if (!(condition)) [[unlikely]]                               \
            ::ring_test::fail(__FILE__, __LINE__, #condition, text); \
    } while (false)

/// The same for `actual == expected`, showing both.
#define CHECK_EQUAL(actual, expected, text)                                        \
    do {                                                                           \
        const auto is_ = static_cast<long long>(actual);                           \
        const auto wanted_ = static_cast<long long>(expected);                     \
        if (is_ != wanted_) [[unlikely]] {                                         \
            std::fprintf(stderr, "%lld, but expected %lld\n", is_, wanted_);       \
            ::ring_test::fail(__FILE__, __LINE__, #actual " == " #expected, text); \
        }                                                                          \
    } while (false)

[[noreturn]] inline void skip(const char* reason) {
    std::printf("%s\n", reason);
    std::fflush(nullptr);
    std::_Exit(77);
}

/// A lost completion shows as a program that hangs: it ends here and says where.
inline const bool watched = [] {
    signal(SIGALRM, [](int) {
        constexpr char text[] = ": hangs: a completion or a wake-up was lost\n";
        (void)!write(2, setting, std::strlen(setting));
        (void)!write(2, text, sizeof text - 1);
        _exit(1);
    });
    alarm(40);
    return true;
}();

using Mode = UringOptions::Mode;

inline const char* name_of(Mode mode) {
    switch (mode) {
    case Mode::deferred: return "deferred";
    case Mode::cooperative: return "cooperative";
    case Mode::plain: return "plain";
    case Mode::automatic: break;
    }
    return "automatic";
}

/// A ring with just `entries` places and the smallest completion queue that Linux gives it.
inline UringOptions ring_of(unsigned entries, Mode mode = Mode::automatic) {
    return {.entries = entries, .completions = 1, .entries_min = 1, .mode = mode};
}

/// Calls test(options) for each mode that the running Linux has, and sizes 2, 64 and 4096.
template <class F>
void for_each_ring(F&& test, std::initializer_list<unsigned> sizes = {2, 64, 4096}) {
    int tried = 0;
    for (const Mode mode : {Mode::deferred, Mode::cooperative, Mode::plain}) {
        for (const unsigned size : sizes) {
            const UringOptions options = ring_of(size, mode);
            try {
                (void)make_uring_engine(options);
            } catch (const std::system_error& refusal) {
                std::printf("without %s %u: %s\n", name_of(mode), size, refusal.what());
                continue;
            }
            std::snprintf(setting, sizeof setting, "%s ring of %u", name_of(mode), size);
            test(options);
            setting[0] = 0;
            ++tried;
        }
    }
    if (tried == 0)
        skip("no ring can be had here");
}

/// An engine driven by hand, as a kernel does.
class Driver {
public:
    explicit Driver(const UringOptions& options) : engine(make_uring_engine(options)) {}

    /// Answers whether it is under way; else its result is there.
    bool start(Operation& operation, const traps::IoRequest& request) {
        return start(operation, &requests_.insert_or_assign(&operation, request).first->second);
    }

    /// The same for a request that the caller keeps.
    bool start(Operation& operation, const traps::IoRequest* request) {
        operation.request = request;
        operation.result = 0;
        operation.transferred = 0;
        operation.stopped_by = 0;
        operation.cancel_requested = false;
        const bool under_way = engine->start(operation) == Engine::Started::in_flight;
        under_way_ += under_way;
        return under_way;
    }

    void cancel(Operation& operation) {
        if (came_back(operation))
            return; // as a kernel, which asks only for what is in flight
        if (!std::exchange(operation.cancel_requested, true))
            engine->cancel(operation);
    }

    /// One turn; answers how many came back.
    int turn(TimePoint deadline = TimePoint::min()) {
        OperationList completed;
        engine->wait(deadline, completed);
        int count = 0;
        while (Operation* operation = completed.pop()) {
            CHECK(!operation->task, "an operation was handed back twice");
            operation->task = reinterpret_cast<TaskRecord*>(this); // handed back
            ++count;
        }
        under_way_ -= count;
        CHECK(under_way_ >= 0, "more operations came back than were started");
        return count;
    }

    /// Until `operation` has come back.
    std::int64_t finish(Operation& operation) {
        while (!operation.task)
            turn(never);
        operation.task = nullptr;
        return operation.result;
    }

    /// Starts it and waits for its end.
    std::int64_t run(const traps::IoRequest& request) {
        Operation operation;
        if (!start(operation, request))
            return operation.result;
        return finish(operation);
    }

    static bool came_back(const Operation& operation) { return operation.task != nullptr; }
    int under_way() const { return under_way_; }

    std::unique_ptr<Engine> engine;

private:
    int under_way_ = 0;
    std::unordered_map<Operation*, traps::IoRequest> requests_; // the last one of each operation
};

/// Two connected Unix sockets, or the two ends of a pipe: [0] is read, [1] is written.
struct Pair {
    Pair() = default;
    Pair(Pair&& other) noexcept
        : fd{std::exchange(other.fd[0], -1), std::exchange(other.fd[1], -1)} {}
    ~Pair() {
        close_one(0);
        close_one(1);
    }
    static Pair sockets(int flags = 0) {
        Pair pair;
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0, pair.fd) == 0,
              "socketpair");
        return pair;
    }
    static Pair pipe(int flags = 0) {
        Pair pair;
        CHECK(pipe2(pair.fd, O_CLOEXEC | flags) == 0, "pipe2");
        return pair;
    }
    void close_one(int which) {
        if (fd[which] >= 0)
            ::close(std::exchange(fd[which], -1));
    }
    /// Writes text into fd[1] by a plain system call.
    void put(std::string_view text) const {
        CHECK_EQUAL(write(fd[1], text.data(), text.size()), text.size(), "write to the pair");
    }
    int fd[2] = {-1, -1};
};

/// A TCP listener on a free port of 127.0.0.1, made by plain system calls.
class Listener {
public:
    explicit Listener(int backlog = 64, int flags = 0) {
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
        CHECK(fd >= 0, "socket");
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof address;
        CHECK(bind(fd, where(), length) == 0, "bind");
        CHECK(listen(fd, backlog) == 0, "listen");
        CHECK(getsockname(fd, where(), &length) == 0, "getsockname");
    }
    ~Listener() {
        if (fd >= 0)
            ::close(fd);
    }
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    /// A blocking connect; the connection is in the backlog when it returns.
    int connect() {
        const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK(client >= 0, "socket of a client");
        CHECK(::connect(client, where(), sizeof address) == 0, "connect to the listener");
        return client;
    }
    sockaddr* where() { return reinterpret_cast<sockaddr*>(&address); }

    int fd = -1;
    sockaddr_in address{};
};

/// Descriptors that this process has open.
inline int open_descriptors() {
    int count = 0;
    DIR* directory = opendir("/proc/self/fd");
    CHECK(directory, "opendir /proc/self/fd");
    while (readdir(directory))
        ++count;
    closedir(directory);
    return count - 3; // itself, "." and ".."
}

inline std::span<std::byte> bytes_of(void* data, std::size_t size) {
    return {static_cast<std::byte*>(data), size};
}

template <class F>
bool eventually(F&& condition) {
    for (int i = 0; i < 20'000; ++i) {
        if (condition())
            return true;
        const timespec moment{0, 100'000};
        nanosleep(&moment, nullptr);
    }
    return false;
}

/// Runs `child` in a forked process; answers its wait status and what it wrote to stderr.
struct ChildEnd {
    int status = 0;
    std::string text;
    bool exited_with(int code) const { return WIFEXITED(status) && WEXITSTATUS(status) == code; }
    bool killed_by(int signal) const { return WIFSIGNALED(status) && WTERMSIG(status) == signal; }
};

template <class F>
ChildEnd in_child(F&& child) {
    std::fflush(nullptr);
    int said[2];
    CHECK(pipe2(said, O_CLOEXEC) == 0, "pipe2");
    const pid_t pid = fork();
    CHECK(pid >= 0, "fork");
    if (pid == 0) {
        dup2(said[1], 2);
        alarm(20);
        child();
        std::fflush(nullptr);
        _exit(0);
    }
    ::close(said[1]);
    ChildEnd end;
    char text[512];
    for (;;) {
        const ssize_t n = read(said[0], text, sizeof text);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        end.text.append(text, static_cast<std::size_t>(n));
    }
    ::close(said[0]);
    while (waitpid(pid, &end.status, 0) < 0 && errno == EINTR) {}
    return end;
}

} // namespace ring_test
