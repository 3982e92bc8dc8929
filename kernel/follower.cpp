#include "follower.hpp"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <linux/openat2.h>

#include "../traps/exceptions.hpp"
#include "../traps/thread.hpp"
#include "kernel.hpp"
#include "replay.hpp"

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

bool is_debugged() {
    std::FILE* status = std::fopen("/proc/self/status", "re");
    if (!status)
        return false;
    int tracer = 0;
    char line[256];
    while (std::fgets(line, sizeof line, status)) {
        if (std::strncmp(line, "TracerPid:", 10) == 0)
            tracer = std::atoi(line + 10);
    }
    std::fclose(status);
    return tracer != 0;
}

std::string describe(const Reply& reply) {
    switch (reply.interrupt) {
    case Interrupt::cancelled: return "a cancellation";
    case Interrupt::timed_out: return "a time limit";
    case Interrupt::thrown:
    case Interrupt::none: break;
    }
    return std::to_string(reply.value);
}

/// What an event says of its task.
std::string describe(const Read& event) {
    switch (event.kind) {
    case recording::Event::trapped: {
        TrapNote note = event.trap;
        note.text = event.text;
        return describe(note);
    }
    case recording::Event::terminated: return "its end";
    case recording::Event::deadlock: return "a deadlock";
    case recording::Event::ended: return "the end of the kernel";
    default: return "something else (event " + std::to_string(static_cast<int>(event.kind)) + ")";
    }
}

const traps::IoRequest* request_of(const TaskRecord& task) noexcept {
    const auto* io = std::get_if<traps::Io>(&task.frame.trap);
    return io ? &io->request : nullptr;
}

} // namespace

Engine::Started NoEngine::start(Operation& operation) noexcept {
    operation.result = -ENOSYS;
    return Started::done;
}

Follower::Follower(Kernel& kernel, const std::string& path, std::uint64_t until)
    : kernel_(kernel), reader_(path), until_(until) {
    check_program();
    const Read* first = peek();
    const bool begins = first && first->kind == Event::begun;
    descriptors_ = std::make_unique<StandIns>(begins ? take().open : std::vector<int>{});
}

Follower::~Follower() = default;

void Follower::check_program() const {
    const char* anyway = std::getenv("TRAPLINE_REPLAY_ANYWAY");
    const std::string here = recording::program_identity();
    if (reader_.identity() != here && (!anyway || std::string_view(anyway) != "1"))
        throw RecordingError("the recording " + reader_.path() + " is of another program: it has " +
                             reader_.identity() + ", this one " + here +
                             " (TRAPLINE_REPLAY_ANYWAY=1 tries)");
}

// --- what happens next ---------------------------------------------------------------------

/// Null at the end of the recording.
const Read* Follower::peek() {
    while (!next_) {
        Read event;
        if (!reader_.next(event))
            return nullptr;
        if (event.kind == Event::turn) {
            auto& clock = static_cast<NoEngine&>(*kernel_.engine_).time;
            clock += event.passed;
            ++kernel_.turns_;
            if (kernel_.observer_)
                kernel_.observer_->turn(clock);
        } else {
            next_ = std::move(event);
        }
    }
    return &*next_;
}

Read Follower::take() {
    if (!peek())
        ended();
    Read event = std::move(*next_);
    next_.reset();
    return event;
}

bool Follower::next_is(Event kind, const TaskRecord& task) {
    const Read* event = peek();
    return event && event->kind == kind && event->task == task.id;
}

void Follower::ended() {
    const bool whole = next_ && next_->kind == Event::ended;
    throw ReplayEnded(
        "the recording ends here, after trap " + std::to_string(traps_) + ": " + reader_.path() +
        (whole ? " says that the kernel was destroyed" : " was not written any further") +
        kernel_.describe_waits());
}

void Follower::diverged(const std::string& text) {
    throw ReplayDiverged("the replay of " + reader_.path() + " differs at trap " +
                             std::to_string(traps_) + ": " + text,
                         traps_);
}

