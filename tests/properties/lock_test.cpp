#include <trapline/traps/lock.hpp>

#include <string>
#include <utility>

#include "programs.hpp"

using namespace trapline;
using namespace trapline::properties;

namespace {

/// Tasks that have it, in all the ways to take it and to give it back.
class Exclusion {
public:
    explicit Exclusion(World&) {}

    static constexpr bool always_ends = true;

    Coro<void> step(World& world) {
        switch (world.below(5)) {
        case 0: return try_it(world);
        case 1: return by_hand(world);
        default: return with_guard(world);
        }
    }

    std::string complaint_at_rest() const {
        return !lock_.locked() && waiting_ > 0 ? "it is free, and somebody waits" : "";
    }

    std::string complaint() const {
        if (met_)
            return "two tasks had it at a time";
        return lock_.locked() ? "it is locked, and nobody has it" : "";
    }

private:
    /// For as long as the task has the lock.
    class Inside {
    public:
        explicit Inside(Exclusion& program) noexcept : program_(program) {
            program_.met_ = program_.met_ || program_.inside_ || !program_.lock_.locked();
            program_.inside_ = true;
        }
        Inside(const Inside&) = delete;
        Inside& operator=(const Inside&) = delete;
        ~Inside() { program_.inside_ = false; }

    private:
        Exclusion& program_;
    };

    class Waiting {
    public:
        explicit Waiting(int& count) noexcept : count_(count) { ++count_; }
        Waiting(const Waiting&) = delete;
        Waiting& operator=(const Waiting&) = delete;
        ~Waiting() { --count_; }

    private:
        int& count_;
    };

    struct Release {
        Lock& lock;
        ~Release() { lock.release(); }
    };

    Coro<void> use(World& world) {
        const Inside inside{*this};
        co_await world.note_result();
        co_await world.pause();
    }

    Coro<void> with_guard(World& world) {
        Lock::Guard held;
        {
            const Waiting waiting{waiting_};
            held = co_await lock_.hold();
        }
        co_await use(world);
        auto moved = std::move(held);
        if (world.one_in(2)) {
            moved.release();
            co_await world.pause();
        }
    }

    Coro<void> by_hand(World& world) {
        {
            const Waiting waiting{waiting_};
            co_await lock_.acquire();
        }
        const Release release{lock_};
        co_await use(world);
    }

    Coro<void> try_it(World& world) {
        if (!lock_.try_acquire())
            co_return;
        const Release release{lock_};
        co_await use(world);
    }

    Lock lock_;
    bool inside_ = false;
    bool met_ = false;
    int waiting_ = 0;
};

/// Tasks that take it again while they have it.
class Again {
public:
    explicit Again(World&) {}

    static constexpr bool always_ends = true;

    Coro<void> step(World& world) {
        ++last_step_;
        return hold(world, last_step_, 1);
    }

    std::string complaint() const {
        if (met_)
            return "two tasks had it at a time";
        if (miscounted_)
            return "the depth is wrong";
        return lock_.locked() ? "it is locked, and nobody has it" : "";
    }

private:
    Coro<void> hold(World& world, unsigned step, unsigned depth) {
        const auto held = co_await lock_.hold();
        if (depth == 1)
            met_ = met_ || std::exchange(inside_, step) != 0;
        met_ = met_ || inside_ != step;
        miscounted_ = miscounted_ || lock_.depth() != depth;
        const Leave leave{depth == 1 ? &inside_ : nullptr};
        co_await world.note_result();
        co_await world.pause();
        if (depth < 3 && world.one_in(2))
            co_await hold_limited(world, step, depth + 1);
    }

    Coro<void> hold_limited(World& world, unsigned step, unsigned depth) {
        if (world.one_in(2))
            (void)co_await ignore_after(world.moment(), hold(world, step, depth));
        else
            co_await hold(world, step, depth);
    }

    struct Leave {
        unsigned* inside;
        ~Leave() {
            if (inside)
                *inside = 0;
        }
    };

    RLock lock_;
    unsigned last_step_ = 0;
    unsigned inside_ = 0; ///< the step that has it
    bool met_ = false;
    bool miscounted_ = false;
};

} // namespace

TEST_CASE("a lock is had by one task at a time, and is never lost") { run<Exclusion>("lock"); }

TEST_CASE("an RLock too, however often its task takes it") { run<Again>("RLock"); }
