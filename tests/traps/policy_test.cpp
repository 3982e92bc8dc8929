#include <trapline/traps/policy.hpp>

#include <atomic>
#include <cerrno>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/trapline.hpp>

#include "on_kernel.hpp"

using namespace trapline;
using namespace trapline::test;

namespace {

struct NoSleep final : Policy { // for tests that have no patience
    Verdict trapped(Asking& asking) noexcept override {
        if (auto* sleep = std::get_if<traps::Sleep>(&asking.trap))
            sleep->duration = 0ns;
        return Verdict::allow();
    }
};

/// Does what it is told, and notes what it sees.
struct Told final : Policy {
    using Ask = std::function<Verdict(Asking&)>;
    using See = std::function<std::optional<Duration>(const Asking&, Reply&)>;

    explicit Told(Ask how, See then = {}) : ask(std::move(how)), see(std::move(then)) {}

    Verdict trapped(Asking& asking) noexcept override { return ask(asking); }
    bool sees_replies() const noexcept override { return static_cast<bool>(see); }
    std::optional<Duration> replied(const Asking& asking, Reply& reply) noexcept override {
        return see(asking, reply);
    }

    Ask ask;
    See see;
};

std::shared_ptr<Policy> told(Told::Ask ask, Told::See see = {}) {
    return std::make_shared<Told>(std::move(ask), std::move(see));
}

Verdict allow(Asking&) { return Verdict::allow(); }

/// Refuses operations, by `error`.
std::shared_ptr<Policy> no_io(int error) {
    return told([error](Asking& asking) {
        return std::holds_alternative<traps::Io>(asking.trap) ? Verdict::refuse(error)
                                                              : Verdict::allow();
    });
}

std::shared_ptr<Policy> slow(Duration each) {
    return told([each](Asking& asking) {
        return std::holds_alternative<traps::Io>(asking.trap) ? Verdict::delay(each)
                                                              : Verdict::allow();
    });
}

/// The names of the traps that come by.
std::shared_ptr<Policy> noting(std::vector<std::string>& names, std::string prefix = "") {
    return told([&names, prefix = std::move(prefix)](Asking& asking) {
        names.push_back(prefix + traps::name_of(asking.trap));
        return Verdict::allow();
    });
}

Coro<int> nop() {
    const auto answer = co_await traps::Io{traps::Nop{}};
    co_return answer ? static_cast<int>(*answer) : -answer.error().value();
}

} // namespace

TEST_CASE("a policy may change what a task asks") {
    on_kernel([]() -> Coro<void> {
        const TimePoint start = co_await now();
        co_await with_policy(std::make_shared<NoSleep>(), sleep(24h));
        const TimePoint end = co_await now();
        CHECK(end == start);
    });
}

TEST_CASE("a policy sees each trap of what runs under it, and no other") {
    std::vector<std::string> names;
    on_kernel([&]() -> Coro<void> {
        co_await yield_now();
        co_await with_policy(noting(names), [&]() -> Coro<void> {
            co_await now();
            co_await sleep(1ms);
            (void)co_await nop();
        });
        co_await yield_now();
    });
    CHECK(names == std::vector<std::string>{"Clock", "Sleep", "Io"});
}

TEST_CASE("a policy may refuse a trap, or answer it itself") {
    on_kernel([]() -> Coro<void> {
        CHECK((co_await with_policy(no_io(EPERM), nop())) == -EPERM);
        const auto own = told([](Asking& asking) {
            return std::holds_alternative<traps::Io>(asking.trap) ? Verdict::answer({42})
                                                                  : Verdict::allow();
        });
        CHECK((co_await with_policy(own, nop())) == 42);
        CHECK((co_await nop()) == 0);
    });
}

TEST_CASE("a policy may delay a trap, by the kernel's time") {
    on_kernel([]() -> Coro<void> {
        const TimePoint start = co_await now();
        CHECK((co_await with_policy(slow(3s), nop())) == 0);
        CHECK(((co_await now()) - start) == 3s);
    });
}

TEST_CASE("delays of several policies add up") {
    on_kernel([]() -> Coro<void> {
        const TimePoint start = co_await now();
        CHECK((co_await with_policy(slow(3s), with_policy(slow(4s), nop()))) == 0);
        CHECK(((co_await now()) - start) == 7s);
    });
}

