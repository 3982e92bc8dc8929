#include <trapline/kernel/timers.hpp>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include <doctest/doctest.h>

using namespace trapline;
using namespace std::chrono_literals;

namespace {

struct NumberedTimer : Timer {
    explicit NumberedTimer(int n) : number(n) {}
    int number;
};

/// Timers that are dropped with the queue.
struct Timers {
    TimerQueue queue;
    std::deque<NumberedTimer> timers;

    NumberedTimer& set(TimePoint time) {
        NumberedTimer& timer = timers.emplace_back(static_cast<int>(timers.size()));
        queue.set(timer, time);
        return timer;
    }

    /// The numbers of all that are due.
    std::vector<int> pop_all(TimePoint now) {
        std::vector<int> numbers;
        while (Timer* timer = queue.pop(now)) {
            CHECK(timer->time() <= now);
            CHECK_FALSE(timer->set());
            numbers.push_back(static_cast<NumberedTimer*>(timer)->number);
        }
        return numbers;
    }
};

constexpr TimePoint at(Duration since_start) { return TimePoint{since_start}; }

} // namespace

TEST_CASE("an empty queue has nothing due, ever") {
    TimerQueue queue;
    CHECK(queue.empty());
    CHECK(queue.size() == 0);
    CHECK(queue.next() == never);
    CHECK(queue.pop(never) == nullptr);
    CHECK(queue.pop(at(0s)) == nullptr);
}

TEST_CASE("timers fire in order of time, never early") {
    Timers t;
    t.set(at(3s));
    t.set(at(1s));
    t.set(at(2s));
    CHECK(t.queue.size() == 3);
    CHECK(t.pop_all(at(1s) - 1ns).empty());
    CHECK(t.pop_all(at(1s)) == std::vector{1});
    CHECK(t.pop_all(at(2s) - 1ns).empty());
    CHECK(t.pop_all(at(10s)) == std::vector{2, 0});
    CHECK(t.queue.empty());
}

TEST_CASE("equal times fire in the order in which they were set") {
    Timers t;
    std::vector<int> expected;
    for (int i = 0; i < 100; ++i) {
        t.set(at(5s));
        expected.push_back(i);
    }
    CHECK(t.pop_all(at(5s)) == expected);
}

TEST_CASE("equal times keep their order however near the time was when they were set") {
    Timers t;
    t.set(at(5s));
    CHECK(t.pop_all(at(4s)).empty());
    t.set(at(5s));
    CHECK(t.pop_all(at(5s) - 3ns).empty());
    t.set(at(5s));
    t.set(at(5s) - 2ns);
    CHECK(t.pop_all(at(5s) - 2ns) == std::vector{3});
    t.set(at(5s));
    CHECK(t.pop_all(at(6s)) == std::vector{0, 1, 2, 4});
}

TEST_CASE("times a nanosecond apart are told apart") {
    Timers t;
    for (int i = 0; i < 200; ++i)
        t.set(at(7s + Duration{199 - i}));
    for (int i = 0; i < 200; ++i)
        CHECK(t.pop_all(at(7s + Duration{i})) == std::vector{199 - i});
}

TEST_CASE("a dropped timer does not fire and leaves no trace") {
    Timers t;
    NumberedTimer& timer = t.set(at(1s));
    CHECK(timer.set());
    CHECK(timer.time() == at(1s));
    t.queue.drop(timer);
    CHECK_FALSE(timer.set());
    CHECK(t.queue.empty());
    CHECK(t.queue.next() == never);
    CHECK(t.pop_all(at(2s)).empty());
    t.queue.drop(timer); // harmless
    t.queue.set(timer, at(3s));
    CHECK(t.pop_all(at(3s)) == std::vector{0});
}

TEST_CASE("any of several timers of one time may be dropped") {
    for (int dropped = 0; dropped < 3; ++dropped) {
        Timers t;
        for (int i = 0; i < 3; ++i)
            t.set(at(1s));
        t.queue.drop(t.timers[static_cast<std::size_t>(dropped)]);
        std::vector expected{0, 1, 2};
        std::erase(expected, dropped);
        CHECK(t.pop_all(at(1s)) == expected);
    }
}

