#include <trapline/traps/condition.hpp>

#include <string>

#include "programs.hpp"

using namespace trapline;
using namespace trapline::properties;

namespace {

/// A shelf with two conditions over one lock: one that it is not empty, one that it is not full.
class Shelf {
public:
    explicit Shelf(World& world) : room_(1 + world.below(3)) {}

    Coro<void> step(World& world) {
        switch (world.below(8)) {
        case 0: filled_.notify_all(); return World::nothing(); // for nothing
        case 1: emptied_.notify(); return World::nothing();
        case 2:
        case 3:
        case 4: return put(world);
        default: return take(world);
        }
    }

    std::string complaint_at_rest() const {
        if (lock_.locked())
            return "it is locked, and nobody has it";
        if (items_ > 0 && takers_ > 0)
            return "there is something, and somebody waits for it";
        if (items_ < room_ && putters_ > 0)
            return "there is room, and somebody waits for it";
        return "";
    }

    std::string complaint() const {
        if (met_)
            return "two tasks had the lock at a time";
        if (put_ != taken_ + items_)
            return "items are missing";
        return lock_.locked() ? "it is locked, and nobody has it" : "";
    }

private:
    /// For as long as the task has the lock.
    class Inside {
    public:
        explicit Inside(Shelf& shelf) noexcept : shelf_(shelf) { shelf_.come_in(); }
        Inside(const Inside&) = delete;
        Inside& operator=(const Inside&) = delete;
        ~Inside() { shelf_.inside_ = false; }

    private:
        Shelf& shelf_;
    };

    /// While a task that is inside waits: it is back inside when that ends, however it does.
    class Outside {
    public:
        Outside(Shelf& shelf, unsigned& waiting) noexcept : shelf_(shelf), waiting_(waiting) {
            shelf_.inside_ = false;
            ++waiting_;
        }
        Outside(const Outside&) = delete;
        Outside& operator=(const Outside&) = delete;
        ~Outside() {
            --waiting_;
            shelf_.come_in();
        }

    private:
        Shelf& shelf_;
        unsigned& waiting_;
    };

    void come_in() noexcept {
        met_ = met_ || inside_ || !lock_.locked();
        inside_ = true;
    }

    Coro<void> put(World& world) {
        const auto held = co_await filled_.hold();
        const Inside inside{*this};
        co_await world.pause();
        while (items_ == room_) {
            const Outside outside{*this, putters_};
            co_await emptied_.wait();
        }
        ++items_;
        ++put_;
        filled_.notify();
        co_await world.note_result();
        co_await world.pause();
    }

    Coro<void> take(World& world) {
        auto held = co_await lock_.hold();
        {
            const Inside inside{*this};
            {
                const Outside outside{*this, takers_};
                co_await filled_.wait_for([this] { return items_ > 0; });
            }
            --items_;
            ++taken_;
            co_await world.note_result();
            if (world.one_in(2)) {
                emptied_.notify();
                co_await world.pause();
                co_return;
            }
        }
        held.release();
        emptied_.notify(); // without the lock
        co_await world.pause();
    }

    unsigned room_;
    Lock lock_;
    Condition filled_{lock_};
    Condition emptied_{lock_};
    unsigned items_ = 0;
    unsigned put_ = 0;
    unsigned taken_ = 0;
    unsigned takers_ = 0;
    unsigned putters_ = 0;
    bool inside_ = false;
    bool met_ = false;
};

} // namespace

TEST_CASE("a condition loses no notification, and its waiters come back with the lock") {
    run<Shelf>("condition");
}
