#include <trapline/io/tls.hpp>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

#include <doctest/doctest.h>

#include <trapline/io/memory_stream.hpp>
#include <trapline/io/tcp.hpp>
#include <trapline/kernel/kernel.hpp>
#include <trapline/traps/resource.hpp>

#include "../support/certificates.hpp"
#include "../support/leaks.hpp"
#include "../support/openssl_peer.hpp"
#include "../support/sockets.hpp"

using namespace trapline;
using namespace std::chrono_literals;
using test::Authority;
using test::Certificate;
using test::LeakGuard;
using test::OpensslPeer;

static_assert(Stream<TlsStream>);

namespace {

// --- who is who ----------------------------------------------------------------------------

const Authority& authority() {
    static const Authority made;
    return made;
}

const Certificate& example_org() {
    static const Certificate made =
        authority().issue({.subject = "example.org", .names = "DNS:example.org,IP:127.0.0.1"});
    return made;
}

TlsIdentity identity_of(const Certificate& certificate) {
    return TlsIdentity::pem(certificate.chain, certificate.key);
}

TlsServerSettings server_settings(const Certificate& certificate = example_org()) {
    return {.identities = {identity_of(certificate)}};
}

TlsClientSettings client_settings() { return {.trust = TlsTrust::pem(authority().pem())}; }

const TlsServerContext& plain_server() {
    static const TlsServerContext made{server_settings()};
    return made;
}

const TlsClientContext& plain_client() {
    static const TlsClientContext made{client_settings()};
    return made;
}

// --- connections ---------------------------------------------------------------------------

struct TlsPair {
    TlsStream server;
    TlsStream client;
};

struct PairOptions {
    const TlsServerContext* server = &plain_server();
    const TlsClientContext* client = &plain_client();
    std::string_view host = "example.org";
    const TlsSession* session = nullptr;
    std::size_t bytes_max = 64 * 1024;
};

Coro<TlsPair> tls_over(AnyStream server_end, AnyStream client_end, PairOptions options) {
    const auto serve = [](AnyStream end, const TlsServerContext* context) -> Coro<TlsStream> {
        return TlsStream::accept(std::move(end), *context);
    };
    Task<TlsStream> accepting = co_await spawn(serve, std::move(server_end), options.server);
    TlsStream client = co_await TlsStream::connect(
        std::move(client_end),
        {.host = options.host, .context = options.client, .session = options.session});
    TlsStream server = co_await accepting.join();
    co_return TlsPair{std::move(server), std::move(client)};
}

Coro<TlsPair> tls_pair(PairOptions options = {}) {
    MemoryStreamPair ends = memory_stream_pair(options.bytes_max);
    co_return co_await tls_over(std::move(ends.a), std::move(ends.b), options);
}

struct TcpEnds {
    TcpStream server;
    TcpStream client;
};

TcpEnds tcp_ends() {
    test::Ends ends = test::tcp_pair();
    const SocketAddress server = SocketAddress::ipv4("127.0.0.1", test::port_of(ends.a.get()));
    const SocketAddress client = SocketAddress::ipv4("127.0.0.1", test::port_of(ends.b.get()));
    return {TcpStream{std::move(ends.a), client}, TcpStream{std::move(ends.b), server}};
}

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

template <class S>
Coro<std::string> receive_some(S& stream) {
    std::array<std::byte, 4096> buffer;
    const std::size_t n = co_await stream.recv(buffer);
    co_return text_of(std::span(buffer).first(n));
}

template <class S>
Coro<std::string> receive_all(S& stream) {
    std::string all;
    std::vector<std::byte> buffer(20'000);
    while (const std::size_t n = co_await stream.recv(buffer))
        all += text_of(std::span(buffer).first(n));
    co_return all;
}

template <class S>
Coro<std::string> receive_count(S& stream, std::size_t count) {
    std::string all;
    std::array<std::byte, 4096> buffer;
    while (all.size() < count) {
        const std::size_t n = co_await stream.recv(buffer);
        if (n == 0)
            break;
        all += text_of(std::span(buffer).first(n));
    }
    co_return all;
}

template <class S>
Coro<void> echo(S stream) {
    std::array<std::byte, 4096> buffer;
    while (std::size_t n = co_await stream.recv(buffer))
        co_await stream.send_all(std::span<const std::byte>(buffer).first(n));
    co_await stream.close();
}

std::string pattern(std::size_t size, std::uint32_t state = 1) {
    std::string text(size, '\0');
    for (char& c : text)
        c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
    return text;
}

Coro<void> let_others_run(int turns = 3) {
    for (int turn = 0; turn < turns; ++turn)
        co_await yield_now();
}

/// What the awaited call complains of: code and text.
struct Complaint {
    std::error_code code;
    std::string text;
};

template <class A>
Coro<Complaint> complaint_of(A call) {
    try {
        (void)co_await std::move(call);
    } catch (const std::system_error& e) {
        co_return Complaint{e.code(), e.what()};
    }
    co_return Complaint{};
}

/// Both ends' complaints about a handshake.
struct Complaints {
    Complaint server;
    Complaint client;
};

Coro<Complaints> refused(PairOptions options, std::size_t bytes_max = 64 * 1024) {
    MemoryStreamPair ends = memory_stream_pair(bytes_max);
    const auto serve = [](MemoryStream end, const TlsServerContext* context) -> Coro<Complaint> {
        co_return co_await complaint_of(TlsStream::accept(std::move(end), *context));
    };
    Task<Complaint> server = co_await spawn(serve, std::move(ends.a), options.server);
    // With TLS 1.3 the server's refusal comes after the handshake.
    const auto greet = [](MemoryStream end, PairOptions o) -> Coro<std::string> {
        TlsStream stream = co_await TlsStream::connect(
            std::move(end), {.host = o.host, .context = o.client, .session = o.session});
        co_return co_await receive_some(stream);
    };
    Complaint client = co_await complaint_of(greet(std::move(ends.b), options));
    Complaint of_server = co_await server.join();
    co_return Complaints{std::move(of_server), std::move(client)};
}

/// Runs a test body, a callable, and checks that it leaves nothing open, and nothing in OpenSSL's
/// queue of errors.
template <class F>
void check(F body) {
    const LeakGuard guard;
    run(std::move(body));
    CHECK(ERR_peek_error() == 0);
}

} // namespace

// --- good days -----------------------------------------------------------------------------

namespace {

Coro<std::string> ask(SocketAddress at, const TlsClientContext& context) {
    TcpStream tcp = co_await TcpStream::connect(at);
    TlsClientOptions options{.host = "example.org", .context = &context};
    TlsStream server = co_await TlsStream::connect(std::move(tcp), options);
    co_await server.send_all("who are you?");
    std::array<std::byte, 100> answer;
    std::size_t n = co_await server.recv(answer);
    co_await server.close();
    co_return std::string(reinterpret_cast<const char*>(answer.data()), n);
}

} // namespace

TEST_CASE("what is sent comes back from an echo server") {
    check([]() -> Coro<void> {
        const auto serve = [](TcpListener& listener) -> Coro<void> {
            TcpStream client = co_await listener.accept();
            co_await echo(co_await TlsStream::accept(std::move(client), plain_server()));
        };
        TcpListener listener = co_await TcpListener::bind(SocketAddress::ipv4("127.0.0.1", 0));
        Task<> server = co_await spawn(serve, std::ref(listener));
        const std::string answer = co_await ask(listener.local_address(), plain_client());
        co_await server.join();
        CHECK(answer == "who are you?");
    });
}

TEST_CASE("TLS runs over streams in memory, of any capacity") {
    for (const std::size_t bytes_max : {1, 7, 100, 64 * 1024}) {
        CAPTURE(bytes_max);
        check([&]() -> Coro<void> {
            TlsPair pair = co_await tls_pair({.bytes_max = bytes_max});
            Task<> server = co_await spawn(echo(std::move(pair.server)));
            co_await pair.client.send_all("hello");
            const std::string answer = co_await receive_count(pair.client, 5);
            co_await pair.client.shutdown();
            const std::string rest = co_await receive_all(pair.client);
            co_await pair.client.close();
            co_await server.join();
            CHECK(answer == "hello");
            CHECK(rest == "");
        });
    }
}

TEST_CASE("TLS runs over TLS") {
    check([]() -> Coro<void> {
        TlsPair outer = co_await tls_pair();
        TlsPair inner = co_await tls_over(std::move(outer.server), std::move(outer.client), {});
        co_await inner.client.send_all("well wrapped");
        const std::string got = co_await receive_some(inner.server);
        CHECK(got == "well wrapped");
    });
}

TEST_CASE("both ends know what was agreed on, and with whom") {
    check([]() -> Coro<void> {
        TlsPair pair = co_await tls_pair();
        const std::optional<TlsCertificate> seen = pair.client.peer_certificate();
        REQUIRE(seen);
        CHECK(seen->subject == "CN=example.org");
        CHECK(seen->issuer == "CN=test authority");
        CHECK(seen->names == std::vector<std::string>{"example.org", "127.0.0.1"});
        const auto now = std::chrono::system_clock::now();
        CHECK(seen->not_before < now);
        CHECK(seen->not_after > now);
        CHECK(seen->not_after < now + 2h);
        CHECK(seen->fingerprint.size() == 64);
        CHECK_FALSE(pair.server.peer_certificate());
        for (const TlsStream* end : {&pair.server, &pair.client}) {
            CHECK(end->version() == TlsVersion::tls_1_3);
            CHECK(end->cipher().starts_with("TLS_"));
            CHECK(end->server_name() == "example.org");
            CHECK(end->alpn() == "");
            CHECK_FALSE(end->resumed());
            CHECK(*end);
        }
    });
}

TEST_CASE("the server's preference decides on the protocol") {
    check([]() -> Coro<void> {
        TlsServerSettings serves = server_settings();
        serves.alpn = {"h2", "http/1.1"};
        TlsClientSettings asks = client_settings();
        asks.alpn = {"other", "http/1.1", "h2"};
        const TlsServerContext server{serves};
        const TlsClientContext client{asks};
        TlsPair pair = co_await tls_pair({.server = &server, .client = &client});
        CHECK(pair.server.alpn() == "h2");
        CHECK(pair.client.alpn() == "h2");
        TlsPair silent = co_await tls_pair({.server = &server});
        CHECK(silent.server.alpn() == "");
    });
}

TEST_CASE("a client that offers other protocols alone is refused") {
    check([]() -> Coro<void> {
        TlsServerSettings serves = server_settings();
        serves.alpn = {"h2"};
        TlsClientSettings asks = client_settings();
        asks.alpn = {"http/1.1"};
        const TlsServerContext server{serves};
        const TlsClientContext client{asks};
        const Complaints c = co_await refused({.server = &server, .client = &client});
        CHECK(c.client.code == TlsFault::alert);
        CHECK(c.client.text ==
              "TLS handshake with example.org: the peer refuses: no application protocol");
        CHECK(c.server.code == TlsFault::protocol);
        CHECK(c.server.text.starts_with("TLS handshake with a client: no application protocol"));
    });
}

TEST_CASE("the name that the client asks for chooses the certificate") {
    check([]() -> Coro<void> {
        const TlsServerContext server{
            {.identities = {identity_of(authority().issue({.names = "DNS:first.org"})),
                            identity_of(authority().issue({.names = "DNS:second.org"})),
                            identity_of(authority().issue({.names = "DNS:*.wild.org"}))}}};
        std::vector<std::string> got;
        for (const char* host : {"first.org", "second.org", "www.wild.org"}) {
            TlsPair pair = co_await tls_pair({.server = &server, .host = host});
            got.push_back(pair.client.peer_certificate()->names.at(0));
            CHECK(pair.server.server_name() == host);
        }
        CHECK(got == std::vector<std::string>{"first.org", "second.org", "*.wild.org"});
        const Complaints c = co_await refused({.server = &server, .host = "third.org"});
        CHECK(c.client.text == "TLS handshake with third.org: certificate is not valid for host "
                               "third.org (it is for first.org)");
    });
}

TEST_CASE("an IP address is verified as one, and not asked for by name") {
    check([]() -> Coro<void> {
        const Certificate six = authority().issue({.names = "IP:::1"});
        const TlsServerContext server_six{server_settings(six)};
        TlsPair four = co_await tls_pair({.host = "127.0.0.1"});
        CHECK(four.server.server_name() == "");
        for (const char* host : {"::1", "[::1]"}) {
            TlsPair pair = co_await tls_pair({.server = &server_six, .host = host});
            CHECK(pair.client.peer_certificate()->names.at(0) == "::1");
        }
        const Complaints c = co_await refused({.host = "127.0.0.2"});
        CHECK(c.client.text == "TLS handshake with 127.0.0.2: certificate is not valid for host "
                               "127.0.0.2 (it is for example.org, 127.0.0.1)");
        TlsPair dot = co_await tls_pair({.host = "example.org."});
        CHECK(dot.server.server_name() == "example.org");
    });
}

// --- client certificates -------------------------------------------------------------------

namespace {

TlsServerContext who_are_you(TlsClientCertificate wanted) {
    TlsServerSettings settings = server_settings();
    settings.client_certificate = wanted;
    settings.client_trust = TlsTrust::pem(authority().pem());
    return TlsServerContext{settings};
}

TlsClientContext client_with(const Certificate& certificate,
                             TlsVersion version = TlsVersion::tls_1_3) {
    TlsClientSettings settings = client_settings();
    settings.identity = identity_of(certificate);
    settings.version_max = version;
    return TlsClientContext{settings};
}

} // namespace

TEST_CASE("a client shows its certificate to a server that asks") {
    check([]() -> Coro<void> {
        const TlsClientContext client = client_with(authority().issue({.subject = "ada"}));
        for (const auto wanted : {TlsClientCertificate::optional, TlsClientCertificate::required}) {
            const TlsServerContext server = who_are_you(wanted);
            TlsPair pair = co_await tls_pair({.server = &server, .client = &client});
            const auto seen = pair.server.peer_certificate();
            CHECK(seen->subject == "CN=ada");
        }
        const TlsServerContext lenient = who_are_you(TlsClientCertificate::optional);
        TlsPair nobody = co_await tls_pair({.server = &lenient});
        CHECK_FALSE(nobody.server.peer_certificate());
        TlsPair unasked = co_await tls_pair({.client = &client});
        CHECK_FALSE(unasked.server.peer_certificate());
    });
}

TEST_CASE("a client without the certificate that is required is refused, and told so") {
    check([]() -> Coro<void> {
        const TlsServerContext server = who_are_you(TlsClientCertificate::required);
        const Complaints none = co_await refused({.server = &server});
        CHECK(none.server.text == "TLS handshake with a client: peer did not return a certificate");
        CHECK(none.client.text ==
              "recv from example.org: TLS: the peer refuses: tlsv13 alert certificate required");
        CHECK(none.client.code == TlsFault::alert);
        CHECK(none.client.code == StreamError::broken);

        const TlsClientContext stranger = client_with(Authority("other").issue({}));
        const Complaints c = co_await refused({.server = &server, .client = &stranger});
        CHECK(c.server.text ==
              "TLS handshake with a client: certificate is of an issuer who is not trusted");
        CHECK(c.server.code == TlsFault::certificate);
        CHECK(c.client.text == "recv from example.org: TLS: the peer refuses: unknown CA");
    });
}

// --- resumption ----------------------------------------------------------------------------

TEST_CASE("a session makes the next handshake a short one") {
    for (const TlsVersion version : {TlsVersion::tls_1_2, TlsVersion::tls_1_3}) {
        CAPTURE(static_cast<int>(version));
        check([&]() -> Coro<void> {
            TlsClientSettings settings = client_settings();
            settings.version_max = version;
            settings.identity = identity_of(authority().issue({.subject = "ada"}));
            const TlsClientContext client{settings};
            const TlsServerContext server = who_are_you(TlsClientCertificate::required);
            TlsSession session;
            {
                TlsPair first = co_await tls_pair({.server = &server, .client = &client});
                co_await first.server.send_all("x");
                co_await receive_some(first.client);
                session = first.client.session();
                CHECK(first.client.version() == version);
                CHECK_FALSE(first.client.resumed());
                CHECK_FALSE(first.server.session());
            } // without close_notify
            REQUIRE(session);
            for (int again = 0; again < 2; ++again) {
                TlsPair next =
                    co_await tls_pair({.server = &server, .client = &client, .session = &session});
                CHECK(next.client.resumed());
                CHECK(next.server.resumed());
                CHECK(next.client.version() == version);
                CHECK(next.client.peer_certificate()->subject == "CN=example.org");
                CHECK(next.server.peer_certificate()->subject == "CN=ada");
            }
            // Another server does not know it: the handshake is a full one.
            TlsPair other = co_await tls_pair({.client = &client, .session = &session});
            CHECK_FALSE(other.client.resumed());
        });
    }
}

TEST_CASE("without resumption there are no sessions") {
    for (const TlsVersion version : {TlsVersion::tls_1_2, TlsVersion::tls_1_3}) {
        check([&]() -> Coro<void> {
            TlsServerSettings settings = server_settings();
            settings.resumption = false;
            settings.version_max = version;
            const TlsServerContext server{settings};
            TlsPair pair = co_await tls_pair({.server = &server});
            co_await pair.server.send_all("x");
            co_await receive_some(pair.client);
            CHECK_FALSE(pair.client.session());
            TlsClientSettings asks = client_settings();
            asks.resumption = false;
            const TlsClientContext client{asks};
            TlsPair silent = co_await tls_pair({.client = &client});
            co_await silent.server.send_all("x");
            co_await receive_some(silent.client);
            CHECK_FALSE(silent.client.session());
        });
    }
}

// --- how streams end -----------------------------------------------------------------------

TEST_CASE("close_notify is the end of a stream, again and again") {
    check([]() -> Coro<void> {
        TlsPair pair = co_await tls_pair();
        co_await pair.server.send_all("last words");
        co_await pair.server.close();
        co_await pair.server.close();
        const std::string heard = co_await receive_all(pair.client);
        const std::string again = co_await receive_some(pair.client);
        CHECK(heard == "last words");
        CHECK(again == "");
    });
}

TEST_CASE("a stream may go as soon as its close has returned, whoever waited in it") {
    for (const bool sends : {false, true}) {
        check([sends]() -> Coro<void> {
            TlsPair pair = co_await tls_pair({.bytes_max = 64});
            auto stream = std::make_unique<TlsStream>(std::move(pair.server));
            const std::string text = pattern(100'000);
            const auto uses = [&]() -> Coro<std::string> {
                std::array<std::byte, 8> buffer;
                Complaint c; // no conditional expression: g++ 14 miscompiles a co_await in one
                if (sends)
                    c = co_await complaint_of(stream->send_all(text));
                else
                    c = co_await complaint_of(stream->recv(buffer));
                co_return c.code == StreamError::closed ? "closed" : c.text;
            };
            Task<std::string> using_it = co_await spawn(uses);
            co_await let_others_run();
            co_await stream->close();
            stream.reset();
            const std::string complaint = co_await using_it.join();
            CHECK(complaint == "closed");
        });
    }
}

TEST_CASE("a second close waits for the first, and then the stream may go") {
    check([]() -> Coro<void> {
        TlsPair pair = co_await tls_pair({.bytes_max = 64});
        auto stream = std::make_unique<TlsStream>(std::move(pair.server));
        const std::string text = pattern(1'000'000);
        const bool sent = co_await ignore_after(5ms, stream->send_all(text));
        CHECK_FALSE(sent);
        bool first_is_over = false;
        const auto closes = [&](TlsStream& s) -> Coro<void> {
            co_await s.close(); // tries for a while to send what is left
            first_is_over = true;
        };
        Task<> closing = co_await spawn(closes, std::ref(*stream));
        co_await let_others_run();
        co_await stream->close();
        stream.reset();
        co_await let_others_run();
        CHECK(first_is_over);
        co_await closing.join();
    });
}

TEST_CASE("after half a close the other direction stays open") {
    check([]() -> Coro<void> {
        TlsPair pair = co_await tls_pair();
        co_await pair.client.send_all("question");
        co_await pair.client.shutdown();
        co_await pair.client.shutdown();
        const std::string heard = co_await receive_all(pair.server);
        co_await pair.server.send_all("answer");
        co_await pair.server.close();
        const std::string answer = co_await receive_all(pair.client);
        const Complaint late = co_await complaint_of(pair.client.send_all("more"));
        CHECK(heard == "question");
        CHECK(answer == "answer");
        CHECK(late.code == std::errc::broken_pipe);
        CHECK(late.text == "send to example.org: Broken pipe");
    });
}

TEST_CASE("a transport that ends without close_notify is cut off, not ended") {
    check([]() -> Coro<void> {
        TlsPair pair = co_await tls_pair();
        co_await pair.server.send_all("half of ");
        co_await pair.server.transport().shutdown();
        const std::string heard = co_await receive_some(pair.client);
        std::array<std::byte, 8> buffer;
        const Complaint c = co_await complaint_of(pair.client.recv(buffer));
        const Complaint again = co_await complaint_of(pair.client.recv(buffer));
        CHECK(heard == "half of ");
        CHECK(c.code == TlsFault::cut_off);
        CHECK(c.code == StreamError::broken);
        CHECK(c.code.category() == tls_category());
        CHECK(c.text == "recv from example.org: TLS: the peer was cut off without close_notify");
        CHECK(again.text == c.text);
    });
}

TEST_CASE("a stream that ends in the middle of a record is cut off") {
    check([]() -> Coro<void> {
        MemoryStreamPair near = memory_stream_pair();
        OpensslPeer peer{std::move(near.a), OpensslPeer::server(example_org())};
        Task<bool> peers = co_await spawn(peer.handshake());
        TlsStream client = co_await TlsStream::connect(
            std::move(near.b), {.host = "example.org", .context = &plain_client()});
        co_await peers.join();
        SSL_write(peer.ssl(), "hello", 5);
        char* data = nullptr;
        const long size = BIO_get_mem_data(SSL_get_wbio(peer.ssl()), &data);
        co_await peer.over().send_all(std::string_view(data, static_cast<std::size_t>(size) - 1));
        co_await peer.over().close();
        std::array<std::byte, 8> buffer;
        const Complaint c = co_await complaint_of(client.recv(buffer));
        CHECK(c.code == TlsFault::cut_off);
    });
}

TEST_CASE("a stream that is closed, or moved from, says so") {
    check([]() -> Coro<void> {
        TlsPair pair = co_await tls_pair();
        std::array<std::byte, 8> buffer;
        co_await pair.client.close();
        const Complaint recv = co_await complaint_of(pair.client.recv(buffer));
        const Complaint send = co_await complaint_of(pair.client.send_all("x"));
        const Complaint shut = co_await complaint_of(pair.client.shutdown());
        CHECK(recv.code == StreamError::closed);
        CHECK(recv.text ==
              "recv from example.org, a stream that was closed here: Bad file descriptor");
        CHECK(send.code == StreamError::closed);
        CHECK(shut.code == StreamError::closed);
        CHECK_FALSE(pair.client);
        TlsStream moved = std::move(pair.server);
        const Complaint gone = co_await complaint_of(pair.server.recv(buffer));
        CHECK(gone.text == "recv from a TLS stream that was moved from: Bad file descriptor");
        co_await pair.server.close();
        CHECK(pair.server.alpn() == "");
        CHECK_FALSE(pair.server.session());
        CHECK_FALSE(pair.server.peer_certificate());
    });
}

TEST_CASE("closing ends what other tasks do on the stream") {
    check([]() -> Coro<void> {
        TlsPair pair = co_await tls_pair({.bytes_max = 1000});
        std::array<std::byte, 8> buffer;
        Task<Complaint> receiving = co_await spawn(complaint_of(pair.client.recv(buffer)));
        const std::string much = pattern(100'000);
        Task<Complaint> sending =
            co_await spawn(complaint_of(pair.client.send_all(std::string_view(much))));
        co_await let_others_run();
        co_await pair.client.close();
        const Complaint recv = co_await receiving.join();
        const Complaint send = co_await sending.join();
        CHECK(recv.code == StreamError::closed);
        CHECK(send.code == StreamError::closed);
    });
}

TEST_CASE("who ends sending while another task sends stops it between two records") {
    check([]() -> Coro<void> {
        const std::string much = pattern(200'000);
        const auto sends = [](TlsStream& stream, std::string_view text) -> Coro<std::size_t> {
            try {
                co_await stream.send_all(text);
            } catch (const TransferError& failure) {
                if (failure.code() == std::errc::broken_pipe)
                    co_return failure.progress();
                throw;
            }
            co_return text.size();
        };
        TlsPair pair = co_await tls_pair({.bytes_max = 1000});
        Task<std::size_t> sending =
            co_await spawn(sends, std::ref(pair.client), std::string_view(much));
        co_await let_others_run();
        Task<> ending = co_await spawn(pair.client.shutdown());
        co_await let_others_run();
        const std::string got = co_await receive_all(pair.server);
        const std::size_t sent = co_await sending.join();
        co_await ending.join();
        CHECK(sent < much.size());
        CHECK(got.size() == sent);
        CHECK(much.starts_with(got));
    });
}

TEST_CASE("a second receiver, or sender, is told that the stream is busy") {
    check([]() -> Coro<void> {
        TlsPair pair = co_await tls_pair({.bytes_max = 1000});
        std::array<std::byte, 8> buffer;
        const std::string much = pattern(100'000);
        Task<> receiving =
            co_await spawn([&]() -> Coro<void> { co_await pair.client.recv(buffer); });
        Task<> sending = co_await spawn(pair.client.send_all(std::string_view(much)));
        co_await let_others_run();
        std::array<std::byte, 8> other;
        const Complaint recv = co_await complaint_of(pair.client.recv(other));
        const Complaint send = co_await complaint_of(pair.client.send_all("x"));
        co_await receiving.cancel();
        co_await sending.cancel();
        CHECK(recv.code == StreamError::busy);
        CHECK(recv.text == "recv from example.org: Device or resource busy");
        CHECK(send.code == StreamError::busy);
    });
}

TEST_CASE("closing does not wait for a peer that takes nothing, not even when it is masked") {
    check([]() -> Coro<void> {
        TlsPair pair = co_await tls_pair({.bytes_max = 100});
        const std::string much = pattern(10'000);
        const bool sent = co_await ignore_after(1ms, pair.client.send_all(std::string_view(much)));
        const TimePoint before = co_await now();
        co_await disable_cancellation(pair.client.close());
        const TimePoint after = co_await now();
        CHECK_FALSE(sent);
        CHECK(after - before >= 400ms);
        CHECK(after - before < 5s);
    });
}

TEST_CASE("closing works in the kernel's shutdown, too") {
    const LeakGuard guard;
    Kernel kernel;
    std::string heard = "nothing";
    kernel.run([&]() -> Coro<void> {
        TlsPair made = co_await tls_pair();
        auto server = std::make_shared<TlsStream>(std::move(made.server));
        const auto lives = [](TlsStream client) -> Coro<void> {
            co_await with_resource([&]() -> Coro<void> { co_return; },
                                   []() -> Coro<void> { co_await sleep(Duration::max()); },
                                   [&]() -> Coro<void> { co_await client.close(); });
        };
        const auto listens = [](std::shared_ptr<TlsStream> end, std::string& to) -> Coro<void> {
            to = "waits";
            const std::string got =
                co_await disable_cancellation([&] { return receive_all(*end); });
            to = "end" + got;
        };
        co_await spawn(listens, server, std::ref(heard));
        co_await spawn(lives, std::move(made.client));
        co_await let_others_run();
    });
    kernel.shutdown();
    CHECK(heard == "end");
}

// --- handshakes that fail ------------------------------------------------------------------

TEST_CASE("certificates that are not right are refused, and the text says why") {
    struct Case {
        Certificate shown;
        std::string why;
    };
    const Case cases[] = {
        {authority().issue({.names = "DNS:example.org", .from_s = -7200, .to_s = -3600}),
         "certificate has expired"},
        {authority().issue({.names = "DNS:example.org", .from_s = 3600, .to_s = 7200}),
         "certificate is not yet valid"},
        {test::self_signed({.names = "DNS:example.org"}), "self-signed certificate"},
        {Authority("another authority").issue({.names = "DNS:example.org"}),
         "certificate is of an issuer who is not trusted"},
        {authority().issue({.names = "DNS:www.example.org,DNS:*.com,IP:10.0.0.1"}),
         "certificate is not valid for host example.org (it is for www.example.org, *.com, "
         "10.0.0.1)"},
        {authority().issue({.subject = "example.org"}),
         "certificate is not valid for host example.org (it names none)"},
        {authority().issue({.names = "DNS:example.or*"}),
         "certificate is not valid for host example.org (it is for example.or*)"},
    };
    for (const Case& refusal : cases) {
        CAPTURE(refusal.why);
        check([&]() -> Coro<void> {
            const TlsServerContext server{server_settings(refusal.shown)};
            const Complaints c = co_await refused({.server = &server});
            CHECK(c.client.text == "TLS handshake with example.org: " + refusal.why);
            CHECK(c.client.code == TlsFault::certificate);
            CHECK(c.client.code.category() == tls_category());
            CHECK(c.server.code == TlsFault::alert);
            CHECK(c.server.text.starts_with("TLS handshake with a client: the peer refuses: "));
        });
    }
}

TEST_CASE("who trusts the system trusts no authority of ours, who verifies nothing takes all") {
    check([]() -> Coro<void> {
        const TlsClientContext system;
        const Complaints c = co_await refused({.client = &system});
        CHECK(c.client.text == "TLS handshake with example.org: certificate is of an issuer who is "
                               "not trusted");
        const TlsClientContext careless{{.verify = false}};
        const TlsServerContext stranger{server_settings(test::self_signed({}))};
        TlsPair pair = co_await tls_pair({.server = &stranger, .client = &careless});
        CHECK(pair.client);
        TlsPair nameless =
            co_await tls_pair({.server = &stranger, .client = &careless, .host = ""});
        CHECK(nameless.client);
    });
}

TEST_CASE("environment variables make nobody trusted") {
    const std::string path = "/tmp/trapline-tls-test-" + std::to_string(::getpid());
    std::ofstream(path) << authority().pem();
    ::setenv("SSL_CERT_FILE", path.c_str(), 1);
    check([]() -> Coro<void> {
        const TlsClientContext system;
        const Complaints c = co_await refused({.client = &system});
        CHECK(c.client.code == TlsFault::certificate);
    });
    ::unsetenv("SSL_CERT_FILE");
    ::unlink(path.c_str());
}

TEST_CASE("without a name there is nobody to verify, and some are none") {
    const auto connect = [](std::string_view host) -> std::string {
        try {
            (void)TlsStream::connect(memory_stream_pair().a,
                                     {.host = host, .context = &plain_client()});
        } catch (const std::invalid_argument& e) {
            return e.what();
        }
        return "";
    };
    CHECK(connect("") == "TLS: without a host's name nobody can be verified");
    CHECK(connect(std::string_view("example.org\0.evil.org", 21)) ==
          "TLS: a host's name with a null byte in it");
    CHECK(connect(std::string(300, 'x')).ends_with("is no host's name"));
}

TEST_CASE("TLS 1.1 is refused, whichever end speaks it") {
    check([]() -> Coro<void> {
        MemoryStreamPair ends = memory_stream_pair();
        auto old = OpensslPeer::client();
        SSL_CTX_set_security_level(old.get(), 0); // at others OpenSSL does not even try
        SSL_CTX_set_min_proto_version(old.get(), TLS1_1_VERSION);
        SSL_CTX_set_max_proto_version(old.get(), TLS1_1_VERSION);
        OpensslPeer peer{std::move(ends.b), std::move(old)};
        Task<bool> shaking = co_await spawn(peer.handshake());
        const Complaint c =
            co_await complaint_of(TlsStream::accept(std::move(ends.a), plain_server()));
        const bool peers = co_await shaking.join();
        CHECK(c.text == "TLS handshake with a client: unsupported protocol");
        CHECK_FALSE(peers);
        ERR_clear_error();

        MemoryStreamPair others = memory_stream_pair();
        auto old_server = OpensslPeer::server(example_org());
        SSL_CTX_set_security_level(old_server.get(), 0);
        SSL_CTX_set_min_proto_version(old_server.get(), TLS1_VERSION);
        SSL_CTX_set_max_proto_version(old_server.get(), TLS1_1_VERSION);
        OpensslPeer server{std::move(others.b), std::move(old_server)};
        Task<bool> serving = co_await spawn(server.handshake());
        const Complaint refused = co_await complaint_of(TlsStream::connect(
            std::move(others.a), {.host = "example.org", .context = &plain_client()}));
        const bool served = co_await serving.join();
        CHECK(refused.code == TlsFault::alert);
        CHECK_FALSE(served);
        ERR_clear_error();
    });
}

TEST_CASE("garbage instead of a handshake is an error at either end") {
    check([]() -> Coro<void> {
        for (const std::string& garbage : {std::string("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
                                           pattern(1000), std::string(1000, '\0')}) {
            MemoryStreamPair ends = memory_stream_pair();
            co_await ends.b.send_all(garbage);
            const Complaint c =
                co_await complaint_of(TlsStream::accept(std::move(ends.a), plain_server()));
            CHECK(c.code == TlsFault::protocol);
            CHECK(c.text.starts_with("TLS handshake with a client: "));
            MemoryStreamPair others = memory_stream_pair();
            co_await others.b.send_all(garbage);
            const Complaint at_client = co_await complaint_of(TlsStream::connect(
                std::move(others.a), {.host = "example.org", .context = &plain_client()}));
            CHECK(at_client.code == TlsFault::protocol);
            CHECK(at_client.text.starts_with("TLS handshake with example.org: "));
        }
        MemoryStreamPair ends = memory_stream_pair();
        co_await ends.b.send_all("220 mail.example.org ESMTP\r\n");
        const Complaint c = co_await complaint_of(TlsStream::connect(
            std::move(ends.a), {.host = "example.org", .context = &plain_client()}));
        CHECK(c.text == "TLS handshake with example.org: what the peer sends is no TLS (wrong "
                        "version number)");
    });
}

TEST_CASE("a peer that goes in the middle of the handshake is an error") {
    check([]() -> Coro<void> {
        MemoryStreamPair ends = memory_stream_pair();
        co_await ends.b.send_all("\x16\x03\x01\x02");
        co_await ends.b.shutdown();
        const Complaint c =
            co_await complaint_of(TlsStream::accept(std::move(ends.a), plain_server()));
        CHECK(c.code == TlsFault::cut_off);
        CHECK(c.text == "TLS handshake with a client: the peer was cut off without close_notify");
    });
}

TEST_CASE("a peer that never answers the handshake meets the limit of time") {
    check([]() -> Coro<void> {
        MemoryStreamPair ends = memory_stream_pair();
        const Complaint client = co_await complaint_of(TlsStream::connect(
            std::move(ends.a),
            {.host = "example.org", .context = &plain_client(), .limits = {.time = 5ms}}));
        MemoryStreamPair others = memory_stream_pair();
        const Complaint server = co_await complaint_of(
            TlsStream::accept(std::move(others.a), plain_server(), {.time = 5ms}));
        CHECK(client.code == std::errc::timed_out);
        CHECK(client.code == StreamError::broken);
        CHECK(client.text == "TLS handshake with example.org: Connection timed out");
        CHECK(server.text == "TLS handshake with a client: Connection timed out");
        // The transport is closed.
        const Complaint gone = co_await complaint_of(others.b.send_all("x"));
        CHECK(gone.code == std::errc::broken_pipe);
    });
}

TEST_CASE("a handshake of more bytes than allowed is given up") {
    check([]() -> Coro<void> {
        // A record as long as can be, and another one: a message may have many of them.
        const auto floods = [](MemoryStream end) -> Coro<void> {
            std::string record("\x16\x03\x01\x40\x00\x01\x00\xff\xff\x03\x03", 11);
            record.resize(5 + 0x4000, 'x');
            const std::string more = std::string("\x16\x03\x01\x40\x00", 5) + record.substr(5);
            try {
                co_await end.send_all(record);
                for (int i = 0; i < 10; ++i)
                    co_await end.send_all(more);
            } catch (const std::system_error&) {}
        };
        MemoryStreamPair ends = memory_stream_pair();
        Task<> flooding = co_await spawn(floods(std::move(ends.b)));
        const Complaint c = co_await complaint_of(
            TlsStream::accept(std::move(ends.a), plain_server(), {.bytes_max = 10'000}));
        co_await flooding.join();
        CHECK(c.code == TlsFault::too_long);
        CHECK(c.text == "TLS handshake with a client: the peer sends more than is allowed");
    });
}

TEST_CASE("a handshake that is cancelled, wherever it waits, leaves nothing behind") {
    check([]() -> Coro<void> {
        int cancelled = 0;
        for (const bool at_server : {true, false}) {
            bool finished = false;
            for (int turns = 0; turns < 300 && !finished; turns += 1 + turns / 4) {
                MemoryStreamPair ends = memory_stream_pair(50);
                const auto serve = [](MemoryStream end) -> Coro<bool> {
                    TlsStream made = co_await TlsStream::accept(std::move(end), plain_server());
                    co_return true;
                };
                const auto ask = [](MemoryStream end) -> Coro<bool> {
                    TlsStream made = co_await TlsStream::connect(
                        std::move(end), {.host = "example.org", .context = &plain_client()});
                    co_return true;
                };
                Task<bool> server = co_await spawn(serve, std::move(ends.a));
                Task<bool> client = co_await spawn(ask, std::move(ends.b));
                co_await let_others_run(turns);
                const Task<bool>& victim = at_server ? server : client;
                const bool reached = co_await victim.cancel();
                finished = !reached;
                cancelled += reached;
                // The other end is told by the end of the transport.
                co_await server.wait();
                co_await client.wait();
                for (const Task<bool>& task : {server, client}) {
                    try {
                        (void)co_await task.join();
                    } catch (const TaskError&) {}
                }
            }
            CHECK(finished);
        }
        CHECK(cancelled > 20);
    });
}

// --- bytes ---------------------------------------------------------------------------------

TEST_CASE("large transfers arrive byte for byte, both ways at once") {
    const std::string there = pattern(10'000'000, 1);
    const std::string back = pattern(10'000'000, 2);
    const auto transfer = [&](TlsPair pair) -> Coro<void> {
        const auto sends = [](TlsStream& stream, const std::string& text) -> Coro<void> {
            co_await stream.send_all(std::string_view(text));
            co_await stream.shutdown();
        };
        Task<> to_server = co_await spawn(sends(pair.client, there));
        Task<> to_client = co_await spawn(sends(pair.server, back));
        Task<std::string> at_server = co_await spawn(receive_all(pair.server));
        const std::string at_client = co_await receive_all(pair.client);
        const bool server_right = co_await at_server.join() == there;
        const bool client_right = at_client == back;
        co_await to_server.join();
        co_await to_client.join();
        co_await pair.client.close();
        co_await pair.server.close();
        CHECK(server_right);
        CHECK(client_right);
    };
    check([&]() -> Coro<void> {
        TcpEnds ends = tcp_ends();
        co_await transfer(co_await tls_over(std::move(ends.server), std::move(ends.client), {}));
    });
    check([&]() -> Coro<void> { co_await transfer(co_await tls_pair()); });
}

TEST_CASE("a cancelled recv has taken nothing") {
    check([]() -> Coro<void> {
        const std::string sent = pattern(30'000);
        TlsPair pair = co_await tls_pair({.bytes_max = 500});
        const auto sends = [](TlsStream& stream, const std::string& text) -> Coro<void> {
            for (std::size_t at = 0; at < text.size(); at += 1000)
                co_await stream.send_all(std::string_view(text).substr(at, 1000));
            co_await stream.shutdown();
        };
        Task<> sending = co_await spawn(sends(pair.server, sent));
        std::string got;
        bool ended = false;
        int cancelled = 0;
        for (int round = 0; !ended; ++round) {
            const auto receives = [](TlsStream& stream, std::string& to, bool& end) -> Coro<void> {
                std::array<std::byte, 300> buffer;
                while (const std::size_t n = co_await stream.recv(buffer))
                    to += text_of(std::span(buffer).first(n));
                end = true;
            };
            Task<> receiving =
                co_await spawn(receives, std::ref(pair.client), std::ref(got), std::ref(ended));
            co_await let_others_run(round % 7);
            cancelled += co_await receiving.cancel();
        }
        co_await sending.join();
        const bool right = got == sent;
        CHECK(right);
        CHECK(cancelled > 10);
    });
}

TEST_CASE("sends that are cancelled anywhere say what is on its way, and spoil nothing") {
    for (std::uint32_t seed = 1; seed <= 20; ++seed) {
        CAPTURE(seed);
        check([&]() -> Coro<void> {
            std::uint32_t dice = seed;
            const auto roll = [&](std::uint32_t below) {
                return (dice = dice * 1664525 + 1013904223) / 65536 % below;
            };
            const std::string text = pattern(400'000, seed);
            TlsPair pair = co_await tls_pair({.bytes_max = 1 + roll(3000)});
            Task<std::string> receiving = co_await spawn(receive_all(pair.server));
            std::size_t at = 0;
            int cancelled = 0;
            while (at < text.size()) {
                const auto sends = [](TlsStream& stream, std::string_view part,
                                      std::size_t& sent) -> Coro<void> {
                    try {
                        co_await stream.send_all(part);
                        sent = part.size();
                    } catch (const Cancelled& interrupt) {
                        sent = interrupt.progress();
                        throw;
                    }
                };
                const std::string_view part =
                    std::string_view(text).substr(at, 1 + roll(roll(2) ? 100'000 : 1000));
                std::size_t sent = 0;
                Task<> sending = co_await spawn(sends, std::ref(pair.client), part, std::ref(sent));
                co_await let_others_run(static_cast<int>(roll(30)));
                cancelled += co_await sending.cancel();
                at += sent;
            }
            co_await pair.client.shutdown();
            const std::string got = co_await receiving.join();
            const bool right = got == text;
            CHECK(right);
            CHECK(cancelled > 0);
        });
    }
}

TEST_CASE("what a cancelled send has left goes out with close") {
    check([]() -> Coro<void> {
        const std::string text = pattern(20'000);
        TlsPair pair = co_await tls_pair({.bytes_max = 1000});
        std::size_t progress = 0;
        try {
            (void)co_await timeout_after(1ms, pair.client.send_all(std::string_view(text)));
        } catch (const TaskTimeout& limit) {
            progress = limit.progress();
        }
        Task<std::string> receiving = co_await spawn(receive_all(pair.server));
        co_await pair.client.close();
        const std::string got = co_await receiving.join();
        CHECK(progress == 20'000); // two records, begun
        CHECK(got.size() == progress);
        CHECK(text.starts_with(got));
    });
}

TEST_CASE("a peer that resets is an error of the operation") {
    check([]() -> Coro<void> {
        TcpEnds ends = tcp_ends();
        TlsPair pair = co_await tls_over(std::move(ends.server), std::move(ends.client), {});
        const std::string peer =
            pair.server.transport().get_if<TcpStream>()->peer_address().to_string();
        std::array<std::byte, 8> buffer;
        Task<Complaint> receiving = co_await spawn(complaint_of(pair.server.recv(buffer)));
        const std::string much = pattern(20'000'000);
        Task<Complaint> sending =
            co_await spawn(complaint_of(pair.server.send_all(std::string_view(much))));
        co_await let_others_run();
        co_await pair.client.transport().get_if<TcpStream>()->abort();
        const Complaint recv = co_await receiving.join();
        const Complaint send = co_await sending.join();
        const Complaint more = co_await complaint_of(pair.server.send_all("x"));
        CHECK(recv.code == StreamError::broken);
        CHECK(recv.text.starts_with("recv from " + peer + ": "));
        CHECK(send.code == StreamError::broken);
        CHECK(send.text.starts_with("send to " + peer + ": "));
        CHECK(more.code == StreamError::broken);
        co_await pair.server.close();
    });
}

TEST_CASE("a record that somebody changed on its way is an error, and the sender hears of it") {
    check([]() -> Coro<void> {
        MemoryStreamPair ends = memory_stream_pair();
        OpensslPeer peer{std::move(ends.b), OpensslPeer::server(example_org())};
        Task<bool> shaking = co_await spawn(peer.handshake());
        TlsStream client = co_await TlsStream::connect(
            std::move(ends.a), {.host = "example.org", .context = &plain_client()});
        co_await shaking.join();
        SSL_write(peer.ssl(), "hello", 5);
        char* data = nullptr;
        const long size = BIO_get_mem_data(SSL_get_wbio(peer.ssl()), &data);
        data[size - 1] ^= 1;
        co_await peer.push();
        std::array<std::byte, 8> buffer;
        const Complaint c = co_await complaint_of(client.recv(buffer));
        const Complaint again = co_await complaint_of(client.recv(buffer));
        const Complaint send = co_await complaint_of(client.send_all("x"));
        const std::string heard = co_await peer.read();
        const std::string reason = ERR_reason_error_string(ERR_peek_error());
        ERR_clear_error();
        CHECK(c.text == "recv from example.org: TLS: decryption failed or bad record mac");
        CHECK(c.code == TlsFault::protocol);
        CHECK(c.code == StreamError::broken);
        CHECK(again.text == c.text);
        CHECK(send.code == c.code);
        CHECK(heard == "");
        CHECK(reason.ends_with(" alert bad record mac"));
    });
}

// --- what OpenSSL does on its own ----------------------------------------------------------

TEST_CASE("renegotiation is refused, without waiting for something to be sent") {
    check([]() -> Coro<void> {
        MemoryStreamPair ends = memory_stream_pair();
        auto context = OpensslPeer::client();
        SSL_CTX_set_max_proto_version(context.get(), TLS1_2_VERSION);
        OpensslPeer peer{std::move(ends.b), std::move(context)};
        Task<bool> shaking = co_await spawn(peer.handshake());
        TlsStream server = co_await TlsStream::accept(std::move(ends.a), plain_server());
        const bool shaken = co_await shaking.join();
        std::array<std::byte, 8> buffer;
        Task<Complaint> receiving = co_await spawn(complaint_of(server.recv(buffer)));
        SSL_renegotiate(peer.ssl());
        const bool again = co_await peer.handshake();
        const std::string reason = ERR_reason_error_string(ERR_peek_error());
        ERR_clear_error();
        co_await peer.over().close();
        const Complaint c = co_await receiving.join();
        CHECK(shaken);
        CHECK_FALSE(again);
        CHECK(reason == "no renegotiation");
        CHECK(c.code == StreamError::broken);
    });
}

TEST_CASE("keys are changed at the peer's wish, while data flow both ways") {
    check([]() -> Coro<void> {
        MemoryStreamPair ends = memory_stream_pair(700);
        OpensslPeer peer{std::move(ends.b), OpensslPeer::server(example_org())};
        Task<bool> shaking = co_await spawn(peer.handshake());
        TlsStream client = co_await TlsStream::connect(
            std::move(ends.a), {.host = "example.org", .context = &plain_client()});
        co_await shaking.join();
        const std::string sent = pattern(200'000);
        Task<> sending = co_await spawn(client.send_all(std::string_view(sent)));
        Task<std::string> receiving = co_await spawn(receive_count(client, 50 * 7));
        std::string got;
        for (int i = 0; i < 50; ++i) {
            SSL_key_update(peer.ssl(), SSL_KEY_UPDATE_REQUESTED);
            co_await peer.write("message");
            while (got.size() < sent.size() * static_cast<std::size_t>(i + 1) / 50)
                got += co_await peer.read();
        }
        co_await sending.join();
        const std::string heard = co_await receiving.join();
        const bool right = got == sent;
        CHECK(right);
        CHECK(heard.size() == 50 * 7);
        CHECK(heard.ends_with("messagemessage"));
    });
}

TEST_CASE("a peer that takes nothing does not keep us from receiving what it sends") {
    check([]() -> Coro<void> {
        MemoryStreamPair ends = memory_stream_pair(2000);
        OpensslPeer peer{std::move(ends.b), OpensslPeer::server(example_org())};
        Task<bool> shaking = co_await spawn(peer.handshake());
        TlsStream client = co_await TlsStream::connect(
            std::move(ends.a), {.host = "example.org", .context = &plain_client()});
        co_await shaking.join();
        const std::string much = pattern(10'000);
        (void)co_await ignore_after(1ms, client.send_all(std::string_view(much)));
        const auto sends = [](OpensslPeer& from) -> Coro<void> {
            for (int i = 0; i < 20; ++i) {
                SSL_key_update(from.ssl(), SSL_KEY_UPDATE_REQUESTED);
                co_await from.write("message");
            }
        };
        Task<> sending = co_await spawn(sends(peer));
        const std::string heard = co_await receive_count(client, 20 * 7);
        co_await sending.join();
        // What had to wait was kept in order.
        Task<> more = co_await spawn(client.send_all("end"));
        std::string got;
        while (!got.ends_with("end"))
            got += co_await peer.read();
        co_await more.join();
        const bool right = got == much + "end";
        CHECK(heard.size() == 20 * 7);
        CHECK(right);
    });
}

TEST_CASE("a peer that takes nothing and makes us answer again and again is given up") {
    check([]() -> Coro<void> {
        MemoryStreamPair ends = memory_stream_pair(2000);
        OpensslPeer peer{std::move(ends.b), OpensslPeer::server(example_org())};
        Task<bool> shaking = co_await spawn(peer.handshake());
        TlsStream client = co_await TlsStream::connect(
            std::move(ends.a), {.host = "example.org", .context = &plain_client()});
        co_await shaking.join();
        const std::string much = pattern(10'000);
        (void)co_await ignore_after(1ms, client.send_all(std::string_view(much)));
        const auto asks = [](OpensslPeer& from) -> Coro<void> {
            for (int i = 0; i < 5000; ++i) {
                SSL_key_update(from.ssl(), SSL_KEY_UPDATE_REQUESTED);
                co_await from.write("x");
            }
        };
        Task<> asking = co_await spawn(asks(peer));
        const Complaint c = co_await complaint_of(receive_count(client, 5000));
        co_await client.close();
        co_await asking.wait();
        try {
            co_await asking.join();
        } catch (const TaskError&) {
            // To nobody, in the end.
        }
        CHECK(c.code == TlsFault::too_long);
        CHECK(c.text == "recv from example.org: TLS: the peer sends more than is allowed");
    });
}
