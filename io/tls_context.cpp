#include "tls_context.hpp"

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <span>
#include <stdexcept>
#include <utility>

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "errors.hpp"
#include "tls_openssl.hpp"

namespace trapline {

using namespace detail;

namespace {

[[noreturn]] void raise_tls(const std::string& what) {
    throw std::system_error(take_tls_error(), what);
}

std::string read_file(const std::string& path) {
    const auto close = [](std::FILE* open) { std::fclose(open); };
    const std::unique_ptr<std::FILE, decltype(close)> file{std::fopen(path.c_str(), "rbe")};
    std::string text;
    std::array<char, 4096> buffer;
    while (file) {
        const std::size_t got = std::fread(buffer.data(), 1, buffer.size(), file.get());
        text.append(buffer.data(), got);
        if (got < buffer.size())
            break;
    }
    if (!file || std::ferror(file.get()))
        raise_error(errno, "read " + path);
    return text;
}

BioOwner reader_of(const std::string& text) {
    return BioOwner{tls_new(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())))};
}

/// In place of OpenSSL's own, which would ask on the terminal.
int no_passphrase(char*, int, int, void*) { return -1; }

/// All certificates of a PEM text, at least one.
std::vector<X509Owner> certificates_of(const std::string& text, const std::string& what) {
    const BioOwner reader = reader_of(text);
    std::vector<X509Owner> all;
    while (X509* certificate = PEM_read_bio_X509(reader.get(), nullptr, no_passphrase, nullptr))
        all.emplace_back(certificate);
    // That there is no more is told as an error, too.
    const unsigned long error = ERR_peek_last_error();
    const bool end =
        ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
    if (end && !all.empty())
        ERR_clear_error();
    else if (end) {
        ERR_clear_error();
        throw std::invalid_argument(what + ": there is no certificate in it");
    } else {
        raise_tls(what);
    }
    return all;
}

TlsContext::Identity read_identity(const TlsIdentity& from) {
    TlsContext::Identity identity;
    auto certificates = certificates_of(from.chain(), "TLS certificate of " + from.name());
    identity.certificate = std::move(certificates.front());
    identity.chain.reset(tls_new(sk_X509_new_null()));
    for (auto& certificate : std::span(certificates).subspan(1)) {
        if (sk_X509_push(identity.chain.get(), certificate.get()) == 0)
            throw std::bad_alloc();
        (void)certificate.release(); // the chain's now
    }
    const std::string what = "TLS key of " + from.name();
    if (from.key().contains("ENCRYPTED"))
        throw std::invalid_argument(what + ": it is encrypted; only keys without a passphrase "
                                           "can be used");
    const BioOwner reader = reader_of(from.key());
    identity.key.reset(PEM_read_bio_PrivateKey(reader.get(), nullptr, no_passphrase, nullptr));
    if (!identity.key)
        raise_tls(what);
    if (X509_check_private_key(identity.certificate.get(), identity.key.get()) != 1)
        raise_tls(what + ": it does not belong to the certificate");
    return identity;
}

void trust(SSL_CTX* context, const TlsTrust& whom) {
    if (whom.is_system()) {
        // A system has the file, or the folder, or both. Without any of them nobody is trusted.
        (void)SSL_CTX_load_verify_file(context, X509_get_default_cert_file());
        (void)SSL_CTX_load_verify_dir(context, X509_get_default_cert_dir());
        forget_tls_errors();
    }
    if (whom.certificates().empty())
        return;
    const std::string what = "TLS trust in " + whom.name();
    for (const X509Owner& certificate : certificates_of(whom.certificates(), what))
        if (X509_STORE_add_cert(SSL_CTX_get_cert_store(context), certificate.get()) != 1)
            raise_tls(what);
}

std::string wire_format(const std::vector<std::string>& alpn) {
    std::string wire;
    for (const std::string& name : alpn) {
        if (name.empty() || name.size() > 255)
            throw std::invalid_argument("TLS: the names of ALPN have 1 to 255 bytes, not " +
                                        std::to_string(name.size()));
        wire += static_cast<char>(name.size());
        wire += name;
    }
    return wire;
}

// --- called by OpenSSL ---------------------------------------------------------------------

/// A certificate for the name that the client asks for.
int choose_identity(SSL* ssl, void* data) {
    const auto& context = *static_cast<const TlsContext*>(data);
    const char* host = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (!host)
        return 1; // the first one is set
    for (const TlsContext::Identity& identity : context.identities) {
        if (X509_check_host(identity.certificate.get(), host, 0, 0, nullptr) != 1)
            continue;
        SSL_certs_clear(ssl); // or a first one with a key of another kind could be taken
        return SSL_use_cert_and_key(ssl, identity.certificate.get(), identity.key.get(),
                                    identity.chain.get(), 1);
    }
    return 1;
}

