// An echo server that speaks TLS by OpenSSL on non-blocking sockets, driven by epoll, as lean as it
// can be written: OpenSSL reads ahead, which takes a record from the socket by one system call
// instead of two, and epoll is level-triggered, which spares the read that would only say EAGAIN.
//
//     server_raw_tls_epoll 127.0.0.1:25000
#define _GNU_SOURCE
#include <signal.h>
#include <stdbool.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "listen_at.h"
#include "tls_certificate.h"

enum { buffer_bytes = 4096, events_max = 512 };

/// A connection has a buffer of its own only while the peer does not take what we send.
struct connection {
    int fd;
    SSL* ssl;
    bool shaken;
    bool writes; // epoll waits until it can
    int begin, end;
    char* unsent;
};

static char shared[buffer_bytes];
static int epoll;

static void end(struct connection* at) {
    SSL_free(at->ssl);
    close(at->fd); // which takes it out of the epoll set, too
    free(at->unsent);
    free(at);
}

static void wait_for(struct connection* at, bool writes) {
    if (at->writes == writes)
        return;
    at->writes = writes;
    struct epoll_event event = {.events = writes ? EPOLLOUT : EPOLLIN, .data.ptr = at};
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, at->fd, &event) != 0)
        fail("epoll_ctl", errno);
}

/// What a call of OpenSSL's that failed waits for. False: the connection is over.
static bool go_on_later(struct connection* at, int result) {
    switch (SSL_get_error(at->ssl, result)) {
    case SSL_ERROR_WANT_READ: wait_for(at, false); return true;
    case SSL_ERROR_WANT_WRITE: wait_for(at, true); return true;
    case SSL_ERROR_ZERO_RETURN: SSL_shutdown(at->ssl); return false;
    default: ERR_clear_error(); return false;
    }
}

static bool flush(struct connection* at, const char* data) {
    while (at->begin < at->end) {
        const int sent = SSL_write(at->ssl, data + at->begin, at->end - at->begin);
        if (sent > 0) {
            at->begin += sent;
            continue;
        }
        if (!go_on_later(at, sent))
            return false;
        if (!at->unsent && !(at->unsent = malloc(buffer_bytes)))
            return false;
        if (data != at->unsent)
            memcpy(at->unsent, data, (size_t)at->end);
        return true;
    }
    wait_for(at, false);
    return true;
}

static bool serve(struct connection* at) {
    if (!at->shaken) {
        const int result = SSL_accept(at->ssl);
        if (result != 1)
            return go_on_later(at, result);
        at->shaken = true;
    }
    if (at->begin < at->end && !flush(at, at->unsent))
        return false;
    while (at->begin == at->end) {
        const int got = SSL_read(at->ssl, shared, buffer_bytes);
        if (got <= 0)
            return go_on_later(at, got);
        at->begin = 0;
        at->end = got;
        if (!flush(at, shared))
            return false;
        if (!SSL_has_pending(at->ssl))
            return true;
    }
    return true;
}

static void accept_all(int listener, SSL_CTX* context) {
    for (;;) {
        const int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        struct connection* at = calloc(1, sizeof *at);
        if (!at || !(at->ssl = SSL_new(context)))
            fail("connection", ENOMEM);
        at->fd = fd;
        SSL_set_fd(at->ssl, fd);
        SSL_set_accept_state(at->ssl);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = at};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
            fail("epoll_ctl", errno);
    }
}

static SSL_CTX* make_context(void) {
    X509* certificate;
    EVP_PKEY* key;
    make_certificate(&certificate, &key);
    SSL_CTX* context = SSL_CTX_new(TLS_server_method());
    if (!context || SSL_CTX_use_cert_and_key(context, certificate, key, NULL, 1) != 1)
        fail("TLS context", EINVAL);
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(context, 1);
    return context;
}

int main(int argc, char** argv) {
    signal(SIGPIPE, SIG_IGN); // OpenSSL writes without MSG_NOSIGNAL
    SSL_CTX* const context = make_context();
    const int listener = listen_at(argc > 1 ? argv[1] : "127.0.0.1:25000", SOCK_NONBLOCK);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0)
        fail("epoll", errno);
    for (;;) {
        struct epoll_event events[events_max];
        const int count = epoll_wait(epoll, events, events_max, -1);
        if (count < 0 && errno != EINTR)
            fail("epoll_wait", errno);
        for (int i = 0; i < count; ++i) {
            struct connection* at = events[i].data.ptr;
            if (!at)
                accept_all(listener, context);
            else if (!serve(at))
                end(at);
        }
    }
}
