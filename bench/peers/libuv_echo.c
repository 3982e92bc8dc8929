// An echo server on libuv. What its users tune: one buffer for all that is read, as nobody keeps it
// beyond the callback; and a write that is tried at once, so that only what the socket does not
// take is copied and queued.
//
//     peer_libuv_echo 127.0.0.1:25000
#include "libuv_listen.h"

struct rest { // of a write
    uv_write_t request;
    char data[];
};

static char shared[65536];

static void on_close(uv_handle_t* client) { free(client); }

static void drop(uv_stream_t* client) {
    if (!uv_is_closing((uv_handle_t*)client))
        uv_close((uv_handle_t*)client, on_close);
}

static void on_shutdown(uv_shutdown_t* request, int status) {
    (void)status;
    drop(request->handle);
    free(request);
}

static void on_allocate(uv_handle_t* client, size_t suggested, uv_buf_t* buffer) {
    (void)client, (void)suggested;
    *buffer = uv_buf_init(shared, sizeof shared);
}

static void on_read(uv_stream_t* client, ssize_t n, const uv_buf_t* buffer);

static void on_written(uv_write_t* request, int status) {
    if (status < 0)
        drop(request->handle);
    else if (!uv_is_closing((uv_handle_t*)request->handle))
        uv_read_start(request->handle, on_allocate, on_read);
    free(request);
}

/// Nothing is read before the client has taken it.
static void write_later(uv_stream_t* client, const char* data, size_t size) {
    struct rest* rest = allocated(sizeof *rest + size);
    const uv_buf_t later = uv_buf_init(rest->data, (unsigned)size);
    memcpy(rest->data, data, size);
    uv_read_stop(client);
    if (uv_write(&rest->request, client, &later, 1, on_written) != 0) {
        free(rest);
        drop(client);
    }
}

static void on_read(uv_stream_t* client, ssize_t n, const uv_buf_t* buffer) {
    if (n > 0) {
        const uv_buf_t data = uv_buf_init(buffer->base, (unsigned)n);
        int written = uv_try_write(client, &data, 1);
        if (written == UV_EAGAIN)
            written = 0;
        if (written < 0)
            drop(client);
        else if (written < n)
            write_later(client, buffer->base + written, (size_t)(n - written));
    } else if (n == UV_EOF) {
        uv_shutdown_t* request = allocated(sizeof *request);
        if (uv_shutdown(request, client, on_shutdown) != 0) {
            free(request);
            drop(client);
        }
    } else if (n < 0) {
        drop(client);
    }
}

static void on_connection(uv_stream_t* listener, int status) {
    check("accept", status);
    uv_tcp_t* client = allocated(sizeof *client);
    check("client", uv_tcp_init(listener->loop, client));
    if (uv_accept(listener, (uv_stream_t*)client) == 0) {
        uv_tcp_nodelay(client, 1);
        uv_read_start((uv_stream_t*)client, on_allocate, on_read);
    } else {
        drop((uv_stream_t*)client);
    }
}

int main(int argc, char** argv) {
    return serve_at(argc > 1 ? argv[1] : "127.0.0.1:25000", on_connection);
}
