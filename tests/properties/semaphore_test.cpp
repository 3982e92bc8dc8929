#include <trapline/traps/semaphore.hpp>

#include <cstddef>
#include <string>
#include <type_traits>

#include "programs.hpp"

using namespace trapline;
using namespace trapline::properties;

namespace {

/// One permit at a time, in all the ways there are to take and to give back.
template <class S>
class Permits {
public:
    explicit Permits(World& world) : all_(world.below(4)), semaphore_(all_) {
        if (all_ == 0)
            give_more();
    }

    static constexpr bool always_ends = true;

    Coro<void> step(World& world) {
        switch (world.below(16)) {
        case 0: give_more(); return World::nothing();
        case 1:
        case 2: return try_it(world);
        case 3:
        case 4:
        case 5: return by_hand(world);
        default: return with_guard(world);
        }
    }

    std::string complaint_at_rest() const {
        return semaphore_.value() > 0 && waiting_ > 0 ? "a permit is free, and somebody waits" : "";
    }

    std::string complaint() const {
        if (too_many_)
            return "more permits were out than there are";
        if (out_ != 0 || semaphore_.value() != all_)
            return "of " + std::to_string(all_) + " permits " + std::to_string(semaphore_.value()) +
                   " are left";
        return "";
    }

private:
    class Count {
    public:
        explicit Count(std::size_t& counter) noexcept : counter_(counter) { ++counter_; }
        Count(const Count&) = delete;
        Count& operator=(const Count&) = delete;
        ~Count() { --counter_; }

    private:
        std::size_t& counter_;
    };

    /// A plain semaphore may be released by those who have nothing.
    void give_more() {
        if constexpr (std::is_same_v<S, Semaphore>) {
            all_ += 2;
            semaphore_.release(2);
        }
    }

    Coro<void> use(World& world) {
        const Count out{out_};
        too_many_ = too_many_ || out_ > all_;
        co_await world.note_result();
        co_await world.pause();
        if (world.one_in(6))
            co_await sleep(1h); // until everybody is at rest
    }

    Coro<void> with_guard(World& world) {
        Guard<S> permit;
        {
            const Count waiting{waiting_};
            permit = co_await semaphore_.hold();
        }
        co_await use(world);
        if (world.one_in(2)) {
            permit.release();
            co_await world.pause();
        }
    }

    Coro<void> by_hand(World& world) {
        {
            const Count waiting{waiting_};
            co_await semaphore_.acquire();
        }
        const Guard<S> permit{semaphore_};
        co_await use(world);
    }

    Coro<void> try_it(World& world) {
        if (!semaphore_.try_acquire())
            co_return;
        const Guard<S> permit{semaphore_};
        co_await use(world);
    }

    std::size_t all_;
    S semaphore_;
    std::size_t out_ = 0;
    std::size_t waiting_ = 0;
    bool too_many_ = false;
};

/// A bounded one needs a permit to begin with: it gets no more.
struct BoundedPermits : Permits<BoundedSemaphore> {
    using Permits::Permits;
    static constexpr bool always_ends = false;
};

} // namespace

TEST_CASE("a semaphore loses no permit, and doubles none") { run<Permits<Semaphore>>("semaphore"); }

TEST_CASE("a bounded semaphore neither") { run<BoundedPermits>("bounded semaphore"); }
