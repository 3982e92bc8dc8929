#include <trapline/io/activation.hpp>

#include <array>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <trapline/io/buffered_reader.hpp>
#include <trapline/io/server.hpp>
#include <trapline/io/tcp.hpp>
#include <trapline/io/unix.hpp>
#include <trapline/kernel/kernel.hpp>

#include "../support/leaks.hpp"
#include "../support/process.hpp"
#include "../support/sockets.hpp"

using namespace trapline;
using namespace trapline::test;
using namespace std::chrono_literals;

namespace {

Coro<TcpListener> listener(SocketAddress otherwise) {
    for (InheritedSocket& passed : inherited_sockets())
        if (passed.name == "web") // FileDescriptorName= of the .socket unit
            co_return TcpListener{std::move(passed.socket)};
    co_return co_await TcpListener::bind(otherwise);
}

const SocketAddress any_port = SocketAddress::ipv4("127.0.0.1", 0);

/// The environment as a service manager leaves it; null: not set.
struct Variables {
    const char* fds = "1";
    const char* names = nullptr;
    const char* pid = "own";
};

void set_or_unset(const char* name, const char* value) {
    if (value)
        ::setenv(name, value, 1);
    else
        ::unsetenv(name);
}

/// Runs `body` in a forked child, to which `passed` are passed as systemd does it.
template <class F>
std::string activated(const std::vector<int>& passed, Variables variables, F body) {
    constexpr int above = 20;
    std::vector<Descriptor> held; // nothing else that the child needs lies where they go
    std::vector<Descriptor> out_of_the_way;
    for (const int fd : passed)
        out_of_the_way.emplace_back(must(::fcntl(fd, F_DUPFD_CLOEXEC, above), "dup"));
    do
        held.emplace_back(must(::dup(0), "dup"));
    while (held.back().get() < above);
    return in_child([&]() -> std::string {
        for (int fd = 3; fd < above; ++fd)
            ::close(fd);
        for (std::size_t at = 0; at < passed.size(); ++at)
            must(::dup2(out_of_the_way[at].get(), 3 + static_cast<int>(at)), "dup2");
        const std::string own = std::to_string(::getpid());
        const bool to_itself = variables.pid && std::string_view(variables.pid) == "own";
        set_or_unset("LISTEN_PID", to_itself ? own.c_str() : variables.pid);
        set_or_unset("LISTEN_FDS", variables.fds);
        set_or_unset("LISTEN_FDNAMES", variables.names);
        return body();
    });
}

/// What is answered in such a child: each socket's descriptor and name; or the complaint.
std::string passed_to_child(Variables variables, std::size_t count) {
    const Ends ends = socket_pair();
    return activated(std::vector<int>(count, ends.a.get()), variables, []() -> std::string {
        std::string text;
        try {
            for (const InheritedSocket& passed : inherited_sockets()) {
                const bool closes = ::fcntl(passed.socket.get(), F_GETFD) == FD_CLOEXEC;
                text += std::to_string(passed.socket.get()) + "=" + passed.name +
                        (closes ? " " : " stays open in children, ");
            }
        } catch (const std::system_error& failure) {
            text = failure.what();
        }
        for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"})
            if (::getenv(name))
                text += std::string(name) + " is left";
        return text;
    });
}

/// A descriptor, and the number that it has in a program that is started.
struct Passed {
    int from;
    int to;
};

/// A program, killed when this goes, if it has not ended before.
class Started {
public:
    explicit Started(std::vector<std::string> command, const std::vector<Passed>& passed = {}) {
        std::vector<char*> arguments;
        for (std::string& word : command)
            arguments.push_back(word.data());
        arguments.push_back(nullptr);
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        for (const Passed& at : passed)
            ::posix_spawn_file_actions_adddup2(&actions, at.from, at.to);
        failure_ =
            ::posix_spawnp(&pid_, arguments[0], &actions, nullptr, arguments.data(), environ);
        ::posix_spawn_file_actions_destroy(&actions);
    }
    Started(const Started&) = delete;
    Started& operator=(const Started&) = delete;
    ~Started() {
        if (failure_ == 0 && !ended_) {
            ::kill(pid_, SIGKILL);
            (void)wait();
        }
    }

    /// Why it could not be started, an errno; or 0.
    int failure() const noexcept { return failure_; }

