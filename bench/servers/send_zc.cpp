// What a byte costs that is sent over loopback TCP: by send(2), by io_uring's send, and by its
// zero-copy send, from ordinary and from registered memory. One send at a time, as a stream needs
// it. Zero-copy takes turns with eight buffers, so that it seldom waits for the notification that
// ends the use of one. Raw liburing, no Trapline. The sink reads all that comes.
//
//     server_send_zc [--bytes TOTAL]
//
// The sender runs where it is started, the sink on core 1. The last line, RESULT {...}, is for
// programs.
#include <array>
#include <cstdlib>
#include <string_view>
#include <vector>

#include <liburing.h>

#include "sink.hpp"

namespace {

constexpr std::size_t buffers = 8;
constexpr std::size_t size_max = 1 << 20;
constexpr std::uint64_t notification = 1 << 16; // in user_data, beside the buffer's number
constexpr unsigned report_usage = 1u << 3;      // IORING_SEND_ZC_REPORT_USAGE, Linux 6.2
constexpr std::uint32_t was_copied = 1u << 31;  // IORING_NOTIF_USAGE_ZC_COPIED

class Sender {
public:
    Sender(int socket, std::uint64_t total);
    ~Sender() { io_uring_queue_exit(&ring_); }
    Sender(const Sender&) = delete;
    Sender& operator=(const Sender&) = delete;

    void by_call(std::size_t size);
    void by_ring(std::size_t size);
    void by_zero_copy(std::size_t size, bool registered);

    /// How many percent of the notifications said that the bytes had been copied after all.
    double copied_percent() const {
        return notified_ ? static_cast<double>(copied_) / static_cast<double>(notified_) * 100 : 0;
    }

private:
    io_uring_sqe* submission(std::uint64_t data) {
        io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
        io_uring_sqe_set_data64(sqe, data);
        return sqe;
    }
    io_uring_cqe completion();
    void reap_notification(const io_uring_cqe& cqe);
    static void check(std::int64_t sent, std::size_t size) {
        if (sent != static_cast<std::int64_t>(size))
            fail("send", sent < 0 ? static_cast<int>(-sent) : EIO);
    }

    int socket_;
    std::uint64_t total_;
    io_uring ring_{};
    std::vector<char> memory_;
    std::array<bool, buffers> lent_{};
    std::uint64_t notified_ = 0;
    std::uint64_t copied_ = 0;
};

Sender::Sender(int socket, std::uint64_t total)
    : socket_(socket), total_(total), memory_(size_max * buffers, 'z') {
    io_uring_params parameters{};
    parameters.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    if (const int error = io_uring_queue_init_params(64, &ring_, &parameters); error != 0)
        fail("io_uring_queue_init_params", -error);
    std::array<iovec, buffers> parts;
    for (std::size_t i = 0; i < buffers; ++i)
        parts[i] = {&memory_[i * size_max], size_max};
    if (const int error = io_uring_register_buffers(&ring_, parts.data(), buffers); error != 0)
        fail("io_uring_register_buffers", -error);
    if (const int error = io_uring_register_ring_fd(&ring_); error != 1)
        fail("io_uring_register_ring_fd", -error);
}

io_uring_cqe Sender::completion() {
    io_uring_cqe* cqe = nullptr;
    for (;;) {
        const int error = io_uring_submit_and_wait(&ring_, 1);
        if (error < 0 && error != -EINTR)
            fail("io_uring_enter", -error);
        if (io_uring_peek_cqe(&ring_, &cqe) == 0)
            break;
    }
    const io_uring_cqe copy{cqe->user_data, cqe->res, cqe->flags};
    io_uring_cqe_seen(&ring_, cqe);
    return copy;
}

void Sender::by_call(std::size_t size) {
    std::size_t buffer = 0;
    for (std::uint64_t sent = 0; sent < total_; sent += size, ++buffer)
        check(send(socket_, &memory_[buffer % buffers * size_max], size, MSG_NOSIGNAL), size);
}

void Sender::by_ring(std::size_t size) {
    std::size_t buffer = 0;
    for (std::uint64_t sent = 0; sent < total_; sent += size, ++buffer) {
        io_uring_prep_send(submission(0), socket_, &memory_[buffer % buffers * size_max], size,
                           MSG_NOSIGNAL | MSG_WAITALL);
        check(completion().res, size);
    }
}

void Sender::reap_notification(const io_uring_cqe& cqe) {
    lent_[cqe.user_data % notification] = false;
    ++notified_;
    copied_ += (static_cast<std::uint32_t>(cqe.res) & was_copied) != 0;
}

void Sender::by_zero_copy(std::size_t size, bool registered) {
    std::size_t buffer = 0;
    for (std::uint64_t sent = 0; sent < total_; sent += size, buffer = (buffer + 1) % buffers) {
        while (lent_[buffer])
            reap_notification(completion());
        io_uring_sqe* sqe = submission(buffer);
        char* data = &memory_[buffer * size_max];
        if (registered)
            io_uring_prep_send_zc_fixed(sqe, socket_, data, size, MSG_NOSIGNAL | MSG_WAITALL,
                                        report_usage, static_cast<unsigned>(buffer));
        else
            io_uring_prep_send_zc(sqe, socket_, data, size, MSG_NOSIGNAL | MSG_WAITALL,
                                  report_usage);
        io_uring_sqe_set_data64(sqe, buffer);
        for (;;) {
            const io_uring_cqe cqe = completion();
            if (cqe.flags & IORING_CQE_F_NOTIF) {
                reap_notification(cqe);
                continue;
            }
            check(cqe.res, size);
            lent_[buffer] = (cqe.flags & IORING_CQE_F_MORE) != 0;
            break;
        }
    }
    while (std::ranges::find(lent_, true) != lent_.end())
        reap_notification(completion());
}

} // namespace

int main(int argc, char** argv) {
    std::uint64_t total = std::uint64_t{64} << 20;
    if (argc == 3 && std::string_view(argv[1]) == "--bytes")
        total = std::strtoull(argv[2], nullptr, 10);
    else if (argc != 1)
        fail("send_zc [--bytes TOTAL]");
    if (total == 0 || total % size_max != 0)
        fail("--bytes must be a multiple of 1 MiB");
    const Sink sink{total};
    Sender sender{sink.fd(), total};
    Costs costs;
    for (const std::size_t size : {4096u, 16384u, 65536u, 262144u, 1048576u}) {
        costs.add(cost_of(sink, size, "send(2)", total, [&] { sender.by_call(size); }));
        costs.add(cost_of(sink, size, "ring send", total, [&] { sender.by_ring(size); }));
        costs.add(
            cost_of(sink, size, "zero-copy", total, [&] { sender.by_zero_copy(size, false); }));
        costs.add(cost_of(sink, size, "zero-copy registered", total,
                          [&] { sender.by_zero_copy(size, true); }));
    }
    std::printf("of the zero-copy sends %.1f %% were copied after all\n", sender.copied_percent());
    costs.print();
}
