// A proxy from TCP to TCP: bytes are spliced from socket to socket and never seen. Each direction
// ends by itself, and how much went which way is printed.
//
//     sh examples/run.sh proxy 127.0.0.1:25002 127.0.0.1:25000
#include <cstdio>
#include <string>

#include <trapline/trapline.hpp>

using namespace trapline;
using namespace std::chrono_literals;

/// Passes on what comes, and then that it has ended.
Coro<std::uint64_t> pass_on(TcpStream& from, TcpStream& to) {
    const std::uint64_t bytes = co_await splice(from, to);
    co_await to.shutdown();
    co_return bytes;
}

Coro<void> proxy(TcpStream client, SocketAddress target) {
    TcpStream server = co_await timeout_after(10s, TcpStream::connect(target));
    const auto bytes = co_await gather(pass_on(client, server), pass_on(server, client));
    std::printf("%s: %llu bytes there, %llu back\n", client.peer_address().to_string().c_str(),
                static_cast<unsigned long long>(std::get<0>(bytes)),
                static_cast<unsigned long long>(std::get<1>(bytes)));
    std::fflush(stdout);
}

Coro<void> serve_at(SocketAddress at, SocketAddress target) {
    const auto announce = [&](const SocketAddress& where) {
        std::printf("proxy at %s for %s, Ctrl-C ends it\n", where.to_string().c_str(),
                    target.to_string().c_str());
        std::fflush(stdout);
    };
    co_await tcp_server(at, [&](TcpStream client) { return proxy(std::move(client), target); },
                        {.stop_limit = 1s, .on_listening = announce});
}

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fputs("proxy LISTEN TARGET, two addresses such as 127.0.0.1:8080\n", stderr);
        return 2;
    }
    try {
        run(serve_at(SocketAddress::parse(argv[1]), SocketAddress::parse(argv[2])),
            {.cancel_on = stop_signals});
    } catch (const TaskCancelled&) {
        std::puts("bye");
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "proxy: %s\n", failure.what());
        return 1;
    }
}
