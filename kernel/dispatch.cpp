// Running tasks and answering their traps, all in one place (with io.inl.hpp) so that the compiler
// sees the whole way of a trap. What a trap does neither throws nor allocates; what it cannot have
// is an error in its reply.
#include "io.inl.hpp"

#include <algorithm>
#include <cerrno>
#include <memory>

#include <poll.h>

namespace trapline {

/// What stands between the task and this kernel; null if nothing does.
inline detail::Policing* Kernel::policing(const TaskRecord& task) noexcept {
    if (!task.frame.extras) [[likely]]
        return nullptr;
    return task.frame.extras->policing.get();
}

// --- tasks begin and end --------------------------------------------------------------------

void Kernel::adopt(TaskRecord& task) {
    ::new (task.room()) TaskControl(*this, task);
    task.add_reference();
    tasks_.insert(task);
    if (observer_) [[unlikely]]
        observer_->created(task);
    task.state = TaskState::ready;
    ready_.push(task);
}

inline void Kernel::retire(TaskRecord& task) noexcept {
    task.state = TaskState::terminated;
    tasks_.remove(task);
    if (observer_) [[unlikely]]
        observer_->terminated(task);
    task.joiners.wake_all();
    task.drop_reference();
}

void Kernel::terminate(TaskRecord& task) noexcept {
    timers_.drop(control(task).limit);
    task.finish();
    if (task.failure) [[unlikely]] {
        task.cancelled = is_interrupt(task.failure);
        if (task.daemon)
            task.report_unseen_failure();
    }
    retire(task);
}

/// Destroys a task that is parked, or asleep, for good. Its destructors run, its joiners see it
/// cancelled.
void Kernel::abandon(TaskRecord& task) noexcept {
    timers_.drop(control(task).limit);
    if (is_parked(task))
        control(task).node.unlink();
    else if (is_asleep(task))
        timers_.drop(control(task).sleep);
    task.abandon();
    task.failure = std::make_exception_ptr(TaskCancelled{});
    task.cancelled = task.interrupted = true;
    retire(task);
}

void Kernel::wake_parked(void* context) noexcept {
    auto& task = *static_cast<TaskRecord*>(context);
    Kernel& kernel = *control(task).kernel;
    kernel.make_ready(task, Reply{});
    if (kernel.host_waits_) [[unlikely]]
        kernel.tell_host();
}

// --- the turn of the loop ------------------------------------------------------------------

void Kernel::run_until_ended(const TaskRecord& main) {
    if (observer_ || shuffler_) [[unlikely]]
        return run_turns_until_ended<true>(main);
    run_turns_until_ended<false>(main);
}

template <bool observed>
inline void Kernel::run_turns_until_ended(const TaskRecord& main) {
    while (main.state != TaskState::terminated) {
        if (!turn<observed>()) [[unlikely]]
            raise_deadlock();
    }
}

void Kernel::raise_deadlock() {
    const std::string text = describe_deadlock();
    if (observer_)
        observer_->deadlock(text);
    throw Deadlock(text);
}

bool Kernel::turn_once() { return observer_ || shuffler_ ? turn<true>() : turn<false>(); }

/// Looks at the world where there is something to see, and runs who is ready. Answers false if
/// nothing is ready and nothing is left that could make it so.
template <bool observed>
inline bool Kernel::turn() {
    if (ready_.empty() || (awaited_ | timers_.size()) != 0) {
        if (const World world = look_at_world(); world != World::someone_ready) [[unlikely]]
            return world != World::stuck;
    }
    if (observed && observer_)
        observer_->turn(read_clock());
    run_ready<observed>();
    return true;
}

[[gnu::noinline]] Kernel::World Kernel::look_at_world() {
    if (stuck()) [[unlikely]]
        return World::stuck;
    if (observer_ && ready_.empty()) [[unlikely]]
        observer_->waiting(read_clock());
    serve_world(ready_.empty());
    return ready_.empty() ? World::nobody_ready : World::someone_ready;
}

bool Kernel::stuck() noexcept {
    if (!ready_.empty() || awaited_ != 0)
        return false;
    if (timers_.size() == (patience_.set() ? 1 : 0))
        return true;
    if (!virtual_time_) [[likely]]
        return false;
    // Time never jumps to its end: who sleeps until then sleeps for ever.
    const TimePoint patience = patience_.set() ? patience_.time() : never;
    timers_.drop(patience_);
    const bool for_ever = timers_.next() == never;
    if (patience != never)
        timers_.set(patience_, patience);
    return for_ever;
}

/// Answers whether there were any.
inline bool Kernel::take_completions(TimePoint deadline) {
    OperationList completed;
    engine_->wait(deadline, completed);
    for (Operation *operation = completed.front(), *next = nullptr; operation; operation = next) {
        next = operation->next; // it may be started anew from here on
        complete(*operation);
    }
    return !completed.empty();
}

void Kernel::serve_world(bool may_wait) {
    if (may_wait || awaited_ != 0)
        take_completions(may_wait ? timers_.next() : TimePoint::min());
    serve_threads_and_timers();
}

inline void Kernel::serve_threads_and_timers() {
    if (inbox_.load(std::memory_order_relaxed)) [[unlikely]]
        empty_inbox();
    if (!timers_.empty()) {
        const TimePoint now = read_clock();
        while (Timer* timer = timers_.pop(now))
            timer_fired(static_cast<TaskTimer&>(*timer));
    }
}

/// Runs those that are ready now; what they make ready runs in the next turn.
template <bool observed>
inline void Kernel::run_ready() {
    ++turns_;
    if (observed && shuffler_)
        shuffle_ready();
    const ReadyQueue::Batch batch = ready_.take_all();
    for (TaskRecord* task = batch.first;;) {
        const bool last = batch.is_last(*task);
        TaskRecord* next = control(*task).next; // means nothing if it is the last
        if (!last)
            ReadyQueue::prefetch(*next);
        run_task<observed>(*task);
        if (last)
            return;
        task = next;
    }
}

/// A turn for a host. Handing over what it has started is a look at the world as well: where that
/// finds something over at once, as most sends are, another turn is cheaper than the host's loop.
bool Kernel::turn_for_host(Duration max_wait) {
    constexpr int turns_max = 8;
    const bool may_wait = max_wait > Duration{} && ready_.empty() && !stuck();
    TimePoint deadline = TimePoint::min();
    if (may_wait)
        deadline = std::min(timers_.next(), later(read_clock(), max_wait));
    for (int turn = 0; turn < turns_max; ++turn) {
        // Also with nothing in flight: a thread's interrupt() keeps the descriptor readable.
        const bool came = take_completions(deadline);
        serve_threads_and_timers();
        if (ready_.empty() || (turn > 0 && !came))
            break;
        observer_ || shuffler_ ? run_ready<true>() : run_ready<false>();
        deadline = TimePoint::min();
    }
    return !stuck();
}

template <bool observed>
inline void Kernel::run_task(TaskRecord& task) {
    if (detail::Policing* between = policing(task)) [[unlikely]] {
        if (between->waits() && resume_policed(task, *between) == Answer::later)
            return;
    }
    if (observed && observer_)
        observe_running(task);
    for (;;) {
        task.frame.resume();
        if (task.frame.ended()) [[unlikely]]
            return terminate(task);
        ++traps_;
        if (observed && observer_)
            observer_->trapped(task, task.frame.trap);
        detail::Policing* between = policing(task);
        const Answer when = between == nullptr ? answer(task) : answer_policed(task, *between);
        if (when == Answer::later) [[likely]]
            return;
        if (observed && observer_)
            observer_->replied(task, task.frame.reply);
    }
}

TimePoint Kernel::time_of(void* kernel) noexcept {
    return static_cast<Kernel*>(kernel)->read_clock();
}

/// The task has asked: its policies see that first.
[[gnu::noinline]] Kernel::Answer Kernel::answer_policed(TaskRecord& task,
                                                        detail::Policing& policing) noexcept {
    using Step = detail::Policing::Step;
    // Or an answer of theirs might be thrown away for it.
    if (may_take_interrupt(task) && detail::interrupt_comes_first(task.frame.trap)) [[unlikely]]
        return reply_pending(task);
    for (Step step = policing.trapped(task, time_); step == Step::kernel;
         step = policing.replied(task, time_)) {
        policing.enter(task, held_);
        if (answer(task) == Answer::later)
            return Answer::later;
    }
    return Answer::now;
}

/// The kernel has answered: they see that, too, before the task does.
[[gnu::noinline]] Kernel::Answer Kernel::resume_policed(TaskRecord& task,
                                                        detail::Policing& policing) noexcept {
    using Step = detail::Policing::Step;
    while (policing.replied(task, time_) == Step::kernel) {
        policing.enter(task, held_);
        if (answer(task) == Answer::later)
            return Answer::later;
    }
    return Answer::now;
}

void Kernel::observe_running(TaskRecord& task) noexcept {
    if (std::exchange(control(task).started, true)) // else there is no reply yet
        observer_->replied(task, task.frame.reply);
    observer_->running(task);
}

// --- dispatch ------------------------------------------------------------------------------

inline Kernel::Answer Kernel::answer(TaskRecord& task) noexcept {
    using namespace traps;
    const Trap& trap = task.frame.trap;
    if (trap.index() == trap_index<Yield>) [[likely]] { // no jump out of line and back
        if (may_take_interrupt(task)) [[unlikely]]
            return reply_pending(task);
        run_again(task, Reply{});
        return Answer::later;
    }
    switch (trap.index()) {
    case trap_index<Sleep>:
        return sleep_until(task, later(read_clock(), std::get_if<Sleep>(&trap)->duration));
    case trap_index<SleepUntil>:
        read_clock();
        return sleep_until(task, std::get_if<SleepUntil>(&trap)->time);
    case trap_index<Clock>: return reply_now(task, Reply::time(read_clock()));
    case trap_index<Self>: return reply_now(task, {reinterpret_cast<std::intptr_t>(&task)});
    case trap_index<Spawn>: return spawn(task, *std::get_if<Spawn>(&trap)->task);
    case trap_index<Join>: return join(task, *std::get_if<Join>(&trap)->task);
    case trap_index<Cancel>: return cancel(task, *std::get_if<Cancel>(&trap));
    case trap_index<SetTimeout>: return set_timeout(task, *std::get_if<SetTimeout>(&trap));
    case trap_index<UnsetTimeout>:
        return unset_timeout(task, std::get_if<UnsetTimeout>(&trap)->previous);
    case trap_index<Mask>:
        return reply_now(task, {std::exchange(control(task).masked, std::get_if<Mask>(&trap)->on)});
    case trap_index<Park>: return park(task, *std::get_if<Park>(&trap)->queue);
    case trap_index<AwaitThread>:
        return await_thread(task, *std::get_if<AwaitThread>(&trap)->completion);
    case trap_index<ReadWait>:
        return start_poll(task, {std::get_if<ReadWait>(&trap)->fd, POLLIN, Side::read});
    case trap_index<WriteWait>:
        return start_poll(task, {std::get_if<WriteWait>(&trap)->fd, POLLOUT, Side::write});
    case trap_index<IoRelease>: return start_closing(task);
    case trap_index<Io>: {
        const IoRequest& request = std::get_if<Io>(&trap)->request;
        return std::holds_alternative<Close>(request) ? start_closing(task)
                                                      : start_io(task, request);
    }
    }
    __builtin_unreachable(); // it knows them all
}

inline Kernel::Answer Kernel::spawn(TaskRecord& task, TaskRecord& child) noexcept {
    if (child.state != TaskState::created) [[unlikely]]
        return reply_now(task, {-EALREADY});
    adopt(child);
    return reply_now(task, {});
}

Kernel::Answer Kernel::sleep_until(TaskRecord& task, TimePoint time) noexcept {
    if (may_take_interrupt(task)) [[unlikely]]
        return reply_pending(task);
    // Past; but those that are due before it, or at the same time and set earlier, wake first.
    if (time <= now_ && timers_.next() > time) {
        run_again(task, Reply::time(now_));
        return Answer::later;
    }
    task.state = TaskState::blocked;
    timers_.set(*std::construct_at(&control(task).sleep, &task), time);
    return Answer::later;
}

Kernel::Answer Kernel::join(TaskRecord& task, TaskRecord& joined) noexcept {
    if (joined.state == TaskState::terminated)
        return reply_now(task, {});
    if (&joined == &task)
        return reply_now(task, {-EDEADLK});
    if (control(joined).kernel != this)
        return reply_now(task, {-EXDEV});
    return park(task, joined.joiners);
}

Kernel::Answer Kernel::park(TaskRecord& task, WaitQueue& queue) noexcept {
    if (may_take_interrupt(task)) [[unlikely]]
        return reply_pending(task);
    task.state = TaskState::blocked;
    const Waker waker{&Kernel::wake_parked, &task};
    queue.append(*std::construct_at(&control(task).node, waker, &task));
    return Answer::later;
}

Kernel::Answer Kernel::cancel(TaskRecord& task, const traps::Cancel& trap) noexcept {
    TaskRecord& target = *trap.task;
    if (&target == &task)
        return reply_now(task, {-EDEADLK});
    if (target.state == TaskState::terminated)
        return reply_now(task, {static_cast<std::int64_t>(traps::Delivery::over)});
    if (control(target).kernel != this)
        return reply_now(task, {-EXDEV});
    return reply_now(task, {static_cast<std::int64_t>(send_cancel(target))});
}

Kernel::Answer Kernel::await_thread(TaskRecord& task, ThreadCompletion& completion) noexcept {
    if (completion.completed())
        return reply_now(task, {completion.value()});
    // Blocked before the other thread can see it: it may complete at any moment from here.
    task.state = TaskState::blocked;
    ++awaited_;
    ++engine_->threads_awaited;
    const auto outcome = completion.await({&Kernel::wake_from_thread, &task}, &task);
    // Whoever is interrupted on arrival waits first and then gives up: so the thread can see it.
    const bool interrupted = outcome == ThreadCompletion::Await::waiting &&
                             may_take_interrupt(task) && completion.forget();
    if (outcome == ThreadCompletion::Await::waiting && !interrupted)
        return Answer::later;
    --awaited_;
    --engine_->threads_awaited;
    task.state = TaskState::ready;
    if (interrupted) [[unlikely]]
        return reply_pending(task);
    const bool taken = outcome == ThreadCompletion::Await::taken;
    return reply_now(task, {taken ? -EBUSY : completion.value()});
}

} // namespace trapline
