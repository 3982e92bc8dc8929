// A kernel inside Asio, on one thread: both sides make progress, either may cancel and stop the
// other, and neither keeps the processor busy when there is nothing to do.
#include <array>
#include <chrono>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <asio.hpp>
#include <doctest/doctest.h>
#include <poll.h>
#include <sys/resource.h>

#include <trapline/trapline.hpp>

#include "../support/engines.hpp"
#include "../support/leaks.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

/// A loop of Asio's, and a kernel that it runs a turn of when the descriptor is readable.
struct Host {
    explicit Host(const KernelOptions& options = {}) : kernel(std::in_place, options) {
        descriptor.assign(kernel->pollable_fd());
        wait();
    }
    ~Host() { leave(); }

    void wait() {
        descriptor.async_wait(asio::posix::descriptor_base::wait_read, [this](asio::error_code e) {
            if (e)
                return;
            ++turns;
            kernel->run_once();
            if (kernel)
                wait();
        });
    }

    /// Takes the kernel out of the loop, and destroys it.
    void leave() {
        if (descriptor.is_open())
            descriptor.release();
        kernel.reset();
    }

    /// Runs the loop until the task has ended, or for so long.
    void run_until_ended(const Task<>& task) {
        const auto end = std::chrono::steady_clock::now() + 20s;
        while (!task.terminated() && std::chrono::steady_clock::now() < end)
            loop.run_one_for(1s);
        CHECK(task.terminated());
    }

    bool told() {
        pollfd at{kernel->pollable_fd(), POLLIN, 0};
        return ::poll(&at, 1, 0) == 1;
    }

    asio::io_context loop{1};
    std::optional<Kernel> kernel;
    asio::posix::stream_descriptor descriptor{loop};
    int turns = 0;
};

template <class Body>
void each_host(Body body) {
    for (const test::EngineChoice& engine : test::engines()) {
        INFO("engine: " << engine.name);
        const test::LeakGuard guard;
        Host host{engine.options};
        body(host);
    }
}

/// Ticks until it is destroyed.
struct Ticker {
    explicit Ticker(asio::io_context& loop) : timer(loop) { tick(); }

    void tick() {
        timer.expires_after(1ms);
        timer.async_wait([this](asio::error_code e) {
            if (!e)
                ++ticks, tick();
        });
    }

    int ticks = 0;
    asio::steady_timer timer;
};

using Acceptor = asio::ip::tcp::acceptor;
using Socket = asio::ip::tcp::socket;

/// A connection that Asio echoes on; it keeps itself alive.
struct EchoOfAsio : std::enable_shared_from_this<EchoOfAsio> {
    explicit EchoOfAsio(Socket&& client) : socket(std::move(client)) {}

    void go_on() {
        socket.async_read_some(asio::buffer(data),
                               [self = shared_from_this()](asio::error_code e, std::size_t n) {
                                   if (e)
                                       return;
                                   asio::async_write(self->socket, asio::buffer(self->data, n),
                                                     [self](asio::error_code failed, std::size_t) {
                                                         if (!failed)
                                                             self->go_on();
                                                     });
                               });
    }

    Socket socket;
    std::array<char, 64> data{};
};

void echo_one(Acceptor& acceptor) {
    acceptor.async_accept([](asio::error_code e, Socket client) {
        if (!e)
            std::make_shared<EchoOfAsio>(std::move(client))->go_on();
    });
}

SocketAddress address_of(std::uint16_t port) {
    return SocketAddress::parse("127.0.0.1:" + std::to_string(port));
}

Coro<int> asks(std::uint16_t port, int rounds) {
    TcpStream stream = co_await TcpStream::connect(address_of(port));
    int echoed = 0;
    for (; echoed < rounds; ++echoed) {
        const std::string word = "round " + std::to_string(echoed);
        std::string back(word.size(), ' ');
        co_await stream.send_all(std::as_bytes(std::span(word)));
        co_await stream.recv_exactly(std::as_writable_bytes(std::span(back)));
        if (back != word)
            co_return -1;
        co_await sleep(1ms);
    }
    co_return echoed;
}

