// A loop of its own: the countdown coroutines of the other examples, driven by the 40 lines below
// and nothing else. It links no kernel. This is all there is to one: take the trap, do what it
// asks, send the reply.
#include <queue>
#include <thread>
#include <vector>

#include <trapline/traps/routine.hpp>

#include "rockets.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

class Loop {
public:
    void launch(Coro<Duration> rocket) {
        routines_.push_back(std::make_unique<Routine<Duration>>(std::move(rocket)));
        handle(*routines_.back(), routines_.back()->start());
    }

    void run() {
        while (!wakeups_.empty()) {
            const Wakeup next = wakeups_.top();
            wakeups_.pop();
            std::this_thread::sleep_for(next.time - time());
            handle(*next.routine, next.routine->send(Reply::time(time())));
        }
    }

private:
    struct Wakeup {
        TimePoint time;
        Routine<Duration>* routine;
        bool operator<(const Wakeup& other) const { return time > other.time; } // soonest on top
    };

    static TimePoint time() {
        return TimePoint{std::chrono::steady_clock::now().time_since_epoch()};
    }

    /// Answers traps until the routine has to wait, or has ended.
    void handle(Routine<Duration>& routine, const Trap* trap) {
        while (trap) {
            if (const auto* sleep = std::get_if<traps::Sleep>(trap)) {
                wakeups_.push({time() + sleep->duration, &routine});
                return;
            }
            const bool asks_time = std::holds_alternative<traps::Clock>(*trap);
            trap = routine.send(asks_time ? Reply::time(time()) : Reply{-ENOSYS});
        }
    }

    std::vector<std::unique_ptr<Routine<Duration>>> routines_;
    std::priority_queue<Wakeup> wakeups_;
};

} // namespace

int main() {
    Loop loop;
    loop.launch(countdown("Ariane", 5, 0, 1s));
    loop.launch(countdown("Soyuz", 3, 2, 1s));
    loop.launch(countdown("Falcon", 4, 1, 1s));
    loop.run();
}
