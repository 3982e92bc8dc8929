// The other end of a TLS connection, driven by hand: to do what a TlsStream never would.
//
//     OpensslPeer peer{std::move(ends.b), OpensslPeer::server(certificate)};
//     co_await peer.handshake();
//     SSL_key_update(peer.ssl(), SSL_KEY_UPDATE_REQUESTED);
//     co_await peer.write("with new keys");
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <trapline/io/any_stream.hpp>

#include "certificates.hpp"

namespace trapline::test {

class OpensslPeer {
public:
    using Context = std::unique_ptr<SSL_CTX, openssl::Deleter<SSL_CTX_free>>;

    static Context server(const Certificate& certificate) {
        Context context{openssl::good(SSL_CTX_new(TLS_server_method()))};
        BIO* chain = BIO_new_mem_buf(certificate.chain.data(), -1);
        X509* leaf = openssl::good(PEM_read_bio_X509(chain, nullptr, nullptr, nullptr));
        BIO* keys = BIO_new_mem_buf(certificate.key.data(), -1);
        EVP_PKEY* key = openssl::good(PEM_read_bio_PrivateKey(keys, nullptr, nullptr, nullptr));
        openssl::good(SSL_CTX_use_cert_and_key(context.get(), leaf, key, nullptr, 1));
        X509_free(leaf);
        EVP_PKEY_free(key);
        BIO_free(chain);
        BIO_free(keys);
        return context;
    }
    /// Verifies nobody.
    static Context client() { return Context{openssl::good(SSL_CTX_new(TLS_client_method()))}; }

    OpensslPeer(AnyStream over, Context context)
        : over_(std::move(over)), ssl_(openssl::good(SSL_new(context.get()))) {
        SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
        if (SSL_CTX_get_ssl_method(context.get()) == TLS_server_method())
            SSL_set_accept_state(ssl_.get());
        else
            SSL_set_connect_state(ssl_.get());
    }

    SSL* ssl() noexcept { return ssl_.get(); }
    AnyStream& over() noexcept { return over_; }

    /// False if it failed, or the other end went.
    Coro<bool> handshake() {
        for (;;) {
            ERR_clear_error();
            const int answer = SSL_do_handshake(ssl());
            const int error = SSL_get_error(ssl(), answer);
            co_await push();
            if (answer == 1)
                co_return true;
            if (error != SSL_ERROR_WANT_READ)
                co_return false;
            const bool more = co_await pull();
            if (!more)
                co_return false;
        }
    }

    Coro<void> write(std::string_view text) {
        SSL_write(ssl(), text.data(), static_cast<int>(text.size()));
        co_await push();
    }

    /// What comes next; empty at the end, and at what is none.
    Coro<std::string> read() {
        std::array<char, 16 * 1024> buffer;
        for (;;) {
            ERR_clear_error();
            const int got = SSL_read(ssl(), buffer.data(), buffer.size());
            const int error = SSL_get_error(ssl(), got);
            co_await push();
            if (got > 0)
                co_return std::string(buffer.data(), static_cast<std::size_t>(got));
            if (error != SSL_ERROR_WANT_READ)
                co_return std::string{};
            const bool more = co_await pull();
            if (!more)
                co_return std::string{};
        }
    }

    /// Sends what OpenSSL wants to be sent.
    Coro<void> push() {
        char* data = nullptr;
        const long size = BIO_get_mem_data(SSL_get_wbio(ssl()), &data);
        const std::string records(data, static_cast<std::size_t>(size));
        (void)BIO_reset(SSL_get_wbio(ssl()));
        if (!records.empty())
            co_await over_.send_all(std::string_view(records));
    }

    /// False at the end of the stream.
    Coro<bool> pull() {
        std::array<std::byte, 16 * 1024> buffer;
        const std::size_t got = co_await over_.recv(buffer);
        if (got > 0)
            BIO_write(SSL_get_rbio(ssl()), buffer.data(), static_cast<int>(got));
        co_return got > 0;
    }

private:
    AnyStream over_;
    std::unique_ptr<SSL, openssl::Deleter<SSL_free>> ssl_;
};

} // namespace trapline::test
