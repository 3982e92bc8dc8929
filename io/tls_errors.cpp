#include <cstdio>
#include <string>
#include <string_view>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include "stream.hpp"
#include "tls_openssl.hpp"

namespace trapline {

namespace {

// A code's value is a TlsFault, or an X509_V_ERR_ number above `certificates`, or one of OpenSSL's
// error numbers, which are above ten million: they begin with the number of a part of OpenSSL.
constexpr int certificates = 1000;
constexpr int certificates_end = 2000;

constexpr int alerts = SSL_AD_REASON_OFFSET; // among the reasons of OpenSSL's part SSL

unsigned long openssl_error(int value) noexcept { return static_cast<unsigned>(value); }

int reason_of(int value) noexcept { return ERR_GET_REASON(openssl_error(value)); }

TlsFault fault_of(int value) noexcept {
    if (value > 0 && value < certificates)
        return static_cast<TlsFault>(value);
    if (value >= certificates && value < certificates_end)
        return TlsFault::certificate;
    if (ERR_GET_LIB(openssl_error(value)) != ERR_LIB_SSL)
        return TlsFault::protocol;
    if (reason_of(value) >= alerts)
        return TlsFault::alert;
    if (reason_of(value) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return TlsFault::cut_off;
    return TlsFault::protocol;
}

const char* text_of(TlsFault fault) noexcept {
    switch (fault) {
    case TlsFault::cut_off: return "the peer was cut off without close_notify";
    case TlsFault::certificate: return "the peer's certificate is refused";
    case TlsFault::alert: return "the peer refuses";
    case TlsFault::too_long: return "the peer sends more than is allowed";
    case TlsFault::protocol: return "the peer does not keep to the protocol";
    }
    return "unknown fault";
}

std::string certificate_text(int verify_result) {
    switch (verify_result) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        return "certificate is of an issuer who is not trusted";
    case X509_V_ERR_HOSTNAME_MISMATCH: return "certificate is for another host";
    case X509_V_ERR_IP_ADDRESS_MISMATCH: return "certificate is for another IP address";
    default: return X509_verify_cert_error_string(verify_result);
    }
}

std::string openssl_text(int value) {
    const unsigned long error = openssl_error(value);
    if (ERR_GET_LIB(error) == ERR_LIB_SSL) {
        const int reason = reason_of(value);
        if (reason >= alerts) {
            const std::string_view alert = SSL_alert_desc_string_long(reason - alerts);
            const char* text = ERR_reason_error_string(error);
            if (alert != "unknown" || !text) // it does not know those of TLS 1.3
                return "the peer refuses: " + std::string(alert);
            return std::string("the peer refuses: ") + text;
        }
        // What OpenSSL says of every other protocol.
        if (reason == SSL_R_WRONG_VERSION_NUMBER)
            return "what the peer sends is no TLS (wrong version number)";
        if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
            return text_of(TlsFault::cut_off);
    }
    if (const char* text = ERR_reason_error_string(error))
        return text;
    char number[32];
    std::snprintf(number, sizeof number, "OpenSSL error %lx", error);
    return number;
}

class TlsCodes final : public std::error_category {
public:
    const char* name() const noexcept override { return "tls"; }

    std::string message(int value) const override {
        if (value > 0 && value < certificates)
            return text_of(fault_of(value));
        if (value >= certificates && value < certificates_end)
            return certificate_text(value - certificates);
        return openssl_text(value);
    }

    bool equivalent(int value, const std::error_condition& condition) const noexcept override {
        if (condition.category() == tls_fault_category())
            return condition.value() == static_cast<int>(fault_of(value));
        if (condition == StreamError::broken)
            return fault_of(value) != TlsFault::certificate;
        return error_category::equivalent(value, condition);
    }
};

class TlsFaults final : public std::error_category {
public:
    const char* name() const noexcept override { return "tls fault"; }
    std::string message(int value) const override { return text_of(static_cast<TlsFault>(value)); }
};

} // namespace

const std::error_category& tls_category() noexcept {
    static const TlsCodes category;
    return category;
}

const std::error_category& tls_fault_category() noexcept {
    static const TlsFaults category;
    return category;
}

TlsHandshakeError::TlsHandshakeError(std::error_code code, std::string text)
    : std::system_error(code), text_(std::make_shared<const std::string>(std::move(text))) {}

// --- OpenSSL's queue -----------------------------------------------------------------------

std::error_code detail::make_tls_code(TlsFault fault) noexcept {
    return {static_cast<int>(fault), tls_category()};
}

std::error_code detail::certificate_error(long verify_result) noexcept {
    return {certificates + static_cast<int>(verify_result), tls_category()};
}

std::error_code detail::take_tls_error(TlsFault otherwise) noexcept {
    const unsigned long error = ERR_get_error();
    ERR_clear_error();
    if (error == 0)
        return make_tls_code(otherwise);
    return {static_cast<int>(error), tls_category()};
}

void detail::forget_tls_errors() noexcept {
    if (ERR_peek_error() != 0) // clearing takes ten times as long
        ERR_clear_error();
}

} // namespace trapline
