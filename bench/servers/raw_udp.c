// A UDP echo server, as lean as it can be written: one call waits for the first message and takes
// what else there is, one call sends all of it back, from the same buffers and headers.
//
//     server_raw_udp 127.0.0.1:25000
#define _GNU_SOURCE
#include "listen_at.h"

enum { batch_max = 64, message_bytes_max = 2048 };

static char buffers[batch_max][message_bytes_max];
static struct sockaddr_in peers[batch_max];
static struct iovec parts[batch_max];
static struct mmsghdr messages[batch_max];

static void send_back(int fd, int count) {
    for (int sent = 0; sent < count;) {
        const int went = sendmmsg(fd, messages + sent, (unsigned)(count - sent), MSG_NOSIGNAL);
        if (went > 0)
            sent += went;
        else if (errno != EINTR)
            ++sent; // the first cannot be sent, and is lost
    }
}

int main(int argc, char** argv) {
    const int fd = bind_at(argc > 1 ? argv[1] : "127.0.0.1:25000", SOCK_DGRAM);
    for (int i = 0; i < batch_max; ++i) {
        parts[i] = (struct iovec){buffers[i], message_bytes_max};
        messages[i].msg_hdr = (struct msghdr){.msg_name = &peers[i],
                                              .msg_namelen = sizeof peers[i],
                                              .msg_iov = &parts[i],
                                              .msg_iovlen = 1};
    }
    for (;;) {
        const int count = recvmmsg(fd, messages, batch_max, MSG_WAITFORONE, NULL);
        if (count < 0 && errno != EINTR)
            fail("recvmmsg", errno);
        for (int i = 0; i < count; ++i)
            parts[i].iov_len = messages[i].msg_len;
        send_back(fd, count);
        for (int i = 0; i < count; ++i) {
            parts[i].iov_len = message_bytes_max;
            messages[i].msg_hdr.msg_namelen = sizeof peers[i];
        }
    }
}