TEST_CASE("a trap that cannot be interrupted is never delayed") {
    on_kernel([]() -> Coro<void> {
        const auto all = told([](Asking&) { return Verdict::delay(1h); });
        co_await with_policy(all, []() -> Coro<void> {
            const TimePoint start = co_await now();
            (void)co_await current_task();
            (void)co_await traps::close(-1);
            const TimePoint end = co_await now();
            CHECK(end == start);
        });
    });
}

TEST_CASE("what scopes and wake-ups rely on is allowed, whatever the verdict") {
    for (const Verdict verdict : {Verdict::refuse(EPERM), Verdict::delay(1h)}) {
        on_kernel([verdict]() -> Coro<void> {
            const auto all = told([verdict](Asking& asking) {
                const std::string name = traps::name_of(asking.trap);
                const bool relied_on =
                    name == "Park" || name == "Mask" || name == "UnsetTimeout" || name == "Cancel";
                return relied_on ? verdict : Verdict::allow();
            });
            Event event;
            Task<> waiter = co_await spawn(with_policy(all, [&] { return event.wait(); }));
            co_await settle();
            event.set(); // a wake-up that came during a delay would be lost
            co_await waiter.join();
            co_await with_policy(all, []() -> Coro<void> {
                const auto limited = co_await ignore_after(1s, disable_cancellation(settle()));
                CHECK(limited);
                co_await sleep(2s); // the limit is gone
                Task<> child = co_await spawn(sleep_forever());
                CHECK((co_await child.cancel()));
            });
        });
    }
}

TEST_CASE("who delays a trap is told when it will not be asked any more") {
    struct Delays final : Policy {
        Verdict trapped(Asking& asking) noexcept override {
            return std::holds_alternative<traps::Io>(asking.trap) ? Verdict::delay(1s)
                                                                  : Verdict::allow();
        }
        void withdrawn(const Asking& asking) noexcept override {
            ++count;
            CHECK(std::holds_alternative<traps::Io>(asking.trap));
        }
        int count = 0;
    };
    on_kernel([]() -> Coro<void> {
        const auto delays = std::make_shared<Delays>();
        CHECK((co_await with_policy(delays, nop())) == 0);
        CHECK(delays->count == 0);
        const auto in_time = co_await ignore_after(500ms, with_policy(delays, nop()));
        CHECK_FALSE(in_time.has_value());
        CHECK(delays->count == 1);
    });
}

TEST_CASE("a function of run_in_thread that a policy refuses never runs") {
    on_kernel([]() -> Coro<void> {
        std::atomic<int> ran = 0;
        const auto no_threads = told([](Asking& asking) {
            return std::holds_alternative<traps::AwaitThread>(asking.trap) ? Verdict::refuse(EPERM)
                                                                           : Verdict::allow();
        });
        for (int i = 0; i < 20; ++i) {
            detail::Outcome<void> outcome;
            co_await detail::Attempt{
                with_policy(no_threads, [&] { return run_in_thread([&ran] { ++ran; }); }), outcome};
            CHECK(outcome.has_failure());
        }
        co_await run_in_thread([] {}); // behind them, if they were there
        CHECK(ran == 0);
    });
}

TEST_CASE("a policy may answer for a thread, where a result can be made up") {
    on_kernel([]() -> Coro<void> {
        const auto answers = told([](Asking& asking) {
            return std::holds_alternative<traps::AwaitThread>(asking.trap) ? Verdict::answer({})
                                                                           : Verdict::allow();
        });
        CHECK((co_await with_policy(answers, [] { return run_in_thread([] { return 7; }); })) == 0);
        static int number = 7;
        bool refused = false;
        try {
            (void)co_await with_policy(
                answers, [] { return run_in_thread([]() -> int& { return number; }); });
        } catch (const std::logic_error&) {
            refused = true;
        }
        CHECK(refused);
    });
}

