// A TLS client: sends a line of text, and prints what the server answers until it ends.
//
//     sh examples/run.sh tls_ask 127.0.0.1:443 example.org [--ca authority.pem] "some text"
//
// The first argument is where to connect to, the second who must be there.
#include <array>
#include <cstdio>
#include <string>
#include <string_view>

#include <trapline/trapline.hpp>

using namespace trapline;

Coro<void> ask(SocketAddress at, std::string host, TlsClientContext context, std::string text) {
    TcpStream tcp = co_await TcpStream::connect(at);
    TlsStream server =
        co_await TlsStream::connect(std::move(tcp), {.host = host, .context = &context});
    co_await server.send_all(text + "\n");
    co_await server.shutdown();
    std::array<std::byte, 4096> buffer;
    while (std::size_t n = co_await server.recv(buffer))
        std::fwrite(buffer.data(), 1, n, stdout);
    co_await server.close();
}

int main(int argc, char** argv) {
    const bool has_ca = argc == 6 && std::string_view(argv[3]) == "--ca";
    if (argc != 4 && !has_ca) {
        std::fputs("usage: tls_ask ADDRESS HOST [--ca FILE] TEXT\n", stderr);
        return 2;
    }
    try {
        TlsClientSettings settings;
        if (has_ca)
            settings.trust = TlsTrust::file(argv[4]);
        run(ask(SocketAddress::parse(argv[1]), argv[2], TlsClientContext{settings},
                argv[argc - 1]));
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "tls_ask: %s\n", failure.what());
        return 1;
    }
}
