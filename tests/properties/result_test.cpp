#include <trapline/traps/result.hpp>

#include <exception>
#include <stdexcept>
#include <string>

#include "programs.hpp"

using namespace trapline;
using namespace trapline::properties;

namespace {

/// One task leaves a value or an exception; all others want it.
class Answer {
public:
    explicit Answer(World& world) : fails_(world.one_in(2)) {}

    Coro<void> step(World& world) {
        if (!world.one_in(8) || result_.is_set())
            return ask(world);
        leave();
        return world.pause();
    }

    std::string complaint_at_rest() const {
        return result_.is_set() && waiting_ > 0 ? "it is set, and somebody waits" : "";
    }

    void finish() {
        if (!result_.is_set())
            leave();
    }

    std::string complaint() const { return wrong_ ? "somebody got something else" : ""; }

private:
    void leave() {
        if (fails_)
            result_.set_exception(std::make_exception_ptr(std::runtime_error("no answer")));
        else
            result_.set_value("the answer");
    }

    struct Gone {
        unsigned& waiting;
        ~Gone() { --waiting; }
    };

    Coro<void> ask(World& world) {
        ++waiting_;
        const Gone gone{waiting_};
        try {
            const std::string value = co_await result_.unwrap();
            wrong_ = wrong_ || fails_ || !result_.is_set() || value != "the answer";
        } catch (const std::runtime_error&) {
            wrong_ = wrong_ || !fails_ || !result_.is_set();
        }
        co_await world.note_result();
        co_await world.pause();
    }

    bool fails_;
    Result<std::string> result_;
    unsigned waiting_ = 0;
    bool wrong_ = false;
};

} // namespace

TEST_CASE("a result reaches all who ask, and nobody before it is there") { run<Answer>("result"); }
