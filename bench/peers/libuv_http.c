// A web server on libuv which greets everybody, tuned as libuv_echo.c is. libuv has no parser of
// HTTP: a request ends at its empty line, and nothing else is looked at.
//
//     peer_libuv_http 127.0.0.1:8080
#include "hello.h"
#include "libuv_listen.h"

struct client {
    uv_tcp_t tcp;
    uv_write_t request; // one at a time
    struct owed owed;
};

static char shared[65536];

static void on_close(uv_handle_t* client) { free(client); }

static void drop(struct client* client) {
    if (!uv_is_closing((uv_handle_t*)client))
        uv_close((uv_handle_t*)client, on_close);
}

static void on_allocate(uv_handle_t* client, size_t suggested, uv_buf_t* buffer) {
    (void)client, (void)suggested;
    *buffer = uv_buf_init(shared, sizeof shared);
}

static void on_read(uv_stream_t* stream, ssize_t n, const uv_buf_t* buffer);
static void answer(struct client* client);

static void on_written(uv_write_t* request, int status) {
    struct client* client = request->handle->data;
    if (status < 0)
        drop(client);
    else if (!uv_is_closing((uv_handle_t*)client))
        answer(client);
}

/// What the socket does not take at once is written later; nothing is read before.
static void answer(struct client* client) {
    uv_stream_t* stream = (uv_stream_t*)client;
    while (client->owed.bytes > 0) {
        size_t size;
        const char* data = next_answers(&client->owed, &size);
        const uv_buf_t buffer = uv_buf_init((char*)data, (unsigned)size);
        const int written = uv_try_write(stream, &buffer, 1);
        if (written == UV_EAGAIN) {
            client->owed.bytes -= size;
            uv_read_stop(stream);
            if (uv_write(&client->request, stream, &buffer, 1, on_written) != 0)
                drop(client);
            return;
        }
        if (written < 0) {
            drop(client);
            return;
        }
        client->owed.bytes -= (size_t)written;
    }
    uv_read_start(stream, on_allocate, on_read); // does nothing if it reads
}

static void on_read(uv_stream_t* stream, ssize_t n, const uv_buf_t* buffer) {
    struct client* client = stream->data;
    if (n > 0) {
        owe(&client->owed, buffer->base, (size_t)n);
        answer(client);
    } else if (n < 0) {
        drop(client);
    }
}

static void on_connection(uv_stream_t* listener, int status) {
    check("accept", status);
    struct client* client = allocated(sizeof *client);
    client->owed = (struct owed){0};
    check("client", uv_tcp_init(listener->loop, &client->tcp));
    client->tcp.data = client;
    if (uv_accept(listener, (uv_stream_t*)client) == 0) {
        uv_tcp_nodelay(&client->tcp, 1);
        uv_read_start((uv_stream_t*)client, on_allocate, on_read);
    } else {
        drop(client);
    }
}

int main(int argc, char** argv) {
    write_answers();
    return serve_at(argc > 1 ? argv[1] : "127.0.0.1:8080", on_connection);
}
