#include "linked_timeout.hpp"

#include <coroutine>
#include <cstdint>
#include <memory>
#include <system_error>

#include <liburing.h>

#include <trapline/kernel/engines/uring_compat.hpp>

#include "task.hpp"

namespace awaiter_design {

namespace {

/// A ring with nothing around it: submits what was prepared, and resumes whom completions name.
class Ring {
public:
    Ring() {
        io_uring_params parameters{};
        parameters.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
        if (const int error = ::io_uring_queue_init_params(64, &ring_, &parameters); error != 0)
            throw std::system_error(-error, std::system_category(), "io_uring");
    }
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;
    ~Ring() { ::io_uring_queue_exit(&ring_); }

    io_uring_sqe* prepare() noexcept { return ::io_uring_get_sqe(&ring_); }

    /// Until `done`. A completion whose user data is null is a limit's.
    void run_until(const bool& done) {
        while (!done) {
            ++system_calls_;
            ::io_uring_submit_and_wait(&ring_, 1);
            io_uring_cqe* completion = nullptr;
            while (!done && ::io_uring_peek_cqe(&ring_, &completion) == 0) {
                void* waiting = ::io_uring_cqe_get_data(completion);
                ::io_uring_cqe_seen(&ring_, completion);
                if (waiting)
                    std::coroutine_handle<>::from_address(waiting).resume();
            }
        }
    }

    std::uint64_t system_calls() const noexcept { return system_calls_; }

private:
    ::io_uring ring_{};
    std::uint64_t system_calls_ = 0;
};

/// An operation that does nothing, and its limit behind it.
class LimitedNop {
public:
    LimitedNop(Ring& ring, long long seconds) noexcept : ring_(ring), limit_{seconds, 0} {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> self) noexcept {
        io_uring_sqe* nop = ring_.prepare();
        ::io_uring_prep_nop(nop);
        ::io_uring_sqe_set_flags(nop, IOSQE_IO_LINK);
        ::io_uring_sqe_set_data(nop, self.address());
        io_uring_sqe* limit = ring_.prepare();
        ::io_uring_prep_link_timeout(limit, &limit_, 0);
        ::io_uring_sqe_set_flags(limit, 0);
        ::io_uring_sqe_set_data(limit, nullptr);
    }
    void await_resume() const noexcept {}

private:
    Ring& ring_;
    __kernel_timespec limit_;
};

Task<> limits(Ring& ring, int operations) {
    for (int i = 0; i < operations; ++i)
        co_await LimitedNop{ring, 10};
}

} // namespace

void limit_linked(designs::Run& run) {
    Ring ring;
    run.measure([&] { return ring.system_calls(); },
                [&] {
                    struct Main : Chain {
                        Main() noexcept
                            : Chain([](Chain& c) noexcept { static_cast<Main&>(c).done = true; }) {}
                        bool done = false;
                    } main;
                    const int operations = run["operations"];
                    const Task<> task = limits(ring, operations);
                    task.handle().promise().chain = &main;
                    task.handle().resume();
                    ring.run_until(main.done);
                    return static_cast<std::uint64_t>(operations);
                });
}

} // namespace awaiter_design