Coro<void> echo(TcpStream client) {
    std::array<std::byte, 4096> buffer;
    while (const std::size_t n = co_await client.recv(buffer))
        co_await client.send_all(std::span(buffer).first(n));
}

Coro<void> serves(std::optional<TcpListener>& listener, Event& listening) {
    listener = co_await TcpListener::bind(SocketAddress::parse("127.0.0.1:0"), {.backlog = 1024});
    listening.set();
    for (;;)
        co_await spawn(echo(co_await listener->accept()));
}

std::uint64_t cpu_ns() {
    timespec time{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000u +
           static_cast<std::uint64_t>(time.tv_nsec);
}

} // namespace

TEST_CASE("timers and sockets of Asio's and tasks of ours make progress side by side") {
    each_host([](Host& host) {
        Ticker ticker{host.loop};
        Acceptor acceptor{host.loop, {asio::ip::address_v4::loopback(), 0}};
        echo_one(acceptor);
        int naps = 0;
        const Task<> napper = host.kernel->spawn([&]() -> Coro<void> {
            for (;; ++naps)
                co_await sleep(1ms);
        });
        const Task<int> client = host.kernel->spawn(asks(acceptor.local_endpoint().port(), 10));
        host.run_until_ended(client);
        CHECK(client.result() == 10);
        CHECK(naps > 2);
        CHECK(ticker.ticks > 2);
    });
}

TEST_CASE("a thousand connections of Asio's to a server of ours, in one loop") {
    const test::LeakGuard guard;
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    rlimit more = files;
    more.rlim_cur = std::min<rlim_t>(files.rlim_max, 4096);
    setrlimit(RLIMIT_NOFILE, &more);
    {
        constexpr int connections = 1000;
        constexpr int rounds = 5;
        Host host;
        std::optional<TcpListener> listener;
        Event listening;
        const Task<> server = host.kernel->spawn(serves(listener, listening));
        host.run_until_ended(
            host.kernel->spawn([&]() -> Coro<void> { co_await listening.wait(); }));
        const asio::ip::tcp::endpoint at{asio::ip::address_v4::loopback(),
                                         listener->local_address().port()};
        struct Client {
            explicit Client(asio::io_context& loop) : socket(loop) {}
            void ask(int& echoed, int left) {
                if (left == 0)
                    return socket.close();
                asio::async_write(socket, asio::buffer(word),
                                  [&echoed, left, this](asio::error_code e, std::size_t) {
                                      if (!e)
                                          read(echoed, left);
                                  });
            }
            void read(int& echoed, int left) {
                asio::async_read(socket, asio::buffer(back),
                                 [&echoed, left, this](asio::error_code e, std::size_t) {
                                     echoed += !e && back == word;
                                     ask(echoed, left - 1);
                                 });
            }
            Socket socket;
            std::array<char, 4> word{'p', 'i', 'n', 'g'};
            std::array<char, 4> back{};
        };
        std::vector<std::unique_ptr<Client>> clients;
        int echoed = 0;
        for (int i = 0; i < connections; ++i) {
            clients.push_back(std::make_unique<Client>(host.loop));
            Client& client = *clients.back();
            client.socket.async_connect(at, [&](asio::error_code e) {
                if (!e)
                    client.ask(echoed, rounds);
            });
        }
        const auto end = std::chrono::steady_clock::now() + 60s;
        while ((echoed < connections * rounds || host.kernel->task_count() > 1) &&
               std::chrono::steady_clock::now() < end)
            host.loop.run_one_for(1s);
        CHECK(echoed == connections * rounds);
        CHECK(host.kernel->task_count() == 1);
        CHECK(host.turns < 3 * connections * rounds);
        CHECK(host.kernel->cancel(server));
        host.run_until_ended(server);
    }
    setrlimit(RLIMIT_NOFILE, &files);
}

