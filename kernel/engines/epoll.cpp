// The epoll engine, for where io_uring is not to be had. What can be done without waiting is done
// on the spot; else the operation waits for its descriptor to be reported ready, and is tried
// again. What no readiness tells of (files, mostly) goes to threads.
//
// Reports are taken out of epoll first, all that fit, and acted on after. A task goes on only by
// wait(), or once in a turn with what its descriptor had ready: so nobody who always finds
// something starves the others.
#include "epoll.hpp"

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <utility>

#include <sys/epoll.h>
#include <sys/utsname.h>

#include "clock.hpp"
#include "epoll_calls.hpp"
#include "epoll_watches.hpp"
#include "file_threads.hpp"
#include "fork_guard.hpp"
#include "lent_buffers.hpp"
#include "paused.hpp"
#include "pollable.hpp"
#include "requests.hpp"

namespace trapline {

namespace {

using namespace std::chrono_literals;

class EpollEngine final : public Engine {
public:
    explicit EpollEngine(const EpollOptions& options);
    ~EpollEngine() override;

    TimePoint now() noexcept override;
    Started start(Operation& operation) noexcept override;
    void cancel(Operation& operation) noexcept override;
    void wait(TimePoint deadline, OperationList& completed) noexcept override;
    void forget(int fd) noexcept override { watches_.drop(fd); }
    void interrupt() noexcept override { watches_.wake(); }
    int pollable_fd() override;
    void rest_until(TimePoint deadline) noexcept override;
    std::string describe() const override;

private:
    /// Where an operation is.
    enum Phase : std::uint8_t {
        idle,
        reading,    ///< waits for input
        writing,    ///< waits for room
        connecting, ///< waits for the end of its connect
        polling,    ///< waits for what it asks
        at_thread,
        again,    ///< in again_: to be tried in the next turn
        paused,   ///< in paused_
        starved,  ///< in starved_: something is there, and no buffer for it
        finished, ///< in finished_: over, to be handed back
    };

    /// What it waits for.
    static std::uint32_t wanted_by(const Operation& operation) noexcept {
        switch (operation.phase) {
        case reading: return EPOLLIN;
        case polling:
            return static_cast<std::uint16_t>(std::get_if<traps::Poll>(operation.request)->events);
        default: return EPOLLOUT;
        }
    }

    void check_process() const noexcept {
        if (fork_guard_.in_child()) [[unlikely]]
            Watches::broken("used in a forked child; make a kernel of your own after fork()");
    }

    // An operation is tried, waits, or is over: these answer whether it is.
    bool attempt(Operation& operation, bool ready) noexcept;
    bool attempt_recv(Operation& operation, const traps::Recv& recv, bool ready) noexcept;
    bool attempt_receive(Operation& operation, const traps::Receive& receive, bool ready) noexcept;
    bool attempt_send(Operation& operation, const traps::Send& send, bool ready) noexcept;
    bool attempt_poll(Operation& operation, const traps::Poll& poll) noexcept;
    bool attempt_other(Operation& operation, bool ready) noexcept;
    bool settle(Operation& operation, std::int64_t result) noexcept;
    bool wait_armed(Operation& operation, Phase phase, int fd, std::uint32_t events) noexcept;
    bool wait_trusting(Operation& operation, Phase phase, int fd) noexcept;
    bool would_wait(Operation& operation, Phase phase, int fd, bool ready) noexcept;
    bool to_thread(Operation& operation) noexcept;
    bool pause(Operation& operation, Judgement why) noexcept;
    bool fail(Operation& operation, int error) noexcept;

    void forget_descriptors_of(const Operation& operation, std::int64_t result) noexcept;
    void note_received(const Operation& operation, int fd, int flags, std::int64_t result,
                       std::size_t asked) noexcept;
    bool comes_after_others(const Operation& operation) noexcept;
    bool may_end_on_the_spot(const Operation& operation) noexcept;

    void hand_back(Operation& operation, OperationList& completed) noexcept;
    void try_again(Operation& operation, OperationList& completed) noexcept;
    TimePoint sooner_look(TimePoint deadline) noexcept;
    void look(bool may_wait, TimePoint deadline, OperationList& completed) noexcept;
    void report(int fd, std::uint32_t events, OperationList& completed) noexcept;
    void report_to(Operation& operation, std::uint32_t events, OperationList& completed) noexcept;
    void take_from_threads(OperationList& completed) noexcept;
    void take_from_thread(Operation& operation, OperationList& completed) noexcept;
    void feed_starved(OperationList& completed) noexcept;
    void resume_paused(OperationList& completed) noexcept;
    void audit(OperationList& completed) noexcept;