TEST_CASE("setting and dropping a limit a million times leaves nothing behind") {
    TimerQueue queue;
    NumberedTimer sleeper{0};
    NumberedTimer limit{1};
    queue.set(sleeper, at(100'000s));
    for (int i = 0; i < 1'000'000; ++i) {
        queue.set(limit, at(5s + i * 1us));
        queue.drop(limit);
    }
    CHECK(queue.size() == 1);
    CHECK(queue.pop(at(99'999s)) == nullptr);
    CHECK(queue.pop(at(100'000s)) == &sleeper);
}

TEST_CASE("a time in the past is due at once, behind what is due already") {
    Timers t;
    CHECK(t.pop_all(at(10s)).empty());
    t.set(at(9s));
    t.set(at(-5s));
    t.set(at(9s));
    t.set(at(10s));
    CHECK(t.queue.next() <= at(-5s));
    CHECK(t.pop_all(at(10s)) == std::vector{1, 0, 2, 3});
    t.set(TimePoint::min());
    CHECK(t.pop_all(at(10s)) == std::vector{4});
}

TEST_CASE("a past timer can be dropped again") {
    Timers t;
    CHECK(t.pop_all(at(10s)).empty());
    NumberedTimer& timer = t.set(at(9s));
    t.queue.drop(timer);
    CHECK(t.queue.empty());
    CHECK(t.pop_all(at(10s)).empty());
}

TEST_CASE("far deadlines keep their place, up to the end of time") {
    Timers t;
    t.set(never);
    t.set(at(std::chrono::hours{24 * 365 * 200}));
    t.set(never - 1ns);
    t.set(at(1ns));
    CHECK(t.pop_all(at(1ns)) == std::vector{3});
    CHECK(t.pop_all(at(std::chrono::hours{24 * 365 * 100})).empty());
    CHECK(t.pop_all(at(std::chrono::hours{24 * 365 * 200})) == std::vector{1});
    CHECK(t.pop_all(never - 1ns) == std::vector{2});
    CHECK(t.pop_all(never) == std::vector{0});
}

TEST_CASE("a clock that goes back fires nothing twice and nothing early") {
    Timers t;
    t.set(at(5s));
    t.set(at(7s));
    CHECK(t.pop_all(at(6s)) == std::vector{0});
    CHECK(t.pop_all(at(1s)).empty());
    t.set(at(3s));
    CHECK(t.pop_all(at(2s)).empty());
    CHECK(t.pop_all(at(3s)) == std::vector{2});
    CHECK(t.pop_all(at(7s)) == std::vector{1});
}

TEST_CASE("next is the earliest time when there are few timers") {
    Timers t;
    t.set(at(9s));
    CHECK(t.queue.next() == at(9s));
    NumberedTimer& soonest = t.set(at(4s));
    CHECK(t.queue.next() == at(4s));
    t.queue.drop(soonest);
    CHECK(t.queue.next() <= at(9s)); // a bound that is too low is only looked at once more
    CHECK(t.pop_all(at(5s)).empty());
    CHECK(t.queue.next() == at(9s));
}

TEST_CASE("looking again at what next() promised gets nearer and ends soon") {
    Timers t;
    for (int i = 0; i < 1000; ++i)
        t.set(at(3600s + i * 1ms));
    int looks = 0;
    TimePoint now = at(0s);
    while (t.queue.size() == 1000) {
        now = std::max(now, t.queue.next());
        t.pop_all(now);
        REQUIRE(++looks < 50);
    }
    CHECK(now == at(3600s));
}

namespace {

/// The queue beside a multimap, which keeps equal keys in the order of insertion.
class Comparison {
public:
    explicit Comparison(std::uint64_t seed, Duration spread) : dice_(seed), spread_(spread) {
        for (int i = 0; i < 300; ++i)
            timers_.emplace_back(i);
        places_.resize(timers_.size(), model_.end());
    }

    ~Comparison() {
        for (NumberedTimer& timer : timers_)
            queue_.drop(timer);
    }
    Comparison(const Comparison&) = delete;
    Comparison& operator=(const Comparison&) = delete;

    void step() {
        const auto i = static_cast<std::size_t>(below(timers_.size()));
        switch (below(8)) {
        case 0:
        case 1:
        case 2:
        case 3: toggle(i); break;
        case 4: // set anew
            if (timers_[i].set())
                toggle(i);
            toggle(i);
            break;
        case 5: // time passes: a little, much, or exactly to what next() says
            now_ += Duration{static_cast<Duration::rep>(below(spread_.count() / 64 + 1))};
            break;
        case 6: now_ = std::max(now_, std::min(queue_.next(), now_ + spread_)); break;
        case 7: break;
        }
        compare();
        ++steps_;
    }

    bool agrees() const { return agrees_; }
    int fired() const { return fired_; }

private:
    template <class N>
    std::uint64_t below(N n) {
        return dice_() % static_cast<std::uint64_t>(n);
    }

    TimePoint some_time() {
        switch (below(10)) {
        case 0: return now_ - Duration{static_cast<Duration::rep>(below(1000))};
        case 1: return now_;
        case 2: return now_ + Duration{static_cast<Duration::rep>(below(70))};
        case 3: return TimePoint{now_ + spread_}; // often equal
        case 4: return last_time_;                // often equal
        case 5: return later(now_, Duration{static_cast<Duration::rep>(dice_() >> 2)});
        default: return now_ + Duration{static_cast<Duration::rep>(below(spread_.count() + 1))};
        }
    }

    void toggle(std::size_t i) {
        if (timers_[i].set()) {
            queue_.drop(timers_[i]);
            model_.erase(places_[i]);
            places_[i] = model_.end();
        } else {
            last_time_ = some_time();
            queue_.set(timers_[i], last_time_);
            places_[i] = model_.emplace(last_time_, i);
        }
    }

    void compare() {
        agrees_ &= queue_.size() == model_.size();
        agrees_ &= queue_.empty() == model_.empty();
        if (below(4) == 0)
            agrees_ &= queue_.next() <= (model_.empty() ? never : model_.begin()->first);
        if (below(4) == 0)
            return; // what is due may wait for the next look
        for (;;) {
            const auto first = model_.begin();
            const bool due = first != model_.end() && first->first <= now_;
            const Timer* popped = queue_.pop(now_);
            if (!due) {
                agrees_ &= popped == nullptr;
                return;
            }
            agrees_ &= popped == &timers_[first->second] && popped->time() == first->first;
            places_[first->second] = model_.end();
            model_.erase(first);
            ++fired_;
            if (!agrees_)
                return;
        }
    }

    std::mt19937_64 dice_;
    Duration spread_;
    TimePoint now_{1h};
    TimePoint last_time_ = now_;
    TimerQueue queue_;
    std::deque<NumberedTimer> timers_;
    std::multimap<TimePoint, std::size_t> model_;
    std::vector<std::multimap<TimePoint, std::size_t>::iterator> places_;
    bool agrees_ = true;
    int fired_ = 0;
    int steps_ = 0;
};

} // namespace

TEST_CASE("the queue does what a sorted map does, over hundreds of thousands of random steps") {
    constexpr int steps = 50'000;
    for (const Duration spread : {Duration{200ns}, Duration{100us}, Duration{5s}, Duration{100h}}) {
        for (const std::uint64_t seed : {1u, 2u}) {
            CAPTURE(spread.count());
            CAPTURE(seed);
            Comparison comparison{seed, spread};
            int step = 0;
            while (step < steps && comparison.agrees()) {
                comparison.step();
                ++step;
            }
            CAPTURE(step);
            CHECK(comparison.agrees());
            CHECK(comparison.fired() > 1000); // or the test proves nothing
        }
    }
}
