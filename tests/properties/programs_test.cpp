// The harness on trial: a small semaphore passes, and each bug that is planted in it is found.
#include "programs.hpp"

#include <cstddef>
#include <stdexcept>
#include <string>

#include <trapline/traps/wait_queue.hpp>

using namespace trapline;
using namespace trapline::properties;

namespace {

enum class Bug {
    none,
    interrupted_counts, ///< who is interrupted while waiting still counts as one to be woken
    drops_its_permit,   ///< who is interrupted in the turn of its wake-up forgets what it owns
    doubled_permit,     ///< a release wakes a waiter, and leaves the permit to others, too
    lost_wake_up,       ///< a release wakes nobody
    barging,            ///< a permit is taken by the first to come; the woken one relies on it
    fails,              ///< it throws instead of waiting
};

/// Hands each permit to the longest waiter, but for the bug.
template <Bug bug>
class Permits {
public:
    explicit Permits(std::size_t count) noexcept : free_(count) {}

    Coro<void> acquire() {
        const test::Counted frame;
        if (free_ > 0) {
            --free_;
            co_return;
        }
        if constexpr (bug == Bug::fails)
            throw std::logic_error("no permit is free");
        ++waiting_;
        co_await traps::Park{&waiters_};
        if constexpr (bug == Bug::barging)
            --free_;
        if constexpr (bug == Bug::drops_its_permit) {
            const bool interrupted = co_await check_cancellation();
            if (interrupted)
                throw TaskCancelled{};
        }
    }

    void release() noexcept {
        if (bug == Bug::lost_wake_up || bug == Bug::barging || bug == Bug::doubled_permit)
            ++free_;
        if (bug == Bug::lost_wake_up)
            return;
        const bool woken = waiters_.wake() == 1;
        if (bug == Bug::interrupted_counts && waiting_ > 0)
            --waiting_;
        else if (!woken && bug != Bug::barging && bug != Bug::doubled_permit)
            ++free_;
    }

    std::size_t free() const noexcept { return free_; }
    bool awaited() const noexcept { return !waiters_.empty(); }

private:
    std::size_t free_;
    std::size_t waiting_ = 0;
    WaitQueue waiters_;
};

template <Bug bug>
class UsePermits {
public:
    explicit UsePermits(World& world) : all_(1 + world.below(3)), permits_(all_) {}

    static constexpr bool always_ends = true;

    Coro<void> step(World& world) {
        co_await permits_.acquire();
        const Taken taken{*this};
        co_await world.note_result();
        co_await world.pause();
    }

    std::string complaint_at_rest() const {
        return permits_.free() > 0 && permits_.awaited() ? "a permit is free, and somebody waits"
                                                         : "";
    }

    std::string complaint() const {
        if (most_out_ > all_)
            return "more permits were out than there are";
        if (out_ != 0 || permits_.free() != all_)
            return "permits are missing";
        return "";
    }

private:
    struct Taken {
        explicit Taken(UsePermits& owner) : program(owner) {
            program.most_out_ = std::max(program.most_out_, ++program.out_);
        }
        Taken(const Taken&) = delete;
        Taken& operator=(const Taken&) = delete;
        ~Taken() {
            --program.out_;
            program.permits_.release();
        }
        UsePermits& program;
    };

    std::size_t all_;
    std::size_t out_ = 0;
    std::size_t most_out_ = 0;
    Permits<bug> permits_;
};

/// Whether some program fails, and what the first of them complains of.
template <Bug bug>
std::string found() {
    Reached reached;
    const auto failure = first_failure<UsePermits<bug>>(1, 1'000, reached);
    return failure ? failure->complaint : "";
}

} // namespace

TEST_CASE("a semaphore that hands its permits over passes") {
    run<UsePermits<Bug::none>>("permits by hand");
}

TEST_CASE("a planted bug is found within a thousand programs") {
    CHECK(found<Bug::none>() == "");
    CHECK(found<Bug::interrupted_counts>() != "");
    CHECK(found<Bug::drops_its_permit>() != "");
    CHECK(found<Bug::doubled_permit>() != "");
    CHECK(found<Bug::lost_wake_up>() != "");
    CHECK(found<Bug::barging>() != "");
    CHECK(found<Bug::fails>().ends_with("no permit is free"));
}
