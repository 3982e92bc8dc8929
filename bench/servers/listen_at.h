// What the servers written by hand share: a socket bound to "127.0.0.1:25000", which listens.
#pragma once

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

static void fail(const char* what, int error) {
    fprintf(stderr, "%s: %s\n", what, strerror(error));
    exit(1);
}

static int bind_at(const char* address, int type) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    char host[32];
    const char* colon = strrchr(address, ':');
    const size_t host_length = colon ? (size_t)(colon - address) : sizeof host;
    if (host_length >= sizeof host)
        fail(address, EINVAL);
    memcpy(host, address, host_length);
    host[host_length] = 0;
    at.sin_port = htons((unsigned short)atoi(colon + 1));
    if (inet_pton(AF_INET, host, &at.sin_addr) != 1)
        fail(address, EINVAL);

    const int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    const int on = 1;
    if (fd < 0)
        fail("socket", errno);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr*)&at, sizeof at) != 0)
        fail("bind", errno);
    return fd;
}

static inline int listen_at(const char* address, int type_flags) {
    const int fd = bind_at(address, SOCK_STREAM | type_flags);
    if (listen(fd, SOMAXCONN) != 0)
        fail("listen", errno);
    return fd;
}