/// `task` would go on now, and trap.
void Follower::stopped(const TaskRecord& task) {
    throw ReplayStopped("the replay stops before trap " + std::to_string(until_) + ": task " +
                        std::to_string(task.id) + " '" + task.name() + "' would go on from " +
                        traps::name_of(task.frame.trap) + " with " + describe(task.frame.reply) +
                        kernel_.describe_waits());
}

template <class F>
void Follower::following(F&& follow) {
    if (over_)
        throw ReplayEnded("the replay of " + reader_.path() + " is over");
    try {
        follow();
    } catch (const Deadlock&) {
        throw;
    } catch (...) {
        over_ = true;
        abandon_all();
        throw;
    }
}

void Follower::run(TaskRecord& main) {
    following([&] {
        while (peek() && (next_->kind == Event::cancelled || next_->kind == Event::interrupted))
            step(); // between two runs
        adopt(main, 0);
        while (main.state != TaskState::terminated)
            step();
    });
}

void Follower::shutdown() {
    following([&] {
        while (!kernel_.tasks_.empty())
            step();
    });
}

void Follower::step() {
    const Read* next = peek();
    if (!next || next->kind == Event::ended)
        ended();
    const Read event = take();
    switch (event.kind) {
    case Event::started: return resume(task_of(event));
    case Event::replied: {
        TaskRecord& task = task_of(event);
        reply(task, event);
        return resume(task);
    }
    case Event::opened: opened_ = event.file; return;
    case Event::cancelled: return note_cancelled(task_of(event));
    case Event::interrupted: return note_interrupted(task_of(event));
    case Event::terminated: {
        TaskRecord& task = task_of(event);
        kernel_.log("shutdown: task '" + task.name() + "' can never go on, and is destroyed");
        tasks_.erase(task.id);
        return kernel_.abandon(task);
    }
    case Event::deadlock: throw Deadlock(event.text);
    case Event::created:
        diverged("the recorded program began task " + std::to_string(event.task) +
                 " here, this one does not");
    default:
        throw RecordingError("the recording " + reader_.path() + " is out of order after trap " +
                             std::to_string(traps_));
    }
}

void Follower::abandon_all() noexcept {
    while (TaskRecord* task = kernel_.tasks_.newest()) {
        if (const auto* thread = std::get_if<traps::AwaitThread>(&task->frame.trap);
            thread && task->state == TaskState::blocked) {
            if (control(*task).masked || !thread->completion->forget())
                wait_for_thread(*task);
        }
        tasks_.erase(task->id);
        kernel_.abandon(*task);
    }
    descriptors_.reset();
}

// --- tasks ---------------------------------------------------------------------------------

TaskRecord& Follower::task_of(const Read& event) {
    const auto at = tasks_.find(event.task);
    if (at == tasks_.end())
        throw RecordingError("the recording " + reader_.path() + " speaks of task " +
                             std::to_string(event.task) + ", which there is not, after trap " +
                             std::to_string(traps_));
    return *at->second;
}

void Follower::adopt(TaskRecord& task, std::uint64_t parent) {
    ::new (task.room()) TaskControl(kernel_, task);
    task.add_reference();
    kernel_.tasks_.insert(task);
    tasks_.emplace(task.id, &task);
    task.state = TaskState::ready;
    const Read* event = peek();
    if (!event || event->kind == Event::ended)
        ended();
    if (event->kind != Event::created || event->task != task.id || event->parent != parent)
        diverged("task " + std::to_string(task.id) + " '" + task.name() +
                 "' begins here; recorded was " + describe(*event));
    const std::string_view name = task.given_name ? std::string_view(*task.given_name) : "";
    if (event->text != name)
        diverged("task " + std::to_string(task.id) + " was recorded as '" + event->text +
                 "', and is '" + std::string(name) + "' here");
    take();
    if (kernel_.observer_)
        kernel_.observer_->created(task);
}

