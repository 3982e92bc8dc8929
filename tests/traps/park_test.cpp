#include <trapline/traps/park.hpp>

#include <csignal>
#include <memory>
#include <stdexcept>
#include <string>

#include <trapline/traps/barrier.hpp>
#include <trapline/traps/condition.hpp>
#include <trapline/traps/event.hpp>
#include <trapline/traps/lock.hpp>
#include <trapline/traps/result.hpp>
#include <trapline/traps/semaphore.hpp>

#include "../support/process.hpp"
#include "on_kernel.hpp"

using namespace trapline;
using namespace trapline::test;

namespace {

/// What is said when a primitive is destroyed while `wait(primitive)` waits on it, and how the
/// process ends.
template <class P, class Wait>
std::string destroyed_under(std::unique_ptr<P> primitive, Wait wait) {
    const CapturedStderr captured;
    const std::string end = in_child([&] {
        std::signal(SIGABRT, SIG_DFL); // doctest would report it
        Kernel kernel{manual()};
        const auto main = [&]() -> Coro<void> {
            auto task = co_await spawn([&]() -> Coro<void> { co_await wait(*primitive); },
                                       {.name = "worker"});
            co_await settle();
            primitive.reset();
        };
        kernel.run(main());
        return std::string{};
    });
    return captured.text() + end;
}

bool names_both(const std::string& text, const std::string& primitive) {
    INFO(text);
    const bool says =
        text.starts_with("trapline: " + primitive + " is destroyed while task 'worker', at ") &&
        text.find("park_test.cpp:") != std::string::npos;
    const bool ends = text.ends_with("waits on it\n (child: signal 6)");
    CHECK(says);
    CHECK(ends);
    return says && ends;
}

} // namespace

TEST_CASE("a primitive destroyed under its waiters ends the process with a word about both") {
    CHECK(names_both(destroyed_under(std::make_unique<Event>(), [](Event& e) { return e.wait(); }),
                     "an Event"));
    CHECK(names_both(
        destroyed_under(std::make_unique<Semaphore>(0), [](Semaphore& s) { return s.acquire(); }),
        "a Semaphore"));
    CHECK(names_both(destroyed_under(std::make_unique<Result<int>>(),
                                     [](Result<int>& r) -> Coro<void> { co_await r.unwrap(); }),
                     "a Result"));
    CHECK(names_both(destroyed_under(std::make_unique<Barrier>(2),
                                     [](Barrier& b) -> Coro<void> { co_await b.wait(); }),
                     "a Barrier"));
    auto lock = std::make_unique<Lock>();
    REQUIRE(lock->try_acquire());
    CHECK(names_both(destroyed_under(std::move(lock), [](Lock& l) { return l.acquire(); }),
                     "a Lock"));
}

TEST_CASE("while an exception is on its way it is only said") {
    const CapturedStderr captured;
    Kernel kernel{manual()};
    const auto main = []() -> Coro<void> {
        Event event;
        co_await spawn([&]() -> Coro<void> { co_await event.wait(); }, {.name = "worker"});
        co_await settle();
        throw std::runtime_error("main fails");
    };
    CHECK_THROWS_AS(kernel.run(main()), std::runtime_error);
    CHECK(captured.text().starts_with("trapline: an Event is destroyed while task 'worker'"));
    kernel.shutdown();
    CHECK(kernel.task_count() == 0);
}
