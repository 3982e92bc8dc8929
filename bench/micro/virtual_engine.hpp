// An engine with nothing behind it but a clock that jumps to the next deadline: what timers cost
// without the waiting.
#pragma once

#include <memory>

#include <trapline/kernel/engine.hpp>

namespace bench {

class VirtualEngine final : public trapline::Engine {
public:
    trapline::TimePoint now() noexcept override { return now_; }
    Started start(trapline::Operation& operation) noexcept override {
        operation.result = -38; // ENOSYS: no I/O here
        return Started::done;
    }
    void cancel(trapline::Operation&) noexcept override {}
    void wait(trapline::TimePoint deadline, trapline::OperationList&) noexcept override {
        if (deadline != trapline::never && deadline > now_)
            now_ = deadline;
    }
    void interrupt() noexcept override {}
    std::string describe() const override { return "a clock that jumps"; }

private:
    trapline::TimePoint now_{std::chrono::seconds{1}};
};

} // namespace bench
