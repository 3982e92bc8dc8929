// What happens in this world happens in wait(), in one place and one order: first what is over
// already, then what threads have done, then time. A network and a disk would put what they have to
// say among `due_`, by the time at which it happens; the order of equal times is KernelOptions::
// shuffle_seed's, the one seed there is.
#include "simulation.hpp"

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <optional>

namespace trapline {

namespace {

using namespace std::chrono_literals;
using Watch = std::chrono::steady_clock;

class SimulationEngine final : public Engine {
public:
    TimePoint now() noexcept override { return now_; }
    Started start(Operation& operation) noexcept override;
    void cancel(Operation&) noexcept override {} // what is in flight is over at the next wait()
    void wait(TimePoint deadline, OperationList& completed) noexcept override;
    void interrupt() noexcept override;
    bool virtual_time() const noexcept override { return true; }
    std::string describe() const override { return "simulation: virtual time, no descriptors"; }

private:
    bool threads_leave_time_until(TimePoint deadline) noexcept;

    TimePoint now_ = simulation_start;
    OperationList due_;

    std::optional<Watch::time_point> stands_since_; ///< the clock, while threads are awaited
    std::mutex mutex_;
    std::condition_variable interrupts_;
    bool interrupted_ = false;
};

Engine::Started SimulationEngine::start(Operation& operation) noexcept {
    ++counters_.operations;
    if (std::holds_alternative<traps::Nop>(*operation.request)) {
        operation.result = 0;
        due_.push(operation);
        return Started::in_flight;
    }
    operation.result = -ENOSYS;
    return Started::done;
}

void SimulationEngine::wait(TimePoint deadline, OperationList& completed) noexcept {
    if (!due_.empty()) {
        while (Operation* operation = due_.pop())
            completed.push(*operation);
        return;
    }
    if (deadline <= now_)
        return; // just a look
    if (threads_awaited == 0)
        stands_since_.reset();
    else if (!threads_leave_time_until(deadline))
        return;
    if (deadline != never)
        now_ = deadline;
    stands_since_.reset();
}

/// False if a thread has something to say first.
bool SimulationEngine::threads_leave_time_until(TimePoint deadline) noexcept {
    if (!stands_since_)
        stands_since_ = Watch::now();
    const Duration ahead = std::min<Duration>(deadline - now_, 24h); // condition variables overflow
    std::unique_lock lock{mutex_};
    ++counters_.system_calls;
    const bool interrupted =
        interrupts_.wait_until(lock, *stands_since_ + ahead, [this] { return interrupted_; });
    interrupted_ = false;
    return !interrupted && ahead == deadline - now_;
}

void SimulationEngine::interrupt() noexcept {
    const std::scoped_lock lock{mutex_};
    interrupted_ = true;
    interrupts_.notify_one();
}

} // namespace

std::unique_ptr<Engine> make_simulation_engine() { return std::make_unique<SimulationEngine>(); }

} // namespace trapline
