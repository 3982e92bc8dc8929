// Certificates for tests, made on the spot: authorities, and what they sign.
//
//     const Authority authority;
//     const Certificate server = authority.issue({.names = "DNS:example.org,IP:127.0.0.1"});
//     TlsIdentity::pem(server.chain, server.key)
#pragma once

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

namespace trapline::test {

struct Certificate {
    std::string chain; ///< PEM
    std::string key;   ///< PEM
};

struct CertificateOptions {
    std::string subject = "somebody"; ///< the common name
    std::string names{};              ///< as OpenSSL's configuration has it: "DNS:a.org,IP:::1"
    long from_s = -3600;              ///< validity, from now
    long to_s = 3600;
    bool authority = false;
};

namespace openssl {

template <auto free>
struct Deleter {
    template <class T>
    void operator()(T* object) const noexcept {
        free(object);
    }
};

using X509Pointer = std::unique_ptr<X509, Deleter<X509_free>>;
using KeyPointer = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;

template <class T>
T* good(T* made) {
    return made ? made : throw std::runtime_error("OpenSSL cannot make a test's certificate");
}
inline void good(int answer) {
    if (answer <= 0)
        throw std::runtime_error("OpenSSL cannot make a test's certificate");
}

template <class Write>
std::string pem(Write write) {
    const std::unique_ptr<BIO, Deleter<BIO_free>> memory{good(BIO_new(BIO_s_mem()))};
    good(write(memory.get()));
    char* text = nullptr;
    const long size = BIO_get_mem_data(memory.get(), &text);
    return {text, static_cast<std::size_t>(size)};
}

inline void extend(X509& certificate, int extension, const std::string& value) {
    const std::unique_ptr<X509_EXTENSION,
                          decltype([](X509_EXTENSION* x) { X509_EXTENSION_free(x); })>
        made{good(X509V3_EXT_conf_nid(nullptr, nullptr, extension, value.c_str()))};
    good(X509_add_ext(&certificate, made.get(), -1));
}

inline std::string pem_of(X509& certificate) {
    return pem([&](BIO* to) { return PEM_write_bio_X509(to, &certificate); });
}
inline std::string pem_of(EVP_PKEY& key) {
    return pem([&](BIO* to) {
        return PEM_write_bio_PrivateKey(to, &key, nullptr, nullptr, 0, nullptr, nullptr);
    });
}

/// `issuer` null: it is its own.
inline X509Pointer make_certificate(const CertificateOptions& options, EVP_PKEY& key, X509* issuer,
                                    EVP_PKEY& signer) {
    static std::atomic<long> serial = 1;
    X509Pointer made{good(X509_new())};
    good(X509_set_version(made.get(), X509_VERSION_3));
    good(ASN1_INTEGER_set(X509_get_serialNumber(made.get()), serial++));
    good(X509_gmtime_adj(X509_getm_notBefore(made.get()), options.from_s));
    good(X509_gmtime_adj(X509_getm_notAfter(made.get()), options.to_s));
    good(X509_set_pubkey(made.get(), &key));
    X509_NAME* name = X509_get_subject_name(made.get());
    good(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                    reinterpret_cast<const unsigned char*>(options.subject.data()),
                                    static_cast<int>(options.subject.size()), -1, 0));
    good(X509_set_issuer_name(made.get(), issuer ? X509_get_subject_name(issuer) : name));
    extend(*made, NID_basic_constraints, options.authority ? "critical,CA:TRUE" : "CA:FALSE");
    if (!options.names.empty())
        extend(*made, NID_subject_alt_name, options.names);
    good(X509_sign(made.get(), &signer, EVP_sha256()));
    return made;
}

} // namespace openssl

/// A certificate that only vouches for itself.
inline Certificate self_signed(const CertificateOptions& options) {
    const openssl::KeyPointer key{openssl::good(EVP_EC_gen("P-256"))};
    const auto made = openssl::make_certificate(options, *key, nullptr, *key);
    return {openssl::pem_of(*made), openssl::pem_of(*key)};
}

class Authority {
public:
    explicit Authority(const std::string& name = "test authority")
        : certificate_(openssl::make_certificate({.subject = name, .authority = true}, *key_,
                                                 nullptr, *key_)) {}

    /// What those need who trust it.
    std::string pem() const { return openssl::pem_of(*certificate_); }

    Certificate issue(const CertificateOptions& options) const {
        const openssl::KeyPointer key{openssl::good(EVP_EC_gen("P-256"))};
        const auto made = openssl::make_certificate(options, *key, certificate_.get(), *key_);
        return {openssl::pem_of(*made), openssl::pem_of(*key)};
    }

private:
    openssl::KeyPointer key_{openssl::good(EVP_EC_gen("P-256"))};
    openssl::X509Pointer certificate_;
};

} // namespace trapline::test
