// Random programs over a UniversalQueue: within one kernel, where its interrupts and wake-ups pass
// through AwaitThread, and between two kernels and a plain thread. The latter do not repeat
// themselves: the seed decides what each does, not how they meet.
#include "programs.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <trapline/traps/universal_queue.hpp>

#include "helper.hpp"
#include "items.hpp"

using namespace trapline;
using namespace trapline::properties;

namespace {

/// Tasks that put numbers, each its own, and get them, and wait until all are dealt with.
class UseUniversalQueue {
public:
    static constexpr bool always_ends = true; // at the latest when finish() closes the queue

    explicit UseUniversalQueue(World& world) : queue_(world.below(4)) {}

    Coro<void> step(World& world) {
        switch (world.below(12)) {
        case 0: {
            const int number = new_number();
            if (queue_.try_put(std::make_unique<int>(number)))
                was_put(number);
            return World::nothing();
        }
        case 1: take_one(); return World::nothing();
        case 2: return join();
        case 3:
            if (world.one_in(8))
                queue_.close();
            return World::nothing();
        case 4:
        case 5:
        case 6:
        case 7: return get(world);
        default: return put(world);
        }
    }

    std::string complaint_at_rest() const {
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
        while (take_one()) {}
    }

    std::string complaint() {
        if (put_twice_or_got_twice_)
            return "an item was doubled";
        if (was_put_ != was_got_)
            return "an item is lost, or was got although it was not put";
        std::sort(got_.begin(), got_.end());
        const auto by_number = [](const auto& a, const auto& b) { return a.second < b.second; };
        if (!std::is_sorted(got_.begin(), got_.end(), by_number))
            return "an item was not got by the one who asked first";
        return "";
    }

private:
    using Number = std::unique_ptr<int>;

    int new_number() {
        was_put_.push_back(false);
        was_got_.push_back(false);
        return static_cast<int>(was_put_.size()) - 1;
    }
    void mark(std::vector<bool>& marks, int number) {
        put_twice_or_got_twice_ = put_twice_or_got_twice_ || marks[number];
        marks[number] = true;
    }
    void was_put(int number) {
        ++put_;
        mark(was_put_, number);
    }
    void was_got(int ticket, const Number& item) {
        mark(was_got_, *item);
        got_.emplace_back(ticket, *item);
        ++done_;
        queue_.task_done();
    }

    bool take_one() {
        const int ticket = ++last_ticket_;
        const std::optional<Number> item = queue_.try_get();
        if (item)
            was_got(ticket, *item);
        return item.has_value();
    }

    Coro<void> put(World& world) {
        const test::Counted frame;
        const int number = new_number();
        try {
            const Among putters{putting_};
            co_await queue_.put(std::make_unique<int>(number));
        } catch (const QueueClosed&) {
            co_return;
        }
        was_put(number);
        co_await world.note_result();
    }

    Coro<void> get(World& world) {
        const test::Counted frame;
        const int ticket = ++last_ticket_;
        std::optional<Number> item;
        {
            const Among getters{getting_};
            item = co_await queue_.next();
        }
        if (item)
            was_got(ticket, *item);
        co_await world.note_result();
        co_await world.pause();
    }

    Coro<void> join() {
        const test::Counted frame;
        const Among joiners{joining_};
        co_await queue_.join();
    }

    UniversalQueue<Number> queue_;
    std::vector<bool> was_put_; // by number
    std::vector<bool> was_got_;
    std::vector<std::pair<int, int>> got_; ///< tickets, drawn when a task asks, and numbers
    bool put_twice_or_got_twice_ = false;
    int last_ticket_ = 0;
    int getting_ = 0;
    int putting_ = 0;
    int joining_ = 0;
    int put_ = 0;
    int done_ = 0;
};

/// The queue that two kernels and a thread share, and who put and got what.
class Crossing {
public:
    explicit Crossing(std::size_t capacity) noexcept : queue(capacity) {}

    UniversalQueue<Item> queue;

    Item new_item() { return Item{last_number_++}; }
    void was_put(int number) { mark(put_, number); }
    void was_got(const Item& item) {
        mark(got_, item.number());
        queue.task_done();
    }

