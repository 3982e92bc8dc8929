// P10: limits in limits, and in groups in limits: every order in which they can run out, and what
// each scope gets to see of it.
#include "conformance.hpp"

#include <algorithm>
#include <array>
#include <deque>

using namespace trapline;
using namespace trapline::test;

TEST_CASE("P10: the sooner outer limit reaches the inner scope as TimeoutCancellation") {
    each_run([]() -> Coro<void> {
        const TimePoint outer_deadline = co_await now() + 500us;
        std::string steps;
        std::string outer;
        try {
            co_await timeout_at(outer_deadline, [&]() -> Coro<void> {
                try {
                    co_await timeout_after(1h, [&]() -> Coro<void> {
                        const std::string seen = co_await interrupt_of([] { return sleep(1h); });
                        steps += "inside " + seen + ",";
                        throw TimeoutCancellation{outer_deadline};
                    });
                } catch (const TimeoutCancellation& passing) {
                    steps += "inner TimeoutCancellation,";
                    CHECK(passing.deadline() == outer_deadline);
                    throw;
                }
            });
        } catch (const TaskTimeout& timeout) {
            steps += "outer TaskTimeout";
            CHECK(timeout.deadline() == outer_deadline);
        }
        CHECK(steps == "inside TimeoutCancellation,inner TimeoutCancellation,outer TaskTimeout");
    });
}

TEST_CASE("P10: the sooner inner limit is reported by the inner scope, and the outer one goes on") {
    each_run([]() -> Coro<void> {
        std::string steps;
        for (const Duration lead : leads) {
            steps.clear();
            const TimePoint inner = co_await now() + 100us;
            const TimePoint outer = inner + lead;
            TimePoint seen{};
            try {
                co_await timeout_at(outer, [&]() -> Coro<void> {
                    try {
                        co_await timeout_at(inner, sleep(1h));
                    } catch (const TaskTimeout&) {
                        steps += "inner,";
                    }
                    seen = co_await now();
                    co_await sleep(1h);
                });
            } catch (const TaskTimeout&) {
                steps += "outer";
            }
            if (seen > inner && seen < outer)
                break; // else both had run out together
        }
        CHECK(steps == "inner,outer");
    });
}

TEST_CASE("P10: limits that have all run out while interrupts were held back: the outer reports") {
    each_run([]() -> Coro<void> {
        const TimePoint start = co_await now();
        for (const bool inner_first : {false, true}) {
            CAPTURE(inner_first);
            const TimePoint outer = start + (inner_first ? 2us : 1us);
            const TimePoint inner = start + (inner_first ? 1us : 2us);
            std::string steps;
            try {
                co_await timeout_at(outer, [&]() -> Coro<void> {
                    try {
                        co_await timeout_at(inner, [&]() -> Coro<void> {
                            co_await disable_cancellation(sleep(200us));
                            co_await sleep(1h);
                        });
                    } catch (const TimeoutCancellation&) {
                        steps += "inner passes, ";
                        throw;
                    }
                });
            } catch (const TaskTimeout&) {
                steps += "outer";
            }
            CHECK(steps == "inner passes, outer");
        }
    });
}

namespace {

constexpr int levels = 3;

using Deadlines = std::array<TimePoint, levels>;

/// Three nested limits. Each level that was not interrupted from outside goes on to sleep in the
/// scope around it; so every limit that can still run out does.
class Nest {
public:
    /// @param held_back until then the innermost body holds interrupts back
    Nest(const Deadlines& deadlines, TimePoint held_back)
        : deadlines_(deadlines), held_back_(held_back) {}

    Coro<void> run(int level = 0) {
        const std::string name = std::to_string(level);
        TimePoint ran_out{};
        bool passes = false;
        try {
            co_await timeout_at(deadline(level), [this, level] { return body(level); });
        } catch (const TaskTimeout& timeout) {
            trace_ += name + " TaskTimeout, ";
            right_ = right_ && timeout.deadline() == deadline(level);
            ran_out = timeout.deadline();
        } catch (const TimeoutCancellation& passing) {
            trace_ += name + " passes, ";
            right_ = right_ && std::count(deadlines_.begin(), deadlines_.begin() + level,
                                          passing.deadline()) > 0;
            ran_out = passing.deadline();
            passes = true;
        }
        const TimePoint time = co_await now();
        right_ = right_ && time >= ran_out;
        TimePoint soonest = never;
        for (int i = 0; i <= level; ++i)
            soonest = std::min(soonest, seen_at(i));
        for (int i = 0; i <= level; ++i)
            late_ |= seen_at(i) > soonest && seen_at(i) <= time;
        if (passes)
            throw TimeoutCancellation{ran_out};
    }

