// Random programs over gather and race: of coroutines, callables and vectors, within each other;
// children that fail, and that take their time when they are cancelled. Nobody outlives the call,
// each result comes in its place, and each failure is told.
#include <trapline/traps/gather.hpp>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "items.hpp"
#include "programs.hpp"

using namespace trapline;
using namespace trapline::properties;

namespace {

class ChildError : public std::runtime_error {
public:
    ChildError() : std::runtime_error("a child failed") {}
};

class Several {
public:
    static constexpr bool always_ends = true;

    explicit Several(World& world) : world_(world) {}

    Coro<void> step(World& world) { return world.one_in(3) ? any(0) : world.pause(); }

    std::string complaint_at_rest() const { return alive_ == 0 ? "" : "a child never ends"; }
    std::string complaint() const { return alive_ == 0 ? complaint_ : "a child is left"; }

private:
    /// What is known of one gather or race from outside.
    struct Call {
        explicit Call(Several& owner) noexcept : program(owner) {}
        Call(const Call&) = delete;
        Call& operator=(const Call&) = delete;
        ~Call() { program.check(alive == 0, "it ended before its children"); }

        Several& program;
        int alive = 0;
        std::size_t failed = 0;
        std::vector<int> ended; ///< with a result, in that order
    };

    /// A child's life, from its call until its coroutine is destroyed.
    class Life {
    public:
        explicit Life(Call& call) noexcept : call_(&call) {
            ++call.alive;
            ++call.program.alive_;
        }
        Life(Life&& other) noexcept : call_(std::exchange(other.call_, nullptr)) {}
        Life& operator=(Life&&) = delete;
        ~Life() {
            if (!call_)
                return;
            --call_->alive;
            --call_->program.alive_;
        }

    private:
        Call* call_;
    };

    void check(bool holds, const char* otherwise) {
        if (!holds && complaint_.empty())
            complaint_ = otherwise;
    }

    Coro<void> any(int depth) {
        switch (world_.below(4)) {
        case 0: return gather_some(depth);
        case 1: return gather_all(depth);
        case 2: return race_two(depth);
        default: return race_three(depth);
        }
    }

    Coro<Item> child(Call& call, int number, int depth) {
        return live(call, Life{call}, number, depth);
    }

    Coro<Item> live(Call& call, Life, int number, int depth) {
        const test::Counted frame;
        ::trapline::detail::Outcome<void> outcome;
        if (depth < 1 && world_.one_in(8))
            co_await ::trapline::detail::Attempt{any(depth + 1), outcome};
        else
            co_await ::trapline::detail::Attempt{world_.pause(), outcome};
        if (outcome.has_failure() && world_.one_in(3)) // cleanup
            co_await disable_cancellation(world_.pause());
        if (world_.one_in(outcome.has_failure() ? 8 : 20)) {
            ++call.failed;
            throw ChildError();
        }
        if (!world_.one_in(6)) // else it swallows its interrupt
            outcome.take();
        call.ended.push_back(number);
        co_return Item{number};
    }

    /// In a catch block of TaskGroupError.
    void check_failures(const Call& call, const TaskGroupError& error) {
        check(call.failed > 0, "a failure of nobody");
        check(error.errors().size() == call.failed, "a failure is missing, or too much");
    }

    Coro<void> gather_some(int depth) {
        const test::Counted frame;
        Call call{*this};
        try {
            const std::tuple<Item, std::monostate, Item> all =
                co_await gather(child(call, 0, depth), world_.pause(),
                                [this, &call, depth] { return child(call, 2, depth); });
            check(call.failed == 0, "a failure was forgotten");
            check(std::get<0>(all).number() == 0 && std::get<2>(all).number() == 2,
                  "a result is not in its place");
            co_await world_.note_result();
        } catch (const TaskGroupError& error) {
            check_failures(call, error);
        }
    }

    Coro<void> gather_all(int depth) {
        const test::Counted frame;
        Call call{*this};
        const int count = static_cast<int>(world_.below(5));
        std::vector<Coro<Item>> children;
        for (int number = 0; number < count; ++number)
            children.push_back(child(call, number, depth));
        try {
            const std::vector<Item> all = co_await gather(std::move(children));
            check(call.failed == 0, "a failure was forgotten");
            check(std::ssize(all) == count, "not all results");
            for (int number = 0; number < std::ssize(all); ++number)
                check(all[static_cast<std::size_t>(number)].number() == number,
                      "a result is not in its place");
            co_await world_.note_result();
        } catch (const TaskGroupError& error) {
            check_failures(call, error);
        }
    }

    template <class Result>
    void check_winner(const Call& call, const Result& first) {
        check(call.failed == 0, "a failure was forgotten");
        check(!call.ended.empty(), "nobody has won");
        const int winner = std::visit([](const Item& item) { return item.number(); }, first);
        check(winner == static_cast<int>(first.index()), "a result is not in its place");
        check(call.ended.empty() || winner == call.ended.front(), "it was not the first");
    }

    Coro<void> race_two(int depth) {
        const test::Counted frame;
        Call call{*this};
        try {
            check_winner(call, co_await race(child(call, 0, depth), child(call, 1, depth)));
            co_await world_.note_result();
        } catch (const TaskGroupError& error) {
            check_failures(call, error);
        }
    }

    Coro<void> race_three(int depth) {
        const test::Counted frame;
        Call call{*this};
        const auto third = [this, &call, depth] { return child(call, 2, depth); };
        try {
            check_winner(call, co_await race(child(call, 0, depth), child(call, 1, depth), third));
            co_await world_.note_result();
        } catch (const TaskGroupError& error) {
            check_failures(call, error);
        }
    }

    World& world_;
    int alive_ = 0;
    std::string complaint_;
};

} // namespace

TEST_CASE("gather and race forget no child, no result and no failure") {
    run<Several>("gather and race");
}
