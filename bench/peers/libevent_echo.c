// An echo server on libevent's bufferevents, written as its book has it. What its users tune: a
// base without locks, and changes of interest that are told to epoll once a turn.
//
//     peer_libevent_echo 127.0.0.1:25000
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <event2/util.h>

static void fail(const char* what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static void on_read(struct bufferevent* client, void* unused) {
    (void)unused;
    bufferevent_write_buffer(client, bufferevent_get_input(client));
}

static void on_all_sent(struct bufferevent* client, void* unused) {
    (void)unused;
    bufferevent_free(client);
}

static void on_event(struct bufferevent* client, short what, void* unused) {
    if (!(what & BEV_EVENT_EOF) || evbuffer_get_length(bufferevent_get_output(client)) == 0)
        bufferevent_free(client);
    else
        bufferevent_setcb(client, NULL, on_all_sent, on_event, unused);
}

static void on_accept(struct evconnlistener* listener, evutil_socket_t fd, struct sockaddr* peer,
                      int length, void* unused) {
    (void)peer, (void)length;
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct bufferevent* client =
        bufferevent_socket_new(evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);
    if (!client)
        fail("bufferevent_socket_new");
    bufferevent_setcb(client, on_read, NULL, on_event, unused);
    bufferevent_enable(client, EV_READ | EV_WRITE);
}

int main(int argc, char** argv) {
    const char* address = argc > 1 ? argv[1] : "127.0.0.1:25000";
    struct sockaddr_in at;
    int length = sizeof at;
    if (evutil_parse_sockaddr_port(address, (struct sockaddr*)&at, &length) != 0)
        fail(address);

    struct event_config* config = event_config_new();
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
    struct event_base* base = event_base_new_with_config(config);
    event_config_free(config);
    if (!base)
        fail("event_base_new");
    if (!evconnlistener_new_bind(base, on_accept, NULL,
                                 LEV_OPT_REUSEABLE | LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC,
                                 4096, (struct sockaddr*)&at, length))
        fail(address);
    return event_base_dispatch(base);
}
