// What the servers on libuv share: how "127.0.0.1:25000" is listened at, and how they give up.
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uv.h>

static void check(const char* what, int result) {
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, uv_strerror(result));
        exit(1);
    }
}

static void* allocated(size_t bytes) {
    void* memory = malloc(bytes);
    check("memory", memory ? 0 : UV_ENOMEM);
    return memory;
}

/// Listens, and serves until a signal ends the program.
static int serve_at(const char* address, uv_connection_cb on_connection) {
    const char* colon = strrchr(address, ':');
    char host[32];
    struct sockaddr_in at;
    uv_loop_t* loop = uv_default_loop();
    uv_tcp_t listener;
    if (!colon || (size_t)(colon - address) >= sizeof host)
        check(address, UV_EINVAL);
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = 0;
    check(address, uv_ip4_addr(host, atoi(colon + 1), &at));
    check("socket", uv_tcp_init(loop, &listener));
    check("bind", uv_tcp_bind(&listener, (const struct sockaddr*)&at, 0));
    check("listen", uv_listen((uv_stream_t*)&listener, 4096, on_connection));
    return uv_run(loop, UV_RUN_DEFAULT);
}
