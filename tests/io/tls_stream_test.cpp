// TlsStream does what every stream must, over whatever it runs.
#include <trapline/io/tls.hpp>

#include <doctest/doctest.h>

#include <trapline/io/memory_stream.hpp>
#include <trapline/io/tcp.hpp>
#include <trapline/io/unix.hpp>

#include "../support/certificates.hpp"
#include "../support/sockets.hpp"
#include "../support/streams.hpp"

using namespace trapline;
using namespace trapline::test;

namespace {

using TlsEnds = StreamEnds<TlsStream>;

struct Contexts {
    TlsServerContext server;
    TlsClientContext client;
};

Contexts make_contexts(TlsVersion newest) {
    const Authority authority;
    const Certificate certificate =
        authority.issue({.subject = "example.org", .names = "DNS:example.org"});
    TlsServerSettings serves;
    serves.identities = {TlsIdentity::pem(certificate.chain, certificate.key)};
    TlsClientSettings asks{.trust = TlsTrust::pem(authority.pem())};
    serves.version_max = newest;
    return {TlsServerContext{serves}, TlsClientContext{asks}};
}

/// The client is `a`.
Coro<TlsEnds> tls_over(AnyStream client_end, AnyStream server_end, const Contexts& contexts) {
    const auto accept = [](AnyStream end, TlsServerContext context) {
        return TlsStream::accept(std::move(end), context);
    };
    Task<TlsStream> accepting =
        co_await spawn(accept, std::move(server_end), TlsServerContext{contexts.server});
    TlsStream client = co_await TlsStream::connect(
        std::move(client_end), {.host = "example.org", .context = &contexts.client});
    TlsStream server = co_await accepting.join();
    co_return TlsEnds{std::move(client), std::move(server)};
}

Coro<TlsEnds> over_tcp(const Contexts& contexts) {
    Ends ends = tcp_pair();
    const SocketAddress nowhere = SocketAddress::ipv4("127.0.0.1", 9);
    co_return co_await tls_over(TcpStream{std::move(ends.a), nowhere},
                                TcpStream{std::move(ends.b), nowhere}, contexts);
}

Coro<TlsEnds> over_memory(const Contexts& contexts, std::size_t bytes) {
    MemoryStreamPair ends = memory_stream_pair(bytes);
    co_return co_await tls_over(std::move(ends.a), std::move(ends.b), contexts);
}

} // namespace

TEST_CASE("TLS over TCP does what a stream must") {
    for (const TlsVersion version : {TlsVersion::tls_1_3, TlsVersion::tls_1_2}) {
        const Contexts contexts = make_contexts(version);
        check_two_ways([&] { return over_tcp(contexts); });
    }
}

TEST_CASE("a client that only sends and then closes has sent everything") {
    const Contexts contexts = make_contexts(TlsVersion::tls_1_3);
    const LeakGuard guard;
    for (const bool local : {false, true}) {
        run([&]() -> Coro<void> {
            UnixStreamPair pair = co_await UnixStream::pair();
            Ends ends = tcp_pair();
            const SocketAddress nowhere = SocketAddress::ipv4("127.0.0.1", 9);
            AnyStream a = local ? AnyStream{std::move(pair.a)}
                                : AnyStream{TcpStream{std::move(ends.a), nowhere}};
            AnyStream b = local ? AnyStream{std::move(pair.b)}
                                : AnyStream{TcpStream{std::move(ends.b), nowhere}};
            TlsEnds tls = co_await tls_over(std::move(a), std::move(b), contexts);
            const std::string text = pattern(large_bytes);
            Task<> sent = co_await spawn(
                [](TlsStream& s, std::string_view t) { return send_and_close(s, t); },
                std::ref(tls.a), std::string_view(text));
            const std::string received = co_await receive_to_end(tls.b);
            CHECK((received == text)); // the tickets that lie unread at the client do no harm
            co_await sent.join();
            co_await tls.b.close();
        });
    }
}

TEST_CASE("TLS over a pair in memory does what a stream must, however little it holds") {
    const Contexts contexts = make_contexts(TlsVersion::tls_1_3);
    check_two_ways([&] { return over_memory(contexts, 65536); });
    check_two_ways([&] { return over_memory(contexts, 1000); });
}
