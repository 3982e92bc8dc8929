// A web server on libevent's evhttp which greets everybody. What its users tune: see
// libevent_echo.c; and the text is referred to, not copied.
//
//     peer_libevent_http 127.0.0.1:8080
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <event2/util.h>

static const char greeting[] = "Hello, world!\n";

static void fail(const char* what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static void on_request(struct evhttp_request* request, void* unused) {
    (void)unused;
    struct evbuffer* text = evhttp_request_get_output_buffer(request);
    evbuffer_add_reference(text, greeting, sizeof greeting - 1, NULL, NULL);
    evhttp_send_reply(request, HTTP_OK, "OK", NULL);
}

int main(int argc, char** argv) {
    const char* address = argc > 1 ? argv[1] : "127.0.0.1:8080";
    struct sockaddr_in at;
    int length = sizeof at;
    if (evutil_parse_sockaddr_port(address, (struct sockaddr*)&at, &length) != 0)
        fail(address);

    struct event_config* config = event_config_new();
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
    struct event_base* base = event_base_new_with_config(config);
    event_config_free(config);
    struct evhttp* server = base ? evhttp_new(base) : NULL;
    if (!server)
        fail("evhttp_new");
    evhttp_set_default_content_type(server, "text/plain");
    evhttp_set_allowed_methods(server, EVHTTP_REQ_GET);
    evhttp_set_gencb(server, on_request, NULL);
    struct evconnlistener* listener = evconnlistener_new_bind(
        base, NULL, NULL, LEV_OPT_REUSEABLE | LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 4096,
        (struct sockaddr*)&at, length);
    if (!listener || !evhttp_bind_listener(server, listener))
        fail(address);
    return event_base_dispatch(base);
}