void Follower::resume(TaskRecord& task) {
    if (until_ != 0 && traps_ + 1 == until_ && next_is(Event::trapped, task)) {
        if (!is_debugged())
            stopped(task);
        std::raise(SIGTRAP); // step into resume(): the task goes on, to trap `until_`
    }
    if (kernel_.observer_)
        kernel_.observer_->running(task);
    task.frame.resume();
    if (!task.frame.ended()) {
        ++traps_;
        ++kernel_.traps_;
        return compare(task);
    }
    if (!peek())
        ended();
    if (!next_is(Event::terminated, task))
        diverged("task " + std::to_string(task.id) + " '" + task.name() +
                 "' ended after it; recorded was " + describe(*next_));
    take();
    tasks_.erase(task.id);
    kernel_.terminate(task);
}

std::string Follower::who(const TaskRecord& task) const {
    std::string text = "task " + std::to_string(task.id) + " '" + task.name() + "'";
    const char* preposition = " at ";
    for (const std::source_location& at : task.frame.where()) {
        text += preposition + trapline::describe(at);
        preposition = ", awaited at ";
    }
    return text;
}

/// The trap that the task has come to with the one that was recorded.
void Follower::compare(TaskRecord& task) {
    // Also for one that will be abandoned.
    if (Kernel::is_parked(task))
        std::construct_at(&control(task).node, Waker{&Follower::wake, &task}, &task);
    else if (Kernel::is_asleep(task))
        std::construct_at(&control(task).sleep, &task); // never set
    const Read* event = peek();
    if (!event || event->kind == Event::ended)
        ended();
    const TrapNote here = note_of(task.frame.trap);
    bool same = next_is(Event::trapped, task) && event->trap.kind == here.kind;
    if (same) {
        const TrapNote::Shape& shape = here.shape();
        for (std::size_t i = 0; i < shape.count; ++i) {
            const std::int64_t recorded = event->trap.values[i];
            same = same && (shape.arguments[i].kind == TrapNote::Kind::descriptor
                                ? descriptors_->same(recorded, here.values[i])
                                : recorded == here.values[i]);
        }
        same = same && event->text == here.text;
    }
    if (!same)
        diverged(who(task) + "\n  recorded: " + describe(*event) +
                 "\n  here:     " + trapline::describe(here));
    take();
    if (kernel_.observer_)
        kernel_.observer_->trapped(task, task.frame.trap);
    begin(task);
}

/// What a trap does before it is answered.
void Follower::begin(TaskRecord& task) {
    const Trap& trap = task.frame.trap;
    if (const auto* spawn = std::get_if<traps::Spawn>(&trap)) {
        if (spawn->task->state == TaskState::created)
            adopt(*spawn->task, task.id);
    } else if (const auto* park = std::get_if<traps::Park>(&trap)) {
        wait_on(task, *park->queue);
    } else if (const auto* join = std::get_if<traps::Join>(&trap)) {
        if (join->task->state != TaskState::terminated && join->task != &task)
            wait_on(task, join->task->joiners);
    } else if (const auto* thread = std::get_if<traps::AwaitThread>(&trap)) {
        control(task).next = nullptr;
        task.state = TaskState::blocked;
        const auto outcome = thread->completion->await({&wake_from_thread, &task}, &task);
        if (outcome != ThreadCompletion::Await::waiting)
            control(task).next = &task;
    } else if (const traps::IoRequest* request = request_of(task)) {
        task.state = TaskState::blocked;
        if (const auto* close = std::get_if<traps::Close>(request))
            descriptors_->begin_close(close->fd, task.id);
    }
}

void Follower::wait_on(TaskRecord& task, WaitQueue& queue) {
    task.state = TaskState::blocked;
    queue.append(control(task).node);
}

void Follower::wake(void* task) noexcept {
    static_cast<TaskRecord*>(task)->state = TaskState::ready;
}

void Follower::note_cancelled(TaskRecord& task) noexcept {
    for (TimeLimit* limit = task.frame.limit; limit; limit = limit->outer)
        limit->disarmed = true;
    task.interrupt_pending = true;
    if (kernel_.observer_)
        kernel_.observer_->cancelled(task);
}

