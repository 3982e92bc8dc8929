#include "follower.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "../traps/exceptions.hpp"
#include "../traps/thread.hpp"
#include "kernel.hpp"
#include "replay.hpp"

namespace trapline {

using recording::Read;

namespace {

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

bool is_signal_pending() noexcept {
    sigset_t pending;
    return ::sigpending(&pending) == 0 && ::sigisemptyset(&pending) == 0;
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

/// An event, where one of task `expected` would have been no surprise.
std::string describe(const Read& event, std::uint64_t expected) {
    const std::string task = "task " + std::to_string(event.task);
    const std::string prefix = event.task == expected ? "" : task + ": ";
    switch (event.kind) {
    case recording::Event::begun: return "the beginning";
    case recording::Event::turn: return "a turn";
    case recording::Event::created:
        return "the beginning of " + task + (event.text.empty() ? "" : " '" + event.text + "'");
    case recording::Event::started: return "that " + task + " runs for the first time";
    case recording::Event::trapped: {
        TrapNote note = event.trap;
        note.text = event.text;
        return prefix + describe(note);
    }
    case recording::Event::replied:
        return "that " + task + " goes on with " + describe(event.reply);
    case recording::Event::cancelled: return "a cancellation of " + task;
    case recording::Event::interrupted: return "an interrupt of " + task;
    case recording::Event::terminated: return prefix + "its end";
    case recording::Event::opened: return "that " + task + " opens a file";
    case recording::Event::deadlock: return "a deadlock";
    case recording::Event::ended: return "the end of the kernel";
    }
    return "nothing";
}

/// So that what a file says can neither overflow a clock nor turn it back before its beginning.
TimePoint moved(TimePoint clock, Duration by) noexcept {
    std::int64_t moved = 0;
    if (__builtin_add_overflow(clock.time_since_epoch().count(), by.count(), &moved))
        moved = by.count() < 0 ? 0 : Follower::time_max.time_since_epoch().count();
    return std::clamp(TimePoint{Duration{moved}}, TimePoint{}, Follower::time_max);
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

Follower::~Follower() {
    if (until_ > traps_ && !over_)
        kernel_.log("the replay was to stop before trap " + std::to_string(until_) +
                    ", and there were " + std::to_string(traps_));
}

void Follower::check_program() const {
    const char* anyway = ::secure_getenv("TRAPLINE_REPLAY_ANYWAY");
    const std::string here = recording::program_identity();
    if (reader_.identity() != here && (!anyway || std::string_view(anyway) != "1"))
        throw RecordingError("the recording " + reader_.path() + " is of another program: it has " +
                             reader_.identity() + ", this one " + here +
                             " (TRAPLINE_REPLAY_ANYWAY=1 tries)");
}

// --- what happens next ---------------------------------------------------------------------

TimePoint& Follower::clock() noexcept { return static_cast<NoEngine&>(*kernel_.engine_).time; }

/// Null at the end of the recording.
const Read* Follower::peek() {
    while (!next_) {
        Read event;
        if (!reader_.next(event))
            return nullptr;
        if (event.kind == Event::turn) {
            clock() = moved(clock(), event.passed);
            ++kernel_.turns_;
            if (kernel_.observer_)
                kernel_.observer_->turn(clock());
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
    const std::string cut = reader_.cut().empty() ? "" : " (" + reader_.cut() + ")";
    throw ReplayEnded(
        "the recording ends here, after trap " + std::to_string(traps_) + ": " + reader_.path() +
        (whole ? " says that the kernel was destroyed" : " was not written any further" + cut) +
        kernel_.describe_waits());
}

void Follower::diverged(const std::string& text) {
    throw ReplayDiverged("the replay of " + reader_.path() + " differs at trap " +
                             std::to_string(traps_) + ": " + text,
                         traps_);
}

/// The tasks that are destroyed now may wait for that thread in their destructors, and for ever: so
/// it is said before.
void Follower::diverged_by_thread(const std::string& text) {
    kernel_.log("replay: it differs at trap " + std::to_string(traps_) + ": " + text);
    diverged(text);
}

void Follower::damaged(const std::string& what) {
    reader_.damaged("is damaged: " + what + ", after trap " + std::to_string(traps_));
}

/// `task` would go on now, and trap. Under a debugger it does: step into TrapFrame::resume().
void Follower::stopped(TaskRecord& task) {
    const std::string text =
        "the replay stops before trap " + std::to_string(until_) + ": task " +
        std::to_string(task.id) + " '" + task.name() +
        (control(task).started ? "' would go on from " + name_of_wait(task.frame.trap) + " with " +
                                     describe(task.frame.reply)
                               : "' would begin") +
        kernel_.describe_waits();
    if (!is_debugged())
        throw ReplayStopped(text);
    kernel_.log(text); // what traces the program may be no debugger, and let the signal end it
    std::raise(SIGTRAP);
}

template <class F>
void Follower::following(F&& follow) {
    if (over_)
        throw ReplayEnded("the replay of " + reader_.path() + " is over");
    try {
        follow();
    } catch (const Deadlock&) {
        throw;
    } catch (const std::exception& failure) {
        over_ = true;
        if (is_signal_pending()) // one that a SignalSet lets through may be the end
            kernel_.log(std::string("replay: ") + failure.what());
        abandon_all();
        throw;
    }
}

void Follower::run(TaskRecord& main) {
    following([&] {
        adopt(main, 0);
        while (main.state != TaskState::terminated)
            step();
    });
}

/// By plain code of the program, within a task or between two runs.
void Follower::spawn(TaskRecord& task) {
    from_outside([&] { adopt(task, 0); });
}

void Follower::cancel(TaskRecord& task) {
    if (control(task).cancel_sent)
        return;
    from_outside([&] {
        const Read* event = peek();
        if (!event || event->kind == Event::ended)
            ended();
        if (!next_is(Event::cancelled, task))
            diverged("task " + std::to_string(task.id) + " '" + task.name() +
                     "' is cancelled here; recorded was " + describe(*event, task.id));
        step();
        if (next_is(Event::interrupted, task))
            step();
    });
}

/// A task that runs is told as well, but what it makes of that does not count.
template <class F>
void Follower::from_outside(F&& follow) {
    if (!inside_)
        return following(std::forward<F>(follow));
    try {
        follow();
    } catch (...) {
        failed_ = std::current_exception();
        throw;
    }
}

void Follower::shutdown() {
    shutting_down_ = true;
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
    case Event::started: {
        TaskRecord& task = task_of(event);
        if (control(task).started)
            out_of_order();
        return resume(task);
    }
    case Event::replied: {
        TaskRecord& task = task_of(event, true);
        reply(task, event);
        return resume(task);
    }
    case Event::opened: opened_ = event.file; return;
    case Event::cancelled: return note_cancelled(task_of(event));
    case Event::interrupted: return note_interrupted(task_of(event, true));
    case Event::terminated: {
        TaskRecord& task = task_of(event, true);
        kernel_.log("shutdown: task '" + task.name() + "' can never go on, and is destroyed");
        return let_go(task);
    }
    case Event::deadlock:
        if (shutting_down_) // that is never at its wits' end
            out_of_order();
        throw Deadlock(event.text);
    case Event::created:
        diverged("the recorded program began task " + std::to_string(event.task) +
                 " here, this one does not");
    default: out_of_order();
    }
}

void Follower::out_of_order() { damaged("its events are out of order"); }

/// Destroys a task that has not ended.
void Follower::let_go(TaskRecord& task) {
    if (thread_waits_.erase(&task) > 0) {
        if (control(task).masked)
            (void)told_by_thread(task, Duration::max());
        else
            leave_thread(task);
    }
    tasks_.erase(task.id);
    kernel_.abandon(task);
}

void Follower::abandon_all() noexcept {
    while (TaskRecord* task = kernel_.tasks_.newest())
        let_go(*task);
    descriptors_.reset();
}

// --- tasks ---------------------------------------------------------------------------------

TaskRecord& Follower::task_of(const Read& event, bool has_run) {
    const auto at = tasks_.find(event.task);
    if (at == tasks_.end())
        damaged("it speaks of task " + std::to_string(event.task) + ", which there is not");
    if (has_run && !control(*at->second).started)
        out_of_order();
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
                 "' begins here; recorded was " + describe(*event, task.id));
    const std::string_view name = task.given_name ? std::string_view(*task.given_name) : "";
    if (event->text != name)
        diverged("task " + std::to_string(task.id) + " was recorded as '" + event->text +
                 "', and is '" + std::string(name) + "' here");
    take();
    if (kernel_.observer_)
        kernel_.observer_->created(task);
}

void Follower::resume(TaskRecord& task) {
    if (until_ != 0 && traps_ + 1 == until_ && next_is(Event::trapped, task))
        stopped(task);
    control(task).started = true;
    if (kernel_.observer_)
        kernel_.observer_->running(task);
    inside_ = true;
    task.frame.resume();
    inside_ = false;
    if (!task.frame.ended())
        furnish(task);
    if (failed_)
        std::rethrow_exception(std::exchange(failed_, nullptr));
    if (!task.frame.ended()) {
        ++traps_;
        ++kernel_.traps_;
        return compare(task);
    }
    if (!peek())
        ended();
    if (!next_is(Event::terminated, task))
        ended_early(task);
    take();
    tasks_.erase(task.id);
    kernel_.terminate(task);
}

/// The task has ended, and in the recording it went on.
void Follower::ended_early(TaskRecord& task) {
    const std::string name = "task " + std::to_string(task.id) + " '" + task.name() + "'";
    const std::string recorded = describe(*next_, task.id);
    while (kernel_.tasks_.newest() != &task)
        let_go(*kernel_.tasks_.newest()); // what it began may use what its frame holds
    task.add_reference();
    tasks_.erase(task.id);
    kernel_.terminate(task);
    std::string how = " ended after it";
    if (task.failure) {
        how += " by an exception: " + message_of(task.failure);
        const char* preposition = " at ";
        const FrameExtras* extras = task.frame.extras.get();
        for (const std::source_location& at : extras ? extras->failure_began : AwaitChain{}) {
            how += preposition + trapline::describe(at);
            preposition = ", awaited at ";
        }
    }
    task.failure_seen = true;
    task.drop_reference();
    diverged(name + how + "; recorded was " + recorded);
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

/// With what its trap needs, also to be abandoned.
void Follower::furnish(TaskRecord& task) noexcept {
    if (Kernel::is_parked(task))
        std::construct_at(&control(task).node, Waker{&Follower::wake, &task}, &task);
    else if (Kernel::is_asleep(task))
        std::construct_at(&control(task).sleep, &task); // never set
}

/// The trap that the task has come to with the one that was recorded.
void Follower::compare(TaskRecord& task) {
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
    if (!same) {
        const std::string text = who(task) + "\n  recorded: " + describe(*event, task.id) +
                                 "\n  here:     " + trapline::describe(here);
        if (is_race(*event, here))
            diverged_by_thread(text + "\n  Whether a task has to wait for a thread depends on "
                                      "which of them is faster.");
        diverged(text);
    }
    take();
    if (kernel_.observer_)
        kernel_.observer_->trapped(task, task.frame.trap);
    begin(task);
}

/// A queue with a thread at its other end waits, or need not, as fast as the two happen to be.
bool Follower::is_race(const Read& event, const TrapNote& here) noexcept {
    constexpr auto waits = trap_index<traps::AwaitThread>;
    const bool waited = event.kind == Event::trapped && event.trap.kind == waits;
    return waited != (here.kind == waits);
}

/// What a trap does before it is answered.
void Follower::begin(TaskRecord& task) {
    const Trap& trap = task.frame.trap;
    if (const auto* spawn = std::get_if<traps::Spawn>(&trap)) {
        // Unless it was refused: by a policy, then.
        if (!next_is(Event::replied, task) && spawn->task->state == TaskState::created)
            adopt(*spawn->task, task.id);
    } else if (const auto* park = std::get_if<traps::Park>(&trap)) {
        wait_on(task, *park->queue);
    } else if (const auto* join = std::get_if<traps::Join>(&trap)) {
        if (join->task->state != TaskState::terminated && join->task != &task)
            wait_on(task, join->task->joiners);
    } else if (const auto* thread = std::get_if<traps::AwaitThread>(&trap)) {
        // One that would only begin now may have been answered by a policy: its reply tells.
        if (thread->completion->begun() || !is_policed(task))
            await_thread(task, *thread->completion);
    } else if (const auto* io = std::get_if<traps::Io>(&trap)) {
        task.state = TaskState::blocked;
        if (const auto* close = std::get_if<traps::Close>(&io->request))
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
    control(task).cancel_sent = true;
    for (TimeLimit* limit = task.frame.limit; limit; limit = limit->outer)
        limit->disarmed = true;
    task.interrupt_pending = true;
    if (kernel_.observer_)
        kernel_.observer_->cancelled(task);
}

void Follower::note_interrupted(TaskRecord& task) {
    task.interrupt_pending = false;
    task.state = TaskState::ready;
    control(task).pending = Interrupt::cancelled; // or timed_out: what it gets is in its reply
    if (Kernel::is_parked(task))
        control(task).node.unlink();
    else if (thread_waits_.contains(&task))
        leave_thread(task);
    if (kernel_.observer_)
        kernel_.observer_->interrupted(task);
}

} // namespace trapline
