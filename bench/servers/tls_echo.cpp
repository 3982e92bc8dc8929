// The echo server that speaks TLS, as the comparison runs it: until SIGTERM or SIGINT, and without
// a word about its clients.
//
//     server_tls_echo 127.0.0.1:25000
#include <array>
#include <cstdio>
#include <exception>
#include <string>

#include <openssl/pem.h>
#include <trapline/trapline.hpp>

#include "tls_certificate.h"

using namespace trapline;

namespace {

Coro<void> echo(TcpStream client, const TlsServerContext& context) {
    try {
        TlsStream stream = co_await TlsStream::accept(std::move(client), context);
        std::array<std::byte, 4096> buffer;
        while (std::size_t n = co_await stream.recv(buffer))
            co_await stream.send_all(std::span<const std::byte>(buffer).first(n));
        co_await stream.close();
    } catch (const std::system_error&) {
        // This client's, the others are served.
    }
}

Coro<void> serve(TcpListener& listener, const TlsServerContext& context) {
    for (;;)
        co_await spawn(echo(co_await listener.accept(), context));
}

Coro<void> server(SocketAddress at, const TlsServerContext& context) {
    SignalSet stop{SIGINT, SIGTERM};
    TcpListener listener = co_await TcpListener::bind(at);
    auto serving = co_await spawn(serve(listener, context));
    co_await stop.next();
    co_await serving.cancel();
}

std::string text_of(BIO* memory) {
    char* text = nullptr;
    const long size = BIO_get_mem_data(memory, &text);
    std::string copy(text, static_cast<std::size_t>(size));
    BIO_free(memory);
    return copy;
}

TlsIdentity identity() {
    X509* certificate = nullptr;
    EVP_PKEY* key = nullptr;
    make_certificate(&certificate, &key);
    BIO* chain = BIO_new(BIO_s_mem());
    BIO* keys = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(chain, certificate);
    PEM_write_bio_PrivateKey(keys, key, nullptr, nullptr, 0, nullptr, nullptr);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return TlsIdentity::pem(text_of(chain), text_of(keys));
}

} // namespace

int main(int argc, char** argv) {
    try {
        const TlsServerContext context{{.identities = {identity()}}};
        run(server(SocketAddress::parse(argc > 1 ? argv[1] : "127.0.0.1:25000"), context));
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "server_tls_echo: %s\n", failure.what());
        return 1;
    }
}