    /// Its exit status, as waitpid() has it.
    int wait() {
        int status = 0;
        must(::waitpid(pid_, &status, 0), "waitpid");
        ended_ = true;
        return status;
    }

private:
    pid_t pid_ = 0;
    int failure_ = 0;
    bool ended_ = false;
};

std::string own_path() {
    std::string path(4096, '\0');
    path.resize(static_cast<std::size_t>(
        must(::readlink("/proc/self/exe", path.data(), path.size()), "readlink")));
    return path;
}

/// How this program is asked to run `role`, the name of one of the cases.
std::vector<std::string> command_for(const std::string& role) {
    return {own_path(), "--test-case=" + role, "--no-skip", "--minimal"};
}

} // namespace

TEST_CASE("a socket that is passed is used, and without one the server listens itself") {
    const LeakGuard guard;
    const Descriptor socket = tcp_listener();
    const std::string expected = "127.0.0.1:" + std::to_string(port_of(socket.get()));
    const auto address = [] {
        return run([]() -> Coro<std::string> {
            const TcpListener made = co_await listener(any_port);
            co_return made.local_address().to_string();
        });
    };
    CHECK(activated({socket.get(), socket.get()}, {.fds = "2", .names = "admin:web"}, address) ==
          expected);
    CHECK(activated({socket.get()}, {.names = "other"}, address) != expected);
    CHECK(activated({}, {.fds = nullptr, .pid = nullptr}, address).starts_with("127.0.0.1:"));
}

TEST_CASE("sockets come in order with their names, close on exec, and the environment is cleaned") {
    CHECK(passed_to_child({.fds = "3", .names = "a:web:c"}, 3) == "3=a 4=web 5=c ");
    CHECK(passed_to_child({.fds = "2", .names = ":"}, 2) == "3= 4= ");
    CHECK(passed_to_child({.fds = "2"}, 3) == "3=unknown 4=unknown ");
}

TEST_CASE("what is meant for another process, or for none, is ignored") {
    CHECK(passed_to_child({.pid = "1"}, 1) == "");
    CHECK(passed_to_child({.names = "a", .pid = nullptr}, 1) == "");
    CHECK(passed_to_child({.fds = nullptr, .names = "a"}, 1) == "");
    CHECK(passed_to_child({.fds = "nonsense", .pid = "1"}, 1) == "");
}

TEST_CASE("variables that make no sense are an error that says which, and nothing is taken") {
    const auto refused = [](const std::string& what) {
        return "inherited sockets: " + what + ": Invalid argument";
    };
    for (const char* fds : {"two", "", "0", "-1", "1 ", " 1", "0x1", "99999999999", "2147483647"})
        CHECK(passed_to_child({.fds = fds}, 1) ==
              refused("LISTEN_FDS is \"" + std::string(fds) + "\""));
    for (const char* pid : {"me", "", "0", "-5", "12 "})
        CHECK(passed_to_child({.pid = pid}, 1) ==
              refused("LISTEN_PID is \"" + std::string(pid) + "\""));
    CHECK(passed_to_child({.fds = "2", .names = "a"}, 2) == refused("1 names for 2 descriptors"));
    CHECK(passed_to_child({.fds = "2", .names = "a:b:"}, 2) ==
          refused("3 names for 2 descriptors"));
    CHECK(passed_to_child({.fds = "3"}, 2) ==
          "inherited sockets: descriptor 5: Bad file descriptor");
    CHECK(passed_to_child({.fds = "2000000000"}, 2) ==
          "inherited sockets: descriptor 5: Bad file descriptor");
}

TEST_CASE("the environment may be left as it is") {
    const Ends ends = socket_pair();
    CHECK(activated({ends.a.get()}, {.names = "it"}, []() -> std::string {
              std::string text;
              for (InheritedSocket& passed : inherited_sockets({.unset_environment = false}))
                  text += passed.name + std::to_string(passed.socket.release());
              for (const InheritedSocket& again : inherited_sockets())
                  text += again.name + std::to_string(again.socket.get());
              return text + std::to_string(inherited_sockets().size());
          }) == "it3it30");
}

TEST_CASE("what does not listen makes no listener") {
    const Ends ends = socket_pair();
    CHECK(activated({ends.a.get()}, {}, [] {
              return run([]() -> Coro<std::string> {
                  std::vector<InheritedSocket> passed = inherited_sockets();
                  try {
                      const UnixListener listener{std::move(passed.at(0).socket)};
                  } catch (const std::system_error& failure) {
                      co_return failure.what();
                  }
                  co_return "";
              });
          }) == "take-over of unix:, where nothing listens: Invalid argument");
}

// --- started by others ---------------------------------------------------------------------

TEST_CASE("role: a service that is started for its first client" * doctest::skip()) {
    run([]() -> Coro<void> {
        std::vector<InheritedSocket> passed = inherited_sockets();
        REQUIRE(passed.size() == 1);
        UnixListener listener{std::move(passed[0].socket)};
        UnixStream client = co_await timeout_after(20s, listener.accept());
        co_await client.send_all("hello from " + passed[0].name + "\n");
    });
}

