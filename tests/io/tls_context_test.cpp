#include <trapline/io/tls_context.hpp>

#include <fstream>
#include <stdexcept>
#include <string>

#include <unistd.h>

#include <doctest/doctest.h>

#include <openssl/err.h>
#include <trapline/io/stream.hpp>

#include "../support/certificates.hpp"

using namespace trapline;
using test::Authority;
using test::Certificate;

namespace {

template <class F>
std::string complaint_of(F make) {
    try {
        make();
    } catch (const std::exception& e) {
        return e.what();
    }
    return "";
}

TlsIdentity identity_of(const Certificate& certificate) {
    return TlsIdentity::pem(certificate.chain, certificate.key);
}

/// A file for as long as it lives.
class TemporaryFile {
public:
    explicit TemporaryFile(const std::string& text) { std::ofstream(path_) << text; }
    ~TemporaryFile() { ::unlink(path_.c_str()); }
    const std::string& path() const { return path_; }

private:
    static inline int count = 0;
    std::string path_ =
        "/tmp/trapline-tls-" + std::to_string(::getpid()) + "-" + std::to_string(++count);
};

} // namespace

TEST_CASE("contexts are made of what PEM texts say") {
    const Authority signer;
    const Certificate made = signer.issue({.names = "DNS:example.org"});
    const std::string chain = made.chain + signer.pem(), key = made.key, ca = signer.pem();

    TlsIdentity identity = TlsIdentity::pem(chain, key);
    TlsServerContext server{{.identities = {identity}, .alpn = {"h2", "http/1.1"}}};

    TlsTrust authority = TlsTrust::pem(ca);
    TlsClientContext client{{.trust = authority, .alpn = {"http/1.1"}}};

    CHECK(server.shared());
    CHECK(client.shared());
    CHECK(ERR_peek_error() == 0);
}

TEST_CASE("contexts are made of files") {
    const Authority authority;
    const Certificate made = authority.issue({});
    const TemporaryFile chain{made.chain}, key{made.key}, ca{authority.pem()};
    const TlsServerContext server{{.identities = {TlsIdentity::files(chain.path(), key.path())}}};
    const TlsClientContext client{{.trust = TlsTrust::file(ca.path())}};
    CHECK(server.shared());
    CHECK(client.shared());
    CHECK(TlsClientContext{}.shared());
}

TEST_CASE("a file that is not there is named") {
    CHECK(complaint_of([] { TlsTrust::file("/no/such/file"); }) ==
          "read /no/such/file: No such file or directory");
    CHECK(complaint_of([] { TlsIdentity::files("/no/such/chain", "/no/such/key"); }) ==
          "read /no/such/chain: No such file or directory");
    CHECK(complaint_of([] { TlsTrust::file("/"); }) == "read /: Is a directory");
}

TEST_CASE("what is no certificate, or no key, is said to be none") {
    const Certificate good = test::self_signed({});
    const auto server = [](const std::string& chain, const std::string& key) {
        return complaint_of(
            [&] { TlsServerContext{{.identities = {TlsIdentity::pem(chain, key)}}}; });
    };
    CHECK(server("", good.key) == "TLS certificate of PEM text: there is no certificate in it");
    CHECK(server("nonsense", good.key) ==
          "TLS certificate of PEM text: there is no certificate in it");
    CHECK(server(good.chain.substr(0, 200), good.key).starts_with("TLS certificate of PEM text: "));
    CHECK(server(good.chain, "nonsense").starts_with("TLS key of PEM text: "));
    CHECK(server(good.chain, good.chain).starts_with("TLS key of PEM text: "));
    CHECK(server(good.chain, test::self_signed({}).key)
              .starts_with("TLS key of PEM text: it does not belong to the certificate: "));
    CHECK(server(good.chain, good.key) == "");
    CHECK(complaint_of([] { TlsTrust::pem(""); }) ==
          "TLS trust in PEM text: there is no certificate in it");
    CHECK(complaint_of([] { TlsClientContext{{.trust = TlsTrust::pem("x")}}; }) ==
          "TLS trust in PEM text: there is no certificate in it");
    CHECK(ERR_peek_error() == 0);
}

TEST_CASE("an encrypted key is refused, and nobody is asked for its passphrase") {
    const Certificate made = test::self_signed({});
    const std::string encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
                                  "AAAA\n"
                                  "-----END ENCRYPTED PRIVATE KEY-----\n";
    CHECK(complaint_of([&] {
              TlsServerContext{{.identities = {TlsIdentity::pem(made.chain, encrypted)}}};
          }) == "TLS key of PEM text: it is encrypted; only keys without a passphrase can be used");
}

TEST_CASE("settings that make no sense are refused") {
    const TlsIdentity identity = identity_of(test::self_signed({}));
    CHECK(complaint_of([] { TlsServerContext{TlsServerSettings{}}; }) ==
          "TLS: a server needs a certificate and its key");
    CHECK(complaint_of([&] { TlsServerContext{{.identities = {identity}, .alpn = {""}}}; }) ==
          "TLS: the names of ALPN have 1 to 255 bytes, not 0");
    CHECK(complaint_of([] { TlsClientContext{{.alpn = {std::string(256, 'x')}}}; }) ==
          "TLS: the names of ALPN have 1 to 255 bytes, not 256");
    CHECK(complaint_of([] {
              TlsClientContext{
                  {.version_min = TlsVersion::tls_1_3, .version_max = TlsVersion::tls_1_2}};
          }) == "TLS: version_min is above version_max");
}

TEST_CASE("codes of TLS belong to a fault, have a text, and mean a broken stream") {
    const std::error_code cut_off{static_cast<int>(TlsFault::cut_off), tls_category()};
    CHECK(cut_off == TlsFault::cut_off);
    CHECK(cut_off != TlsFault::alert);
    CHECK(cut_off == StreamError::broken);
    CHECK(cut_off != StreamError::closed);
    CHECK(cut_off.message() == "the peer was cut off without close_notify");
    const std::error_code certificate{static_cast<int>(TlsFault::certificate), tls_category()};
    CHECK(certificate == TlsFault::certificate);
    CHECK(certificate != StreamError::broken);
    CHECK(std::string(tls_category().name()) == "tls");
}
