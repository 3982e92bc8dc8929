// What the TLS servers show: a certificate that vouches for itself, made anew at each start. The
// load looks at no certificates.
#pragma once

#include <stdlib.h>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

static inline void make_certificate(X509** certificate, EVP_PKEY** key) {
    *key = EVP_EC_gen("P-256");
    *certificate = X509_new();
    if (!*key || !*certificate)
        abort();
    X509_set_version(*certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(*certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(*certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(*certificate), 24L * 3600);
    X509_set_pubkey(*certificate, *key);
    if (!X509_sign(*certificate, *key, EVP_sha256()))
        abort();
}