TEST_CASE("what a policy answers is not thrown away for an interrupt that waits") {
    on_kernel([]() -> Coro<void> {
        int answered = 0;
        int seen = 0;
        const auto answers = told([&](Asking& asking) {
            if (!std::holds_alternative<traps::Io>(asking.trap))
                return Verdict::allow();
            ++answered;
            return Verdict::answer({42});
        });
        Task<> task = co_await spawn(with_policy(answers, [&]() -> Coro<void> {
            co_await disable_cancellation([]() -> Coro<void> { co_await sleep(1s); });
            for (;;) {
                (void)co_await nop();
                ++seen;
            }
        }));
        co_await settle();
        CHECK((co_await task.cancel()));
        CHECK(seen == answered);
    });
}

TEST_CASE("who waits for a delayed trap can be cancelled, and sees its own trap interrupted") {
    on_kernel([]() -> Coro<void> {
        const TimePoint start = co_await now();
        Task<int> waits = co_await spawn(with_policy(slow(1h), nop()));
        co_await settle();
        const bool cancelled = co_await waits.cancel();
        CHECK(cancelled);
        CHECK(waits.cancelled());
        CHECK(((co_await now()) - start) < 1s);
    });
}

TEST_CASE("a time limit ends a delay") {
    on_kernel([]() -> Coro<void> {
        const TimePoint start = co_await now();
        const auto done = co_await ignore_after(5s, with_policy(slow(1h), nop()));
        CHECK_FALSE(done.has_value());
        CHECK(((co_await now()) - start) == 5s);
    });
}

TEST_CASE("who has been cancelled is told so where a policy refuses what would block") {
    on_kernel([]() -> Coro<void> {
        bool reached = false;
        Task<> tries = co_await spawn(with_policy(no_io(EPERM), [&]() -> Coro<void> {
            for (;;) {
                (void)co_await disable_cancellation([]() -> Coro<void> { co_await sleep(1s); });
                reached = true;
                (void)co_await nop();
            }
        }));
        co_await settle();
        CHECK((co_await tries.cancel()));
        CHECK(reached);
    });
}

TEST_CASE("the policy that was set last sees a trap first, and its reply last") {
    std::vector<std::string> seen;
    const auto named = [&](std::string name) {
        return told(
            [&seen, name](Asking& asking) {
                if (std::holds_alternative<traps::Io>(asking.trap))
                    seen.push_back(name + " asked");
                return Verdict::allow();
            },
            [&seen, name](const Asking& asking, Reply&) -> std::optional<Duration> {
                if (std::holds_alternative<traps::Io>(asking.trap))
                    seen.push_back(name + " told");
                return {};
            });
    };
    on_kernel([&]() -> Coro<void> {
        (void)co_await with_policy(named("outer"), with_policy(named("inner"), nop()));
    });
    CHECK(seen ==
          std::vector<std::string>{"inner asked", "outer asked", "outer told", "inner told"});
}

TEST_CASE("children stand under the policies of their parent, also when the parent has left them") {
    std::vector<std::string> names;
    on_kernel([&]() -> Coro<void> {
        Task<int> child = co_await with_policy(noting(names), []() -> Coro<Task<int>> {
            co_return co_await spawn([]() -> Coro<int> {
                co_await sleep(1s);
                co_return co_await nop();
            });
        });
        Task<int> other = co_await spawn(nop());
        CHECK((co_await child.join()) == 0);
        CHECK((co_await other.join()) == 0);
    });
    CHECK(names == std::vector<std::string>{"Spawn", "Sleep", "Io"});
}

TEST_CASE("a child can only narrow what it may do") {
    on_kernel([]() -> Coro<void> {
        co_await with_policy(no_io(EPERM), []() -> Coro<void> {
            Task<int> child = co_await spawn(with_policy(told(allow), nop()));
            CHECK((co_await child.join()) == -EPERM);
        });
    });
}

TEST_CASE("a policy may change a reply") {
    on_kernel([]() -> Coro<void> {
        const auto hundred = told(allow, [](const Asking& asking, Reply& reply) {
            if (std::holds_alternative<traps::Io>(asking.trap))
                reply.value += 100;
            return std::optional<Duration>{};
        });
        CHECK((co_await with_policy(hundred, nop())) == 100);
    });
}

