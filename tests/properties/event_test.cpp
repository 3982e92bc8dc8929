#include <trapline/traps/event.hpp>

#include <algorithm>
#include <string>
#include <vector>

#include "programs.hpp"

using namespace trapline;
using namespace trapline::properties;

namespace {

/// Tasks that set it, clear it and wait for it.
class Signals {
public:
    explicit Signals(World&) {}

    Coro<void> step(World& world) {
        switch (world.below(8)) {
        case 0:
            ++sets_;
            event_.set();
            break;
        case 1: event_.clear(); break;
        case 2:
            ++sets_;
            event_.set();
            event_.clear();
            break;
        default: return wait(world);
        }
        return world.pause();
    }

    std::string complaint_at_rest() const {
        for (const Waiting* waiting : waiting_) {
            if (event_.is_set() || waiting->since != sets_)
                return "it was set, and somebody waits";
        }
        return "";
    }

    std::string complaint() const { return early_ ? "somebody went on before it was set" : ""; }

private:
    struct Waiting {
        explicit Waiting(Signals& owner) : program(owner), since(owner.sets_) {
            program.waiting_.push_back(this);
        }
        Waiting(const Waiting&) = delete;
        Waiting& operator=(const Waiting&) = delete;
        ~Waiting() { std::erase(program.waiting_, this); }

        Signals& program;
        unsigned since;
    };

    Coro<void> wait(World& world) {
        const bool was_set = event_.is_set();
        const Waiting waiting{*this};
        co_await event_.wait();
        early_ = early_ || (!was_set && sets_ == waiting.since);
        co_await world.note_result();
        co_await world.pause();
    }

    Event event_;
    unsigned sets_ = 0;
    std::vector<const Waiting*> waiting_;
    bool early_ = false;
};

} // namespace

TEST_CASE("an event lets all go who waited for it, and nobody else") { run<Signals>("event"); }
