// An echo server: any number of clients, until Ctrl-C.
//
//     sh examples/run.sh echo 127.0.0.1:25000
#include <cstdio>

#include <trapline/trapline.hpp>

#include "echo.hpp"

using namespace trapline;

Coro<void> serve(TcpListener& listener) {
    for (;;)
        co_await spawn(echo(co_await listener.accept()));
}

Coro<void> server(SocketAddress at) {
    SignalSet stop{SIGINT, SIGTERM};
    TcpListener listener = co_await TcpListener::bind(at);
    std::printf("echo at %s, Ctrl-C ends it\n", listener.local_address().to_string().c_str());
    std::fflush(stdout);
    auto serving = co_await spawn(serve(listener));
    co_await stop.next();
    co_await serving.cancel(); // clients that are still there are cancelled by the shutdown
    std::puts("bye");
}

int main(int argc, char** argv) {
    try {
        run(server(SocketAddress::parse(argc > 1 ? argv[1] : "127.0.0.1:25000")));
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "echo: %s\n", failure.what());
        return 1;
    }
}
