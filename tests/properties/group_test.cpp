// Random programs over task groups: children that fail, swallow interrupts, take their time to
// clean up, spawn siblings, cancel each other, open groups of their own; bodies that take, join,
// cancel and fail.
#include <algorithm>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/traps/group.hpp>

#include "programs.hpp"

using namespace trapline;
using namespace trapline::properties;

namespace {

using Counted = test::Counted;

class ChildError : public std::runtime_error {
public:
    ChildError() : std::runtime_error("a child failed") {}
};

class BodyError : public std::runtime_error {
public:
    BodyError() : std::runtime_error("a body failed") {}
};

/// What is known of one group from outside.
struct Round {
    std::vector<Task<>> children; ///< in the order of spawning, but for daemons
    std::vector<std::uint64_t> given;
    std::size_t alive = 0;
    std::size_t failed = 0; ///< children that threw
    std::size_t failures_taken = 0;
    std::size_t completed = 0; ///< children, daemons excepted, that came to their end
    bool disturbed = false;    ///< children were cancelled, by somebody else or by the body
    bool body_failed = false;
};

/// Alive from when a child is spawned until its coroutine is destroyed.
class Alive {
public:
    explicit Alive(Round& round) noexcept : round_(&round) { ++round_->alive; }
    Alive(Alive&& other) noexcept : round_(std::exchange(other.round_, nullptr)) {}
    Alive& operator=(Alive&&) = delete;
    ~Alive() {
        if (round_)
            --round_->alive;
    }

private:
    Round* round_;
};

using Found = std::optional<int>;

class Groups {
public:
    static constexpr bool always_ends = true;

    explicit Groups(World& world) noexcept : world_(world) {}

    Coro<void> step(World&) { return open(0); }

    std::string complaint_at_rest() const { return open_ == 0 ? "" : "a group never ends"; }
    std::string complaint() const { return complaint_; }

private:
    static constexpr std::size_t children_max = 4;

    void complain(const char* text) {
        if (complaint_.empty())
            complaint_ = text;
    }

    void check(bool holds, const char* otherwise) {
        if (!holds)
            complain(otherwise);
    }

    /// Sees to it that a group is over when it is left, however that is.
    class Open {
    public:
        explicit Open(Groups& groups) noexcept : groups_(groups) { ++groups_.open_; }
        Open(const Open&) = delete;
        Open& operator=(const Open&) = delete;
        ~Open() {
            --groups_.open_;
            groups_.check(round.alive == 0, "a group was left before its children had ended");
            for (const Task<>& child : round.children) {
                groups_.check(child.terminated(), "a child outlived its group");
                child.record()->failure_seen = true; // an interrupt may have pushed it aside
            }
        }
        Round round;

    private:
        Groups& groups_;
    };

    Coro<void> open(int depth) {
        const Counted frame;
        Open open{*this};
        Round& round = open.round;
        const auto wait_for = static_cast<WaitFor>(world_.below(4));
        try {
            co_await task_group(wait_for,
                                [&](TaskGroup& group) { return body(group, round, depth); });
            check(round.failed == round.failures_taken && !round.body_failed,
                  "a failure was forgotten");
            check(wait_for != WaitFor::all || round.disturbed ||
                      round.completed + round.failed == round.children.size(),
                  "a child was cancelled for no reason");
        } catch (const TaskGroupError& error) {
            check(error.errors().size() ==
                      round.failed - round.failures_taken + (round.body_failed ? 1 : 0),
                  "a failure is missing in TaskGroupError, or too much");
        } catch (const BodyError&) {
            check(round.failed == round.failures_taken && round.body_failed,
                  "a body's failure hides those of children");
        }
        co_await world_.note_result();
    }

    Coro<void> body(TaskGroup& group, Round& round, int depth) {
        const Counted frame;
        for (unsigned left = world_.below(5); left > 0; --left) {
            switch (world_.below(12)) {
            default: co_await spawn_child(group, round, depth); break;
            case 5: co_await world_.pause(); break;
            case 6: co_await take(group, round); break;
            case 7: co_await take_within_limit(group, round); break;
            case 8: co_await take_result(group, round); break;
            case 9: co_await join(group, round); break;
            case 10: co_await cancel_rest(group, round); break;
            case 11:
                if (world_.one_in(3)) {
                    round.body_failed = true;
                    throw BodyError();
                }
            }
            if (!round.disturbed)
                check(group.size() == round.children.size() - round.given.size(),
                      "a group has lost count");
        }
    }

