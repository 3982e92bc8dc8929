// Internal. OpenSSL's objects with an owner, its errors as ours, and what contexts hold.
#pragma once

#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include <openssl/bio.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "tls_context.hpp"

namespace trapline::detail {

template <auto free>
struct OpensslDeleter {
    template <class T>
    void operator()(T* object) const noexcept {
        free(object);
    }
};

inline void free_chain(STACK_OF(X509) * chain) { sk_X509_pop_free(chain, X509_free); }

using SslOwner = std::unique_ptr<SSL, OpensslDeleter<SSL_free>>;
using SslContextOwner = std::unique_ptr<SSL_CTX, OpensslDeleter<SSL_CTX_free>>;
using SslSessionOwner = std::unique_ptr<SSL_SESSION, OpensslDeleter<SSL_SESSION_free>>;
using BioOwner = std::unique_ptr<BIO, OpensslDeleter<BIO_free>>;
using BioMethodOwner = std::unique_ptr<BIO_METHOD, OpensslDeleter<BIO_meth_free>>;
using X509Owner = std::unique_ptr<X509, OpensslDeleter<X509_free>>;
using KeyOwner = std::unique_ptr<EVP_PKEY, OpensslDeleter<EVP_PKEY_free>>;
using ChainOwner = std::unique_ptr<STACK_OF(X509), OpensslDeleter<free_chain>>;

/// What OpenSSL has complained of on this thread first, as a code of tls_category(). It has nothing
/// to complain of afterwards. `otherwise`: when there is nothing.
std::error_code take_tls_error(TlsFault otherwise = TlsFault::protocol) noexcept;

/// Complaints that nobody took, of other users of OpenSSL on this thread, must not mislead.
void forget_tls_errors() noexcept;

/// A code of tls_category() for an X509_V_ERR_ number.
std::error_code certificate_error(long verify_result) noexcept;

/// What a code of tls_category() that is one fault and nothing more says.
std::error_code make_tls_code(TlsFault fault) noexcept;

/// OpenSSL answers null when memory is gone.
template <class T>
T* tls_new(T* made) {
    if (!made) {
        forget_tls_errors();
        throw std::bad_alloc();
    }
    return made;
}

std::vector<std::string> names_of(X509& certificate);
TlsCertificate describe(X509& certificate);

struct TlsContext {
    struct Identity {
        X509Owner certificate;
        KeyOwner key;
        ChainOwner chain;
    };

    SslContextOwner ssl;
    BioMethodOwner transport; ///< see tls.cpp
    std::vector<Identity> identities;
    std::string alpn; ///< as it goes over the wire: each name after its length
    bool verify = true;
};

/// Bytes in memory on both sides, in place of a socket; what they come from and go to is a
/// TlsState, the BIO's data.
BioMethodOwner make_tls_transport();

} // namespace trapline::detail
