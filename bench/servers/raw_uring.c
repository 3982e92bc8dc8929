// An echo server on liburing, the best that we can write: multishot accept, multishot receive
// into a ring of provided buffers, completion work deferred to our own system call, a registered
// ring, and one system call a turn which submits and waits.
//
//     server_raw_uring 127.0.0.1:25000 [--single] [--direct]
//
// --single: plain receives into a buffer of the connection's own, armed again after each send.
// --direct: connections live in the ring's table of files and never become descriptors.
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>

#include <liburing.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "listen_at.h"

enum {
    submissions = 1024,
    completions = 8192,
    connections_max = 32768, // by descriptor, or by place in the ring's table
    buffer_bytes = 4096,
    buffers = 1024, // provided ones; a power of two
    buffer_group = 0,
};

enum kind { op_accept, op_recv, op_send, op_close };

/// What is to be sent of a connection: one buffer with --single; else a queue of buffers, of
/// which the first is being sent. A buffer goes back to the ring when all of it was sent.
struct connection {
    unsigned begin, end; // of the buffer that is being sent
    int first, last;     // buffers, -1 for none
    bool over;           // nothing more comes in
    bool gone;           // nothing more goes out
    bool armed;          // a receive is
    char* own;           // with --single
};

static struct io_uring ring;
static struct io_uring_buf_ring* provided;
static char* provided_bytes;
static struct connection connections[connections_max];
static int next_buffer[buffers]; // the queue of a connection
static unsigned buffer_length[buffers];
static int starved[connections_max]; // connections whose receive found no buffer
static unsigned starved_count;
static unsigned returned; // buffers put back in this turn
static unsigned taken;    // buffers that are not in the ring
static bool single, direct;

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
    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, direct ? 0 : SOCK_CLOEXEC);
    if (direct)
        sqe->file_index = IORING_FILE_INDEX_ALLOC;
    note(sqe, op_accept, listener);
}

static void arm_recv(int place) {
    struct connection* at = &connections[place];
    struct io_uring_sqe* sqe = submission();
    if (single) {
        io_uring_prep_recv(sqe, place, at->own, buffer_bytes, 0);
    } else {
        io_uring_prep_recv_multishot(sqe, place, NULL, 0, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = buffer_group;
    }
    if (direct)
        sqe->flags |= IOSQE_FIXED_FILE;
    note(sqe, op_recv, place);
    at->armed = true;
}

static void arm_send(int place) {
    struct connection* at = &connections[place];
    struct io_uring_sqe* sqe = submission();
    const char* data = single ? at->own : provided_bytes + (size_t)at->first * buffer_bytes;
    io_uring_prep_send(sqe, place, data + at->begin, at->end - at->begin, MSG_NOSIGNAL);
    if (direct)
        sqe->flags |= IOSQE_FIXED_FILE;
    note(sqe, op_send, place);
}

static void end(int place) {
    struct connection* at = &connections[place];
    if (at->armed || at->first >= 0 || at->begin < at->end)
        return; // something is in flight
    struct io_uring_sqe* sqe = submission();
    if (direct) {
        io_uring_prep_close(sqe, 0);
        sqe->file_index = (unsigned)place + 1;
    } else {
        io_uring_prep_close(sqe, place);
    }
    note(sqe, op_close, place);
}

static void give_buffer_back(int buffer) {
    io_uring_buf_ring_add(provided, provided_bytes + (size_t)buffer * buffer_bytes, buffer_bytes,
                          (unsigned short)buffer, io_uring_buf_ring_mask(buffers), (int)returned);
    ++returned;
    --taken;
}

static void accepted(const struct io_uring_cqe* cqe, int listener) {
    if (cqe->res >= 0) {
        const int place = cqe->res;
        if (place >= connections_max)
            fail("too many connections", EMFILE);
        struct connection* at = &connections[place];
        char* own = at->own;
        *at = (struct connection){.first = -1, .last = -1, .own = own};
        if (single && !own && !(at->own = malloc(buffer_bytes)))
            fail("connection", ENOMEM);
        arm_recv(place);
    } else if (cqe->res != -ECONNABORTED && cqe->res != -EINTR) {
        fail("accept", -cqe->res);
    }
    if (!(cqe->flags & IORING_CQE_F_MORE))
        arm_accept(listener);
}

static void received(const struct io_uring_cqe* cqe, int place) {
    struct connection* at = &connections[place];
    if (single || !(cqe->flags & IORING_CQE_F_MORE))
        at->armed = false;
    if (cqe->res > 0 && single) {
        at->begin = 0;
        at->end = (unsigned)cqe->res;
        arm_send(place);
    } else if (cqe->res > 0) {
        const int buffer = (int)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        ++taken;
        buffer_length[buffer] = (unsigned)cqe->res;
        next_buffer[buffer] = -1;
        if (at->gone) {
            give_buffer_back(buffer);
        } else if (at->first < 0) {
            at->first = at->last = buffer;
            at->begin = 0;
            at->end = (unsigned)cqe->res;
            arm_send(place);
        } else {
            next_buffer[at->last] = buffer;
            at->last = buffer;
        }
        if (!at->armed)
            arm_recv(place);
    } else if (cqe->res == -ENOBUFS) {
        starved[starved_count++] = place; // goes on when a buffer comes back
        at->armed = true;
    } else {
        at->over = true;
        end(place);
    }
}

static void sent_buffer(int place) {
    struct connection* at = &connections[place];
    do {
        const int buffer = at->first;
        at->first = next_buffer[buffer];
        give_buffer_back(buffer);
    } while (at->gone && at->first >= 0);
    if (at->first >= 0) {
        at->begin = 0;
        at->end = buffer_length[at->first];
        arm_send(place);
    } else if (at->over) {
        end(place);
    }
}

static void sent(const struct io_uring_cqe* cqe, int place) {
    struct connection* at = &connections[place];
    if (cqe->res > 0)
        at->begin += (unsigned)cqe->res;
    if (cqe->res <= 0) { // the peer is gone: what is left goes nowhere
        at->over = at->gone = true;
        at->begin = at->end = 0;
    }
    if (at->begin < at->end)
        arm_send(place);
    else if (!single)
        sent_buffer(place);
    else if (at->over)
        end(place);
    else
        arm_recv(place);
}

static void handle(const struct io_uring_cqe* cqe) {
    const int place = (int)(unsigned)cqe->user_data;
    switch ((enum kind)(cqe->user_data >> 32)) {
    case op_accept: accepted(cqe, place); break;
    case op_recv: received(cqe, place); break;
    case op_send: sent(cqe, place); break;
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
    taken = buffers;
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
    if (direct) {
        struct rlimit limit;
        getrlimit(RLIMIT_NOFILE, &limit); // which limits the table, too
        const unsigned places =
            limit.rlim_cur < connections_max ? (unsigned)limit.rlim_cur : connections_max;
        error = io_uring_register_files_sparse(&ring, places);
        if (error != 0)
            fail("io_uring_register_files_sparse", -error);
    }
    if (!single)
        provide_buffers();
}

int main(int argc, char** argv) {
    const char* address = "127.0.0.1:25000";
    for (int i = 1; i < argc; ++i) {
        if (strcmp(argv[i], "--single") == 0)
            single = true;
        else if (strcmp(argv[i], "--direct") == 0)
            direct = true;
        else
            address = argv[i];
    }
    set_up();
    arm_accept(listen_at(address, 0));
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
        while (starved_count > 0 && taken < buffers)
            arm_recv(starved[--starved_count]);
    }
}