    void note_given(Round& round, const Task<>& task) {
        if (!task)
            return;
        check(task.terminated(), "next_done gave a task that runs");
        check(std::ranges::find(round.given, task.id()) == round.given.end(),
              "a child was given twice");
        check(std::ranges::find(round.children, task) != round.children.end(),
              "a daemon was given");
        round.given.push_back(task.id());
        round.failures_taken += task.record()->crashed();
    }

    Coro<void> take(TaskGroup& group, Round& round) {
        const Task<> done = co_await group.next_done();
        note_given(round, done);
    }

    Coro<void> take_within_limit(TaskGroup& group, Round& round) {
        const auto done = co_await ignore_after(world_.moment(), group.next_done());
        if (done)
            note_given(round, *done);
    }

    Coro<void> take_result(TaskGroup& group, Round& round) {
        const Counted frame;
        if (group.empty())
            co_return;
        round.disturbed = true; // which one it was is not told
        try {
            co_await group.next_result<Found>();
        } catch (const TaskError& error) {
            const bool cancelled = is_interrupt(error.cause());
            if (!cancelled && world_.one_in(2))
                throw;
            round.failures_taken += !cancelled;
        } catch (const std::logic_error&) {
            check(group.empty(), "next_result says that there is none");
        }
    }

    Coro<void> join(TaskGroup& group, Round& round) {
        const Counted frame;
        round.disturbed = true; // children may be cancelled, and results() takes some
        try {
            if (world_.one_in(2)) {
                co_await group.join();
                check(group.running() == 0, "join left children running");
            } else {
                co_await group.results<Found>();
                check(group.empty(), "results() left children");
            }
        } catch (const TaskGroupError& error) {
            round.failures_taken += error.errors().size();
        } catch (const TaskError& error) {
            check(is_interrupt(error.cause()), "results() threw what join() should have");
        }
    }

    Coro<void> cancel_rest(TaskGroup& group, Round& round) {
        round.disturbed = true;
        co_await group.cancel_remaining();
        check(group.running() == 0, "cancel_remaining left children running");
    }

    Coro<void> spawn_child(TaskGroup& group, Round& round, int depth) {
        const Counted frame;
        if (round.children.size() >= children_max)
            co_return;
        const bool daemon = world_.one_in(10);
        Task<Found> child = co_await group.spawn(
            run_child(group, round, Alive{round}, depth, daemon), {.daemon = daemon});
        if (!daemon)
            round.children.push_back(std::move(child));
    }

    Coro<Found> run_child(TaskGroup& group, Round& round, Alive, int depth, bool daemon) {
        const Counted frame;
        ::trapline::detail::Outcome<void> outcome;
        co_await ::trapline::detail::Attempt{live(group, round, depth, daemon), outcome};
        if (outcome.has_failure() && is_interrupt(outcome.failure())) {
            if (world_.one_in(3)) // cleanup
                co_await disable_cancellation(world_.pause());
            if (!daemon && world_.one_in(6)) {
                ++round.failed;
                throw ChildError();
            }
            if (!world_.one_in(6))
                outcome.take();
        }
        if (!daemon && world_.one_in(12)) { // a daemon's crash is logged
            ++round.failed;
            throw ChildError();
        }
        round.completed += !daemon;
        if (world_.one_in(2))
            co_return std::nullopt;
        co_return 1;
    }

    /// What may be interrupted of a child's life.
    Coro<void> live(TaskGroup& group, Round& round, int depth, bool daemon) {
        const Counted frame;
        for (unsigned left = world_.below(3); left > 0; --left) {
            switch (world_.below(8)) {
            default: co_await world_.pause(); break;
            case 5:
                if (depth < 1)
                    co_await open(depth + 1);
                break;
            case 6:
                if (!daemon) // else the sibling may come when the group has waited for all
                    co_await spawn_child(group, round, depth);
                break;
            case 7:
                if (!round.children.empty()) {
                    const Task<> victim =
                        round.children[world_.below(static_cast<unsigned>(round.children.size()))];
                    round.disturbed = true;
                    (void)co_await traps::Cancel{victim.record()};
                }
                break;
            }
        }
    }

    World& world_;
    std::size_t open_ = 0;
    std::string complaint_;
};

} // namespace

TEST_CASE("groups lose no child, no failure and no result") { run<Groups>("group"); }
