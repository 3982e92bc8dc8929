// The io_uring engine. Submissions of a turn are queued and handed over in the one system call
// that also waits. Completions are taken off the ring first, all of them, and acted on after:
// nothing is submitted or resumed while the ring is being read.
//
// A submission's user_data is a slot and its generation, never a pointer: a completion that comes
// late or twice finds an empty slot instead of freed memory. An operation gives up its slot, and
// is handed back, only when Linux has no more to say of it.
#include "uring.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <stdexcept>
#include <system_error>
#include <vector>

#include <sys/eventfd.h>
#include <unistd.h>

#include "buffers.hpp"
#include "clock.hpp"
#include "fork_guard.hpp"
#include "paused.hpp"
#include "pollable.hpp"
#include "uring_ops.hpp"
#include "uring_probe.hpp"
#include "uring_queue.hpp"
#include "uring_slots.hpp"

namespace trapline {

namespace {

using namespace std::chrono_literals;

/// A wrong ring must stop the program: nobody can tell any more what Linux will write where.
[[noreturn]] void broken(const char* complaint, int error = 0) {
    std::fprintf(stderr, "trapline: io_uring engine: %s%s%s\n", complaint, error ? ": " : "",
                 error ? std::generic_category().message(error).c_str() : "");
    std::abort();
}

class UringEngine final : public Engine {
public:
    explicit UringEngine(const UringOptions& options);
    ~UringEngine() override;

    TimePoint now() noexcept override;
    Started start(Operation& operation) noexcept override;
    void cancel(Operation& operation) noexcept override;
    void wait(TimePoint deadline, OperationList& completed) noexcept override;
    void interrupt() noexcept override;
    int pollable_fd() override;
    void rest_until(TimePoint deadline) noexcept override;
    std::string describe() const override { return describe_ring(ring_, features_); }

private:
    /// Where an operation is.
    enum Phase : std::uint8_t {
        idle,
        queued,         ///< waits in backlog_ for a place in the submission queue
        queued_to_poll, ///< the same, to be submitted as polling
        in_flight,      ///< submitted; Linux may use its memory
        polling,        ///< in its place, a wait for its descriptor is submitted
        paused,         ///< waits in paused_
        starved,        ///< waits in starved_: something is there, and no buffer for it
    };

    // user_data is that of UringSlots; a cancel has its operation's, and a bit set beside.
    static constexpr std::uint32_t cancel_bit = 0x8000'0000;
    static constexpr std::uint32_t slot_of_wakes = UringSlots::end + 1;
    static constexpr Duration cancel_pause = 5ms;

    [[gnu::always_inline]] void fill(io_uring_sqe& sqe, const Operation& operation) noexcept {
        const traps::IoRequest& request = *operation.request;
        if (request.index() == traps::request_index<traps::Receive>) {
            const auto& receive = *std::get_if<traps::Receive>(&request);
            buffers_->prepare(sqe, receive);
            drained_.guess(sqe, receive, operation);
        } else {
            prepare(sqe, operation, drained_);
        }
        sqe.user_data = slots_.user_data_of(operation);
    }

    void forget(int fd) noexcept override { drained_.forget(fd); }
    void forget_descriptors_of(const Operation& operation, std::int64_t result) noexcept;

    bool make_buffers() noexcept;
    void feed_starved() noexcept;

    void check_process() const noexcept;
    bool grow_slots() noexcept;
    void submit(Operation& operation) noexcept;
    bool queue_submission(Operation& operation) noexcept;
    bool queue_cancel(Operation& operation) noexcept;
    void queue_backlog() noexcept;
    void queue_missed_cancels() noexcept;
    void arm_wake() noexcept;
    bool has_place() noexcept;
    bool make_place() noexcept;
    void drain() noexcept;
    void leave_deferred_mode();
    void queue_what_waits() noexcept;
    bool unfinished() const noexcept;
    TimePoint sooner_retry(TimePoint deadline) const noexcept;
    bool nothing_to_do() const noexcept { return is_quiet(ring_); }
    void enter(bool may_wait, TimePoint deadline) noexcept;
    void reap(OperationList& completed) noexcept;
    void reap_one(const io_uring_cqe& cqe, OperationList& completed) noexcept;
    void reap_own(std::uint32_t index, std::uint32_t generation, int result) noexcept;
    void cancel_answered(std::uint32_t slot, std::uint32_t generation, int result) noexcept;
    void forget_cancel(Operation& operation) noexcept;
    void hand_back(Operation& operation, OperationList& completed) noexcept;
    void resume_paused(OperationList& completed) noexcept;

