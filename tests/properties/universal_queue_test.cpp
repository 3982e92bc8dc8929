// Random programs over a UniversalQueue within one kernel, where its interrupts and wake-ups pass
// through AwaitThread. With threads: tests/traps/universal_queue_test.cpp.
#include "programs.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <trapline/traps/universal_queue.hpp>

using namespace trapline;
using namespace trapline::properties;

namespace {

/// Tasks that put numbers, each its own, and get them, and wait until all are dealt with.
class UseUniversalQueue {
public:
    static constexpr bool always_ends = true; // at the latest when finish() closes the queue

    explicit UseUniversalQueue(World& world) : queue_(world.below(4)) {}

    Coro<void> step(World& world) {
        const test::Counted frame;
        switch (world.below(12)) {
        case 0: {
            const int number = new_number();
            if (queue_.try_put(std::make_unique<int>(number)))
                was_put(number);
            break;
        }
        case 1: take_one(); break;
        case 2: co_await join(); break;
        case 3:
            if (world.one_in(8))
                queue_.close();
            break;
        case 4:
        case 5:
        case 6:
        case 7: co_await get(world); break;
        default: co_await put(world); break;
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
    using Item = std::unique_ptr<int>;

    class Among {
    public:
        explicit Among(int& count) noexcept : count_(++count) {}
        Among(const Among&) = delete;
        Among& operator=(const Among&) = delete;
        ~Among() { --count_; }

    private:
        int& count_;
    };

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
    void was_got(int ticket, const Item& item) {
        mark(was_got_, *item);
        got_.emplace_back(ticket, *item);
        ++done_;
        queue_.task_done();
    }

    bool take_one() {
        const int ticket = ++last_ticket_;
        const std::optional<Item> item = queue_.try_get();
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
        std::optional<Item> item;
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

    UniversalQueue<Item> queue_;
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

} // namespace

TEST_CASE("a UniversalQueue loses and doubles nothing, and serves in order") {
    run<UseUniversalQueue>("UniversalQueue");
}
