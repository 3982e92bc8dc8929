// The echo server of examples/echo.cpp as the comparison runs it: until SIGTERM or SIGINT, and
// without a word about its clients.
//
//     server_echo 127.0.0.1:25000 [--receive] [--epoll] [--inside] [--record] [--counters]
//
// With --receive it takes what comes in lent buffers. With --epoll it runs on that engine. With
// --inside its kernel lives in another loop: one around epoll that does nothing else, or Asio's
// (server_echo_asio). With --record it is recorded, into a file in memory that is gone with it.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <unistd.h>

#include <trapline/trapline.hpp>

#ifdef ASIO_STANDALONE
#include <asio.hpp>
#else
#include <sys/epoll.h>
#endif

using namespace trapline;

namespace {

Coro<void> echo(TcpStream client) {
    std::array<std::byte, 4096> buffer;
    while (std::size_t n = co_await client.recv(buffer))
        co_await client.send_all(std::span(buffer).first(n));
}

Coro<void> echo_lent(TcpStream client) {
    while (const BufferLease data = co_await client.receive())
        co_await client.send_all(data);
}

Coro<void> serve(TcpListener& listener, bool lent) {
    for (;;) {
        TcpStream client = co_await listener.accept();
        if (lent)
            co_await spawn(echo_lent(std::move(client)));
        else
            co_await spawn(echo(std::move(client)));
    }
}

Coro<void> server(SocketAddress at, bool lent) {
    SignalSet stop{SIGINT, SIGTERM};
    TcpListener listener = co_await TcpListener::bind(at);
    auto serving = co_await spawn(serve(listener, lent));
    co_await stop.next();
    co_await serving.cancel();
}

#ifdef ASIO_STANDALONE

void turn_when_readable(asio::posix::stream_descriptor& descriptor, Kernel& kernel,
                        const Task<>& main) {
    descriptor.async_wait(asio::posix::descriptor_base::wait_read, [&](asio::error_code) {
        kernel.run_once();
        if (!main.terminated())
            turn_when_readable(descriptor, kernel, main);
    });
}

void run_inside(Kernel& kernel, Coro<void> main) {
    const Task<> task = kernel.spawn(std::move(main));
    asio::io_context loop{1};
    asio::posix::stream_descriptor descriptor{loop, kernel.pollable_fd()};
    turn_when_readable(descriptor, kernel, task);
    loop.run();
    descriptor.release();
    task.result();
}

#else

void run_inside(Kernel& kernel, Coro<void> main) {
    const Task<> task = kernel.spawn(std::move(main));
    const Descriptor loop{epoll_create1(EPOLL_CLOEXEC)};
    epoll_event event{};
    event.events = EPOLLIN;
    if (epoll_ctl(loop.get(), EPOLL_CTL_ADD, kernel.pollable_fd(), &event) != 0)
        throw std::system_error(errno, std::system_category(), "epoll_ctl");
    while (!task.terminated()) {
        if (epoll_wait(loop.get(), &event, 1, -1) == 1)
            kernel.run_once();
    }
    task.result();
}

#endif

void print(const Kernel::Counters& counters) {
    std::printf("traps %llu, turns %llu, tasks %llu, operations %llu, system calls %llu\n",
                static_cast<unsigned long long>(counters.traps),
                static_cast<unsigned long long>(counters.turns),
                static_cast<unsigned long long>(counters.spawned),
                static_cast<unsigned long long>(counters.engine.operations),
                static_cast<unsigned long long>(counters.engine.system_calls));
}

} // namespace

int main(int argc, char** argv) {
    try {
        const std::vector<std::string_view> options(argv + std::min(argc, 2), argv + argc);
        const auto has = [&](std::string_view o) {
            return std::ranges::find(options, o) != options.end();
        };
        KernelOptions kernel_options{.engine = has("--epoll") ? "epoll" : ""};
        if (has("--record")) {
            kernel_options.record = "/dev/shm/server_echo-" + std::to_string(::getpid());
            std::atexit([] {
                std::remove(("/dev/shm/server_echo-" + std::to_string(::getpid())).c_str());
            });
        }
        Kernel kernel{kernel_options};
        const char* at = argc > 1 ? argv[1] : "127.0.0.1:25000";
        Coro<void> main = server(SocketAddress::parse(at), has("--receive"));
        if (has("--inside"))
            run_inside(kernel, std::move(main));
        else
            kernel.run(std::move(main));
        if (has("--counters"))
            print(kernel.counters());
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "server_echo: %s\n", failure.what());
        return 1;
    }
}
