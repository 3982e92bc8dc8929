// A web server on liburing which greets everybody, the best that we can write: see
// ../servers/raw_uring.c. Of a request only the empty line at its end is looked at, so that a
// buffer goes back to the ring as soon as it was searched.
//
//     peer_raw_http_uring 127.0.0.1:8080
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>

#include <liburing.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../servers/listen_at.h"
#include "hello.h"

enum {
    submissions = 1024,
    completions = 8192,
    connections_max = 32768, // by descriptor
    buffer_bytes = 4096,
    buffers = 1024, // provided ones; a power of two
    buffer_group = 0,
};

enum kind { op_accept, op_recv, op_send, op_close };

struct connection {
    struct owed owed;
    bool over;    // nothing more comes in
    bool armed;   // a receive is
    bool sending; // answers are being sent
};

static struct io_uring ring;
static struct io_uring_buf_ring* provided;
static char* provided_bytes;
static struct connection connections[connections_max];
static int starved[connections_max]; // connections whose receive found no buffer
static unsigned starved_count;
static unsigned returned; // buffers put back in this turn

static struct io_uring_sqe* submission(void) {
    struct io_uring_sqe* sqe = io_uring_get_sqe(&ring);
    while (!sqe) {
        io_uring_submit(&ring);
        sqe = io_uring_get_sqe(&ring);
    }
    return sqe;
}

static void note(struct io_uring_sqe* sqe, enum kind kind, int place) {
    sqe->user_data = (uint64_t)kind << 32 | (unsigned)place;
}

static void arm_accept(int listener) {
    struct io_uring_sqe* sqe = submission();
    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
    note(sqe, op_accept, listener);
}

static void arm_recv(int fd) {
    struct io_uring_sqe* sqe = submission();
    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = buffer_group;
    note(sqe, op_recv, fd);
    connections[fd].armed = true;
}

static void arm_send(int fd) {
    size_t size;
    const char* data = next_answers(&connections[fd].owed, &size);
    struct io_uring_sqe* sqe = submission();
    io_uring_prep_send(sqe, fd, data, size, MSG_NOSIGNAL);
    note(sqe, op_send, fd);
    connections[fd].sending = true;
}

static void end(int fd) {
    const struct connection* at = &connections[fd];
    if (at->armed || at->sending)
        return; // something is in flight
    struct io_uring_sqe* sqe = submission();
    io_uring_prep_close(sqe, fd);
    note(sqe, op_close, fd);
}

static void give_buffer_back(int buffer) {
    io_uring_buf_ring_add(provided, provided_bytes + (size_t)buffer * buffer_bytes, buffer_bytes,
                          (unsigned short)buffer, io_uring_buf_ring_mask(buffers), (int)returned);
    ++returned;
}

static void accepted(const struct io_uring_cqe* cqe, int listener) {
    if (cqe->res >= connections_max)
        fail("too many connections", EMFILE);
    if (cqe->res >= 0) {
        connections[cqe->res] = (struct connection){0};
        arm_recv(cqe->res);
    } else if (cqe->res != -ECONNABORTED && cqe->res != -EINTR) {
        fail("accept", -cqe->res);
    }
    if (!(cqe->flags & IORING_CQE_F_MORE))
        arm_accept(listener);
}

static void received(const struct io_uring_cqe* cqe, int fd) {
    struct connection* at = &connections[fd];
    if (!(cqe->flags & IORING_CQE_F_MORE))
        at->armed = false;
    if (cqe->res > 0) {
        const int buffer = (int)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        if (!at->over)
            owe(&at->owed, provided_bytes + (size_t)buffer * buffer_bytes, (size_t)cqe->res);
        give_buffer_back(buffer);
        if (at->owed.bytes > 0 && !at->sending)
            arm_send(fd);
        if (!at->armed)
            arm_recv(fd);
    } else if (cqe->res == -ENOBUFS) {
        starved[starved_count++] = fd; // goes on when the buffers of this turn are back
        at->armed = true;
    } else {
        at->over = true;
        end(fd);
    }
}

static void sent(const struct io_uring_cqe* cqe, int fd) {
    struct connection* at = &connections[fd];
    at->sending = false;
    if (cqe->res > 0) {
        at->owed.bytes -= (size_t)cqe->res;
    } else { // the peer is gone: what is left goes nowhere
        at->over = true;
        at->owed.bytes = 0;
    }
    if (at->owed.bytes > 0)
        arm_send(fd);
    else if (at->over)
        end(fd);
}

static void handle(const struct io_uring_cqe* cqe) {
    const int fd = (int)(unsigned)cqe->user_data;
    switch ((enum kind)(cqe->user_data >> 32)) {
    case op_accept: accepted(cqe, fd); break;
    case op_recv: received(cqe, fd); break;
    case op_send: sent(cqe, fd); break;
    case op_close: break;
    }
}

/// io_uring_setup_buf_ring by hand, which liburing 2.3 does not have.
static void provide_buffers(void) {
    const size_t ring_bytes = buffers * sizeof(struct io_uring_buf);
    const int protection = PROT_READ | PROT_WRITE, flags = MAP_ANONYMOUS | MAP_PRIVATE;
    provided = mmap(NULL, ring_bytes, protection, flags, -1, 0);
    provided_bytes = mmap(NULL, (size_t)buffers * buffer_bytes, protection, flags, -1, 0);
    if (provided == MAP_FAILED || provided_bytes == MAP_FAILED)
        fail("buffers", errno);
    io_uring_buf_ring_init(provided);
    struct io_uring_buf_reg what = {
        .ring_addr = (uintptr_t)provided, .ring_entries = buffers, .bgid = buffer_group};
    const int error = io_uring_register_buf_ring(&ring, &what, 0);
    if (error != 0)
        fail("io_uring_register_buf_ring", -error);
    for (int buffer = 0; buffer < buffers; ++buffer)
        give_buffer_back(buffer);
    io_uring_buf_ring_advance(provided, (int)returned);
}

static void set_up(void) {
    struct io_uring_params parameters = {.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL |
                                                  IORING_SETUP_SINGLE_ISSUER |
                                                  IORING_SETUP_DEFER_TASKRUN,
                                         .cq_entries = completions};
    int error = io_uring_queue_init_params(submissions, &ring, &parameters);
    if (error != 0)
        fail("io_uring_queue_init_params", -error);
    error = io_uring_register_ring_fd(&ring);
    if (error != 1)
        fail("io_uring_register_ring_fd", -error);
    provide_buffers();
}

int main(int argc, char** argv) {
    write_answers();
    set_up();
    arm_accept(listen_at(argc > 1 ? argv[1] : "127.0.0.1:8080", 0));
    for (;;) {
        const int result = io_uring_submit_and_wait(&ring, 1);
        if (result < 0 && result != -EINTR && result != -EBUSY)
            fail("io_uring_enter", -result);
        unsigned head, count = 0;
        struct io_uring_cqe* cqe;
        returned = 0;
        io_uring_for_each_cqe(&ring, head, cqe) {
            handle(cqe);
            ++count;
        }
        io_uring_cq_advance(&ring, count);
        if (returned > 0)
            io_uring_buf_ring_advance(provided, (int)returned);
        while (starved_count > 0)
            arm_recv(starved[--starved_count]);
    }
}
