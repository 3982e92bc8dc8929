#include <trapline/traps/barrier.hpp>

#include <cstddef>
#include <string>
#include <vector>

#include "programs.hpp"

using namespace trapline;
using namespace trapline::properties;

namespace {

/// Tasks that come; each round gives every place once.
class Rounds {
public:
    explicit Rounds(World& world) : barrier_(1 + world.below(4)), places_(barrier_.parties()) {}

    Coro<void> step(World& world) {
        co_await world.pause();
        ++waiting_;
        const Gone gone{waiting_};
        const std::size_t place = co_await barrier_.wait();
        if (place < places_.size())
            ++places_[place];
        else
            beyond_ = true;
        co_await world.note_result();
    }

    std::string complaint_at_rest() const {
        if (barrier_.waiting() >= barrier_.parties())
            return "all are there, and wait";
        return barrier_.waiting() != waiting_ ? "somebody waits whom it does not know" : "";
    }

    std::string complaint() const {
        if (beyond_)
            return "a place beyond the last";
        for (const std::size_t count : places_) {
            if (count != places_[0])
                return "a round was not complete";
        }
        return barrier_.waiting() != 0 ? "it believes that somebody waits" : "";
    }

private:
    struct Gone {
        std::size_t& waiting;
        ~Gone() { --waiting; }
    };

    Barrier barrier_;
    std::vector<std::size_t> places_;
    std::size_t waiting_ = 0;
    bool beyond_ = false;
};

} // namespace

TEST_CASE("a barrier lets whole rounds go, whoever is interrupted") { run<Rounds>("barrier"); }
