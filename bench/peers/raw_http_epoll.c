// A web server on epoll which greets everybody, as lean as it can be written: see
// ../servers/raw_epoll.c. Of a request only the empty line at its end is looked at.
//
//     peer_raw_http_epoll 127.0.0.1:8080
#define _GNU_SOURCE
#include <stdbool.h>

#include <sys/epoll.h>
#include <unistd.h>

#include "../servers/listen_at.h"
#include "hello.h"

enum { buffer_bytes = 4096, events_max = 512 };

struct connection {
    int fd;
    struct owed owed;
};

static char shared[buffer_bytes];

static void end(struct connection* at) {
    close(at->fd); // which takes it out of the epoll set, too
    free(at);
}

/// False when the connection is over.
static bool flush(struct connection* at) {
    while (at->owed.bytes > 0) {
        size_t size;
        const char* data = next_answers(&at->owed, &size);
        const ssize_t sent = send(at->fd, data, size, MSG_NOSIGNAL);
        if (sent > 0)
            at->owed.bytes -= (size_t)sent;
        else if (errno == EAGAIN)
            return true;
        else if (errno != EINTR)
            return false;
    }
    return true;
}

static bool serve(struct connection* at, bool ending) {
    if (!flush(at))
        return false;
    while (at->owed.bytes == 0) { // else nothing is read before the client has taken it
        const ssize_t got = recv(at->fd, shared, buffer_bytes, 0);
        if (got > 0) {
            owe(&at->owed, shared, (size_t)got);
            if (!flush(at))
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
    const int listener = listen_at(argc > 1 ? argv[1] : "127.0.0.1:8080", SOCK_NONBLOCK);
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0)
        fail("epoll", errno);
    write_answers();
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
