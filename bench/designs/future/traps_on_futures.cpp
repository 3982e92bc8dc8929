#include "traps_on_futures.hpp"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <variant>

#include <poll.h>

#include <trapline/kernel/engines/uring.hpp>
#include <trapline/traps/exceptions.hpp>
#include <trapline/traps/thread.hpp>

namespace future_design {

using namespace trapline;

/// A task, and the future that it waits for.
struct FutureKernel::Running {
    Running(FutureKernel& owner, TaskRecord& what) : kernel(owner), record(what) {}

    FutureKernel& kernel;
    TaskRecord& record;

    std::optional<Future<Reply>> waiting; ///< while its trap is not answered
    std::optional<Future<void>> ended;    ///< if somebody asks for its end

    // What it is blocked in.
    Handle alarm;
    std::optional<WaitNode> node;
    Operation operation;
    bool in_flight = false; ///< the engine has the operation

    // Interrupts.
    Interrupt pending = Interrupt::none;
    TimePoint pending_deadline{};
    bool masked = false;
    bool cancel_sent = false;
    TimePoint deadline = never; ///< in force
    Handle limit;

    bool may_take_interrupt() const noexcept { return pending != Interrupt::none && !masked; }
};

namespace {

template <class... Cases>
struct Overloaded : Cases... {
    using Cases::operator()...;
};

/// What an IoRelease waits for as a Close would. It never reaches the engine.
constexpr traps::IoRequest release = traps::Close{-1};

bool is_release(const TaskRecord& record) noexcept {
    return std::holds_alternative<traps::IoRelease>(record.frame.trap);
}

} // namespace

FutureKernel::Running& FutureKernel::running(TaskRecord& record) noexcept {
    return **static_cast<Running**>(record.room());
}

/// Another kernel keeps something else in a task's room, so that is not asked.
bool FutureKernel::owns(const TaskRecord& record) const noexcept {
    const auto found = tasks_.find(record.id);
    return found != tasks_.end() && &found->second->record == &record;
}

// --- tasks ---------------------------------------------------------------------------------

void FutureKernel::run_main(TaskRecord& main) {
    adopt(main);
    const Future<void> ended{loop_};
    running(main).ended = ended;
    loop_.run_until_complete(ended);
}

void FutureKernel::adopt(TaskRecord& record) {
    auto task = std::make_unique<Running>(*this, record);
    ::new (record.room()) Running* {task.get()};
    record.add_reference();
    record.id = ++last_id_;
    record.state = TaskState::ready;
    loop_.call_soon([this, &task = *task] { step(task); });
    tasks_.emplace(record.id, std::move(task));
    if (shutting_down_)
        cancel(record);
}

/// Runs the task until it has to wait, or has ended.
void FutureKernel::step(Running& task) noexcept {
    TaskRecord& record = task.record;
    do {
        record.state = TaskState::ready;
        record.frame.resume();
        if (record.frame.ended())
            return terminate(task);
        ++traps_;
    } while (ask(task));
    record.state = TaskState::blocked;
}

void FutureKernel::terminate(Running& task) noexcept {
    TaskRecord& record = task.record;
    record.finish();
    record.cancelled = record.failure && is_interrupt(record.failure);
    if (record.daemon)
        record.report_unseen_failure();
    retire(task);
}

/// Destroys a task that is parked for good. Its destructors run, its joiners see it cancelled.
void FutureKernel::abandon(Running& task) noexcept {
    TaskRecord& record = task.record;
    task.alarm.cancel();
    task.node.reset();
    record.abandon();
    record.failure = std::make_exception_ptr(TaskCancelled{});
    record.cancelled = record.interrupted = true;
    retire(task);
}

void FutureKernel::retire(Running& task) noexcept {
    TaskRecord& record = task.record;
    task.limit.cancel();
    record.state = TaskState::terminated;
    if (task.ended)
        task.ended->set_result();
    tasks_.erase(record.id);
    record.joiners.wake_all();
    record.drop_reference();
}

FutureKernel::FutureKernel() : FutureKernel(make_uring_engine({})) {}

FutureKernel::FutureKernel(std::unique_ptr<Engine> engine) noexcept : loop_(std::move(engine)) {}

FutureKernel::~FutureKernel() { shutdown(); }

void FutureKernel::shutdown() {
    shutting_down_ = true; // what cleanup spawns is cancelled as it comes
    for (auto at = tasks_.rbegin(); at != tasks_.rend(); ++at)
        cancel(at->second->record);
    while (!tasks_.empty()) {
        const std::uint64_t id = tasks_.rbegin()->first;
        Running& newest = *tasks_.rbegin()->second;
        const CallbackId stops = newest.ended.emplace(loop_).add_done_callback(
            [this](const Future<void>&) { loop_.stop(); });
        loop_.run_forever();
        if (tasks_.empty() || tasks_.rbegin()->first != id || !loop_.idle())
            continue;
        newest.ended->remove_done_callback(stops);
        loop_.call_exception_handler(
            {"shutdown: task '" + newest.record.name() + "' can never go on, and is destroyed",
             nullptr});
        abandon(newest);
    }
    shutting_down_ = false;
}

// --- policies ------------------------------------------------------------------------------

/// What stands between the task and this kernel; null if nothing does.
trapline::detail::Policing* FutureKernel::policing(const Running& task) noexcept {
    const FrameExtras* extras = task.record.frame.extras.get();
    return extras ? extras->policing.get() : nullptr;
}

TimePoint FutureKernel::time_of(void* kernel) noexcept {
    return static_cast<FutureKernel*>(kernel)->loop_.time();
}

bool FutureKernel::ask(Running& task) {
    if (policing(task))
        return ask_policies(task);
    const std::optional<Reply> reply = answer(task);
    if (reply)
        task.record.frame.reply = *reply;
    return reply.has_value();
}

/// The task's policies see what it asks before we do.
bool FutureKernel::ask_policies(Running& task) {
    TaskRecord& record = task.record;
    if (task.may_take_interrupt() && trapline::detail::interrupt_comes_first(record.frame.trap)) {
        record.frame.reply = interrupt_reply(task);
        return true;
    }
    return go_on(task, policing(task)->trapped(record, time_));
}

/// The reply to what the task has waited for is there: they see that, too, before it does.
bool FutureKernel::reply_came(Running& task) {
    trapline::detail::Policing* between = policing(task);
    return !between || !between->waits() || go_on(task, between->replied(task.record, time_));
}

bool FutureKernel::go_on(Running& task, trapline::detail::Policing::Step step) {
    while (step == trapline::detail::Policing::Step::kernel) {
        policing(task)->enter(task.record, held_);
        const std::optional<Reply> reply = answer(task);
        if (!reply)
            return false;
        task.record.frame.reply = *reply;
        step = policing(task)->replied(task.record, time_);
    }
    return true;
}

/// What a policy delays is not to find another file under its number.
void FutureKernel::end_held(int fd) {
    held_.end(fd, [](TaskRecord& record) {
        Running& task = running(record);
        if (!task.waiting || task.waiting->done())
            return; // the delay is over
        task.alarm.cancel();
        task.waiting->set_result({});
    });
}

// --- traps ---------------------------------------------------------------------------------

std::optional<trapline::Reply> FutureKernel::answer(Running& task) {
    TaskRecord& record = task.record;
    const auto interrupted = [&]() -> std::optional<Reply> {
        return task.may_take_interrupt() ? std::optional(interrupt_reply(task)) : std::nullopt;
    };
    return std::visit(
        Overloaded{
            [&](const traps::Yield&) {
                auto reply = interrupted();
                if (!reply) {
                    wait_for(task);
                    task.waiting->set_result({});
                }
                return reply;
            },
            [&](const traps::Sleep& trap) {
                return sleep_until(task, later(loop_.time(), trap.duration));
            },
            [&](const traps::SleepUntil& trap) { return sleep_until(task, trap.time); },
            [&](const traps::Clock&) { return std::optional(Reply::time(loop_.time())); },
            [&](const traps::Self&) {
                return std::optional<Reply>{Reply{reinterpret_cast<std::intptr_t>(&record)}};
            },
            [&](const traps::Spawn& trap) {
                if (trap.task->state != TaskState::created)
                    return std::optional<Reply>{Reply{-EALREADY}};
                adopt(*trap.task);
                return std::optional<Reply>{Reply{}};
            },
            [&](const traps::Join& trap) { return join(task, *trap.task); },
            [&](const traps::Cancel& trap) -> std::optional<Reply> {
                if (trap.task == &record)
                    return Reply{-EDEADLK};
                if (trap.task->state == TaskState::terminated)
                    return Reply{static_cast<std::int64_t>(traps::Delivery::over)};
                return Reply{owns(*trap.task) ? cancel(*trap.task) : -EXDEV};
            },
            [&](const traps::SetTimeout& trap) {
                const auto* duration = std::get_if<Duration>(&trap.limit);
                return std::optional(set_timeout(task, duration ? later(loop_.time(), *duration)
                                                                : std::get<TimePoint>(trap.limit)));
            },
            [&](const traps::UnsetTimeout& trap) {
                unset_timeout(task, trap.previous);
                return std::optional<Reply>{Reply{}};
            },
            [&](const traps::Mask& trap) {
                return std::optional<Reply>{Reply{std::exchange(task.masked, trap.on)}};
            },
            [&](const traps::Park& trap) { return park(task, *trap.queue); },
            [&](const traps::AwaitThread& trap) { return await_thread(task, *trap.completion); },
            [&](const traps::ReadWait& trap) {
                const traps::Poll poll{trap.fd, POLLIN, traps::Side::read};
                return start_io(task, record.frame.trap.emplace<traps::Io>(poll).request);
            },
            [&](const traps::WriteWait& trap) {
                const traps::Poll poll{trap.fd, POLLOUT, traps::Side::write};
                return start_io(task, record.frame.trap.emplace<traps::Io>(poll).request);
            },
            [&](const traps::IoRelease& trap) { return start_closing(task, trap.fd); },
            [&](const traps::Io& trap) {
                const auto* close = std::get_if<traps::Close>(&trap.request);
                return close ? start_closing(task, close->fd) : start_io(task, trap.request);
            },
        },
        record.frame.trap);
}

/// From here on the task waits for a future of its own. When that is done, it goes on.
void FutureKernel::wait_for(Running& task) {
    task.waiting.emplace(loop_);
    task.waiting->add_done_callback([this, &task](const Future<Reply>& future) {
        task.record.frame.reply = future.cancelled() ? interrupt_reply(task) : future.result();
        task.waiting.reset();
        if (reply_came(task))
            step(task);
    });
}

std::optional<trapline::Reply> FutureKernel::sleep_until(Running& task, TimePoint when) {
    if (task.may_take_interrupt())
        return interrupt_reply(task);
    wait_for(task);
    task.alarm = loop_.call_at(when, [this, &task] {
        if (!task.waiting->done())
            task.waiting->set_result(Reply::time(loop_.time()));
    });
    return std::nullopt;
}

std::optional<trapline::Reply> FutureKernel::park(Running& task, WaitQueue& queue) {
    if (task.may_take_interrupt())
        return interrupt_reply(task);
    wait_for(task);
    const Waker waker{
        [](void* context) noexcept { static_cast<Running*>(context)->waiting->set_result({}); },
        &task};
    queue.append(task.node.emplace(waker, &task.record));
    return std::nullopt;
}

std::optional<trapline::Reply> FutureKernel::join(Running& task, TaskRecord& joined) {
    if (joined.state == TaskState::terminated)
        return Reply{};
    if (&joined == &task.record)
        return Reply{-EDEADLK};
    if (!owns(joined))
        return Reply{-EXDEV};
    return park(task, joined.joiners);
}

std::optional<trapline::Reply> FutureKernel::await_thread(Running& task,
                                                          ThreadCompletion& completion) {
    if (completion.completed())
        return Reply{completion.value()};
    wait_for(task);
    loop_.expect_thread(1);
    const Waker waker{[](void* context) noexcept {
                          auto& waiter = *static_cast<Running*>(context);
                          waiter.kernel.loop_.call_soon_threadsafe([&waiter] {
                              waiter.kernel.loop_.expect_thread(-1);
                              const auto& trap =
                                  std::get<traps::AwaitThread>(waiter.record.frame.trap);
                              waiter.waiting->set_result({trap.completion->value()});
                          });
                      },
                      &task};
    const auto outcome = completion.await(waker, &task.record);
    if (outcome != ThreadCompletion::Await::waiting) {
        loop_.expect_thread(-1);
        const bool taken = outcome == ThreadCompletion::Await::taken;
        task.waiting->set_result({taken ? -EBUSY : completion.value()});
    } else {
        // Whoever is interrupted on arrival waits first and then gives up: so the thread sees it.
        interrupt(task);
    }
    return std::nullopt;
}

// --- I/O -----------------------------------------------------------------------------------

std::optional<trapline::Reply> FutureKernel::start_io(Running& task,
                                                      const traps::IoRequest& request) {
    if (task.may_take_interrupt() && traps::interruptible(request))
        return interrupt_reply(task);
    std::construct_at(&task.operation)->request = &request;
    if (const int error = Descriptors::error_of(descriptors_.enter(task.operation)))
        return Reply{-error};
    wait_for(task);
    launch(task);
    return std::nullopt;
}

void FutureKernel::launch(Running& task) {
    task.in_flight = true;
    loop_.start_io(task.operation)
        .add_done_callback([this, &task](const Future<Completion>& future) {
            task.in_flight = false;
            over(task, future.result());
        });
}

/// The operation is over: the task goes on, and whoever waited for its end to close the descriptor.
void FutureKernel::over(Running& task, const Completion& completion) noexcept {
    std::vector<TaskRecord*> closers;
    descriptors_.leave(task.operation, [&](Operation& closer) { closers.push_back(closer.task); });
    if (completion.ended_by_cancel && task.may_take_interrupt()) {
        Reply reply = interrupt_reply(task);
        reply.progress = static_cast<std::uint32_t>(completion.transferred);
        task.waiting->set_result(reply);
    } else {
        task.waiting->set_result({.value = completion.result, .stopped_by = completion.stopped_by});
    }
    for (TaskRecord* closer : closers)
        end_operation(running(*closer).operation);
}

std::optional<trapline::Reply> FutureKernel::start_closing(Running& task, int fd) {
    const auto* io = std::get_if<traps::Io>(&task.record.frame.trap);
    std::construct_at(&task.operation)->request = io ? &io->request : &release;
    task.operation.task = &task.record; // while the loop does not have it
    end_held(fd);
    const Descriptors::Admission admission = descriptors_.enter_closing(task.operation, fd);
    if (const int error = Descriptors::error_of(admission))
        return Reply{-error};
    wait_for(task);
    if (admission == Descriptors::Admission::granted) {
        end_operation(task.operation);
    } else {
        end_in_flight(fd);
    }
    return std::nullopt;
}

void FutureKernel::end_in_flight(int fd) {
    const auto end = [this](Operation& operation) {
        if (!std::exchange(operation.cancel_requested, true))
            loop_.cancel_io(operation);
    };
    descriptors_.for_each_on_a_side(fd, end);
    std::size_t others = descriptors_.others_on(fd);
    for (auto at = tasks_.rbegin(); at != tasks_.rend() && others > 0; ++at) {
        Running& task = *at->second;
        const auto* io = std::get_if<traps::Io>(&task.record.frame.trap);
        if (io && task.waiting && !task.waiting->done() &&
            Descriptors::occupies_no_side(io->request, fd)) {
            --others;
            end(task.operation);
        }
    }
}

/// Nothing is in flight any more on the descriptor that `operation` closes or releases.
void FutureKernel::end_operation(Operation& operation) {
    Running& task = running(*operation.task);
    const auto* io = std::get_if<traps::Io>(&task.record.frame.trap);
    const int fd = io ? std::get<traps::Close>(io->request).fd
                      : std::get<traps::IoRelease>(task.record.frame.trap).fd;
    descriptors_.closed(fd);
    if (is_release(task.record)) {
        loop_.forget(fd);
        return over(task, {});
    }
    launch(task);
}

// --- interrupts ----------------------------------------------------------------------------

trapline::Reply FutureKernel::interrupt_reply(Running& task) {
    Reply reply{.interrupt = std::exchange(task.pending, Interrupt::none)};
    task.record.interrupt_pending = false;
    if (reply.interrupt == Interrupt::timed_out)
        reply.value = task.pending_deadline.time_since_epoch().count();
    else
        task.record.interrupted = true;
    return reply;
}

/// Cancels the future that the task waits for, if that can be. An operation is asked to end.
void FutureKernel::interrupt(Running& task) {
    if (!task.waiting || task.waiting->done() || !task.may_take_interrupt())
        return;
    const Trap& trap = task.record.frame.trap;
    if (std::holds_alternative<traps::Io>(trap) || is_release(task.record)) {
        if (task.in_flight && traps::interruptible(*task.operation.request) &&
            !std::exchange(task.operation.cancel_requested, true))
            loop_.cancel_io(task.operation);
        return;
    }
    if (const auto* thread = std::get_if<traps::AwaitThread>(&trap)) {
        if (!thread->completion->forget())
            return;
        loop_.expect_thread(-1);
    }
    task.alarm.cancel();
    task.node.reset();
    task.waiting->cancel();
}

std::int64_t FutureKernel::cancel(TaskRecord& record) {
    Running& task = running(record);
    if (!std::exchange(task.cancel_sent, true)) {
        task.limit.cancel();
        task.deadline = never;
        for (TimeLimit* limit = record.frame.limit; limit; limit = limit->outer)
            limit->disarmed = true;
        task.pending = Interrupt::cancelled;
        record.interrupt_pending = true;
        interrupt(task);
    }
    return static_cast<std::int64_t>(task.pending == Interrupt::none ? traps::Delivery::delivered
                                                                     : traps::Delivery::pending);
}

trapline::Reply FutureKernel::set_timeout(Running& task, TimePoint deadline) {
    deadline = std::max(deadline, TimePoint{}); // replies count times from zero upwards
    TimePoint previous = task.deadline;
    if (task.pending == Interrupt::timed_out)
        previous = std::min(previous, task.pending_deadline);
    if (deadline < previous) { // a tie goes to the outer one
        task.limit.cancel();
        task.deadline = never;
        if (deadline <= loop_.time()) {
            limit_ran_out(task, deadline);
        } else {
            task.deadline = deadline;
            task.limit =
                loop_.call_at(deadline, [this, &task, deadline] { limit_ran_out(task, deadline); });
        }
    }
    return Reply::time(previous);
}

void FutureKernel::unset_timeout(Running& task, TimePoint previous) {
    const TimeLimit* scope = task.record.frame.limit;
    if (task.pending == Interrupt::timed_out) {
        // It ran out, but was not delivered: forgotten, unless it was an outer one.
        const bool own = scope ? scope->sooner && scope->deadline == task.pending_deadline
                               : task.pending_deadline < previous;
        if (own) {
            task.pending = Interrupt::none;
            task.record.interrupt_pending = false;
        }
    }
    for (const TimeLimit* at = scope; at; at = at->outer) {
        if (at->ran_out && at->sooner && at->deadline == previous)
            previous = at->previous;
    }
    task.limit.cancel();
    task.deadline = previous;
    if (previous != never)
        task.limit =
            loop_.call_at(previous, [this, &task, previous] { limit_ran_out(task, previous); });
}

void FutureKernel::limit_ran_out(Running& task, TimePoint deadline) noexcept {
    task.deadline = never;
    TimePoint outer = never;
    bool inside = false; // of the scope that ran out lies the one that waits to be delivered
    bool pending_seen = false;
    for (TimeLimit* limit = task.record.frame.limit; limit; limit = limit->outer) {
        if (!limit->sooner || limit->disarmed)
            continue;
        if (limit->deadline == deadline) {
            limit->ran_out = true;
            inside = inside || pending_seen;
        }
        pending_seen = pending_seen || limit->deadline == task.pending_deadline;
        if (limit->deadline > deadline)
            outer = std::min(outer, limit->deadline);
    }
    if (outer != never) {
        task.deadline = outer;
        task.limit = loop_.call_at(outer, [this, &task, outer] { limit_ran_out(task, outer); });
    }
    if (task.pending == Interrupt::cancelled || (task.pending == Interrupt::timed_out && !inside))
        return;
    task.pending = Interrupt::timed_out;
    task.pending_deadline = deadline;
    task.record.interrupt_pending = true;
    interrupt(task);
}

} // namespace future_design
