// Random programs over the three queues. Each item that was put is got once, or left; items and
// room go to those who asked first; nobody waits who could go on; join ends when all is done.
#include "programs.hpp"

#include <algorithm>
#include <concepts>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <trapline/traps/queue.hpp>

#include "items.hpp"

using namespace trapline;
using namespace trapline::properties;

namespace {

template <class Q>
class UseQueue {
public:
    static constexpr bool always_ends = true; // at the latest when finish() closes the queue

    explicit UseQueue(World& world) : queue_(world.below(4)) {}

    Coro<void> step(World& world) {
        switch (world.below(16)) {
        case 0: try_put(world); return World::nothing();
        case 1: try_get(); return World::nothing();
        case 2: return join(world);
        case 3:
            if (world.one_in(8))
                queue_.close();
            return World::nothing();
        case 4:
        case 5:
        case 6: return next(world);
        case 7:
        case 8:
        case 9: return get(world);
        default: return put(world);
        }
    }

    std::string complaint_at_rest() {
        if (getting_ > 0 && (!queue_.empty() || queue_.closed()))
            return "a get waits although there is an item, or the queue is closed";
        if (putting_ > 0 && (!queue_.full() || queue_.closed()))
            return "a put waits although there is room, or the queue is closed";
        if (joining_ > 0 && done_ == put_)
            return "a join waits although all is done";
        return "";
    }

    void finish() {
        queue_.close();
        drain();
    }

    std::string complaint() {
        if (getting_ + putting_ + joining_ != 0)
            return "somebody still waits";
        if (!queue_.empty())
            return "an item came into a closed queue";
        if (std::same_as<Q, Queue<Item>> && !ledger_.in_order())
            return "an item was not got by the one who asked first";
        return ledger_.complaint();
    }

private:
    /// An item that was got is dealt with, however the task goes on.
    class Dealing {
    public:
        explicit Dealing(UseQueue& program) noexcept : program_(program) {}
        Dealing(const Dealing&) = delete;
        Dealing& operator=(const Dealing&) = delete;
        ~Dealing() { program_.item_done(); }

    private:
        UseQueue& program_;
    };

    Coro<void> put(World& world) {
        const test::Counted frame;
        const int number = new_number(world);
        const bool closed = queue_.closed();
        try {
            const Among putters{putting_};
            co_await queue_.put(Item{number});
        } catch (const QueueClosed&) {
            if (!queue_.closed())
                ledger_.complain("put: an open queue said that it is closed");
            co_return;
        }
        note_put(number);
        if (closed)
            ledger_.complain("put: a closed queue took an item");
        co_await world.note_result();
    }

    Coro<void> get(World& world) {
        const test::Counted frame;
        const std::size_t ticket = ledger_.new_ticket();
        std::optional<Item> item;
        try {
            const Among getters{getting_};
            item.emplace(co_await queue_.get());
        } catch (const QueueClosed&) {
            note_closed();
            co_return;
        }
        co_await deal_with(world, ticket, *item);
    }

    Coro<void> next(World& world) {
        const test::Counted frame;
        const std::size_t ticket = ledger_.new_ticket();
        std::optional<Item> item;
        {
            const Among getters{getting_};
            item = co_await queue_.next();
        }
        if (item)
            co_await deal_with(world, ticket, *item);
        else
            note_closed();
    }

    Coro<void> deal_with(World& world, std::size_t ticket, const Item& item) {
        const test::Counted frame;
        const Dealing dealing{*this};
        ledger_.taken(ticket, item.number());
        co_await world.note_result();
        co_await world.pause();
    }

    Coro<void> join(World& world) {
        const test::Counted frame;
        const int put_before = put_;
        {
            const Among joiners{joining_};
            co_await queue_.join();
        }
        if (done_ < put_before)
            ledger_.complain("join: ended before all was done that had been put");
        co_await world.note_result();
    }

    void try_put(World& world) {
        const int number = new_number(world);
        const bool can = !queue_.full() && !queue_.closed();
        Item item{number};
        const bool put = queue_.try_put(std::move(item));
        if (put)
            note_put(number);
        if (put != can)
            ledger_.complain("try_put: wrong about whether it could");
        if (put == (item.number() == number))
            ledger_.complain("try_put: the item is not where it says");
    }

    /// The number of what was got.
    std::optional<int> try_get() {
        const std::size_t ticket = ledger_.new_ticket();
        const bool can = !queue_.empty();
        const std::optional<Item> item = queue_.try_get();
        if (item.has_value() != can)
            ledger_.complain("try_get: wrong about whether it could");
        if (!item)
            return std::nullopt;
        const Dealing dealing{*this};
        ledger_.taken(ticket, item->number());
        return item->number();
    }

    void drain() {
        std::vector<int> rest;
        while (const std::optional<int> number = try_get())
            rest.push_back(*number);
        if (std::same_as<Q, LifoQueue<Item>>)
            std::reverse(rest.begin(), rest.end());
        if (!std::is_sorted(rest.begin(), rest.end()))
            ledger_.complain("what was left in the queue was not in order");
    }

    int new_number(World& world) {
        return ledger_.new_number(std::same_as<Q, PriorityQueue<Item>> ? world.below(1000) : 0);
    }

    void note_put(int number) {
        ledger_.given(number);
        ++put_;
    }

    void note_closed() {
        if (!queue_.closed() || !queue_.empty())
            ledger_.complain("get: a queue that is open, or not empty, said that it is closed");
    }

    void item_done() {
        ++done_;
        queue_.task_done();
    }

    Q queue_;
    Ledger ledger_;
    int getting_ = 0;
    int putting_ = 0;
    int joining_ = 0;
    int put_ = 0;
    int done_ = 0;
};

} // namespace

TEST_CASE("a Queue loses and doubles nothing, and serves in order") {
    run<UseQueue<Queue<Item>>>("Queue");
}

TEST_CASE("a LifoQueue loses and doubles nothing") { run<UseQueue<LifoQueue<Item>>>("LifoQueue"); }

TEST_CASE("a PriorityQueue loses and doubles nothing") {
    run<UseQueue<PriorityQueue<Item>>>("PriorityQueue");
}
