// An engine in forty lines: the time is a number that jumps to whatever the kernel waits for, and
// the only operations are Nop, which completes at the next wait, and Poll, which completes when
// the test says so. It shows that `Engine` is all a kernel needs, and makes time in tests exact.
#pragma once

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <memory>
#include <mutex>

#include <trapline/kernel/engine.hpp>
#include <trapline/kernel/options.hpp>

namespace trapline {

class ManualEngine : public Engine {
public:
    TimePoint now() noexcept override { return time; }

    Started start(Operation& operation) noexcept override {
        ++counters_.operations;
        if (std::holds_alternative<traps::Nop>(*operation.request)) {
            done_.push(operation);
        } else if (std::holds_alternative<traps::Poll>(*operation.request)) {
            polls_.push(operation);
        } else {
            operation.result = -ENOSYS;
            return Started::done;
        }
        return Started::in_flight;
    }

    void cancel(Operation& operation) noexcept override {
        if (polls_.remove(operation))
            complete(operation, -ECANCELED);
    }

    void wait(TimePoint deadline, OperationList& completed) noexcept override {
        ++counters_.system_calls;
        std::unique_lock lock{mutex_};
        if (done_.empty() && !interrupted_) { // else there is something to do before time passes
            if (deadline == never)
                interrupts_.wait(lock, [this] { return interrupted_; });
            else
                time = std::max(time, deadline);
        }
        while (Operation* operation = done_.pop())
            completed.push(*operation);
        interrupted_ = false;
    }

    void interrupt() noexcept override {
        const std::scoped_lock lock{mutex_};
        interrupted_ = true;
        interrupts_.notify_one();
    }

    std::string describe() const override { return "manual"; }

    /// Completes the oldest poll. False if there is none.
    bool complete_poll(int result) {
        Operation* operation = polls_.pop();
        if (operation)
            complete(*operation, result);
        return operation != nullptr;
    }

    TimePoint time{std::chrono::seconds{1000}};

private:
    void complete(Operation& operation, int result) noexcept {
        operation.result = result;
        done_.push(operation);
    }

    OperationList done_;
    OperationList polls_;
    std::mutex mutex_;
    std::condition_variable interrupts_;
    bool interrupted_ = false;
};

/// Options for a kernel on a ManualEngine. `engine` is set to it when the kernel is made.
inline KernelOptions manual(ManualEngine** engine = nullptr) {
    return {.make_engine = [engine] {
        auto made = std::make_unique<ManualEngine>();
        if (engine)
            *engine = made.get();
        return made;
    }};
}

} // namespace trapline
