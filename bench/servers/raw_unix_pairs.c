// The floor under unix_pairs.cpp: the same echo over AF_UNIX socket pairs as a state machine on
// liburing, with the same ring, the same operations in the same order and one system call a turn.
//
//     server_raw_unix_pairs [PAIRS] [ROUND_TRIPS] [--try-first]
//
// A receive waits first, for nothing is there yet. With --try-first it tries in vain before that,
// as it does in a loop whose author does not ask for anything else.
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <liburing.h>
#include <sys/socket.h>
#include <time.h>

enum { message_bytes = 64, buffer_bytes = 4096, warm_up_trips = 200 };

enum state { echo_receives, echo_sends, driver_sends, driver_receives };

struct end {
    int fd;
    enum state state;
    unsigned length;
    int trips;             // a driver's that are left
    unsigned char* buffer; // what comes in
    unsigned char message[message_bytes];
};

static struct io_uring ring;
static uint64_t operations, system_calls;
static int drivers; // that have trips left
static unsigned short receive_mode = IORING_RECVSEND_POLL_FIRST;

static void fail(const char* what, int error) {
    fprintf(stderr, "server_raw_unix_pairs: %s: %s\n", what, strerror(error));
    exit(1);
}

static struct io_uring_sqe* submission(void) {
    struct io_uring_sqe* sqe = io_uring_get_sqe(&ring);
    if (!sqe) {
        ++system_calls;
        io_uring_submit(&ring);
        sqe = io_uring_get_sqe(&ring);
    }
    ++operations;
    return sqe;
}

static void receive(struct end* end, enum state state, unsigned size, int flags) {
    struct io_uring_sqe* sqe = submission();
    io_uring_prep_recv(sqe, end->fd, end->buffer, size, flags);
    sqe->ioprio |= receive_mode;
    io_uring_sqe_set_data(sqe, end);
    end->state = state;
}

static void transmit(struct end* end, enum state state, const void* data, unsigned size) {
    struct io_uring_sqe* sqe = submission();
    io_uring_prep_send(sqe, end->fd, data, size, MSG_WAITALL | MSG_NOSIGNAL);
    io_uring_sqe_set_data(sqe, end);
    end->length = size;
    end->state = state;
}

static void handle(struct end* end, int result) {
    if (result < 0)
        fail("an operation", -result);
    switch (end->state) {
    case echo_receives:
        if (result > 0)
            transmit(end, echo_sends, end->buffer, (unsigned)result);
        break;
    case echo_sends:
        if ((unsigned)result != end->length)
            fail("send", EIO);
        receive(end, echo_receives, buffer_bytes, 0);
        break;
    case driver_sends:
        if ((unsigned)result != end->length)
            fail("send", EIO);
        receive(end, driver_receives, message_bytes, 0);
        break;
    case driver_receives:
        if (result != message_bytes || memcmp(end->buffer, end->message, message_bytes) != 0)
            fail("a wrong answer", EIO);
        if (--end->trips == 0)
            --drivers;
        else
            transmit(end, driver_sends, end->message, message_bytes);
    }
}

static void drive_all(struct end* ends, int pairs, int trips) {
    drivers = pairs;
    for (int i = 0; i < pairs; ++i) {
        ends[i].trips = trips;
        transmit(&ends[i], driver_sends, ends[i].message, message_bytes);
    }
    while (drivers > 0) {
        ++system_calls;
        const int result = io_uring_submit_and_wait(&ring, 1);
        if (result < 0 && result != -EINTR && result != -EBUSY)
            fail("io_uring_enter", -result);
        unsigned head, count = 0;
        struct io_uring_cqe* cqe;
        io_uring_for_each_cqe(&ring, head, cqe) {
            handle(io_uring_cqe_get_data(cqe), cqe->res);
            ++count;
        }
        io_uring_cq_advance(&ring, count);
    }
}

static double cpu_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

int main(int argc, char** argv) {
    const int pairs = argc > 1 ? atoi(argv[1]) : 64;
    const int trips = argc > 2 ? atoi(argv[2]) : 3000;
    if (argc > 3 && strcmp(argv[3], "--try-first") == 0)
        receive_mode = 0;
    struct io_uring_params parameters = {
        .flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
                 IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        .cq_entries = 4096};
    int error = io_uring_queue_init_params(512, &ring, &parameters);
    if (error != 0)
        fail("io_uring_queue_init_params", -error);
    error = io_uring_register_ring_fd(&ring);
    if (error != 1)
        fail("io_uring_register_ring_fd", -error);

    struct end* drivers_and_echoes = calloc((size_t)pairs * 2, sizeof *drivers_and_echoes);
    if (!drivers_and_echoes)
        fail("pairs", ENOMEM);
    struct end *driving = drivers_and_echoes, *echoing = drivers_and_echoes + pairs;
    for (int i = 0; i < pairs; ++i) {
        int fds[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
            fail("socketpair", errno);
        driving[i].fd = fds[0];
        driving[i].buffer = malloc(message_bytes);
        echoing[i].fd = fds[1];
        echoing[i].buffer = malloc(buffer_bytes);
        if (!driving[i].buffer || !echoing[i].buffer)
            fail("pairs", ENOMEM);
        for (int k = 0; k < message_bytes; ++k)
            driving[i].message[k] = (unsigned char)(i * 7 + k);
        receive(&echoing[i], echo_receives, buffer_bytes, 0);
    }

    drive_all(driving, pairs, warm_up_trips);
    operations = system_calls = 0;
    const double start = cpu_ns();
    drive_all(driving, pairs, trips);
    const double requests = (double)pairs * trips;
    const double spent = (cpu_ns() - start) / requests;
    printf("RESULT {\"cpu_ns\": %.1f, \"operations\": %.4f, \"system_calls\": %.5f}\n", spent,
           (double)operations / requests, (double)system_calls / requests);
}
