// Policy: stands between tasks and their kernel, and sees each trap first. It may let the trap
// through, change it, delay it, refuse it with an errno, or answer it itself; and it may see the
// reply, change that, and have the trap asked once more.
//
//     struct NoSleep final : Policy { // for tests that have no patience
//         Verdict trapped(Asking& asking) noexcept override {
//             if (auto* sleep = std::get_if<traps::Sleep>(&asking.trap))
//                 sleep->duration = 0ns;
//             return Verdict::allow();
//         }
//     };
//
//     co_await with_policy(std::make_shared<NoSleep>(), sleep(24h));
//
// A policy holds for the task while `what` runs, and for the tasks spawned there, for as long as
// they live. Policies add up: who stands under one can only put a narrower one before it. The one
// set last sees a trap first and its reply last. io/policies.hpp has some that are ready to use.
//
// This is a fence against bugs, not a sandbox: code of the process can make system calls of its
// own. It is the kernel who asks policies; whoever drives a Routine by hand sees its traps himself
// and asks nobody. Where nobody has set a policy it costs one predictable branch a trap.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "attempt.hpp"
#include "frame.hpp"
#include "task_local.hpp"
#include "task_record.hpp"

namespace trapline {

/// What is to become of a trap. Mask, UnsetTimeout, Cancel and Park are allowed whatever the
/// verdict: scopes could not end without them, and who is to be woken has to wait.
class Verdict {
public:
    /// The next policy sees it, then the kernel.
    static constexpr Verdict allow() noexcept { return {Kind::allow, {}}; }

    /// Answers -error, an errno and so positive, without asking anybody further.
    static constexpr Verdict refuse(int error) noexcept { return {Kind::answer, {-error}}; }

    /// Answers so, without asking anybody further.
    static constexpr Verdict answer(Reply reply) noexcept { return {Kind::answer, reply}; }

    /// Allows it when `duration` has passed. The task sleeps meanwhile, and can be interrupted; if
    /// a descriptor is closed that the trap is about, it is answered -ECANCELED as others are. Only
    /// for traps that can be interrupted: others are allowed at once.
    static constexpr Verdict delay(Duration duration) noexcept {
        return {Kind::delay, {duration.count()}};
    }

    enum class Kind : std::uint8_t { allow, answer, delay };
    constexpr Kind kind() const noexcept { return static_cast<Kind>(reply_.reserved); }
    constexpr Reply reply() const noexcept {
        Reply reply = reply_;
        reply.reserved = 0;
        return reply;
    }
    constexpr Duration duration() const noexcept { return Duration{reply_.value}; }

private:
    constexpr Verdict(Kind kind, Reply reply) noexcept : reply_(reply) {
        reply_.reserved = static_cast<std::uint8_t>(kind); // so it is returned in two registers
    }

    Reply reply_;
};

static_assert(sizeof(Verdict) == 16);

/// The kernel's time, for who asks.
struct KernelTime {
    TimePoint (*read)(void* kernel) noexcept;
    void* kernel;
};

/// A trap on its way to the kernel, or its reply on the way back.
struct Asking {
    const TaskRecord& task;
    Trap& trap;            ///< while it is asked, a policy may change it; later, as it was asked
    std::uint32_t attempt; ///< how often it was asked before, whoever wanted that: Policy::replied
    const KernelTime& time;

    TimePoint now() const noexcept { return time.read(time.kernel); }
};

/// It belongs to one kernel's thread, and may serve any number of its tasks.
class Policy {
public:
    virtual ~Policy() = default;

    /// A trap comes by. Called from within the kernel: it must not block.
    virtual Verdict trapped(Asking& asking) noexcept = 0;

    /// The reply to a trap that this one has let through; may change it. A duration instead of
    /// nothing: the trap is asked again, as the task asked it, when that has passed, and comes by
    /// trapped() again. Not after an interrupt, and only for traps that can be interrupted. Not
    /// called unless sees_replies().
    virtual std::optional<Duration> replied(const Asking&, Reply&) noexcept { return {}; }

    /// A trap that this one delays is not asked any more: its task was interrupted, or a descriptor
    /// closed.
    virtual void withdrawn(const Asking&) noexcept {}

    /// Always the same answer.
    virtual bool sees_replies() const noexcept { return false; }
};

namespace detail {

struct PolicyLink {
    std::shared_ptr<Policy> policy;
    std::shared_ptr<const PolicyLink> outer; ///< null: the kernel
    bool sees_replies;                       ///< this one or one further out
};

class Policing;

/// The traps of a kernel that policies hold back. Closing a descriptor ends those about it.
class HeldTraps {
public:
    HeldTraps() = default;
    HeldTraps(const HeldTraps&) = delete;
    HeldTraps& operator=(const HeldTraps&) = delete;
    ~HeldTraps();

    /// Calls wake(task) for each that is about `fd`, which is answered -ECANCELED then: those that
    /// sleep must go on.
    template <class F>
    void end(int fd, F&& wake) noexcept;

private:
    friend Policing;
    Policing* first_ = nullptr;
};

/// The policies of a task, and where its trap is among them. For kernels:
///
///     if (task is interrupted && interrupt_comes_first(task.frame.trap)) ... // asks nobody
///     Step step = policing.trapped(task, now);
///     while (step == Step::kernel) {
///         policing.enter(task, held); // so that close() finds those that are delayed
///         answer(task);               // it may take its time; then go on here
///         step = policing.replied(task, now);
///     }
class Policing {
public:
    explicit Policing(std::shared_ptr<const PolicyLink> chain) noexcept
        : chain_(std::move(chain)) {}
    Policing(const Policing&) = delete;
    Policing& operator=(const Policing&) = delete;
    ~Policing() { leave(); }