    /// What the trace must be: the soonest of those in force wins, the outer one of equals, and of
    /// those that had run out when the task could first be interrupted.
    std::string expected() const {
        Deadlines times{};
        for (int i = 0; i < levels; ++i)
            times[static_cast<std::size_t>(i)] = seen_at(i);
        std::string trace;
        int level = levels - 1;
        while (level >= 0) {
            const auto soonest = std::min_element(times.begin(), times.begin() + level + 1);
            const auto reports = static_cast<int>(soonest - times.begin());
            for (; level > reports; --level)
                trace += std::to_string(level) + " passes, ";
            trace += std::to_string(level) + " TaskTimeout, ";
            --level;
        }
        return trace;
    }

    const std::string& trace() const noexcept { return trace_; }
    bool right() const noexcept { return right_; }

    /// The machine was so busy that two limits had run out when the task came to see one. Then the
    /// outer one may be reported.
    bool late() const noexcept { return late_; }

private:
    TimePoint deadline(int level) const { return deadlines_[static_cast<std::size_t>(level)]; }

    /// When the limit interrupts: not before the task can be interrupted.
    TimePoint seen_at(int level) const { return std::max(deadline(level), held_back_); }

    Coro<void> body(int level) {
        if (level + 1 < levels)
            co_await run(level + 1);
        else
            co_await disable_cancellation(sleep_until(held_back_));
        co_await sleep(1h);
    }

    Deadlines deadlines_;
    TimePoint held_back_;
    std::string trace_;
    bool right_ = true;
    bool late_ = false;
};

/// Runs one for each way to give the levels these times, all at once. Answers whether all were on
/// time.
template <std::size_t size>
Coro<bool> run_nests(std::array<TimePoint, size> times, TimePoint held_back) {
    std::deque<Nest> nests;
    std::vector<Task<void>> tasks;
    for (const TimePoint outer : times) {
        for (const TimePoint middle : times) {
            for (const TimePoint inner : times) {
                nests.emplace_back(Deadlines{outer, middle, inner}, held_back);
                tasks.push_back(co_await spawn([nest = &nests.back()] { return nest->run(); }));
            }
        }
    }
    for (const Task<void>& task : tasks)
        co_await task.join();
    bool on_time = true;
    for (const Nest& nest : nests) {
        CAPTURE(nest.trace());
        CAPTURE(nest.expected());
        CHECK((nest.late() || nest.trace() == nest.expected()));
        CHECK((nest.late() || nest.right()));
        on_time = on_time && !nest.late();
    }
    co_return on_time;
}

/// Runs `cases(start, lead)` with longer and longer leads, until all were on time.
template <class Cases>
void each_lead(Cases cases) {
    each_run([cases]() -> Coro<void> {
        bool on_time = false;
        for (const Duration lead : leads) {
            const TimePoint start = co_await now();
            on_time = co_await cases(start, lead);
            if (on_time)
                break;
        }
        CHECK(on_time);
    });
}

} // namespace

TEST_CASE("P10: three limits nest in every order of expiry, and a tie goes to the outer one") {
    each_lead([](TimePoint start, Duration lead) {
        return run_nests(std::array{start + lead, start + 2 * lead, start + 3 * lead}, start);
    });
}

TEST_CASE("P10: three limits, any of them in the past: the outermost of those reports") {
    each_lead([](TimePoint start, Duration lead) {
        return run_nests(
            std::array{start - 2 * lead, start - lead, start + 2 * lead, start + 4 * lead}, start);
    });
}

TEST_CASE("P10: three limits that run out while interrupts are held back: the outermost reports") {
    each_lead([](TimePoint start, Duration lead) {
        return run_nests(std::array{start + lead / 2, start + lead, start + 4 * lead},
                         start + 2 * lead);
    });
}

namespace {

/// A limit around a group, one in the group's body, and one in a child: who sees what.
class GroupNest {
public:
    GroupNest(TimePoint outer, TimePoint in_body, TimePoint in_child)
        : outer_(outer), in_body_(in_body), in_child_(in_child) {}

    Coro<void> run() {
        const auto grouped = [this]() -> Coro<void> {
            group_ = co_await seen_by(task_group([this](TaskGroup& g) { return body(g); }));
            if (group_ == "TaskTimeout")
                throw TaskTimeout{outer_};
            throw TimeoutCancellation{outer_};
        };
        around_ = co_await seen_by(timeout_at(outer_, grouped));
    }

    bool right() const {
        const bool outer_first = outer_ <= in_body_;
        return around_ == "TaskTimeout" &&
               in_body_saw_ == (outer_first ? "TimeoutCancellation" : "TaskTimeout") &&
               group_ == (outer_first ? "TimeoutCancellation" : "TaskTimeout") &&
               child_saw_ == (in_child_ <= outer_ ? "TaskTimeout" : "TaskCancelled") &&
               child_ended_ && right_;
    }

