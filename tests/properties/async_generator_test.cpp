#include <trapline/traps/async_generator.hpp>

#include <string>

#include <trapline/traps/lock.hpp>
#include <trapline/traps/queue.hpp>

#include "programs.hpp"

using namespace trapline;
using namespace trapline::properties;

namespace {

/// Tasks that put items into a queue, and others that take them through generators: each through
/// one of its own, or in turns through one that all share.
class Streams {
public:
    explicit Streams(World&) {}

    Coro<void> step(World& world) {
        switch (world.below(8)) {
        default: put(1 + world.below(3)); break;
        case 4: co_await take_some(world); break;
        case 5: co_await take_and_leave(world); break;
        case 6:
        case 7: co_await take_from_shared(world); break;
        }
        co_await world.pause();
    }

    std::string complaint() {
        if (puts_ != gots_ + queue_.size())
            return "items are lost, or were yielded twice";
        const std::size_t standing = shared_.ended() ? 0 : 1; // at a co_yield
        if (begun_ != cleaned_ + standing)
            return "a body has not cleaned up";
        if (running_ != standing)
            return "a body was left alive";
        if (torn_)
            return "cleanup was interrupted";
        return "";
    }

private:
    /// Notes that a body is alive.
    struct Running {
        explicit Running(Streams& owner) : program(owner) { ++program.running_; }
        Running(const Running&) = delete;
        Running& operator=(const Running&) = delete;
        ~Running() { --program.running_; }
        Streams& program;
    };

    void put(unsigned count) {
        for (; count > 0; --count)
            puts_ += queue_.try_put(1);
    }

    /// Yields what is in the queue. However it is to end, it takes a moment to clean up.
    AsyncGenerator<int> items(World& world) {
        const test::Counted frame;
        const Running running{*this};
        ++begun_;
        bool closed = false;
        std::exception_ptr interrupt;
        try {
            for (;;) {
                const int item = co_await queue_.get();
                co_yield item;
                if (world.one_in(3))
                    co_await world.pause();
            }
        } catch (const GeneratorClosed&) {
            closed = true;
        } catch (const Cancelled&) {
            interrupt = std::current_exception();
        }
        if (closed) {
            // Nothing holds interrupts back here: close() does.
            try {
                co_await sleep(world.moment());
            } catch (const Cancelled&) {
                torn_ = true;
            }
        } else {
            co_await disable_cancellation(sleep(world.moment()));
        }
        ++cleaned_;
        if (interrupt)
            std::rethrow_exception(interrupt);
    }

    Coro<void> take_some(World& world) {
        const unsigned count = 1 + world.below(4);
        unsigned taken = 0;
        co_await for_each(items(world), [&](int) -> Coro<bool> {
            ++gots_;
            co_await world.note_result();
            co_await world.pause();
            co_return ++taken < count;
        });
    }

    Coro<void> take_and_leave(World& world) {
        AsyncGenerator<int> own = items(world);
        for (unsigned count = world.below(3); count > 0; --count) {
            if (const auto item = co_await own.next())
                ++gots_;
        }
        co_await own.close();
        co_await world.note_result();
    }

    Coro<void> take_from_shared(World& world) {
        const auto turn = co_await lock_.hold();
        if (shared_.ended())
            shared_ = items(world);
        if (const auto item = co_await shared_.next()) {
            ++gots_;
            co_await world.note_result();
        }
        if (world.one_in(4))
            co_await shared_.close();
    }

    Queue<int> queue_;
    Lock lock_;
    AsyncGenerator<int> shared_;
    bool torn_ = false;
    std::size_t puts_ = 0;
    std::size_t gots_ = 0;
    std::size_t begun_ = 0;
    std::size_t cleaned_ = 0;
    std::size_t running_ = 0;
};

} // namespace

TEST_CASE("generators lose no value, and their bodies always clean up") {
    run<Streams>("async_generator");
}
