// What TLS connections have in common: who one is, whom to trust, what to agree on. Contexts are
// made once, and never change; copies share what they hold, between threads, too.
//
//     TlsIdentity identity = TlsIdentity::pem(chain, key);
//     TlsServerContext server{{.identities = {identity}, .alpn = {"h2", "http/1.1"}}};
//
//     TlsTrust authority = TlsTrust::pem(ca);
//     TlsClientContext client{{.trust = authority, .alpn = {"http/1.1"}}};
//
// TLS 1.2 and 1.3, without compression and without renegotiation, by OpenSSL. Peers are verified
// unless that is switched off. To make identities, trust and contexts reads files and waits for
// them: do it before serving, or in a thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

struct ssl_session_st;

namespace trapline {

namespace detail {
struct TlsContext;
} // namespace detail

// --- errors --------------------------------------------------------------------------------

/// The category of what TLS complains of. Its codes are those of TlsFault, of refused certificates
/// and of OpenSSL; once a handshake is over, all of them are StreamError::broken.
const std::error_category& tls_category() noexcept;

/// code() == TlsFault::certificate, and so on. A condition: it stands for many codes.
enum class TlsFault {
    cut_off = 1, ///< the transport ended without close_notify: what came may not be all there is
    certificate, ///< the peer's certificate is refused here: expired, for another host, ...
    alert,       ///< the peer refuses us, and says why
    too_long,    ///< a handshake, or answers to the peer, of more bytes than allowed
    protocol,    ///< anything else: what came is no TLS, or nothing was found to agree on
};

const std::error_category& tls_fault_category() noexcept;

inline std::error_condition make_error_condition(TlsFault fault) noexcept {
    return {static_cast<int>(fault), tls_fault_category()};
}

/// A handshake failed. what() says why: "TLS handshake with example.org: certificate has expired",
/// "...: certificate is not valid for host example.org (it is for www.example.com)".
class TlsHandshakeError : public std::system_error {
public:
    TlsHandshakeError(std::error_code code, std::string text);

    const char* what() const noexcept override { return text_->c_str(); }

private:
    std::shared_ptr<const std::string> text_; // exceptions are copied without throwing
};

// --- identities and trust ------------------------------------------------------------------

/// A private key and its certificate, followed by those of the authorities between it and one that
/// peers know. Is only read when a context is made of it, which throws if it is not what it should
/// be.
class TlsIdentity {
public:
    /// PEM text. Keys with a passphrase are refused.
    static TlsIdentity pem(std::string_view chain, std::string_view key);
    /// PEM files. Throws std::system_error if one cannot be read.
    static TlsIdentity files(const std::string& chain, const std::string& key);

    const std::string& chain() const noexcept { return chain_; }
    const std::string& key() const noexcept { return key_; }
    /// For messages: the file's name.
    const std::string& name() const noexcept { return name_; }

private:
    TlsIdentity() = default;

    std::string chain_;
    std::string key_;
    std::string name_;
};

/// The authorities whose word one takes.
class TlsTrust {
public:
    /// Nobody.
    TlsTrust() noexcept = default;
    /// Those of the system: OpenSSL's default file and folder. Environment variables that name
    /// others (SSL_CERT_FILE, SSL_CERT_DIR) count for nothing: whom to trust is the program's word.
    static TlsTrust system();
    /// PEM text with one certificate or more.
    static TlsTrust pem(std::string_view certificates);
    /// A PEM file. Throws std::system_error if it cannot be read.
    static TlsTrust file(const std::string& path);

    bool is_system() const noexcept { return system_; }
    const std::string& certificates() const noexcept { return certificates_; }
    /// For messages: the file's name.
    const std::string& name() const noexcept { return name_; }

private:
    bool system_ = false;
    std::string certificates_;
    std::string name_;
};

// --- contexts ------------------------------------------------------------------------------

enum class TlsVersion { tls_1_2 = 0x0303, tls_1_3 = 0x0304 };

struct TlsClientSettings {
    TlsTrust trust = TlsTrust::system();
    bool verify = true;                    ///< off: anybody may be in the middle
    std::optional<TlsIdentity> identity{}; ///< for servers that ask who the client is
    std::vector<std::string> alpn{};       ///< protocols to offer, the best one first
    TlsVersion version_min = TlsVersion::tls_1_2;
    TlsVersion version_max = TlsVersion::tls_1_3;
    bool resumption = true; ///< ask for sessions, see TlsStream::session()
};

enum class TlsClientCertificate {
    none,     ///< is not asked for
    optional, ///< is asked for; one that is sent must be right
    required, ///< without one the handshake fails
};

struct TlsServerSettings {
    /// The first one that is valid for the name a client asks for is taken, else the first of all.
    std::vector<TlsIdentity> identities{};
    /// Protocols, the best one first. A client that offers others alone is refused; one that offers
    /// none is served.
    std::vector<std::string> alpn{};
    TlsClientCertificate client_certificate = TlsClientCertificate::none;
    TlsTrust client_trust{}; ///< who vouches for clients
    TlsVersion version_min = TlsVersion::tls_1_2;
    TlsVersion version_max = TlsVersion::tls_1_3;
    bool resumption = true; ///< give sessions to clients, as tickets: the server keeps nothing
};

/// For TlsStream::connect().
class TlsClientContext {
public:
    /// Throws TlsFault errors that name the file, std::invalid_argument for settings that make no
    /// sense.
    explicit TlsClientContext(const TlsClientSettings& settings = {});

    /// Internal.
    const std::shared_ptr<const detail::TlsContext>& shared() const noexcept { return shared_; }

private:
    std::shared_ptr<const detail::TlsContext> shared_;
};

/// For TlsStream::accept().
class TlsServerContext {
public:
    /// Throws as TlsClientContext does.
    explicit TlsServerContext(const TlsServerSettings& settings);

    /// Internal.
    const std::shared_ptr<const detail::TlsContext>& shared() const noexcept { return shared_; }

private:
    std::shared_ptr<const detail::TlsContext> shared_;
};

// --- what is found out about peers ---------------------------------------------------------

struct TlsCertificate {
    std::string subject; ///< as RFC 2253 writes it, "CN=example.org,O=Example"
    std::string issuer;
    std::vector<std::string> names; ///< hosts and IP addresses that it is for
    std::chrono::sys_seconds not_before;
    std::chrono::sys_seconds not_after;
    std::string fingerprint; ///< SHA-256, 64 hexadecimal digits
};

/// What a client remembers of a connection, so that the next handshake with the same server is
/// shorter. Holds secrets of that connection. Copies share it.
class TlsSession {
public:
    /// None.
    TlsSession() noexcept = default;
    /// Internal.
    explicit TlsSession(std::shared_ptr<ssl_session_st> session) noexcept
        : session_(std::move(session)) {}

    explicit operator bool() const noexcept { return session_ != nullptr; }

    /// Internal.
    ssl_session_st* get() const noexcept { return session_.get(); }

private:
    std::shared_ptr<ssl_session_st> session_;
};

} // namespace trapline

template <>
struct std::is_error_condition_enum<trapline::TlsFault> : std::true_type {};