int choose_protocol(SSL*, const unsigned char** chosen, unsigned char* size,
                    const unsigned char* offered, unsigned offered_size, void* data) {
    const auto& context = *static_cast<const TlsContext*>(data);
    unsigned char* found = nullptr;
    const auto answer = SSL_select_next_proto(
        &found, size, reinterpret_cast<const unsigned char*>(context.alpn.data()),
        static_cast<unsigned>(context.alpn.size()), offered, offered_size);
    if (answer != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *chosen = found;
    return SSL_TLSEXT_ERR_OK;
}

/// The stream that got the session keeps it.
int keep_session(SSL* ssl, SSL_SESSION* session) {
    auto* place = static_cast<SslSessionOwner*>(SSL_get_app_data(ssl));
    if (!place)
        return 0;
    place->reset(session);
    return 1;
}

// --- what both sides have in common --------------------------------------------------------

template <class Settings>
std::shared_ptr<TlsContext> make_context(const SSL_METHOD* method, const Settings& settings) {
    forget_tls_errors();
    auto context = std::make_shared<TlsContext>();
    context->alpn = wire_format(settings.alpn);
    context->transport = make_tls_transport();
    context->ssl.reset(tls_new(SSL_CTX_new(method)));
    SSL_CTX* ssl = context->ssl.get();
    const int min = static_cast<int>(settings.version_min);
    const int max = static_cast<int>(settings.version_max);
    if (min > max)
        throw std::invalid_argument("TLS: version_min is above version_max");
    if (SSL_CTX_set_min_proto_version(ssl, min) != 1 ||
        SSL_CTX_set_max_proto_version(ssl, max) != 1)
        raise_tls("TLS: versions");
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    // To keep its buffers costs 9 KiB a connection, to release them no time one could measure.
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    // A record's head and its body by one read of our memory.
    SSL_CTX_set_read_ahead(ssl, 1);
    return context;
}

/// The first identity, whose name is for messages. OpenSSL may refuse a key as too weak.
void use_first(const TlsContext& context, const std::string& name) {
    const TlsContext::Identity& first = context.identities.front();
    if (SSL_CTX_use_cert_and_key(context.ssl.get(), first.certificate.get(), first.key.get(),
                                 first.chain.get(), 1) != 1)
        raise_tls("TLS certificate of " + name);
}

} // namespace

// --- identities and trust ------------------------------------------------------------------

TlsIdentity TlsIdentity::pem(std::string_view chain, std::string_view key) {
    TlsIdentity identity;
    identity.chain_ = chain;
    identity.key_ = key;
    identity.name_ = "PEM text";
    return identity;
}

TlsIdentity TlsIdentity::files(const std::string& chain, const std::string& key) {
    TlsIdentity identity;
    identity.chain_ = read_file(chain);
    identity.key_ = read_file(key);
    identity.name_ = chain == key ? chain : chain + " and " + key;
    return identity;
}

TlsTrust TlsTrust::system() {
    TlsTrust trust;
    trust.system_ = true;
    return trust;
}

TlsTrust TlsTrust::pem(std::string_view certificates) {
    if (certificates.empty()) // which would silently be nobody
        throw std::invalid_argument("TLS trust in PEM text: there is no certificate in it");
    TlsTrust trust;
    trust.certificates_ = certificates;
    trust.name_ = "PEM text";
    return trust;
}

TlsTrust TlsTrust::file(const std::string& path) {
    TlsTrust trust;
    trust.certificates_ = read_file(path);
    trust.name_ = path;
    if (trust.certificates_.empty())
        throw std::invalid_argument("TLS trust in " + path + ": there is no certificate in it");
    return trust;
}

// --- contexts ------------------------------------------------------------------------------