    ForkGuard fork_guard_;
    Watches watches_;
    std::uint32_t turn_ = 1;       // of wait()
    std::size_t waiting_ = 0;      // operations that wait for descriptors
    TimePoint audit_at_ = never;   // when trusted registrations are looked at
    bool closed_a_number_ = false; // since accepts that found none were last tried

    OperationList finished_;
    OperationList again_;
    Paused paused_;
    OperationList starved_;

    std::unique_ptr<FileThreads> threads_; // made with the first operation for them
    unsigned threads_max_;
    LentBuffers::Owner buffers_; // made with the first receive()
    unsigned buffers_wanted_;
    unsigned buffer_bytes_;

    std::unique_ptr<Pollable> pollable_; // made when it is asked for
};

EpollEngine::EpollEngine(const EpollOptions& options)
    : watches_(counters_.system_calls, options.events),
      threads_max_(options.threads),
      buffers_wanted_(options.receive_buffers),
      buffer_bytes_(options.receive_buffer_bytes) {}

EpollEngine::~EpollEngine() {
    if (fork_guard_.in_child()) [[maybe_unused]]
        const FileThreads* parents = threads_.release();
}

TimePoint EpollEngine::now() noexcept { return monotonic_now(); }

std::string EpollEngine::describe() const {
    utsname system{};
    uname(&system);
    return "epoll on Linux " + std::string(system.release) + ": " +
           std::to_string(watches_.reports_max()) + " reports a turn, up to " +
           std::to_string(threads_max_) + " threads for files" +
           (watches_.fine_timer() ? "" : ", timer of milliseconds");
}

// --- one operation -------------------------------------------------------------------------

Engine::Started EpollEngine::start(Operation& operation) noexcept {
    check_process();
    ++counters_.operations;
    if (done_at_once(operation)) {
        forget_descriptors_of(operation, operation.result);
        return Started::done;
    }
    operation.retries = 0;
    operation.phase = idle;
    if (comes_after_others(operation)) {
        operation.phase = again;
        again_.push(operation);
        return Started::in_flight;
    }
    if (!attempt(operation, false))
        return Started::in_flight;
    if (may_end_on_the_spot(operation))
        return Started::done;
    operation.phase = finished;
    finished_.push(operation);
    return Started::in_flight;
}

/// A Close that has ended operations: their tasks go on before the number is free.
inline bool EpollEngine::comes_after_others(const Operation& operation) noexcept {
    const auto* close = std::get_if<traps::Close>(operation.request);
    if (!close)
        return false;
    const Watch* const watch = watches_.find(close->fd);
    return watch && watch->cancelled;
}

/// Once a turn for each descriptor; what fails always takes a turn.
inline bool EpollEngine::may_end_on_the_spot(const Operation& operation) noexcept {
    const int fd = stream_of(*operation.request);
    if (operation.result < 0 || fd < 0)
        return false;
    Watch* const watch = watches_.get(fd);
    return watch && std::exchange(watch->done_in_turn, turn_) != turn_;
}

bool EpollEngine::attempt(Operation& operation, bool ready) noexcept {
    const traps::IoRequest& request = *operation.request;
    switch (request.index()) {
    case traps::request_index<traps::Recv>:
        return attempt_recv(operation, *std::get_if<traps::Recv>(&request), ready);
    case traps::request_index<traps::Receive>:
        return attempt_receive(operation, *std::get_if<traps::Receive>(&request), ready);
    case traps::request_index<traps::Send>:
        return attempt_send(operation, *std::get_if<traps::Send>(&request), ready);
    case traps::request_index<traps::Poll>:
        return attempt_poll(operation, *std::get_if<traps::Poll>(&request));
    default: return attempt_other(operation, ready);
    }
}

void EpollEngine::forget_descriptors_of(const Operation& operation, std::int64_t result) noexcept {
    for_each_new_descriptor(operation, result, [this](int fd) { watches_.forget(fd); });
}

inline void EpollEngine::note_received(const Operation& operation, int fd, int flags,
                                       std::int64_t result, std::size_t asked) noexcept {
    constexpr int harmless = MSG_WAITALL | MSG_DONTWAIT | MSG_NOSIGNAL;
    if (result <= 0 || static_cast<std::size_t>(result) >= asked || (flags & ~harmless))
        return;
    Watch* const watch = watches_.find(fd);
    if (watch && watch->registered && !watch->ended && is_tcp(*watch, fd))
        watches_.note_drained(*watch, fd, operation.task);
}

inline bool EpollEngine::attempt_recv(Operation& operation, const traps::Recv& r,
                                      bool ready) noexcept {
    if (!ready && watches_.emptied_by(operation.task, r.fd) && !(r.flags & MSG_DONTWAIT))
        return wait_trusting(operation, reading, r.fd);
    ++counters_.system_calls;
    const std::size_t asked = r.size - operation.transferred;
    const std::int64_t result = try_recv(r, operation.transferred);
    note_received(operation, r.fd, r.flags, result, asked);
    if (result == -EAGAIN)
        return would_wait(operation, reading, r.fd, ready);
    return settle(operation, result);
}

bool EpollEngine::attempt_receive(Operation& operation, const traps::Receive& r,
                                  bool ready) noexcept {
    if (!ready && watches_.emptied_by(operation.task, r.fd) && !(r.flags & MSG_DONTWAIT))
        return wait_trusting(operation, reading, r.fd);
    if (!buffers_) [[unlikely]]
        buffers_ = LentBuffers::make(buffers_wanted_, buffer_bytes_);
    if (!buffers_) [[unlikely]]
        return fail(operation, ENOMEM);
    if (!buffers_->any_left())
        return settle(operation, -ENOBUFS);
    BufferLease lease = buffers_->lend(); // goes back if nothing is received
    if (!lease.data())
        return fail(operation, ENOMEM);
    ++counters_.system_calls;
    const std::int64_t result =
        try_recv({r.fd, r.flags, lease.data(), lease.size()}, operation.transferred);
    note_received(operation, r.fd, r.flags, result, lease.size());
    if (result == -EAGAIN)
        return would_wait(operation, reading, r.fd, ready);
    if (result > 0) {
        lease.resize(static_cast<std::size_t>(result));
        *r.lease = std::move(lease);
    }
    return settle(operation, result);
}

inline bool EpollEngine::attempt_send(Operation& operation, const traps::Send& r,
                                      bool ready) noexcept {
    ++counters_.system_calls;
    const std::int64_t result = try_send(r, operation.transferred);
    if (result == -EAGAIN)
        return would_wait(operation, writing, r.fd, ready);
    return settle(operation, result);
}

bool EpollEngine::attempt_poll(Operation& operation, const traps::Poll& r) noexcept {
    const auto events = static_cast<std::uint16_t>(r.events);
    const int error = watches_.arm(r.fd, events);
    if (error == -EPERM) { // always ready, says poll(2)
        const auto seen =
            static_cast<int>(events & (EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM));
        return settle(operation, seen ? seen : -EINVAL);
    }
    if (error < 0)
        return settle(operation, error);
    operation.phase = polling;
    watches_.wait(r.fd, operation);
    ++waiting_;
    return false;
}

bool EpollEngine::attempt_other(Operation& operation, bool ready) noexcept {
    if (const auto* close = std::get_if<traps::Close>(operation.request)) {
        watches_.drop(close->fd);
        closed_a_number_ = true;
    }
    ++counters_.system_calls;
    const auto* connect = std::get_if<traps::Connect>(operation.request);
    const bool splices = std::holds_alternative<traps::Splice>(*operation.request);
    const Tried tried = connect && operation.phase == connecting ? try_connected(*connect)
                                                                 : try_call(operation, ready);
    switch (tried.next) {
    case Tried::Next::judge: break;
    case Tried::Next::wait_read: return would_wait(operation, reading, tried.fd, false);
    case Tried::Next::wait_write: return would_wait(operation, writing, tried.fd, false);
    case Tried::Next::connecting: return wait_armed(operation, connecting, tried.fd, EPOLLOUT);
    case Tried::Next::thread: return to_thread(operation);
    }
    if (tried.result == -EAGAIN && !splices && !connect) { // those are never sure to be ready
        const traps::DescriptorUse use = waited_for(operation);
        if (use.side != traps::Side::none)
            return would_wait(operation, use.side == traps::Side::read ? reading : writing, use.fd,
                              ready);
    }
    forget_descriptors_of(operation, tried.result);
    return settle(operation, tried.result);
}

/// What a result means; see requests.hpp.
inline bool EpollEngine::settle(Operation& operation, std::int64_t result) noexcept {
    const Judgement verdict = judge(operation, static_cast<int>(result));
    if (verdict == Judgement::over) [[likely]]
        return true;
    switch (verdict) {
    case Judgement::over: break;
    case Judgement::wait_ready:
    case Judgement::again:
        if (result > 0 || verdict == Judgement::wait_ready) { // the rest of a whole transfer
            const traps::DescriptorUse use = waited_for(operation);
            const Phase phase = use.side == traps::Side::read ? reading : writing;
            const bool emptied = phase == reading && watches_.emptied_by(operation.task, use.fd);
            return would_wait(operation, phase, use.fd, emptied);
        }
        operation.phase = again;
        again_.push(operation);
        return false;
    case Judgement::wait_buffers:
        operation.phase = starved;
        starved_.push(operation);
        return false;
    case Judgement::wait_descriptors: ++counters_.accept_pauses; [[fallthrough]];
    case Judgement::wait_a_moment: return pause(operation, verdict);
    }
    return true;
}

bool EpollEngine::pause(Operation& operation, Judgement why) noexcept {
    operation.phase = paused;
    closed_a_number_ = false;
    paused_.push(operation, why, now());
    return false;
}

bool EpollEngine::fail(Operation& operation, int error) noexcept {
    detail::judge(operation, -error);
    return true;
}

/// It was not ready. Where readiness was reported just before, the registration is as it should be.
inline bool EpollEngine::would_wait(Operation& operation, Phase phase, int fd,
                                    bool ready) noexcept {
    if (operation.cancel_requested) [[unlikely]]
        return fail(operation, ECANCELED);
    if (must_not_wait(*operation.request)) [[unlikely]]
        return fail(operation, EAGAIN);
    if (ready)
        return wait_trusting(operation, phase, fd);
    return wait_armed(operation, phase, fd, phase == reading ? EPOLLIN : EPOLLOUT);
}

inline bool EpollEngine::wait_trusting(Operation& operation, Phase phase, int fd) noexcept {
    operation.phase = phase;
    watches_.trust(*watches_.find(fd));
    watches_.wait(fd, operation);
    ++waiting_;
    return false;
}

bool EpollEngine::wait_armed(Operation& operation, Phase phase, int fd,
                             std::uint32_t events) noexcept {
    const int error = watches_.arm(fd, events);
    if (error == -EPERM)
        return to_thread(operation); // a file
    if (error < 0)
        return fail(operation, -error);
    operation.phase = phase;
    watches_.wait(fd, operation);
    ++waiting_;
    return false;
}

bool EpollEngine::to_thread(Operation& operation) noexcept {
    if (operation.cancel_requested)
        return fail(operation, ECANCELED);
    operation.phase = at_thread;
    // Whoever closes has let go of the number already: a Close does not fail for want of a thread,
    // nor does it, which nobody can interrupt, wait for others that may never end.
    const bool closes = std::holds_alternative<traps::Close>(*operation.request);
    if (!threads_)
        threads_ = FileThreads::make(threads_max_, [this] { interrupt(); });
    if (threads_ && threads_->submit(operation, !closes))
        return false;
    return settle(operation, closes ? call_that_waits(operation) : -ENOMEM);
}

void EpollEngine::cancel(Operation& operation) noexcept {
    check_process();
    const traps::DescriptorUses uses = traps::descriptors_of(*operation.request);
    for (const int fd : {uses.first.fd, uses.second.fd}) {
        if (Watch* watch = fd >= 0 ? watches_.get(fd) : nullptr)
            watch->cancelled = true;
    }
    switch (static_cast<Phase>(operation.phase)) {
    case idle: Watches::broken("cancel of an operation that is not in flight");
    case finished: return; // the result wins
    case at_thread:
        if (!threads_->take_back(operation))
            return; // it runs, and ends as it does
        break;
    case reading:
    case writing:
    case connecting:
    case polling:
        watches_.stop_waiting(operation);
        --waiting_;
        break;
    case again: again_.remove(operation); break;
    case paused: paused_.remove(operation); break;
    case starved: starved_.remove(operation); break;
    }
    fail(operation, ECANCELED);
    operation.phase = finished;
    finished_.push(operation);
}

// --- a turn --------------------------------------------------------------------------------

inline void EpollEngine::hand_back(Operation& operation, OperationList& completed) noexcept {
    operation.phase = idle;
    completed.push(operation);
}

inline void EpollEngine::try_again(Operation& operation, OperationList& completed) noexcept {
    if (attempt(operation, false))
        hand_back(operation, completed);
}

void EpollEngine::wait(TimePoint deadline, OperationList& completed) noexcept {
    check_process();
    ++turn_;
    if (pollable_) [[unlikely]]
        pollable_->lower();
    while (Operation* operation = finished_.pop())
        hand_back(*operation, completed);
    if (!starved_.empty()) [[unlikely]]
        feed_starved(completed);
    for (OperationList due = std::exchange(again_, {}); Operation* operation = due.pop();)
        try_again(*operation, completed);
    if (!paused_.empty()) [[unlikely]]
        resume_paused(completed);
    const bool may_wait = deadline != TimePoint::min() && completed.empty() && again_.empty();
    if (may_wait || waiting_ > 0 || pollable_) // what is reported once stays readable till then
        look(may_wait, sooner_look(deadline), completed);
    if (threads_) [[unlikely]]
        take_from_threads(completed);
    if (audit_at_ != never && now() >= audit_at_)
        audit(completed);
}

/// The engine itself has something to look at then.
TimePoint EpollEngine::sooner_look(TimePoint deadline) noexcept {
    deadline = std::min(deadline, paused_.next());
    if (watches_.any_trusted()) {
        if (audit_at_ == never)
            audit_at_ = now() + Watches::audit_pause;
        deadline = std::min(deadline, audit_at_);
    }
    return deadline;
}

int EpollEngine::pollable_fd() {
    check_process();
    if (!pollable_) {
        auto made = std::make_unique<Pollable>();
        made->add(watches_.fd());
        pollable_ = std::move(made);
    }
    return pollable_->fd();
}

void EpollEngine::rest_until(TimePoint deadline) noexcept {
    check_process();
    if (!pollable_)
        return;
    if (deadline == TimePoint::min() || !finished_.empty() || !again_.empty())
        return pollable_->raise();
    if (!starved_.empty()) // the other loop may give a buffer back, and tells nobody
        deadline = std::min(deadline, now() + Paused::for_descriptors);
    pollable_->wake_at(sooner_look(deadline), [this] { return now(); });
}

void EpollEngine::look(bool may_wait, TimePoint deadline, OperationList& completed) noexcept {
    Duration time_left = may_wait ? Duration::max() : Duration{0};
    if (may_wait && deadline != never)
        time_left = std::max(Duration{0}, deadline - now());
    for (const epoll_event& event : watches_.look(time_left)) {
        if (watches_.reported(event)) [[likely]]
            report(Watches::fd_of(event), event.events, completed);
    }
}

/// `fd` has become ready: those who wait for that try again.
inline void EpollEngine::report(int fd, std::uint32_t events, OperationList& completed) noexcept {
    Watch& watch = *watches_.find(fd);
    const bool was_trusted = watches_.untrust(watch);
    Operation* next = std::exchange(watch.waiting, nullptr);
    while (Operation* operation = next) {
        next = operation->next;
        if (events & (wanted_by(*operation) | EPOLLERR | EPOLLHUP)) {
            --waiting_;
            report_to(*operation, events, completed);
        } else {
            watches_.wait(fd, *operation);
            if (was_trusted) // perhaps by this one: the report may be of the number's last file
                watches_.trust(*watches_.find(fd));
        }
    }
}

inline void EpollEngine::report_to(Operation& operation, std::uint32_t events,
                                   OperationList& completed) noexcept {
    bool over;
    if (operation.phase == polling) [[unlikely]]
        over = settle(operation, events & (wanted_by(operation) | EPOLLERR | EPOLLHUP));
    else
        over = attempt(operation, true);
    if (over)
        hand_back(operation, completed);
}

void EpollEngine::take_from_threads(OperationList& completed) noexcept {
    OperationList done;
    threads_->take_done(done);
    while (Operation* operation = done.pop())
        take_from_thread(*operation, completed);
}

void EpollEngine::take_from_thread(Operation& operation, OperationList& completed) noexcept {
    const std::int64_t result = operation.result;
    if (std::holds_alternative<traps::Close>(*operation.request))
        closed_a_number_ = true;
    forget_descriptors_of(operation, result);
    if (result > 0 && operation.transferred > 0) // the rest of a read or write
        operation.transferred += static_cast<std::size_t>(result);
    if (settle(operation, result))
        hand_back(operation, completed);
}

/// As many as there are buffers for go on.
void EpollEngine::feed_starved(OperationList& completed) noexcept {
    while (buffers_->any_left() && !starved_.empty())
        try_again(*starved_.pop(), completed);
}

/// Accepts that found no descriptors try again after a pause, or when a descriptor was closed.
void EpollEngine::resume_paused(OperationList& completed) noexcept {
    OperationList due = paused_.take_due(now(), closed_a_number_);
    while (Operation* operation = due.pop())
        try_again(*operation, completed);
}

void EpollEngine::audit(OperationList& completed) noexcept {
    const bool all = watches_.audit([&](int fd) { report(fd, EPOLLERR, completed); });
    audit_at_ = all ? never : now();
}

} // namespace

std::unique_ptr<Engine> make_epoll_engine(const EpollOptions& options) {
    if (options.events == 0 || options.threads == 0)
        throw std::invalid_argument("EpollOptions: events and threads must be at least 1");
    return std::make_unique<EpollEngine>(options);
}

} // namespace trapline
