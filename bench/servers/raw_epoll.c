// An echo server on epoll, as lean as it can be written: edge-triggered, so that an idle
// descriptor is looked at once; a receive that fills less than the buffer has drained the socket
// and spares the next one, which would only say EAGAIN, unless the end has come with the data.
//
//     server_raw_epoll 127.0.0.1:25000
#define _GNU_SOURCE
#include <stdbool.h>

#include <sys/epoll.h>
#include <unistd.h>

#include "listen_at.h"

enum { buffer_bytes = 4096, events_max = 512 };

/// A connection has a buffer of its own only while the peer does not take what we send.
struct connection {
    int fd;
    size_t begin, end; // what is still to be sent
    char* unsent;
};

static char shared[buffer_bytes];

static void end(struct connection* at) {
    close(at->fd); // which takes it out of the epoll set, too
    free(at->unsent);
    free(at);
}

/// False when the connection is over.
static bool flush(struct connection* at, const char* data) {
    while (at->begin < at->end) {
        const ssize_t sent = send(at->fd, data + at->begin, at->end - at->begin, MSG_NOSIGNAL);
        if (sent > 0) {
            at->begin += (size_t)sent;
        } else if (errno == EAGAIN) {
            if (!at->unsent && !(at->unsent = malloc(buffer_bytes)))
                return false;
            if (data != at->unsent)
                memcpy(at->unsent, data, at->end);
            return true;
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

static bool serve(struct connection* at, bool ending) {
    if (at->begin < at->end && !flush(at, at->unsent))
        return false;
    while (at->begin == at->end) {
        const ssize_t got = recv(at->fd, shared, buffer_bytes, 0);
        if (got > 0) {
            at->begin = 0;
            at->end = (size_t)got;
            if (!flush(at, shared))
                return false;
            if (got < buffer_bytes && !ending)
                return true;
        } else if (got == 0) {
            return false;
        } else if (errno == EAGAIN) {
            return true;
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

static void accept_all(int epoll, int listener) {
    for (;;) {
        const int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        struct connection* at = calloc(1, sizeof *at);
        if (!at)
            fail("connection", ENOMEM);
        at->fd = fd;
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                    .data.ptr = at};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
            fail("epoll_ctl", errno);
    }
}

int main(int argc, char** argv) {
    const int listener = listen_at(argc > 1 ? argv[1] : "127.0.0.1:25000", SOCK_NONBLOCK);
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
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
                accept_all(epoll, listener);
            else if (!serve(at, events[i].events & EPOLLRDHUP))
                end(at);
        }
    }
}