    /// As Nest's; or the child came to wait only when it was over.
    bool late() const noexcept { return late_; }
    std::string trace() const {
        return "around " + around_ + ", group " + group_ + ", in body " + in_body_saw_ +
               ", in child " + child_saw_;
    }

private:
    /// Like interrupt_of, for what the limits `outer_` and `other` are around. The deadline must be
    /// that of the sooner one.
    Coro<std::string> seen_by(Coro<void> what, TimePoint other = never) {
        const TimePoint deadline = std::min(outer_, other);
        std::string seen = "none";
        try {
            co_await std::move(what);
        } catch (const TaskTimeout& timeout) {
            seen = "TaskTimeout";
            right_ = right_ && timeout.deadline() == deadline;
        } catch (const TimeoutCancellation& passing) {
            seen = "TimeoutCancellation";
            right_ = right_ && passing.deadline() == deadline;
        } catch (const TaskCancelled&) {
            seen = "TaskCancelled";
        }
        const TimePoint time = co_await now();
        late_ |= outer_ != other && std::max(outer_, other) <= time;
        co_return seen;
    }

    Coro<void> body(TaskGroup& group) {
        co_await group.spawn([this] { return child(); });
        in_body_saw_ = co_await seen_by(timeout_at(in_body_, sleep_forever()), in_body_);
        if (in_body_saw_ == "TimeoutCancellation")
            throw TimeoutCancellation{outer_};
        co_await sleep_forever(); // the group goes on, until the limit around it runs out
    }

    Coro<void> child() {
        const TimePoint time = co_await now();
        late_ |= time >= std::min(outer_, in_child_);
        child_saw_ = co_await seen_by(timeout_at(in_child_, sleep_forever()), in_child_);
        co_await disable_cancellation(let_others_run());
        child_ended_ = true;
    }

    TimePoint outer_;
    TimePoint in_body_;
    TimePoint in_child_;
    std::string around_;
    std::string group_;
    std::string in_body_saw_;
    std::string child_saw_;
    bool child_ended_ = false;
    bool right_ = true;
    bool late_ = false;
};

} // namespace

TEST_CASE("P10: a limit inside a group inside a limit, in every order of expiry") {
    each_lead([](TimePoint start, Duration lead) -> Coro<bool> {
        const std::array times{start + lead, start + 2 * lead, start + 3 * lead};
        std::deque<GroupNest> nests;
        std::vector<Task<void>> tasks;
        for (const TimePoint outer : times) {
            for (const TimePoint in_body : times) {
                for (const TimePoint in_child : times) {
                    nests.emplace_back(outer, in_body, in_child);
                    tasks.push_back(co_await spawn([nest = &nests.back()] { return nest->run(); }));
                }
            }
        }
        for (const Task<void>& task : tasks)
            co_await task.join();
        bool on_time = true;
        for (const GroupNest& nest : nests) {
            CAPTURE(nest.trace());
            CHECK((nest.late() || nest.right()));
            on_time = on_time && !nest.late();
        }
        co_return on_time;
    });
}

TEST_CASE("P10: a limit around a join inside a group inside a limit leaves the children running") {
    each_run([]() -> Coro<void> {
        WaitQueue gate;
        bool in_time = true;
        std::size_t running = 0;
        bool passed = false;
        const bool around = co_await ignore_after(1h, task_group([&](TaskGroup& g) -> Coro<void> {
                                                      co_await g.spawn([&]() -> Coro<void> {
                                                          co_await park_on(gate);
                                                          passed = true;
                                                      });
                                                      in_time =
                                                          co_await ignore_after(100us, g.join());
                                                      running = g.running();
                                                      gate.wake();
                                                  }));
        CHECK_FALSE(in_time);
        CHECK(running == 1);
        CHECK(passed);
        CHECK(around);
    });
}

TEST_CASE("P10: a limit set again after one was caught runs out like the first") {
    each_run([]() -> Coro<void> {
        int caught = 0;
        TimePoint last{};
        const int tries = co_await timeout_after(1h, [&]() -> Coro<int> {
            while (caught < 3) {
                const TimePoint deadline = co_await now() + 100us;
                try {
                    co_await timeout_at(deadline, sleep(1h));
                } catch (const TaskTimeout& timeout) {
                    caught += timeout.deadline() == deadline && deadline > last;
                }
                last = deadline;
            }
            co_return caught;
        });
        CHECK(tries == 3);
        const bool again = co_await ignore_after(100us, sleep_forever());
        CHECK_FALSE(again);
    });
}

TEST_CASE("P10: a limit set where one that ran out was caught, in its own scope, is a new one") {
    each_run([]() -> Coro<void> {
        for (const bool outer_first : {false, true}) {
            CAPTURE(outer_first);
            const TimePoint deadline = co_await now() + 100us;
            std::string steps;
            const auto inside = [&]() -> Coro<void> {
                steps += co_await interrupt_of([] { return sleep(1h); });
                steps +=
                    "," + co_await interrupt_of([] { return timeout_after(100us, sleep(1h)); });
                steps += "," + co_await interrupt_of([] { return sleep(200us); });
            };
            co_await timeout_at(deadline, [&]() -> Coro<void> {
                if (outer_first)
                    co_await timeout_after(1h, inside);
                else
                    co_await inside();
            });
            CHECK(steps == (outer_first ? "TimeoutCancellation,TaskTimeout,none"
                                        : "TaskTimeout,TaskTimeout,none"));
        }
    });
}
