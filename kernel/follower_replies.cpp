// What a replay answers: replies as they were recorded, checked before tasks rely on them, and what
// of them must be done here.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <limits>
#include <utility>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/signalfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "../traps/thread.hpp"
#include "follower.hpp"
#include "kernel.hpp"

namespace trapline {

using recording::Read;

namespace {

/// A buffer that goes with its lease.
class OwnBuffer final : public BufferPool {
public:
    static BufferLease lend(std::size_t bytes) {
        auto* pool = new OwnBuffer{bytes};
        BufferLease lease{*pool, 0, pool->memory_.data(), bytes};
        pool->leave();
        return lease;
    }

private:
    explicit OwnBuffer(std::size_t bytes) : memory_(bytes) {}
    ~OwnBuffer() override = default;
    void take_back(std::uint32_t) noexcept override {}

    std::vector<std::byte> memory_;
};

/// What an interrupt can end, or find as it comes.
bool can_be_interrupted(const Trap& trap) noexcept {
    return detail::can_be_delayed(trap) || std::holds_alternative<traps::Park>(trap);
}

/// Those whose awaiters rely on it.
bool cannot_fail(const Trap& trap) noexcept {
    switch (trap.index()) {
    case trap_index<traps::Yield>:
    case trap_index<traps::Sleep>:
    case trap_index<traps::SleepUntil>:
    case trap_index<traps::Clock>:
    case trap_index<traps::Self>:
    case trap_index<traps::SetTimeout>:
    case trap_index<traps::UnsetTimeout>:
    case trap_index<traps::Mask>:
    case trap_index<traps::Park>: return true;
    default: return false;
    }
}

} // namespace

// --- threads -------------------------------------------------------------------------------

// A task in AwaitThread that has been told, or need not wait any more, is its own `next`.

void Follower::wake_from_thread(void* context) noexcept {
    auto& task = *static_cast<TaskRecord*>(context);
    Follower& self = *control(task).kernel->follower_;
    // Told while it is locked: the task, and this, may go as soon as the waiting thread can lock.
    const std::scoped_lock lock{self.mutex_};
    control(task).next = &task;
    self.completed_.notify_one();
}

void Follower::await_thread(TaskRecord& task, ThreadCompletion& completion) {
    control(task).next = nullptr;
    task.state = TaskState::blocked;
    thread_waits_.insert_or_assign(&task, clock());
    const auto outcome = completion.await({&wake_from_thread, &task}, &task);
    if (outcome != ThreadCompletion::Await::waiting)
        control(task).next = &task;
}

/// False if `limit` has passed first.
bool Follower::told_by_thread(TaskRecord& task, Duration limit) {
    const auto told = [&] { return control(task).next == &task; };
    const Duration patience = std::max(kernel_.shutdown_patience_, Duration{1});
    std::unique_lock lock{mutex_};
    if (completed_.wait_for(lock, std::min(patience, limit), told))
        return true;
    kernel_.log("replay: still waits for the thread that " + who(task) + " waits for");
    if (limit != Duration::max())
        return completed_.wait_for(lock, limit - std::min(patience, limit), told);
    completed_.wait(lock, told);
    return true;
}

/// The task is interrupted. If its thread is telling it this moment, that is over then.
void Follower::leave_thread(TaskRecord& task) {
    if (std::get_if<traps::AwaitThread>(&task.frame.trap)->completion->forget())
        control(task).next = &task;
    else
        (void)told_by_thread(task, Duration::max());
}

Reply Follower::reply_of_thread(TaskRecord& task, const Read& event) {
    const Reply& reply = event.reply;
    auto& completion = *std::get_if<traps::AwaitThread>(&task.frame.trap)->completion;
    if (!thread_waits_.contains(&task)) {
        if (event.thread_idle)
            return reply;
        await_thread(task, completion);
    }
    if (reply.interrupt != Interrupt::none) {
        if (task.state == TaskState::blocked) // it was interrupted as soon as it came
            leave_thread(task);
        return reply;
    }
    const Duration took = clock() - thread_waits_[&task];
    const Duration patience = std::min<Duration>(kernel_.shutdown_patience_, std::chrono::hours{1});
    if (!told_by_thread(task, 12 * patience + 4 * std::min<Duration>(took, std::chrono::hours{24})))
        diverged_by_thread(who(task) +
                           " waits for a thread that does not end. Does that wait for what "
                           "tasks send or write? In a replay they do not");
    if (!reply.failed() && !completion.completed())
        diverged(who(task) + " was interrupted, or is not the only one who waits for its thread");
    return reply;
}

// --- replies -------------------------------------------------------------------------------

void Follower::reply(TaskRecord& task, const Read& event) {
    Reply reply = event.reply;
    check_reply(task, reply);
    const bool answered = reply.interrupt == Interrupt::none && !reply.failed();
    switch (task.frame.trap.index()) {
    case trap_index<traps::Self>:
        if (answered)
            reply.value = reinterpret_cast<std::intptr_t>(&task);
        break;
    case trap_index<traps::Mask>:
        if (answered)
            control(task).masked = std::get_if<traps::Mask>(&task.frame.trap)->on;
        break;
    case trap_index<traps::Park>:
    case trap_index<traps::Join>: reply_parked(task, reply); break;
    case trap_index<traps::AwaitThread>: reply = reply_of_thread(task, event); break;
    case trap_index<traps::Io>: reply = reply_of_io(task, event); break;
    default: break;
    }
    thread_waits_.erase(&task);
    if (reply.interrupt == Interrupt::cancelled)
        task.interrupted = true;
    control(task).pending = Interrupt::none;
    task.interrupt_pending = event.interrupt_waits;
    task.state = TaskState::ready;
    task.frame.reply = reply;
    if (kernel_.observer_)
        kernel_.observer_->replied(task, reply);
}

namespace {

/// What a reply to `trap` cannot exceed, whoever gave it.
std::int64_t value_max(const Trap& trap) {
    using namespace traps;
    constexpr std::int64_t descriptor_max = std::numeric_limits<int>::max();
    const auto bytes = [](std::size_t size, int flags = 0) {
        // With MSG_TRUNC Linux tells a datagram's size, whatever there was room for.
        return flags & MSG_TRUNC ? descriptor_max : static_cast<std::int64_t>(size);
    };
    switch (trap.index()) {
    case trap_index<Sleep>:
    case trap_index<SleepUntil>:
    case trap_index<Clock>: return Follower::time_max.time_since_epoch().count();
    case trap_index<SetTimeout>:
    case trap_index<AwaitThread>:
    case trap_index<Self>: return std::numeric_limits<std::int64_t>::max();
    case trap_index<Cancel>: return static_cast<std::int64_t>(Delivery::over);
    case trap_index<Mask>: return 1;
    case trap_index<Io>: break;
    case trap_index<ReadWait>:
    case trap_index<WriteWait>: return std::numeric_limits<short>::max();
    default: return 0;
    }
    const IoRequest& request = std::get_if<Io>(&trap)->request;
    if (const auto* recv = std::get_if<Recv>(&request))
        return bytes(recv->size, recv->flags);
    if (const auto* send = std::get_if<Send>(&request))
        return bytes(send->size);
    if (const auto* message = std::get_if<RecvMsg>(&request))
        return bytes(bytes_in(*message->message), message->flags);
    if (const auto* message = std::get_if<SendMsg>(&request))
        return bytes(bytes_in(*message->message));
    if (const auto* read = std::get_if<traps::Read>(&request))
        return bytes(read->size);
    if (const auto* write = std::get_if<Write>(&request))
        return bytes(write->size);
    if (const auto* splice = std::get_if<Splice>(&request))
        return bytes(splice->size);
    return descriptor_max;
}

/// Whether close(2) has closed it, whatever it answered. It fails so when data could not be
/// written, and by EBADF when there was nothing to close; anything else is the answer of a policy.
bool was_closed(const Reply& reply) noexcept {
    switch (reply.interrupt == Interrupt::none ? reply.value : -EPERM) {
    case -EIO:
    case -ENOSPC:
    case -EDQUOT:
    case -EINTR: return true;
    default: return !reply.failed() && reply.interrupt == Interrupt::none;
    }
}

/// A signal that was taken by a read waits here, if the program sends it to itself: it would strike
/// when it is unblocked.
void drop_signals(int fd, std::span<const std::byte> written) noexcept {
    char name[64];
    const std::string link = "/proc/self/fd/" + std::to_string(fd);
    const ssize_t size = ::readlink(link.c_str(), name, sizeof name);
    const std::string_view target{name, size < 0 ? 0 : static_cast<std::size_t>(size)};
    if (target != "anon_inode:[signalfd]")
        return;
    for (; written.size() >= sizeof(signalfd_siginfo);
         written = written.subspan(sizeof(signalfd_siginfo))) {
        signalfd_siginfo info;
        std::memcpy(&info, written.data(), sizeof info);
        sigset_t taken;
        sigemptyset(&taken);
        constexpr timespec at_once{};
        if (sigaddset(&taken, static_cast<int>(info.ssi_signo)) == 0)
            (void)::sigtimedwait(&taken, nullptr, &at_once);
    }
}

} // namespace

bool Follower::is_policed(const TaskRecord& task) noexcept {
    return task.frame.extras && task.frame.extras->policing;
}

/// Before it reaches code that relies on what kernels answer. Policies may answer as they like.
void Follower::check_reply(const TaskRecord& task, const Reply& reply) {
    const Trap& trap = task.frame.trap;
    const bool interrupted = reply.interrupt != Interrupt::none;
    const bool policed = is_policed(task);
    const bool any = policed && !std::holds_alternative<traps::Io>(trap);
    const std::int64_t most = any ? std::numeric_limits<std::int64_t>::max() : value_max(trap);
    if (interrupted ? reply.progress > most : reply.value > most)
        damaged("a reply to " + name_of_wait(trap) + " says " +
                std::to_string(interrupted ? reply.progress : reply.value));
    if (interrupted && (reply.value < 0 || (!policed && !can_be_interrupted(trap))))
        damaged("it interrupts " + name_of_wait(trap));
    if (!interrupted && reply.failed() &&
        (reply.value < -4095 ||
         (cannot_fail(trap) && (!policed || std::holds_alternative<traps::Park>(trap)))))
        damaged("a reply to " + name_of_wait(trap) + " says " + std::to_string(reply.value));
}

void Follower::reply_parked(TaskRecord& task, const Reply& reply) {
    const bool woken = reply.interrupt == Interrupt::none && !reply.failed();
    if (woken && control(task).pending != Interrupt::none)
        out_of_order();
    WaitNode& node = control(task).node;
    if (node.queued() && woken)
        diverged(who(task) + " was woken in the recording, and nobody wakes it here");
    node.unlink();
    const auto* join = std::get_if<traps::Join>(&task.frame.trap);
    if (join && woken && join->task->state != TaskState::terminated)
        diverged(who(task) + " joined a task in the recording that has not ended here");
}

Reply Follower::reply_of_io(TaskRecord& task, const Read& event) {
    using namespace traps;
    const IoRequest& request = std::get_if<Io>(&task.frame.trap)->request;
    if (const auto* receive = std::get_if<Receive>(&request); receive && !event.written.empty())
        *receive->lease = OwnBuffer::lend(event.written.size());
    if (const auto* open = std::get_if<OpenAt2>(&request))
        open->how->flags |= O_CLOEXEC; // as engines do
    write_back(task, event);
    Reply reply = event.reply;
    if (const auto* close = std::get_if<Close>(&request))
        descriptors_->end_close(close->fd, task.id, was_closed(reply));
    if (reply.interrupt != Interrupt::none || reply.failed())
        return reply;
    switch (request.index()) {
    case request_index<Socket>:
    case request_index<Accept>:
    case request_index<OpenAt>:
    case request_index<OpenAt2>:
        reply.value =
            descriptors_->make(static_cast<int>(reply.value), &request, std::exchange(opened_, {}));
        break;
    case request_index<RecvMsg>: rename_received(*std::get_if<RecvMsg>(&request)->message); break;
    case request_index<Receive>:
        if (static_cast<std::size_t>(reply.value) != event.written.size())
            damaged("a reply to receive has other bytes than it says");
        break;
    case request_index<traps::Read>:
        drop_signals(std::get_if<traps::Read>(&request)->fd, event.written);
        break;
    default: break;
    }
    return reply;
}

/// What Linux had written.
void Follower::write_back(TaskRecord& task, const Read& event) {
    const Trap& trap = task.frame.trap;
    const socklen_t room = address_room(trap);
    const auto* io = std::get_if<traps::Io>(&trap);
    const auto* message = std::get_if<traps::RecvMsg>(&io->request);
    const std::size_t control_room = message ? message->message->msg_controllen : 0;
    std::span<const std::byte> rest = event.written;
    for_each_written(trap, event.reply, room, [&](std::span<std::byte> part) {
        if (part.size() > rest.size())
            diverged(who(task) + " takes more than was recorded");
        if (!part.empty())
            std::memcpy(part.data(), rest.data(), part.size());
        rest = rest.subspan(part.size());
    });
    if (!rest.empty())
        diverged(who(task) + " takes less than was recorded");
    // Linux says how much room an address would have needed, but of no kind needs it more than so.
    constexpr socklen_t address_max = sizeof(sockaddr_un) + 1;
    if (address_room(trap) > std::max(room, address_max) ||
        (message && message->message->msg_controllen > control_room))
        damaged("a reply to " + name_of_wait(trap) + " has more than there is room for");
}

/// Descriptors that came with a message.
void Follower::rename_received(msghdr& message) {
    const auto* end = static_cast<const std::byte*>(message.msg_control) + message.msg_controllen;
    for (cmsghdr* at = CMSG_FIRSTHDR(&message); at; at = CMSG_NXTHDR(&message, at)) {
        const auto left = static_cast<std::size_t>(end - reinterpret_cast<const std::byte*>(at));
        if (at->cmsg_len < CMSG_LEN(0) || at->cmsg_len > left)
            damaged("control data has a length that cannot be");
        if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS)
            continue;
        const std::size_t count = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            unsigned char* place = CMSG_DATA(at) + i * sizeof(int);
            int fd = -1;
            std::memcpy(&fd, place, sizeof fd);
            fd = descriptors_->make(fd, nullptr);
            std::memcpy(place, &fd, sizeof fd);
        }
    }
}

} // namespace trapline
