// The echo server of examples/echo.cpp as the comparison runs it: until SIGTERM or SIGINT, and
// without a word about its clients.
//
//     server_echo 127.0.0.1:25000 [--counters]
#include <array>
#include <cstdio>
#include <exception>
#include <string_view>

#include <trapline/trapline.hpp>

using namespace trapline;

namespace {

Coro<void> echo(TcpStream client) {
    std::array<std::byte, 4096> buffer;
    while (std::size_t n = co_await client.recv(buffer))
        co_await client.send_all(std::span(buffer).first(n));
}

Coro<void> serve(TcpListener& listener) {
    for (;;)
        co_await spawn(echo(co_await listener.accept()));
}

Coro<void> server(SocketAddress at) {
    SignalSet stop{SIGINT, SIGTERM};
    TcpListener listener = co_await TcpListener::bind(at);
    auto serving = co_await spawn(serve(listener));
    co_await stop.next();
    co_await serving.cancel();
}

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
        Kernel kernel;
        kernel.run(server(SocketAddress::parse(argc > 1 ? argv[1] : "127.0.0.1:25000")));
        if (argc > 2 && std::string_view(argv[2]) == "--counters")
            print(kernel.counters());
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "server_echo: %s\n", failure.what());
        return 1;
    }
}