TEST_CASE("a policy may have a trap asked again, as the task asked it") {
    on_kernel([]() -> Coro<void> {
        std::vector<std::uint32_t> attempts;
        std::vector<Duration> asked;
        const auto thrice = told(
            [&](Asking& asking) {
                if (auto* sleep = std::get_if<traps::Sleep>(&asking.trap)) {
                    attempts.push_back(asking.attempt);
                    asked.push_back(sleep->duration);
                    sleep->duration += 1s;
                }
                return Verdict::allow();
            },
            [](const Asking& asking, Reply&) {
                return std::holds_alternative<traps::Sleep>(asking.trap) && asking.attempt < 2
                           ? std::optional<Duration>{10s}
                           : std::nullopt;
            });
        const TimePoint start = co_await now();
        co_await with_policy(thrice, sleep(2s));
        CHECK(((co_await now()) - start) == 3 * 3s + 2 * 10s);
        CHECK(attempts == std::vector<std::uint32_t>{0, 1, 2});
        CHECK(asked == std::vector<Duration>{2s, 2s, 2s});
    });
}

TEST_CASE("what an outer policy refuses, an inner one may have asked again") {
    on_kernel([]() -> Coro<void> {
        int refused = 0;
        const auto twice = told([&](Asking& asking) {
            if (!std::holds_alternative<traps::Io>(asking.trap) || refused == 2)
                return Verdict::allow();
            ++refused;
            return Verdict::refuse(EAGAIN);
        });
        const auto stubborn = told(allow, [](const Asking&, Reply& reply) {
            return reply.value == -EAGAIN ? std::optional<Duration>{0ns} : std::nullopt;
        });
        CHECK((co_await with_policy(twice, with_policy(stubborn, nop()))) == 0);
        CHECK(refused == 2);
    });
}

TEST_CASE("each reply comes by the policies that let the trap through, an interrupt too") {
    on_kernel([]() -> Coro<void> {
        int under_way = 0;
        const auto counting = told(
            [&](Asking& asking) {
                under_way += std::holds_alternative<traps::Io>(asking.trap);
                return Verdict::allow();
            },
            [&](const Asking& asking, Reply&) {
                under_way -= std::holds_alternative<traps::Io>(asking.trap);
                return std::optional<Duration>{};
            });
        (void)co_await with_policy(no_io(EPERM), with_policy(counting, nop()));
        CHECK(under_way == 0);
        (void)co_await ignore_after(1s, with_policy(slow(1h), with_policy(counting, nop())));
        CHECK(under_way == 0);
        (void)co_await ignore_after(1s, with_policy(counting, traps::ReadWait{0}));
        CHECK(under_way == 0);
    });
}

TEST_CASE("a policy ends with its scope, however that ends") {
    on_kernel([]() -> Coro<void> {
        bool thrown = false;
        try {
            co_await with_policy(no_io(EPERM),
                                 []() -> Coro<void> { throw std::runtime_error("left"); });
        } catch (const std::runtime_error&) {
            thrown = true;
        }
        CHECK(thrown);
        CHECK((co_await nop()) == 0);
    });
}

TEST_CASE("without a policy with_policy throws, and nothing has changed") {
    on_kernel([]() -> Coro<void> {
        bool refused = false;
        try {
            (void)co_await with_policy(nullptr, nop());
        } catch (const std::invalid_argument&) {
            refused = true;
        }
        CHECK(refused);
        CHECK((co_await nop()) == 0);
    });
}

TEST_CASE("observers see the task's own trap and the reply that it gets") {
    struct Noting final : Observer {
        void trapped(const TaskRecord&, const Trap& trap) noexcept override {
            text += std::string(traps::name_of(trap)) + "?";
        }
        void replied(const TaskRecord& task, const Reply& reply) noexcept override {
            text += std::string(traps::name_of(task.frame.trap)) + "=" +
                    (reply.value < 1000 ? std::to_string(reply.value) : "time") + " ";
        }
        std::string text;
    };
    Noting noting;
    KernelOptions options = test::virtual_time();
    options.observer = &noting;
    Kernel kernel{options};
    kernel.run([]() -> Coro<void> {
        (void)co_await with_policy(slow(1h), nop());
        (void)co_await with_policy(no_io(EPERM), nop());
    });
    CHECK(noting.text == "Io?Io=0 Io?Io=-1 ");
}