TEST_CASE("Asio's side cancels a task of ours, and a task of ours an operation of Asio's") {
    each_host([](Host& host) {
        bool timer_cancelled = false;
        asio::steady_timer theirs{host.loop, 1h};
        theirs.async_wait(
            [&](asio::error_code e) { timer_cancelled = e == asio::error::operation_aborted; });
        const Task<> ours = host.kernel->spawn([&]() -> Coro<void> {
            try {
                co_await sleep(1h);
            } catch (const TaskCancelled&) {
                theirs.cancel();
                throw;
            }
        });
        asio::steady_timer soon{host.loop, 2ms};
        soon.async_wait([&](asio::error_code) { CHECK(host.kernel->cancel(ours)); });
        host.run_until_ended(ours);
        CHECK(ours.cancelled());
        host.loop.poll();
        CHECK(timer_cancelled);
    });
}

TEST_CASE("a task of ours stops Asio's loop") {
    each_host([](Host& host) {
        const Task<> ours = host.kernel->spawn([&]() -> Coro<void> {
            co_await sleep(2ms);
            host.loop.stop();
        });
        Ticker ticker{host.loop};
        host.loop.run();
        CHECK(ours.terminated());
    });
}

TEST_CASE("a handler of Asio's shuts the kernel down, or destroys it, with all in flight") {
    for (const bool destroys : {false, true}) {
        each_host([&](Host& host) {
            bool cleaned_up = false;
            const Task<> ours = host.kernel->spawn([&]() -> Coro<void> {
                std::optional<TcpListener> listener =
                    co_await TcpListener::bind(SocketAddress::parse("127.0.0.1:0"));
                try {
                    (void)co_await listener->accept();
                } catch (const TaskCancelled&) {
                    cleaned_up = true;
                    throw;
                }
            });
            asio::steady_timer soon{host.loop, 2ms};
            soon.async_wait([&](asio::error_code) {
                if (destroys)
                    host.leave();
                else
                    host.kernel->shutdown();
            });
            host.run_until_ended(ours);
            CHECK(ours.cancelled());
            CHECK(cleaned_up);
            host.loop.poll();
        });
    }
}

TEST_CASE("threads wake tasks of ours while Asio waits; Asio's posted work sets our events") {
    each_host([](Host& host) {
        Event event;
        const Task<int> ours = host.kernel->spawn([&]() -> Coro<int> {
            int sum = 0;
            for (int i = 0; i < 20; ++i)
                sum += co_await run_in_thread([] { return 1; });
            co_await event.wait();
            co_return sum;
        });
        const std::jthread thread{[&] { asio::post(host.loop, [&event] { event.set(); }); }};
        host.run_until_ended(ours);
        CHECK(ours.result() == 20);
    });
}

TEST_CASE("with nothing to do nobody turns: the loop waits, and timers of ours fire all the same") {
    each_host([](Host& host) {
        const Task<> ours = host.kernel->spawn([]() -> Coro<void> { co_await sleep(60ms); });
        const Task<TimePoint> late = host.kernel->spawn([] { return sleep(1h); });
        host.loop.run_for(20ms); // what is to be done at once
        const int turns = host.turns;
        const auto calls = host.kernel->counters().engine.system_calls;
        const std::uint64_t cpu = cpu_ns();
        host.loop.run_for(30ms);
        CHECK(host.turns <= turns + 1); // on a busy machine the sleep may be over
        CHECK(host.kernel->counters().engine.system_calls <= calls + 2);
        CHECK(cpu_ns() - cpu < 15'000'000);
        host.run_until_ended(ours);
        host.loop.run_for(1ms);
        CHECK_FALSE(host.told());
        CHECK(host.turns <= turns + 3);
        CHECK(host.kernel->cancel(late));
        host.run_until_ended(late);
    });
}

TEST_CASE("what a task throws is the host's to ask for, and stops no loop") {
    each_host([](Host& host) {
        const Task<> ours = host.kernel->spawn([]() -> Coro<void> {
            co_await sleep(1ms);
            throw std::runtime_error("on purpose");
        });
        host.run_until_ended(ours);
        CHECK_THROWS_AS(ours.result(), TaskError);
    });
}