    /// Who goes on: the task with the reply in its frame, or the kernel with the trap in there.
    enum class Step : bool { task, kernel };

    Step trapped(TaskRecord& task, const KernelTime& now) noexcept {
        attempt_ = 0;
        if (!chain_) [[unlikely]]
            return Step::kernel;
        if (chain_->sees_replies)
            note(task);
        return ask(task, chain_.get(), now);
    }
    Step replied(TaskRecord& task, const KernelTime& now) noexcept;

    /// A reply is on its way to the task.
    bool waits() const noexcept { return state_ != State::idle; }

    /// The trap goes to the kernel: notes it if it is a delay.
    void enter(TaskRecord& task, HeldTraps& traps) noexcept {
        if (state_ == State::held) [[unlikely]]
            enter_held(task, traps);
    }

    const std::shared_ptr<const PolicyLink>& chain() const noexcept { return chain_; }
    std::shared_ptr<const PolicyLink> exchange(std::shared_ptr<const PolicyLink> chain) noexcept {
        return std::exchange(chain_, std::move(chain));
    }

private:
    friend HeldTraps;
    enum class State : std::uint8_t {
        idle,
        asked, ///< the kernel has the trap
        held,  ///< the kernel has a Sleep in its place
    };

    void note(const TaskRecord& task) noexcept;
    void enter_held(TaskRecord& task, HeldTraps& traps) noexcept;
    void leave() noexcept;
    [[gnu::always_inline]] Step ask(TaskRecord& task, const PolicyLink* from,
                                    const KernelTime& now) noexcept {
        Asking asking{task, task.frame.trap, attempt_, now};
        for (; from; from = from->outer.get()) {
            const Verdict verdict = from->policy->trapped(asking);
            if (verdict.kind() != Verdict::Kind::allow) [[unlikely]]
                return carry_out(verdict, task, *from, now);
        }
        return Step::kernel;
    }
    Step carry_out(Verdict verdict, TaskRecord& task, const PolicyLink& by,
                   const KernelTime& now) noexcept;
    Step hold(TaskRecord& task, const Trap& trap, const PolicyLink* by, const PolicyLink* next,
              Duration time) noexcept;
    Step come_back(TaskRecord& task, const PolicyLink* from, const KernelTime& now) noexcept;

    std::shared_ptr<const PolicyLink> chain_; ///< the innermost first
    Trap asked_;                              ///< as the task asked, if somebody sees replies
    Trap held_;
    const PolicyLink* held_by_ = nullptr;
    const PolicyLink* next_ = nullptr; ///< who sees the held one then
    std::uint32_t attempt_ = 0;
    State state_ = State::idle;
    bool closed_ = false; ///< a descriptor of the held one

    // While it is among the held ones.
    TaskRecord* task_ = nullptr;
    Policing** previous_ = nullptr; ///< what leads to this one; null: it is not entered
    Policing* following_ = nullptr;
};

/// Whether the trap, or the operation that it is about, uses the descriptor.
bool is_about(const Trap& trap, int fd) noexcept;

template <class F>
void HeldTraps::end(int fd, F&& wake) noexcept {
    for (Policing* at = first_; at;) {
        Policing* const following = at->following_;
        if (is_about(at->held_, fd)) {
            at->leave();
            at->closed_ = true;
            wake(*at->task_);
        }
        at = following;
    }
}

/// Puts `chain` in place of the frame's policies, which it answers. Throws std::bad_alloc.
std::shared_ptr<const PolicyLink> exchange_policies(TrapFrame& frame,
                                                    std::shared_ptr<const PolicyLink> chain);

/// Sets a policy before those that there are. Answers those.
class AddPolicy : public FrameAwaiter {
public:
    explicit AddPolicy(std::shared_ptr<Policy>&& policy) noexcept : policy_(std::move(policy)) {}
    std::shared_ptr<const PolicyLink> await_resume();

private:
    std::shared_ptr<Policy> policy_;
};

class RestorePolicies : public FrameAwaiter {
public:
    explicit RestorePolicies(std::shared_ptr<const PolicyLink>&& chain) noexcept
        : chain_(std::move(chain)) {}
    void await_resume() { exchange_policies(frame(), std::move(chain_)); }

private:
    std::shared_ptr<const PolicyLink> chain_;
};

/// Whether a policy can delay the trap: a cancellation could interrupt it.
bool can_be_delayed(const Trap& trap) noexcept;

/// Whether an interrupt that waits for the task is its answer, before anybody is asked.
bool interrupt_comes_first(const Trap& trap) noexcept;

} // namespace detail

/// Answers the result of `what`, which runs under `policy`. Blocks as `what` does; an interrupt
/// passes through. Throws what `what` throws, std::invalid_argument for no policy, and
/// std::bad_alloc before `what` has begun.
template <detail::Body W>
auto with_policy(std::shared_ptr<Policy> policy, W what) -> Coro<detail::body_result_t<W>> {
    detail::Outcome<detail::body_result_t<W>> outcome;
    auto&& body = detail::begin(what);
    detail::Attempt attempt{std::move(body), outcome}; // first: it refuses an empty coroutine
    auto before = co_await detail::AddPolicy{std::move(policy)};
    co_await attempt;
    co_await detail::RestorePolicies{std::move(before)};
    co_return outcome.take();
}

} // namespace trapline
