// An echo server that speaks TLS: any number of clients, until Ctrl-C.
//
//     sh examples/run.sh tls_echo 127.0.0.1:25000 --cert chain.pem --key key.pem [--ca clients.pem]
//     openssl s_client -connect 127.0.0.1:25000
//
// With --ca clients must have a certificate of that authority.
#include <array>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>

#include <trapline/trapline.hpp>

using namespace trapline;

Coro<void> echo(TcpStream client, TlsServerContext context) {
    const std::string peer = client.peer_address().to_string();
    try {
        TlsStream stream = co_await TlsStream::accept(std::move(client), context);
        std::array<std::byte, 4096> buffer;
        while (std::size_t n = co_await stream.recv(buffer))
            co_await stream.send_all(std::span<const std::byte>(buffer).first(n));
        co_await stream.close();
    } catch (const std::system_error& failure) { // this client's, the others are served
        std::fprintf(stderr, "tls_echo: %s\n", failure.what());
    }
}

Coro<void> serve(TcpListener& listener, TlsServerContext context) {
    for (;;)
        co_await spawn(echo(co_await listener.accept(), context));
}

Coro<void> server(SocketAddress at, TlsServerContext context) {
    SignalSet stop{SIGINT, SIGTERM};
    TcpListener listener = co_await TcpListener::bind(at);
    std::printf("echo at %s, Ctrl-C ends it\n", listener.local_address().to_string().c_str());
    std::fflush(stdout);
    auto serving = co_await spawn(serve(listener, context));
    co_await stop.next();
    co_await serving.cancel(); // clients that are still there are cancelled by the shutdown
    std::puts("bye");
}

struct Arguments {
    std::string address = "127.0.0.1:25000";
    std::string cert, key, ca;
};

Arguments parse(int argc, char** argv) {
    Arguments arguments;
    for (int i = 1; i < argc; ++i) {
        const std::string_view name = argv[i];
        std::string* option = name == "--cert"  ? &arguments.cert
                              : name == "--key" ? &arguments.key
                              : name == "--ca"  ? &arguments.ca
                                                : nullptr;
        if (option && i + 1 == argc)
            throw std::invalid_argument(std::string(name) + " needs a file");
        (option ? *option : arguments.address) = option ? argv[++i] : argv[i];
    }
    if (arguments.cert.empty() || arguments.key.empty())
        throw std::invalid_argument("--cert and --key are needed, PEM files both");
    return arguments;
}

int main(int argc, char** argv) {
    try {
        const Arguments arguments = parse(argc, argv);
        TlsServerSettings settings;
        settings.identities = {TlsIdentity::files(arguments.cert, arguments.key)};
        settings.alpn = {"echo"};
        if (!arguments.ca.empty()) {
            settings.client_certificate = TlsClientCertificate::required;
            settings.client_trust = TlsTrust::file(arguments.ca);
        }
        run(server(SocketAddress::parse(arguments.address), TlsServerContext{settings}));
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "tls_echo: %s\n", failure.what());
        return 1;
    }
}
