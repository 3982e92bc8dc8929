// A kernel inside Asio: one thread, one io_context. A timer of Asio's ticks, and a socket of Asio's
// answers how often, while tasks of ours echo what anybody sends them. Control-C ends both sides.
//
//     asio_loop [ADDRESS]     of the echo, by default 127.0.0.1:25000
#include <array>
#include <chrono>
#include <csignal>
#include <exception>
#include <iostream>
#include <string>

#include <asio.hpp>
#include <trapline/trapline.hpp>

using namespace trapline;
using namespace std::chrono_literals;

/// All it takes: Asio waits for the kernel's descriptor, and has it run a turn.
class KernelInAsio {
public:
    explicit KernelInAsio(asio::io_context& loop) : descriptor_(loop, kernel.pollable_fd()) {
        wait();
    }
    ~KernelInAsio() { descriptor_.release(); } // it stays the kernel's

    Kernel kernel;

private:
    void wait() {
        descriptor_.async_wait(asio::posix::descriptor_base::wait_read, [this](asio::error_code e) {
            if (e)
                return;
            kernel.run_once();
            wait();
        });
    }

    asio::posix::stream_descriptor descriptor_;
};

// --- ours: an echo server --------------------------------------------------------------------

Coro<void> echo(TcpStream client) {
    std::array<std::byte, 4096> buffer;
    while (const std::size_t n = co_await client.recv(buffer))
        co_await client.send_all(std::span(buffer).first(n));
}

Coro<void> serve_echo(SocketAddress at, int clock_port) {
    TcpListener listener = co_await TcpListener::bind(at);
    std::cout << "echo on " << listener.local_address().to_string() << ", the time on port "
              << clock_port << std::endl;
    for (;;)
        co_await spawn(echo(co_await listener.accept()), {.daemon = true});
}

// --- Asio's: a clock ---------------------------------------------------------------------------

int ticks = 0;

void tick(asio::steady_timer& timer) {
    timer.expires_after(100ms);
    timer.async_wait([&](asio::error_code e) {
        if (!e)
            ++ticks, tick(timer);
    });
}

void tell_time(asio::ip::tcp::acceptor& acceptor) {
    acceptor.async_accept([&](asio::error_code e, asio::ip::tcp::socket client) {
        if (e)
            return;
        asio::write(client, asio::buffer(std::to_string(ticks) + " ticks\n"), e);
        tell_time(acceptor);
    });
}

void serve(const SocketAddress& at) {
    asio::io_context loop;
    asio::steady_timer timer{loop};
    tick(timer);
    asio::ip::tcp::acceptor clock{loop, {asio::ip::address_v4::loopback(), 0}};
    tell_time(clock);

    KernelInAsio inside{loop};
    const Task<> server = inside.kernel.spawn(serve_echo(at, clock.local_endpoint().port()));
    inside.kernel.spawn([&]() -> Coro<void> {
        co_await server.wait(); // it only ends when it could not listen
        loop.stop();
    });

    asio::signal_set signals{loop, SIGINT, SIGTERM};
    signals.async_wait([&](asio::error_code, int) { loop.stop(); });
    loop.run();
    if (server.terminated())
        server.result();      // throws what went wrong
    inside.kernel.shutdown(); // cancels what is left, and waits for it
    std::cout << "bye" << std::endl;
}

int main(int argc, char** argv) {
    try {
        serve(SocketAddress::parse(argc > 1 ? argv[1] : "127.0.0.1:25000"));
    } catch (const std::exception& failure) {
        std::cerr << "asio_loop: " << failure.what() << std::endl;
        return 1;
    }
}
