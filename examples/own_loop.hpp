// A complete loop in 50 lines: take the trap, do what it asks, send the reply. It knows sleeping
// and the time, which is all that a countdown asks for; everything else is answered -ENOSYS.
// Nothing of kernel/ is included or linked.
#pragma once

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <queue>
#include <thread>
#include <utility>
#include <vector>

#include <trapline/traps/routine.hpp>

template <class T>
class OwnLoop {
public:
    void launch(trapline::Coro<T> coro) {
        routines_.push_back(std::make_unique<trapline::Routine<T>>(std::move(coro)));
        trapline::Routine<T>& routine = *routines_.back();
        answer(routine, routine.start());
    }

    /// Runs until all that were launched have ended; answers their results.
    std::vector<T> run() {
        while (!wakeups_.empty()) {
            const Wakeup next = wakeups_.top();
            wakeups_.pop();
            std::this_thread::sleep_for(next.time - time());
            answer(*next.routine, next.routine->send(trapline::Reply::time(time())));
        }
        std::vector<T> results;
        for (const auto& routine : routines_)
            results.push_back(routine->result());
        return results;
    }

    std::uint64_t traps() const { return traps_; }

private:
    struct Wakeup {
        trapline::TimePoint time;
        trapline::Routine<T>* routine;
        bool operator<(const Wakeup& other) const { return time > other.time; } // soonest on top
    };

    static trapline::TimePoint time() {
        return trapline::TimePoint{std::chrono::steady_clock::now().time_since_epoch()};
    }

    /// Answers traps until the routine has to wait, or has ended.
    void answer(trapline::Routine<T>& routine, const trapline::Trap* trap) {
        for (; trap; ++traps_) {
            if (const auto* sleep = std::get_if<trapline::traps::Sleep>(trap)) {
                ++traps_;
                wakeups_.push({time() + sleep->duration, &routine});
                return;
            }
            const bool asks_time = std::holds_alternative<trapline::traps::Clock>(*trap);
            trap =
                routine.send(asks_time ? trapline::Reply::time(time()) : trapline::Reply{-ENOSYS});
        }
    }

    std::vector<std::unique_ptr<trapline::Routine<T>>> routines_;
    std::priority_queue<Wakeup> wakeups_;
    std::uint64_t traps_ = 0;
};