    ForkGuard fork_guard_;
    io_uring ring_{};
    UringFeatures features_;
    const UringOptions options_;
    int wake_fd_ = -1;
    std::uint64_t wake_count_ = 0;
    bool wake_armed_ = false;
    std::uint32_t cancels_in_flight_ = 0;

    UringSlots slots_;
    DrainedSockets drained_;

    OperationList backlog_;           // to be submitted when there is room
    std::vector<Operation*> cancels_; // to be cancelled when there is room; room is reserved
    OperationList missed_;            // in flight; their cancel missed them and is sent again
    OperationList again_;             // to be submitted once more, after reaping
    Paused paused_;

    ProvidedBuffers::Owner buffers_; // made with the first receive()
    OperationList starved_;

    std::unique_ptr<Pollable> pollable_; // made when it is asked for
};

UringEngine::UringEngine(const UringOptions& options) : options_(options) {
    features_ = make_ring(ring_, options);
    drained_ = DrainedSockets{features_.drained};
    ring_comes();
    wake_fd_ = eventfd(0, EFD_CLOEXEC);
    if (wake_fd_ < 0) {
        const int error = errno;
        ring_goes();
        io_uring_queue_exit(&ring_);
        throw std::system_error(error, std::system_category(), "eventfd of the io_uring engine");
    }
}

UringEngine::~UringEngine() {
    if (fork_guard_.in_child())
        return; // the ring is the parent's, and not even mapped here
    drain();    // the kernel has ended all operations
    ring_goes();
    io_uring_queue_exit(&ring_);
    close(wake_fd_);
}

/// Ends what is the engine's own.
void UringEngine::drain() noexcept {
    if (!wake_armed_)
        return;
    interrupt();
    while (wake_armed_ || cancels_in_flight_ > 0) {
        enter(true, never);
        unsigned count = 0;
        unsigned head = 0;
        io_uring_cqe* cqe = nullptr;
        io_uring_for_each_cqe(&ring_, head, cqe) {
            ++count;
            const auto slot = static_cast<std::uint32_t>(cqe->user_data);
            if (slot == slot_of_wakes)
                wake_armed_ = false;
            if (slot & cancel_bit)
                --cancels_in_flight_;
        }
        io_uring_cq_advance(&ring_, count);
    }
}

TimePoint UringEngine::now() noexcept { return monotonic_now(); }

void UringEngine::interrupt() noexcept {
    const std::uint64_t one = 1;
    // Full only after 2^64 - 2 calls that nobody read, and then it is readable anyway.
    [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof one);
}

// --- operations ----------------------------------------------------------------------------

void UringEngine::check_process() const noexcept {
    if (fork_guard_.in_child()) [[unlikely]]
        broken("used in a forked child; make a kernel of your own after fork()");
}

[[gnu::noinline]] bool UringEngine::grow_slots() noexcept {
    try {
        slots_.grow(cancels_); // each operation may have to wait there: see cancel()
        return true;
    } catch (const std::bad_alloc&) {
        return false;
    }
}

/// Whether there is a place in the submission queue. When it is full, what it holds is handed over
/// to make room.
inline bool UringEngine::has_place() noexcept { return !is_full(ring_) || make_place(); }

[[gnu::noinline]] bool UringEngine::make_place() noexcept {
    enter(false, TimePoint::min());
    return !is_full(ring_);
}

Engine::Started UringEngine::start(Operation& operation) noexcept {
    check_process();
    ++counters_.operations;
    switch (operation.request->index()) {
    case traps::request_index<traps::Recv>:
    case traps::request_index<traps::Send>: break;
    case traps::request_index<traps::Receive>:
        if (!buffers_ && !make_buffers()) [[unlikely]] {
            operation.result = -ENOMEM;
            return Started::done;
        }
        break;
    case traps::request_index<traps::Close>:
        drained_.forget(std::get_if<traps::Close>(operation.request)->fd);
        break;
    default:
        if (done_at_once(operation)) {
            forget_descriptors_of(operation, operation.result);
            return Started::done;
        }
    }
    if (slots_.full() && !grow_slots()) [[unlikely]] {
        // Whoever closes has let go of the number already: a Close does not fail for this.
        const auto* close = std::get_if<traps::Close>(operation.request);
        operation.result = !close ? -ENOMEM : ::close(close->fd) == 0 ? 0 : -errno;
        return Started::done;
    }
    slots_.take(operation);
    operation.retries = 0;
    operation.phase = in_flight;
    if (backlog_.empty() && has_place()) [[likely]] {
        fill(next_submission(ring_), operation);
    } else {
        operation.phase = queued;
        backlog_.push(operation);
    }
    return Started::in_flight;
}

// --- receive() -----------------------------------------------------------------------------

[[gnu::noinline]] bool UringEngine::make_buffers() noexcept {
    buffers_ =
        ProvidedBuffers::make(ring_, options_.receive_buffers, options_.receive_buffer_bytes);
    return buffers_ != nullptr;
}

/// As many as there are buffers for go on: each has something to receive, see judge(), and takes
/// one. So nobody is woken for nothing, and no timer is needed.
[[gnu::noinline]] void UringEngine::feed_starved() noexcept {
    if (buffers_->left() == 0)
        buffers_->show_more();
    for (std::size_t left = buffers_->left(); left > 0 && !starved_.empty(); --left) {
        Operation* operation = starved_.pop();
        operation->phase = in_flight;
        submit(*operation);
    }
}

/// Its phase says what is submitted: the operation, or a wait for its descriptor.
void UringEngine::submit(Operation& operation) noexcept {
    if (!backlog_.empty() || !queue_submission(operation)) {
        operation.phase = operation.phase == polling ? queued_to_poll : queued;
        backlog_.push(operation);
    }
}

bool UringEngine::queue_submission(Operation& operation) noexcept {
    if (!has_place())
        return false;
    io_uring_sqe& sqe = next_submission(ring_);
    if (operation.phase == polling) {
        prepare_wait(sqe, operation);
        sqe.user_data = slots_.user_data_of(operation);
    } else {
        fill(sqe, operation);
    }
    return true;
}

void UringEngine::cancel(Operation& operation) noexcept {
    check_process();
    if (operation.phase == idle) [[unlikely]]
        broken("cancel of an operation that is not in flight");
    if (operation.phase == in_flight || operation.phase == polling) {
        if (!queue_cancel(operation))
            cancels_.push_back(&operation);
        return;
    }
    // Not with Linux at present: over at once, but handed back by wait() like any other.
    if (operation.phase == paused)
        paused_.remove(operation);
    else
        (operation.phase == starved ? starved_ : backlog_).remove(operation);
    judge(operation, -ECANCELED);
    operation.phase = idle;
    again_.push(operation);
}

bool UringEngine::queue_cancel(Operation& operation) noexcept {
    if (!has_place())
        return false;
    io_uring_sqe& sqe = next_submission(ring_);
    io_uring_prep_cancel64(&sqe, slots_.user_data_of(operation), 0);
    sqe.user_data = slots_.user_data_of(operation) | cancel_bit;
    ++cancels_in_flight_;
    return true;
}

void UringEngine::queue_backlog() noexcept {
    while (!cancels_.empty() && queue_cancel(*cancels_.back()))
        cancels_.pop_back();
    while (Operation* operation = backlog_.front()) {
        const std::uint8_t phase = operation->phase;
        operation->phase = phase == queued_to_poll ? polling : in_flight;
        if (!queue_submission(*operation)) {
            operation->phase = phase;
            return;
        }
        backlog_.pop();
    }
}

void UringEngine::queue_missed_cancels() noexcept {
    const TimePoint time = now();
    while (missed_.front() && missed_.front()->retry_at <= time) {
        Operation* operation = missed_.pop();
        if (!queue_cancel(*operation))
            cancels_.push_back(operation);
    }
}

void UringEngine::arm_wake() noexcept {
    if (!has_place())
        return;
    io_uring_sqe& sqe = next_submission(ring_);
    io_uring_prep_read(&sqe, wake_fd_, &wake_count_, sizeof wake_count_, 0);
    sqe.user_data = slot_of_wakes;
    wake_armed_ = true;
}

// --- the ring ------------------------------------------------------------------------------

/// One system call: hands over what is queued, has completions worked off, and waits.
void UringEngine::enter(bool may_wait, TimePoint deadline) noexcept {
    ++counters_.system_calls;
    const int result = enter_ring(ring_, features_, may_wait, deadline);
    if (result >= 0) [[likely]]
        return;
    switch (-result) {
    case ETIME: // the deadline
    case EINTR: // a signal, even with SA_RESTART: the kernel's loop comes back
    case EBUSY: // completions overflowed: they must be taken off first, and that is next
        return;
    case EAGAIN: // no memory for a request at present
    case ENOMEM: {
        const timespec breath{0, 1'000'000};
        nanosleep(&breath, nullptr);
        return;
    }
    case EINVAL: // a registered ring is known to its own thread alone
        if (!features_.registered_ring)
            broken("io_uring_enter", EINVAL);
        [[fallthrough]];
    case EEXIST: broken("the ring was entered by a thread that is not its own");
    case EBADR: broken("Linux dropped a completion for want of memory");
    default: broken("io_uring_enter", -result);
    }
}

void UringEngine::queue_what_waits() noexcept {
    if (!wake_armed_)
        arm_wake();
    if (!backlog_.empty() || !cancels_.empty()) [[unlikely]]
        queue_backlog();
    if (!missed_.empty()) [[unlikely]]
        queue_missed_cancels();
    if (!starved_.empty()) [[unlikely]]
        feed_starved();
}

/// There is something to do before anything is waited for.
inline bool UringEngine::unfinished() const noexcept {
    return !wake_armed_ || !again_.empty() || !backlog_.empty() || !cancels_.empty();
}

inline TimePoint UringEngine::sooner_retry(TimePoint deadline) const noexcept {
    if (missed_.front())
        deadline = std::min(deadline, missed_.front()->retry_at);
    return std::min(deadline, paused_.next());
}

void UringEngine::wait(TimePoint deadline, OperationList& completed) noexcept {
    check_process();
    if (pollable_) [[unlikely]]
        pollable_->lower();
    queue_what_waits();
    const bool may_wait =
        deadline != TimePoint::min() && !unfinished() && io_uring_cq_ready(&ring_) == 0;
    if (may_wait || !nothing_to_do())
        enter(may_wait, sooner_retry(deadline));
    reap(completed);
    while (Operation* operation = again_.pop()) {
        if (operation->phase == idle)
            hand_back(*operation, completed);
        else
            submit(*operation);
    }
    if (!paused_.empty()) [[unlikely]]
        resume_paused(completed);
}

// --- inside another loop -------------------------------------------------------------------

/// A ring whose task work is deferred tells those who poll its descriptor nothing. It does tell an
/// eventfd, but not, after the first time, of what the write to another eventfd has brought about
/// (tests/ring/deferred_ring_is_not_pollable.cpp). So it gives way to a cooperative one.
void UringEngine::leave_deferred_mode() {
    if (slots_.any())
        throw std::system_error(std::make_error_code(std::errc::device_or_resource_busy),
                                "a descriptor for another loop is asked for before the first I/O, "
                                "or with UringOptions::Mode::cooperative");
    UringOptions options = options_;
    options.mode = UringOptions::Mode::cooperative;
    io_uring ring{};
    const UringFeatures features = make_ring(ring, options);
    drain();
    buffers_.reset();
    ring_goes();
    io_uring_queue_exit(&ring_);
    ring_comes();
    ring_ = ring;
    features_ = features;
    cancels_in_flight_ = 0; // they went with the ring
}

int UringEngine::pollable_fd() {
    check_process();
    if (!pollable_) {
        auto made = std::make_unique<Pollable>();
        if (features_.mode == UringOptions::Mode::deferred)
            leave_deferred_mode();
        made->add(ring_.ring_fd);
        pollable_ = std::move(made);
    }
    return pollable_->fd();
}

void UringEngine::rest_until(TimePoint deadline) noexcept {
    check_process();
    queue_what_waits();
    if (!nothing_to_do())
        enter(false, deadline);
    if (!pollable_)
        return;
    if (deadline == TimePoint::min() || unfinished() || !nothing_to_do())
        return pollable_->raise();
    if (!starved_.empty()) // the other loop may give a buffer back, and tells nobody
        deadline = std::min(deadline, now() + Paused::for_descriptors);
    pollable_->wake_at(sooner_retry(deadline), [this] { return now(); });
}

void UringEngine::reap(OperationList& completed) noexcept {
    if (IO_URING_READ_ONCE(*ring_.sq.kflags) & IORING_SQ_CQ_OVERFLOW) [[unlikely]]
        ++counters_.overflows; // the next turn enters once more and gets the rest
    const io_uring_cqe* const queue = ring_.cq.cqes;
    const unsigned mask = ring_.cq.ring_mask;
    const unsigned head = *ring_.cq.khead;
    const unsigned count = std::min(io_uring_cq_ready(&ring_), options_.reaped_max);
    for (unsigned at = head; at != head + count; ++at)
        reap_one(queue[at & mask], completed);
    io_uring_cq_advance(&ring_, count);
}

inline void UringEngine::reap_one(const io_uring_cqe& cqe, OperationList& completed) noexcept {
    const auto index = static_cast<std::uint32_t>(cqe.user_data);
    const auto generation = static_cast<std::uint32_t>(cqe.user_data >> 32);
    int result = cqe.res;
    Operation* const found = slots_.find(index, generation);
    if (!found) [[unlikely]]
        return reap_own(index, generation, result);
    Operation& operation = *found;
    if (operation.phase == polling && (result >= 0 || result == -EINTR)) {
        // Ready, or in error: trying shows. Nothing was consumed, so a cancelled one just ends.
        if (!operation.cancel_requested) {
            operation.phase = in_flight;
            return again_.push(operation);
        }
        result = -ECANCELED;
    }
    const traps::IoRequest& request = *operation.request;
    if (request.index() == traps::request_index<traps::Receive>) {
        const auto& receive = *std::get_if<traps::Receive>(&request);
        drained_.note(receive, result, options_.receive_buffer_bytes, cqe.flags);
        result = buffers_->settle(receive, operation, result, cqe.flags);
    } else if (request.index() == traps::request_index<traps::Recv>) {
        const auto& recv = *std::get_if<traps::Recv>(&request);
        drained_.note(recv, result, recv.size, cqe.flags);
    } else if (request.index() != traps::request_index<traps::Send>) {
        forget_descriptors_of(operation, result);
    }
    const Judgement verdict = judge(operation, result);
    switch (verdict) {
    case Judgement::over:
        if (operation.cancel_requested) [[unlikely]]
            forget_cancel(operation);
        return hand_back(operation, completed);
    case Judgement::again: operation.phase = in_flight; break;
    case Judgement::wait_ready: operation.phase = polling; break;
    case Judgement::wait_buffers: operation.phase = starved; return starved_.push(operation);
    case Judgement::wait_descriptors: ++counters_.accept_pauses; [[fallthrough]];
    case Judgement::wait_a_moment:
        operation.phase = paused;
        return paused_.push(operation, verdict, now());
    }
    again_.push(operation);
}

[[gnu::noinline]] void UringEngine::forget_descriptors_of(const Operation& operation,
                                                          std::int64_t result) noexcept {
    for_each_new_descriptor(operation, result, [this](int fd) { drained_.forget(fd); });
}

/// Of what the engine submitted for itself.
[[gnu::noinline]] void UringEngine::reap_own(std::uint32_t index, std::uint32_t generation,
                                             int result) noexcept {
    if (index & cancel_bit)
        cancel_answered(index & ~cancel_bit, generation, result);
    else if (index == slot_of_wakes)
        wake_armed_ = false;
    else
        broken("a completion for no operation");
}

/// The operation's own completion is what counts. But a cancel misses an operation that Linux is
/// just moving (from a poll to another try, from there to a worker), which then goes on for ever:
/// tests/ring/io_wq_cancel.cpp. One that is still in flight a while later is cancelled once more.
void UringEngine::cancel_answered(std::uint32_t slot, std::uint32_t generation,
                                  int result) noexcept {
    --cancels_in_flight_;
    Operation* const operation = slots_.find(slot, generation);
    if (result >= 0 || !operation)
        return;
    operation->retry_at = now() + cancel_pause;
    missed_.push(*operation);
}

[[gnu::noinline]] void UringEngine::forget_cancel(Operation& operation) noexcept {
    if (!cancels_.empty())
        std::erase(cancels_, &operation);
    missed_.remove(operation);
}

inline void UringEngine::hand_back(Operation& operation, OperationList& completed) noexcept {
    slots_.give_back(operation);
    operation.phase = idle;
    completed.push(operation);
}

/// Accepts that found no descriptors try again after a pause, or when a descriptor was closed.
void UringEngine::resume_paused(OperationList& completed) noexcept {
    bool closed = false;
    for (const Operation* operation = completed.front(); operation; operation = operation->next)
        closed = closed || std::holds_alternative<traps::Close>(*operation->request);
    OperationList due = paused_.take_due(now(), closed);
    while (Operation* operation = due.pop()) {
        operation->phase = in_flight;
        submit(*operation);
    }
}

} // namespace

std::unique_ptr<Engine> make_uring_engine(const UringOptions& options) {
    if (options.entries == 0 || options.reaped_max == 0)
        throw std::invalid_argument("UringOptions: entries and reaped_max must be at least 1");
    return std::make_unique<UringEngine>(options);
}

} // namespace trapline