TEST_CASE("a service is started by systemd's own tool, for its first client") {
    const LeakGuard guard;
    char directory[] = "/tmp/trapline-activation-XXXXXX";
    must(::mkdtemp(directory) ? 0 : -1, "mkdtemp");
    const std::string path = std::string(directory) + "/socket";
    Ends said = pipe_ends();
    std::vector<std::string> command{"systemd-socket-activate", "-l", path, "--fdname=greeter"};
    for (std::string& word : command_for("role: a service that is started for its first client"))
        command.push_back(std::move(word));
    {
        Started service{command, {{said.b.get(), STDERR_FILENO}}};
        said.b = {};
        if (service.failure() == ENOENT) {
            MESSAGE("skipped: systemd-socket-activate is not installed");
        } else {
            REQUIRE(service.failure() == 0);
            char line[256]; // it says when it listens
            REQUIRE(::read(said.a.get(), line, sizeof line) > 0);
            sockaddr_un address{};
            address.sun_family = AF_UNIX;
            path.copy(address.sun_path, sizeof address.sun_path - 1);
            const Descriptor client{
                must(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")};
            must(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address),
                 "connect");
            CHECK(read_all(client.get()) == "hello from greeter\n");
            CHECK(service.wait() == 0);
        }
    }
    ::unlink(path.c_str());
    ::rmdir(directory);
}

// --- hand-over to a successor --------------------------------------------------------------

namespace {

constexpr const char* control_variable = "TRAPLINE_TEST_CONTROL";
constexpr const char* generation_variable = "TRAPLINE_TEST_GENERATION";

/// What a server listens at: for its clients, and for its successor.
struct Sockets {
    Descriptor web;
    Descriptor control;

    Sockets(Descriptor w, Descriptor c) noexcept : web(std::move(w)), control(std::move(c)) {}
};

/// From the service manager, or, for one that is started later, from the server that runs now.
Coro<Sockets> take_over(SocketAddress control) {
    std::vector<InheritedSocket> passed = inherited_sockets();
    if (passed.size() == 2 && passed[0].name == "web" && passed[1].name == "control")
        co_return Sockets{std::move(passed[0].socket), std::move(passed[1].socket)};
    UnixStream old = co_await UnixStream::connect(control);
    std::array<std::byte, 1> byte;
    DescriptorMessage message = co_await old.recv_descriptors(byte);
    if (message.descriptors.size() != 2)
        throw std::runtime_error("no sockets came from the old server");
    co_return Sockets{std::move(message.descriptors[0]), std::move(message.descriptors[1])};
}

/// Serves until a successor asks for the sockets.
Coro<void> serve_one_generation(SocketAddress at, std::string number) {
    Sockets sockets = co_await take_over(at);
    UnixListener control{std::move(sockets.control)};
    const Descriptor web{must(::fcntl(sockets.web.get(), F_DUPFD_CLOEXEC, 0), "dup")};
    const auto handler = [number](TcpStream client) -> Coro<void> {
        BufferedReader reader{client};
        if (co_await reader.read_line())
            co_await client.send_all("generation " + number + "\n");
    };
    using Handler = std::remove_const_t<decltype(handler)>;
    Task<> serving = co_await spawn(serve<TcpStream, Handler>, TcpListener{std::move(sockets.web)},
                                    handler, ServerOptions{});
    UnixStream successor = co_await control.accept();
    co_await successor.send_descriptors("x", std::array{web.get(), control.fd()});
    co_await serving.cancel(); // who was accepted is served; who was not waits for the successor
}

/// A client that connects all the time, by a thread of its own.
class Client {
public:
    explicit Client(std::uint16_t port) : thread_([this, port] { work(port); }) {}
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    ~Client() { stop(); }

    void stop() {
        stop_ = true;
        if (thread_.joinable())
            thread_.join();
    }

    /// The newest generation that has answered.
    int newest() const noexcept { return newest_; }
    std::size_t served() const noexcept { return served_; }
    std::string failures() const {
        const std::lock_guard hold{lock_};
        return failures_;
    }

private:
    void work(std::uint16_t port) {
        while (!stop_) {
            try {
                ask_once(port);
            } catch (const std::exception& failure) {
                const std::lock_guard hold{lock_};
                failures_ += std::string(failure.what()) + "; ";
                return;
            }
        }
    }

    void ask_once(std::uint16_t port) {
        const Descriptor socket = tcp_connect(port);
        if (!write_all(socket.get(), "who?\n"))
            throw std::runtime_error("the connection broke");
        std::string answer(64, '\0');
        std::size_t size = 0;
        const timeval patience{20, 0};
        must(::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience),
             "SO_RCVTIMEO");
        for (ssize_t n = 1; n > 0;) {
            n = ::recv(socket.get(), answer.data() + size, answer.size() - size, 0);
            if (n < 0 && errno == EINTR) // what a ring left behind may interrupt a timed wait
                n = 1;
            else
                size += static_cast<std::size_t>(must(n, "recv"));
        }
        answer.resize(size);
        if (!answer.starts_with("generation ") || !answer.ends_with("\n"))
            throw std::runtime_error("answered by \"" + answer + "\"");
        newest_ = std::max(newest_.load(), std::atoi(answer.c_str() + 11));
        ++served_;
    }

    std::atomic<bool> stop_ = false;
    std::atomic<int> newest_ = -1;
    std::atomic<std::size_t> served_ = 0;
    mutable std::mutex lock_;
    std::string failures_;
    std::thread thread_; // last: it uses the above
};

Descriptor unix_listener(const SocketAddress& at) {
    Descriptor socket{must(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")};
    must(::bind(socket.get(), at.data(), at.size()), "bind");
    must(::listen(socket.get(), 8), "listen");
    return socket;
}

/// Plays a successor that wants nothing but the old one's end.
void end_the_last(const SocketAddress& control) {
    const Descriptor socket{must(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")};
    must(::connect(socket.get(), control.data(), control.size()), "connect");
    (void)read_all(socket.get()); // the descriptors are dropped
}

} // namespace

TEST_CASE("role: a generation of a server that is never down" * doctest::skip()) {
    const char* control = ::getenv(control_variable);
    const char* number = ::getenv(generation_variable);
    REQUIRE(control);
    REQUIRE(number);
    run(serve_one_generation(SocketAddress::unix_abstract(control), number));
}

namespace {

/// The first is started as systemd would, the others ask the one before.
std::vector<std::string> generation_command(int number) {
    std::vector<std::string> command =
        command_for("role: a generation of a server that is never down");
    if (number == 0) { // LISTEN_PID is known to the process itself alone
        const std::string script = "export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:control; "
                                   "exec \"$0\" \"$@\"";
        command.insert(command.begin(), {"sh", "-c", script});
    }
    ::setenv(generation_variable, std::to_string(number).c_str(), 1);
    return command;
}

/// Whether a client is answered by that generation within a while.
bool comes_up(int generation, const std::deque<Client>& clients) {
    const auto deadline = std::chrono::steady_clock::now() + 20s;
    while (std::chrono::steady_clock::now() < deadline) {
        for (const Client& client : clients)
            if (client.newest() >= generation)
                return true;
        std::this_thread::sleep_for(1ms);
    }
    return false;
}

} // namespace

TEST_CASE("a server is replaced twenty times under load, and no connection is refused or reset") {
    constexpr int generations = 20;
    const LeakGuard guard;
    const std::string name = "trapline-successors-" + std::to_string(::getpid());
    const SocketAddress control_at = SocketAddress::unix_abstract(name);
    ::setenv(control_variable, name.c_str(), 1);
    std::string failures;
    std::size_t served = 0;
    {
        Descriptor web = tcp_listener();
        Descriptor control = unix_listener(control_at);
        const std::uint16_t port = port_of(web.get());
        // Numbers above those that the child has them at.
        web = Descriptor{must(::fcntl(web.get(), F_DUPFD_CLOEXEC, 20), "dup")};
        control = Descriptor{must(::fcntl(control.get(), F_DUPFD_CLOEXEC, 20), "dup")};
        auto current = std::make_unique<Started>(
            generation_command(0), std::vector<Passed>{{web.get(), 3}, {control.get(), 4}});
        REQUIRE(current->failure() == 0);
        web = {}; // from here on the servers alone keep the sockets
        control = {};
        std::deque<Client> clients;
        for (int n = 0; n < 3; ++n)
            clients.emplace_back(port);
        CHECK(comes_up(0, clients));
        for (int number = 1; number <= generations; ++number) {
            auto successor = std::make_unique<Started>(generation_command(number));
            REQUIRE(successor->failure() == 0);
            CHECK(comes_up(number, clients));
            CHECK(current->wait() == 0);
            current = std::move(successor);
        }
        for (Client& client : clients)
            client.stop();
        end_the_last(control_at);
        CHECK(current->wait() == 0);
        for (const Client& client : clients) {
            failures += client.failures();
            served += client.served();
        }
    }
    CHECK(failures == "");
    CHECK(served > generations);
}
