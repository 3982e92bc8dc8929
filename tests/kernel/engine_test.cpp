#include <trapline/kernel/engine.hpp>

#include <algorithm>
#include <cerrno>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/kernel/kernel.hpp>

using namespace trapline;
using namespace std::chrono_literals;

namespace {

class VirtualTime final : public Engine {
    TimePoint now() noexcept override { return time_; }
    Started start(Operation& operation) noexcept override {
        operation.result = -ENOSYS;
        return Started::done;
    }
    void cancel(Operation&) noexcept override {}
    void wait(TimePoint deadline, OperationList&) noexcept override {
        time_ = std::max(time_, deadline);
    }
    void interrupt() noexcept override {}
    std::string describe() const override { return "virtual time"; }

    TimePoint time_{};
};

} // namespace

TEST_CASE("a kernel lives in any world: here hours pass at once, and there is no I/O") {
    Kernel kernel{{.make_engine = [] { return std::make_unique<VirtualTime>(); }}};
    CHECK(kernel.describe() == "virtual time");
    const auto body = []() -> Coro<TimePoint> {
        Task<TimePoint> longer = co_await spawn([] { return sleep(2h); });
        co_await sleep(1h);
        const auto nothing = co_await traps::nop();
        CHECK(nothing.error() == std::errc::function_not_supported);
        co_return co_await longer.join();
    };
    CHECK(kernel.run(body()) == TimePoint{2h});
}

TEST_CASE("where the clock begins at 0, limits that are past have passed, nested or not") {
    Kernel kernel{{.make_engine = [] { return std::make_unique<VirtualTime>(); }}};
    const auto body = []() -> Coro<bool> {
        const auto in_time = co_await ignore_after(-1s, [] { return ignore_after(5s, sleep(1s)); });
        co_return in_time.has_value();
    };
    CHECK_FALSE(kernel.run(body()));
}

TEST_CASE("a list of operations is first in, first out") {
    OperationList list;
    Operation a{};
    Operation b{};
    CHECK(list.empty());
    CHECK(list.pop() == nullptr);
    list.push(a);
    list.push(b);
    CHECK_FALSE(list.empty());
    CHECK(list.front() == &a);
    CHECK(list.pop() == &a);
    CHECK(list.pop() == &b);
    CHECK(list.empty());
    list.push(b);
    list.push(a);
    CHECK(list.pop() == &b);
    CHECK(list.pop() == &a);
}

TEST_CASE("an operation is removed from wherever it stands") {
    for (int removed = 0; removed < 3; ++removed) {
        Operation operations[3]{};
        OperationList list;
        for (Operation& operation : operations)
            list.push(operation);
        CHECK(list.remove(operations[removed]));
        CHECK_FALSE(list.remove(operations[removed]));
        list.push(operations[removed]); // the end of the list is where it should be
        std::vector<Operation*> left;
        while (Operation* operation = list.pop())
            left.push_back(operation);
        REQUIRE(left.size() == 3);
        CHECK(left.back() == &operations[removed]);
    }
}

TEST_CASE("an operation was ended by a cancel if its result or what stopped it says so") {
    Operation operation{};
    CHECK_FALSE(operation.ended_by_cancel());
    operation.result = -ECANCELED;
    CHECK(operation.ended_by_cancel());
    operation.result = 10;
    CHECK_FALSE(operation.ended_by_cancel());
    operation.stopped_by = ECANCELED;
    CHECK(operation.ended_by_cancel());
    operation.stopped_by = ECONNRESET;
    CHECK_FALSE(operation.ended_by_cancel());
}