void Follower::note_interrupted(TaskRecord& task) {
    task.interrupt_pending = false;
    task.state = TaskState::ready;
    if (Kernel::is_parked(task)) {
        control(task).node.unlink();
    } else if (const auto* thread = std::get_if<traps::AwaitThread>(&task.frame.trap)) {
        if (control(task).next != &task && !thread->completion->forget())
            diverged(who(task) + " was interrupted here, and now its thread was faster");
        control(task).next = &task;
    }
    if (kernel_.observer_)
        kernel_.observer_->interrupted(task);
}

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

void Follower::wait_for_thread(TaskRecord& task) {
    const auto told = [&] { return control(task).next == &task; };
    std::unique_lock lock{mutex_};
    if (!completed_.wait_for(lock, std::chrono::seconds{5}, told)) {
        kernel_.log("replay: still waits for the thread that " + who(task) + " waits for");
        completed_.wait(lock, told);
    }
}

Reply Follower::reply_of_thread(TaskRecord& task, const Reply& reply) {
    const ThreadCompletion& completion =
        *std::get_if<traps::AwaitThread>(&task.frame.trap)->completion;
    if (reply.interrupt != Interrupt::none) {
        if (task.state == TaskState::blocked) // it was interrupted as soon as it came
            note_interrupted(task);
        return reply;
    }
    wait_for_thread(task);
    return completion.completed() ? Reply{completion.value()} : reply; // or another one waits
}

// --- replies -------------------------------------------------------------------------------

void Follower::reply(TaskRecord& task, const Read& event) {
    Reply reply = event.reply;
    switch (task.frame.trap.index()) {
    case trap_index<traps::Self>: reply.value = reinterpret_cast<std::intptr_t>(&task); break;
    case trap_index<traps::Mask>:
        control(task).masked = std::get_if<traps::Mask>(&task.frame.trap)->on;
        break;
    case trap_index<traps::Park>:
    case trap_index<traps::Join>: reply_parked(task, reply); break;
    case trap_index<traps::AwaitThread>: reply = reply_of_thread(task, reply); break;
    case trap_index<traps::Io>: reply = reply_of_io(task, event); break;
    default: break;
    }
    if (reply.interrupt == Interrupt::cancelled)
        task.interrupted = true;
    task.interrupt_pending = event.interrupt_waits;
    task.state = TaskState::ready;
    task.frame.reply = reply;
    if (kernel_.observer_)
        kernel_.observer_->replied(task, reply);
}

void Follower::reply_parked(TaskRecord& task, const Reply& reply) {
    WaitNode& node = control(task).node;
    if (!node.queued())
        return;
    if (reply.interrupt == Interrupt::none && !reply.failed())
        diverged(who(task) + " was woken in the recording, and nobody wakes it here");
    node.unlink();
}

Reply Follower::reply_of_io(TaskRecord& task, const Read& event) {
    using namespace traps;
    const IoRequest& request = *request_of(task);
    if (const auto* receive = std::get_if<Receive>(&request); receive && !event.written.empty())
        *receive->lease = OwnBuffer::lend(event.written.size());
    if (const auto* open = std::get_if<OpenAt2>(&request))
        open->how->flags |= O_CLOEXEC; // as engines do
    write_back(task, event);
    Reply reply = event.reply;
    const bool answered = reply.interrupt == Interrupt::none;
    if (const auto* close = std::get_if<Close>(&request))
        descriptors_->end_close(close->fd, task.id, reply.value != -EBADF);
    if (!answered || reply.failed())
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
    default: break;
    }
    return reply;
}

/// What Linux had written.
void Follower::write_back(TaskRecord& task, const Read& event) {
    const Trap& trap = task.frame.trap;
    std::span<const std::byte> rest = event.written;
    for_each_written(trap, event.reply, address_room(trap), [&](std::span<std::byte> part) {
        if (part.size() > rest.size())
            diverged(who(task) + " takes more than was recorded");
        if (!part.empty())
            std::memcpy(part.data(), rest.data(), part.size());
        rest = rest.subspan(part.size());
    });
    if (!rest.empty())
        diverged(who(task) + " takes less than was recorded");
}

/// Descriptors that came with a message.
void Follower::rename_received(msghdr& message) {
    for (cmsghdr* at = CMSG_FIRSTHDR(&message); at; at = CMSG_NXTHDR(&message, at)) {
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