    /// When all is over.
    std::string complaint() {
        queue.close();
        while (const std::optional<Item> left = queue.try_get())
            was_got(*left);
        if (last_number_ > items_max)
            return "the test has too little room for its notes";
        if (doubled_)
            return "an item was doubled";
        for (int number = 0; number < last_number_; ++number) {
            if (put_[number] != got_[number])
                return put_[number] ? "an item is lost" : "an item was got that was not put";
        }
        return "";
    }

private:
    static constexpr int items_max = 1000;
    using Marks = std::array<std::atomic<bool>, items_max>;

    void mark(Marks& marks, int number) {
        if (number < 0 || number >= items_max ||
            marks[static_cast<std::size_t>(number)].exchange(true))
            doubled_ = true;
    }

    std::atomic<int> last_number_ = 0;
    std::atomic<bool> doubled_ = false;
    Marks put_{};
    Marks got_{};
};

/// The tasks of one of the kernels.
class Side {
public:
    Side(World& world, Crossing& crossing) : world_(world), crossing_(crossing) {}

    Coro<void> step(World&) {
        switch (world_.below(8)) {
        case 0: return try_both();
        case 1:
        case 2:
        case 3:
        case 4: return get();
        default: return put();
        }
    }

    std::string complaint() const { return ""; }

private:
    Coro<void> try_both() {
        Item item = crossing_.new_item();
        const int number = item.number();
        if (crossing_.queue.try_put(std::move(item)))
            crossing_.was_put(number);
        co_await world_.pause();
        if (const std::optional<Item> got = crossing_.queue.try_get())
            crossing_.was_got(*got);
    }

    Coro<void> put() {
        const test::Counted frame;
        Item item = crossing_.new_item();
        const int number = item.number();
        co_await crossing_.queue.put(std::move(item));
        crossing_.was_put(number);
        co_await world_.note_result();
    }

    Coro<void> get() {
        const test::Counted frame;
        const Item item = co_await crossing_.queue.get();
        crossing_.was_got(item);
        co_await world_.note_result();
        co_await world_.pause();
    }

    World& world_;
    Crossing& crossing_;
};

/// What a plain thread does meanwhile, until the queue is closed.
void cross_by_thread(Dice dice, Crossing& crossing) {
    try {
        for (unsigned left = dice.below(6); left > 0; --left) {
            if (dice.one_in(2)) {
                Item item = crossing.new_item();
                const int number = item.number();
                crossing.queue.put_sync(std::move(item));
                crossing.was_put(number);
            } else {
                crossing.was_got(crossing.queue.get_sync());
            }
        }
    } catch (const QueueClosed&) {}
}

std::string cross(Seed seed, Reached& reached) {
    static Helper kernel_thread;
    static Helper plain_thread;
    const long alive_before = test::Counted::alive();
    std::array<std::string, 3> complaints;
    {
        Dice dice{seed};
        const auto crossing = std::make_unique<Crossing>(dice.below(4));
        Reached there;
        const auto side = [&](Seed own_seed, Reached& own, std::string& complaint) {
            complaint = properties::detail::play_once<Side>(own_seed, own, *crossing);
        };
        plain_thread.begin([&] { cross_by_thread(Dice{seed + 1}, *crossing); });
        kernel_thread.begin([&] { side(seed * 2, there, complaints[0]); });
        side(seed * 2 + 1, reached, complaints[1]);
        kernel_thread.wait();
        crossing->queue.close();
        plain_thread.wait();
        complaints[2] = crossing->complaint();
        reached += there;
    }
    for (std::string& complaint : complaints) {
        if (!complaint.empty())
            return std::move(complaint);
    }
    return test::Counted::alive() == alive_before ? "" : "coroutine frames or items are left";
}

} // namespace

TEST_CASE("a UniversalQueue loses and doubles nothing, and serves in order") {
    run<UseUniversalQueue>("UniversalQueue");
}

TEST_CASE("a UniversalQueue between two kernels and a thread loses and doubles nothing") {
    // Three threads wait for each other in each: on a busy machine that takes a millisecond.
    run_each("UniversalQueue between kernels", cross, 5);
}