TlsClientContext::TlsClientContext(const TlsClientSettings& settings) {
    const auto context = make_context(TLS_client_method(), settings);
    SSL_CTX* ssl = context->ssl.get();
    context->verify = settings.verify;
    if (settings.verify)
        trust(ssl, settings.trust);
    SSL_CTX_set_verify(ssl, settings.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
    if (settings.identity) {
        context->identities.push_back(read_identity(*settings.identity));
        use_first(*context, settings.identity->name());
    }
    if (!context->alpn.empty() &&
        SSL_CTX_set_alpn_protos(ssl, reinterpret_cast<const unsigned char*>(context->alpn.data()),
                                static_cast<unsigned>(context->alpn.size())) != 0)
        throw std::bad_alloc();
    if (settings.resumption) {
        SSL_CTX_set_session_cache_mode(ssl,
                                       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
        SSL_CTX_sess_set_new_cb(ssl, keep_session);
    } else {
        SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET);
    }
    shared_ = context;
}

TlsServerContext::TlsServerContext(const TlsServerSettings& settings) {
    if (settings.identities.empty())
        throw std::invalid_argument("TLS: a server needs a certificate and its key");
    const auto context = make_context(TLS_server_method(), settings);
    SSL_CTX* ssl = context->ssl.get();
    for (const TlsIdentity& identity : settings.identities)
        context->identities.push_back(read_identity(identity));
    use_first(*context, settings.identities.front().name());
    if (context->identities.size() > 1)
        SSL_CTX_set_cert_cb(ssl, choose_identity, context.get());
    if (!context->alpn.empty())
        SSL_CTX_set_alpn_select_cb(ssl, choose_protocol, context.get());

    if (settings.client_certificate != TlsClientCertificate::none) {
        trust(ssl, settings.client_trust);
        const bool required = settings.client_certificate == TlsClientCertificate::required;
        SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                           nullptr);
        if (!settings.client_trust.certificates().empty())
            for (const X509Owner& certificate : certificates_of(
                     settings.client_trust.certificates(), settings.client_trust.name()))
                if (SSL_CTX_add_client_CA(ssl, certificate.get()) != 1)
                    raise_tls("TLS trust in " + settings.client_trust.name());
    }

    // Without a name for its sessions a server that verifies clients refuses to resume.
    constexpr unsigned char name[] = "trapline";
    SSL_CTX_set_session_id_context(ssl, name, sizeof name - 1);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF); // tickets are enough
    if (!settings.resumption) {
        SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ssl, 0);
    }
    shared_ = context;
}

// --- certificates --------------------------------------------------------------------------

namespace {

std::string text_of(const X509_NAME* name) {
    const BioOwner memory{tls_new(BIO_new(BIO_s_mem()))};
    X509_NAME_print_ex(memory.get(), name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
    char* text = nullptr;
    const long size = BIO_get_mem_data(memory.get(), &text);
    return {text, static_cast<std::size_t>(size)};
}

std::chrono::sys_seconds time_of(const ASN1_TIME* time) {
    std::tm parts{};
    if (ASN1_TIME_to_tm(time, &parts) != 1)
        return {};
    return std::chrono::sys_seconds{std::chrono::seconds{timegm(&parts)}};
}

std::string fingerprint_of(const X509& certificate) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
    unsigned size = 0;
    if (X509_digest(&certificate, EVP_sha256(), digest.data(), &size) != 1)
        raise_tls("fingerprint of a certificate");
    std::string text;
    for (const unsigned char byte : std::span(digest).first(size)) {
        text += "0123456789abcdef"[byte >> 4];
        text += "0123456789abcdef"[byte & 15];
    }
    return text;
}

} // namespace

std::vector<std::string> detail::names_of(X509& certificate) {
    std::vector<std::string> names;
    const auto free = [](GENERAL_NAMES* all) { GENERAL_NAMES_free(all); };
    const std::unique_ptr<GENERAL_NAMES, decltype(free)> all{static_cast<GENERAL_NAMES*>(
        X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr))};
    for (int i = 0; i < sk_GENERAL_NAME_num(all.get()); ++i) {
        const GENERAL_NAME& name = *sk_GENERAL_NAME_value(all.get(), i);
        if (name.type != GEN_DNS && name.type != GEN_IPADD)
            continue;
        const ASN1_STRING* value = name.type == GEN_DNS ? name.d.dNSName : name.d.iPAddress;
        const unsigned char* data = ASN1_STRING_get0_data(value);
        const auto size = static_cast<std::size_t>(ASN1_STRING_length(value));
        char text[INET6_ADDRSTRLEN];
        if (name.type == GEN_DNS)
            names.emplace_back(reinterpret_cast<const char*>(data), size);
        else if ((size == 4 || size == 16) &&
                 inet_ntop(size == 4 ? AF_INET : AF_INET6, data, text, sizeof text))
            names.emplace_back(text);
    }
    forget_tls_errors();
    return names;
}

TlsCertificate detail::describe(X509& certificate) {
    return {.subject = text_of(X509_get_subject_name(&certificate)),
            .issuer = text_of(X509_get_issuer_name(&certificate)),
            .names = names_of(certificate),
            .not_before = time_of(X509_get0_notBefore(&certificate)),
            .not_after = time_of(X509_get0_notAfter(&certificate)),
            .fingerprint = fingerprint_of(certificate)};
}

} // namespace trapline
