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

Coro<void> echo(TlsStream client) {
    std::array<std::byte, 4096> buffer;
    while (std::size_t n = co_await client.recv(buffer))
        co_await client.send_all(std::span<const std::byte>(buffer).first(n));
    co_await client.close();
}

void announce(const SocketAddress& at) {
    std::printf("echo at %s, Ctrl-C ends it\n", at.to_string().c_str());
    std::fflush(stdout);
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
        run(tls_server(SocketAddress::parse(arguments.address), TlsServerContext{settings}, echo,
                       {.stop_limit = std::chrono::seconds{1}, .on_listening = announce}),
            {.cancel_on = stop_signals});
    } catch (const TaskCancelled&) {
        std::puts("bye");
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "tls_echo: %s\n", failure.what());
        return 1;
    }
}
