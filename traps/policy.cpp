#include "policy.hpp"

#include <algorithm>
#include <cerrno>
#include <stdexcept>

namespace trapline::detail {

bool can_be_delayed(const Trap& trap) noexcept {
    switch (trap.index()) {
    case trap_index<traps::Yield>:
    case trap_index<traps::Sleep>:
    case trap_index<traps::SleepUntil>:
    case trap_index<traps::Join>:
    case trap_index<traps::AwaitThread>:
    case trap_index<traps::ReadWait>:
    case trap_index<traps::WriteWait>: return true;
    case trap_index<traps::Io>: return interruptible(std::get_if<traps::Io>(&trap)->request);
    default: return false;
    }
}

bool interrupt_comes_first(const Trap& trap) noexcept {
    switch (trap.index()) {
    case trap_index<traps::Join>:                      // of a task that has ended is answered
    case trap_index<traps::AwaitThread>: return false; // the thread is to see it
    default: return can_be_delayed(trap);
    }
}

bool is_about(const Trap& trap, int fd) noexcept {
    if (const auto* wait = std::get_if<traps::ReadWait>(&trap))
        return wait->fd == fd;
    if (const auto* wait = std::get_if<traps::WriteWait>(&trap))
        return wait->fd == fd;
    const auto* io = std::get_if<traps::Io>(&trap);
    if (!io)
        return false;
    const traps::DescriptorUses uses = traps::descriptors_of(io->request);
    return uses.first.fd == fd || uses.second.fd == fd;
}

namespace {

/// Nobody else than the kernel answers these.
bool is_for_kernel(const Trap& trap) noexcept {
    switch (trap.index()) {
    case trap_index<traps::Cancel>:
    case trap_index<traps::Mask>:
    case trap_index<traps::UnsetTimeout>:
    case trap_index<traps::Park>: return true;
    default: return false;
    }
}

} // namespace

void Policing::enter_held(TaskRecord& task, HeldTraps& traps) noexcept {
    task_ = &task;
    previous_ = &traps.first_;
    following_ = traps.first_;
    if (following_)
        following_->previous_ = &following_;
    traps.first_ = this;
}

void Policing::leave() noexcept {
    if (!previous_)
        return;
    *previous_ = following_;
    if (following_)
        following_->previous_ = previous_;
    previous_ = nullptr;
}

HeldTraps::~HeldTraps() {
    while (first_)
        first_->leave();
}

void Policing::note(const TaskRecord& task) noexcept {
    asked_ = task.frame.trap;
    state_ = State::asked;
}

/// A verdict that is not to allow the trap.
Policing::Step Policing::carry_out(Verdict verdict, TaskRecord& task, const PolicyLink& by,
                                   const KernelTime& now) noexcept {
    if (verdict.kind() == Verdict::Kind::answer && !is_for_kernel(task.frame.trap)) {
        task.frame.reply = verdict.reply();
        return come_back(task, &by, now);
    }
    if (can_be_delayed(task.frame.trap) && verdict.duration() > Duration::zero())
        return hold(task, task.frame.trap, &by, by.outer.get(), verdict.duration());
    return ask(task, by.outer.get(), now);
}

Policing::Step Policing::hold(TaskRecord& task, const Trap& trap, const PolicyLink* by,
                              const PolicyLink* next, Duration time) noexcept {
    held_ = trap;
    held_by_ = by;
    next_ = next;
    state_ = State::held;
    closed_ = false;
    task.frame.trap = traps::Sleep{time};
    return Step::kernel;
}

namespace {

/// From the outermost that has let the trap through inwards, up to one who wants it asked again.
/// `answerer` has not; null is the kernel.
std::optional<Duration> show_reply(const PolicyLink* link, const PolicyLink* answerer,
                                   const Asking& asking, Reply& reply) noexcept {
    if (link == answerer || !link->sees_replies)
        return {};
    if (const auto again = show_reply(link->outer.get(), answerer, asking, reply))
        return again;
    return link->policy->sees_replies() ? link->policy->replied(asking, reply) : std::nullopt;
}

} // namespace

/// The frame holds the reply, which `from` gave.
Policing::Step Policing::come_back(TaskRecord& task, const PolicyLink* from,
                                   const KernelTime& now) noexcept {
    state_ = State::idle;
    Reply& reply = task.frame.reply;
    const auto again = show_reply(chain_.get(), from, Asking{task, asked_, attempt_, now}, reply);
    if (!again || reply.interrupt != Interrupt::none || !can_be_delayed(asked_))
        return Step::task;
    ++attempt_;
    return hold(task, asked_, nullptr, chain_.get(), std::max(*again, Duration::zero()));
}

Policing::Step Policing::replied(TaskRecord& task, const KernelTime& now) noexcept {
    switch (state_) {
    case State::idle: break;
    case State::asked: return come_back(task, nullptr, now);
    case State::held: {
        leave();
        task.frame.trap = held_;
        if (task.frame.reply.interrupt == Interrupt::none && !closed_) {
            state_ = chain_->sees_replies ? State::asked : State::idle;
            return ask(task, next_, now);
        }
        if (closed_ && task.frame.reply.interrupt == Interrupt::none)
            task.frame.reply = {-ECANCELED};
        if (held_by_)
            held_by_->policy->withdrawn(Asking{task, task.frame.trap, attempt_, now});
        // Those inside have let it through. After a reply nobody has yet.
        return come_back(task, held_by_ ? held_by_ : chain_.get(), now);
    }
    }
    return Step::task;
}

std::shared_ptr<const PolicyLink> exchange_policies(TrapFrame& frame,
                                                    std::shared_ptr<const PolicyLink> chain) {
    std::shared_ptr<Policing>& policing = frame.with_extras().policing;
    if (policing)
        return policing->exchange(std::move(chain));
    if (chain)
        policing = std::make_shared<Policing>(std::move(chain));
    return nullptr;
}

std::shared_ptr<const PolicyLink> AddPolicy::await_resume() {
    if (!policy_)
        throw std::invalid_argument("with_policy: there is none");
    std::shared_ptr<const PolicyLink> outer;
    if (const FrameExtras* extras = frame().extras.get(); extras && extras->policing)
        outer = extras->policing->chain();
    const bool sees_replies = policy_->sees_replies() || (outer && outer->sees_replies);
    return exchange_policies(frame(), std::make_shared<const PolicyLink>(
                                          std::move(policy_), std::move(outer), sees_replies));
}

} // namespace trapline::detail
