#include <trapline/traps/group.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/traps/calls.hpp>
#include <trapline/traps/cancel.hpp>

#include "../support/process.hpp"
#include "on_kernel.hpp"

using namespace trapline;
using namespace trapline::test;
using namespace std::chrono_literals;

namespace {

Coro<int> square(int x) { co_return x* x; }

/// Answers `value` after so long.
template <class T>
Coro<T> answer_after(Duration delay, T value) {
    const Counted frame;
    co_await sleep(delay);
    co_return value;
}

Coro<void> pause(Duration delay) {
    const Counted frame;
    co_await sleep(delay);
}

Coro<void> failing(Duration delay, std::string text) {
    const Counted frame;
    co_await sleep(delay);
    throw std::runtime_error(text);
}

/// Needs `cleanup` to end when it is cancelled, and notes that in `log`.
Coro<void> careful(std::string name, Duration cleanup, std::vector<std::string>& log) {
    const Counted frame;
    detail::Outcome<void> outcome;
    co_await detail::Attempt{sleep_forever(), outcome};
    co_await disable_cancellation(sleep(cleanup));
    log.push_back(name);
    outcome.take();
}

std::string texts_of(const TaskGroupError& error) {
    std::string texts;
    for (const std::exception_ptr& each : error.errors())
        texts += (texts.empty() ? "" : ", ") + message_of(each);
    return texts;
}

/// What TaskGroupError `what` ends with; "none" if it ends without.
template <detail::Body W>
Coro<std::string> errors_of(W what) {
    try {
        co_await detail::begin(what);
    } catch (const TaskGroupError& error) {
        co_return texts_of(error);
    }
    co_return "none";
}

} // namespace

// group.hpp's own example
TEST_CASE("group.hpp: results in the order of spawning") {
    on_kernel([]() -> Coro<void> {
        int sum = co_await task_group([](TaskGroup& group) -> Coro<int> {
            for (int i = 1; i <= 3; ++i)
                co_await group.spawn(square, i);
            int total = 0;
            for (int result : co_await group.results<int>())
                total += result;
            co_return total;
        });
        CHECK(sum == 14);
    });
}

// --- all -----------------------------------------------------------------------------------

TEST_CASE("a group without children ends with its body") {
    on_kernel([]() -> Coro<void> {
        const int value = co_await task_group([](TaskGroup& group) -> Coro<int> {
            CHECK(group.empty());
            co_await group.join();
            co_return 3;
        });
        CHECK(value == 3);
    });
}

TEST_CASE("on leaving, every child has ended") {
    on_kernel([]() -> Coro<void> {
        const TimePoint start = co_await now();
        std::vector<Task<>> children;
        co_await task_group([&](TaskGroup& group) -> Coro<void> {
            for (int i = 1; i <= 5; ++i)
                children.push_back(co_await group.spawn(pause(i * 1s)));
            CHECK(group.size() == 5);
            CHECK(group.running() == 5);
        });
        const TimePoint end = co_await now();
        CHECK(end - start == 5s);
        CHECK(std::ranges::all_of(children, &Task<>::terminated));
        CHECK(std::ranges::none_of(children, &Task<>::cancelled));
    });
}

TEST_CASE("results come in the order of spawning, whatever the order of ending") {
    on_kernel([]() -> Coro<void> {
        const auto results = co_await task_group([](TaskGroup& group) -> Coro<std::vector<int>> {
            for (const int i : {3, 1, 4, 2})
                co_await group.spawn(answer_after(i * 1s, i));
            auto all = co_await group.results<int>();
            CHECK(group.empty());
            co_return all;
        });
        CHECK(results == std::vector<int>{3, 1, 4, 2});
    });
}

TEST_CASE("results that cannot be copied are moved out") {
    on_kernel([]() -> Coro<void> {
        const auto boxed = [](int value) -> Coro<std::unique_ptr<int>> {
            co_return std::make_unique<int>(value);
        };
        const int sum = co_await task_group([&](TaskGroup& group) -> Coro<int> {
            for (int i = 0; i < 3; ++i)
                co_await group.spawn(boxed(i));
            const std::unique_ptr<int> first = co_await group.next_result<std::unique_ptr<int>>();
            int total = *first;
            for (const auto& each : co_await group.results<std::unique_ptr<int>>())
                total += *each;
            co_return total;
        });
        CHECK(sum == 3);
    });
}

TEST_CASE("a handle of a child keeps its result beyond the group") {
    on_kernel([]() -> Coro<void> {
        Task<std::string> child;
        co_await task_group([&](TaskGroup& group) -> Coro<void> {
            child = co_await group.spawn(answer_after(1s, std::string("kept")), {.name = "keeper"});
        });
        CHECK(child.name() == "keeper");
        const std::string result = co_await child.join();
        CHECK(result == "kept");
    });
}

TEST_CASE("spawn keeps a callable and its arguments alive") {
    on_kernel([]() -> Coro<void> {
        std::string heard;
        co_await task_group([&](TaskGroup& group) -> Coro<void> {
            const std::string word = "captured";
            co_await group.spawn(
                [word](std::string& to, std::string more) -> Coro<void> {
                    co_await sleep(1s);
                    to = word + more;
                },
                std::ref(heard), " and passed");
            co_await group.spawn([word]() -> Coro<void> { co_await sleep(1s); }, {.name = word});
        });
        CHECK(heard == "captured and passed");
    });
}

TEST_CASE("groups nest, and a child may spawn its own siblings") {
    on_kernel([]() -> Coro<void> {
        int ended = 0;
        const auto leaf = [](int& count) -> Coro<void> {
            co_await sleep(1s);
            ++count;
        };
        const auto branch = [&leaf](int& count, TaskGroup& outer) -> Coro<void> {
            co_await task_group([&](TaskGroup& inner) -> Coro<void> {
                for (int i = 0; i < 3; ++i)
                    co_await inner.spawn(leaf(count));
            });
            co_await outer.spawn(leaf(count));
        };
        co_await task_group([&](TaskGroup& group) -> Coro<void> {
            for (int i = 0; i < 3; ++i)
                co_await group.spawn(branch(ended, group));
        });
        CHECK(ended == 12);
    });
}

// --- failures ------------------------------------------------------------------------------

TEST_CASE("the first failure cancels the rest and is thrown") {
    on_kernel([]() -> Coro<void> {
        const TimePoint start = co_await now();
        Task<> sleeper;
        std::string text;
        try {
            co_await task_group([&](TaskGroup& group) -> Coro<void> {
                sleeper = co_await group.spawn(sleep_forever());
                co_await group.spawn(failing(1s, "boom"), {.name = "bomb"});
            });
        } catch (const TaskGroupError& error) {
            text = error.what();
            CHECK(texts_of(error) == "boom");
        }
        CHECK(text == "1 failure in a task group: task 'bomb' ended by an exception: boom");
        CHECK(sleeper.cancelled());
        const TimePoint end = co_await now();
        CHECK(end - start == 1s);
    });
}

TEST_CASE("every failure is in TaskGroupError, also those of the cleanup") {
    on_kernel([]() -> Coro<void> {
        const auto fails_when_cancelled = [](std::string text) -> Coro<void> {
            try {
                co_await sleep_forever();
            } catch (const Cancelled&) {
                throw std::runtime_error(text);
            }
        };
        const std::string texts = co_await errors_of(task_group([&](TaskGroup& g) -> Coro<void> {
            co_await g.spawn(failing(1s, "first"));
            co_await g.spawn(failing(1s, "at the same time"));
            co_await g.spawn(fails_when_cancelled("in its cleanup"));
            co_await g.spawn(sleep_forever());
        }));
        CHECK(texts == "first, at the same time, in its cleanup");
    });
}

TEST_CASE("the body's own exception comes out as it is, and cancels the children") {
    on_kernel([]() -> Coro<void> {
        Task<> child;
        std::string text;
        try {
            co_await task_group([&](TaskGroup& group) -> Coro<void> {
                child = co_await group.spawn(sleep_forever());
                co_await sleep(1s);
                throw std::runtime_error("of the body");
            });
        } catch (const std::runtime_error& error) {
            text = error.what();
        }
        CHECK(text == "of the body");
        CHECK(child.cancelled());
    });
}

TEST_CASE("the body's exception and its children's come together") {
    on_kernel([]() -> Coro<void> {
        const std::string texts = co_await errors_of(task_group([&](TaskGroup& g) -> Coro<void> {
            co_await g.spawn(failing(1s, "of a child"));
            co_await sleep(2s);
            CHECK(g.failed());
            throw std::runtime_error("of the body");
        }));
        CHECK(texts == "of the body, of a child");
    });
}

TEST_CASE(
    "a child's time limit that nobody caught is a failure, a cancellation from outside none") {
    on_kernel([]() -> Coro<void> {
        const std::string timed_out = co_await errors_of(task_group([](TaskGroup& g) -> Coro<void> {
            co_await g.spawn([]() -> Coro<void> { co_await timeout_after(1s, sleep_forever()); });
        }));
        CHECK(timed_out == "time limit exceeded");
        bool slept = false;
        const std::string cancelled =
            co_await errors_of(task_group([&](TaskGroup& g) -> Coro<void> {
                const Task<> victim = co_await g.spawn(sleep_forever());
                co_await g.spawn(
                    [](bool& flag) -> Coro<void> {
                        co_await sleep(3s);
                        flag = true;
                    },
                    std::ref(slept));
                co_await victim.cancel();
            }));
        CHECK(cancelled == "none");
        CHECK(slept);
    });
}

TEST_CASE("a group in a group passes its failure on") {
    on_kernel([]() -> Coro<void> {
        Task<> cousin;
        std::string text;
        try {
            co_await task_group([&](TaskGroup& outer) -> Coro<void> {
                cousin = co_await outer.spawn(sleep_forever());
                co_await outer.spawn(
                    []() -> Coro<void> {
                        co_await task_group([](TaskGroup& inner) -> Coro<void> {
                            co_await inner.spawn(failing(1s, "deep down"), {.name = "leaf"});
                            co_await inner.spawn(sleep_forever());
                        });
                    },
                    {.name = "branch"});
            });
        } catch (const TaskGroupError& error) {
            text = error.what();
        }
        CHECK(text == "1 failure in a task group: task 'branch' ended by an exception: "
                      "1 failure in a task group: task 'leaf' ended by an exception: deep down");
        CHECK(cousin.cancelled());
    });
}

// --- any, object, none ---------------------------------------------------------------------

TEST_CASE("WaitFor::any takes the first result, and cancels the rest") {
    on_kernel([]() -> Coro<void> {
        const TimePoint start = co_await now();
        Task<int> slow;
        const int fastest = co_await task_group(WaitFor::any, [&](TaskGroup& g) -> Coro<int> {
            slow = co_await g.spawn(answer_after(5s, 5));
            co_await g.spawn(answer_after(2s, 2));
            co_await g.spawn(answer_after(3s, 3));
            co_return co_await g.result<int>();
        });
        CHECK(fastest == 2);
        CHECK(slow.cancelled());
        const TimePoint end = co_await now();
        CHECK(end - start == 2s);
    });
}

TEST_CASE("WaitFor::any: a child that was cancelled is no result, one of void is") {
    on_kernel([]() -> Coro<void> {
        Task<> second;
        co_await task_group(WaitFor::any, [&](TaskGroup& g) -> Coro<void> {
            const Task<> first = co_await g.spawn(sleep_forever());
            second = co_await g.spawn(pause(2s));
            co_await g.spawn(pause(3s));
            co_await first.cancel();
            co_await g.join();
            CHECK(g.completed() == second);
            co_await g.result<void>();
            CHECK_FALSE(g.completed());
        });
        CHECK_FALSE(second.cancelled());
    });
}

TEST_CASE("WaitFor::any: if the first that ends fails, the group fails") {
    on_kernel([]() -> Coro<void> {
        const std::string texts =
            co_await errors_of(task_group(WaitFor::any, [](TaskGroup& g) -> Coro<void> {
                co_await g.spawn(failing(1s, "too early"));
                co_await g.spawn(pause(2s));
            }));
        CHECK(texts == "too early");
    });
}

TEST_CASE("WaitFor::object waits for a result that is something") {
    on_kernel([]() -> Coro<void> {
        using Found = std::optional<int>;
        const auto search = [](TaskGroup& group) -> Coro<Found> {
            co_await group.spawn(pause(1s)); // void is nothing
            co_await group.spawn(answer_after(2s, Found{}));
            co_await group.spawn(answer_after(3s, Found{7}));
            co_await group.spawn(answer_after(4s, Found{8}));
            co_return co_await group.result<Found>();
        };
        const Found found = co_await task_group(WaitFor::object, search);
        CHECK(found == 7);
        const auto in_vain = [](TaskGroup& group) -> Coro<Found> {
            co_await group.spawn(answer_after(2s, Found{}));
            co_await group.spawn(answer_after(3s, Found{}));
            co_return co_await group.result<Found>();
        };
        const Found nothing = co_await task_group(WaitFor::object, in_vain);
        CHECK(nothing == std::nullopt);
    });
}

TEST_CASE("what is something: numbers, also 0, but no empty pointer") {
    on_kernel([]() -> Coro<void> {
        const auto first_of = [](auto nothing, auto something) -> Coro<bool> {
            Task<> found;
            Task<> expected;
            co_await task_group(WaitFor::object, [&](TaskGroup& group) -> Coro<void> {
                co_await group.spawn(answer_after(1s, nothing));
                expected = co_await group.spawn(answer_after(2s, something));
                co_await group.join();
                found = group.completed();
            });
            co_return found == expected;
        };
        const bool zero = co_await first_of(static_cast<int*>(nullptr), 0);
        const bool no = co_await first_of(std::shared_ptr<int>{}, false);
        const bool text = co_await first_of(std::optional<int>{}, std::string{});
        CHECK(zero);
        CHECK(no);
        CHECK(text);
    });
}

TEST_CASE("WaitFor::none cancels all when the body has ended") {
    on_kernel([]() -> Coro<void> {
        std::vector<std::string> log;
        const TimePoint start = co_await now();
        co_await task_group(WaitFor::none, [&](TaskGroup& group) -> Coro<void> {
            co_await group.spawn(careful("old", 1s, log));
            co_await group.spawn(careful("new", 1s, log));
            co_await sleep(3s);
        });
        CHECK(log == std::vector<std::string>{"new", "old"}); // newest first
        const TimePoint end = co_await now();
        CHECK(end - start == 4s);
    });
}

// --- next_done, next_result ----------------------------------------------------------------

TEST_CASE("next_done gives each child once, in the order in which they end") {
    on_kernel([]() -> Coro<void> {
        std::vector<std::string> order;
        co_await task_group([&](TaskGroup& group) -> Coro<void> {
            co_await group.spawn(pause(3s), {.name = "slow"});
            co_await group.spawn(pause(1s), {.name = "fast"});
            co_await group.spawn(pause(2s), {.name = "middling"});
            while (const Task<> done = co_await group.next_done())
                order.push_back(done.name());
            CHECK(group.empty());
        });
        CHECK(order == std::vector<std::string>{"fast", "middling", "slow"});
    });
}

TEST_CASE("a failure that next_done gave is the caller's") {
    on_kernel([]() -> Coro<void> {
        int ended = 0;
        std::string cause;
        co_await task_group([&](TaskGroup& group) -> Coro<void> {
            co_await group.spawn(failing(1s, "taken"));
            co_await group.spawn(pause(2s));
            while (const Task<> done = co_await group.next_done()) {
                ++ended;
                try {
                    co_await done.join();
                } catch (const TaskError& error) {
                    cause = message_of(error.cause());
                }
            }
        });
        CHECK(ended == 2);
        CHECK(cause == "taken");
    });
}

TEST_CASE("next_result answers results, and throws TaskError for a failure") {
    on_kernel([]() -> Coro<void> {
        int sum = 0;
        std::string text;
        co_await task_group([&](TaskGroup& group) -> Coro<void> {
            co_await group.spawn(answer_after(2s, 2));
            co_await group.spawn(answer_after(1s, 1));
            co_await group.spawn(failing(3s, "caught"), {.name = "third"});
            while (!group.empty()) {
                try {
                    if (group.size() > 1)
                        sum = 10 * sum + co_await group.next_result<int>();
                    else
                        co_await group.next_result<void>();
                } catch (const TaskError& error) {
                    text = error.what();
                }
            }
        });
        CHECK(sum == 12);
        CHECK(text == "task 'third' ended by an exception: caught");
    });
}

TEST_CASE("what next_result throws leaves the group as TaskGroupError") {
    on_kernel([]() -> Coro<void> {
        const std::string texts = co_await errors_of(task_group([](TaskGroup& g) -> Coro<void> {
            co_await g.spawn(failing(1s, "let out"));
            co_await g.spawn(failing(1s, "not taken"));
            co_await g.spawn(sleep_forever());
            co_await g.next_result<void>();
        }));
        CHECK(texts == "let out, not taken");
    });
}

TEST_CASE("a failure that leaves the body through a join is one failure") {
    on_kernel([]() -> Coro<void> {
        const std::string texts = co_await errors_of(task_group([](TaskGroup& g) -> Coro<void> {
            const Task<> child = co_await g.spawn(failing(1s, "joined"));
            co_await g.spawn(sleep_forever());
            co_await child.join();
        }));
        CHECK(texts == "joined");
    });
}

TEST_CASE("an interrupted next_done takes nothing") {
    on_kernel([]() -> Coro<void> {
        co_await task_group([](TaskGroup& group) -> Coro<void> {
            co_await group.spawn(answer_after(2s, 5));
            const auto early = co_await ignore_after(1s, group.next_done());
            CHECK_FALSE(early.has_value());
            const auto late = co_await ignore_after(2s, group.next_result<int>());
            CHECK(late == 5);
        });
    });
}

TEST_CASE("asking a group for what it has not is a logic_error") {
    on_kernel([]() -> Coro<void> {
        const auto refused = [](auto ask) -> Coro<std::string> {
            std::string text = "nothing thrown";
            co_await task_group([&](TaskGroup& group) -> Coro<void> {
                try {
                    co_await ask(group);
                } catch (const std::logic_error& error) {
                    text = error.what();
                }
            });
            co_return text;
        };
        const std::string none =
            co_await refused([](TaskGroup& group) { return group.next_result<int>(); });
        CHECK(none == "next_result of a task group that has no child with a result");
        const std::string no_winner =
            co_await refused([](TaskGroup& group) { return group.result<int>(); });
        CHECK(no_winner == "result of a task group that has no child with a result");
        const std::string other = co_await refused([](TaskGroup& group) -> Coro<void> {
            co_await group.spawn(answer_after(1s, 1), {.name = "number"});
            co_await group.results<std::string>();
        });
        CHECK(other == "the result of task 'number' is of another type than what is asked of its "
                       "group");
        const std::string foreign = co_await refused([](TaskGroup& group) -> Coro<void> {
            const auto asks = [](TaskGroup& of) -> Coro<void> { co_await of.join(); };
            co_await group.spawn(asks(group));
            const Task<> done = co_await group.next_done();
            try {
                co_await done.join();
            } catch (const TaskError& error) {
                error.rethrow_cause();
            }
        });
        CHECK(foreign == "a task group is waited for by a task that did not open it");
    });
}

// --- join and cancel_remaining -------------------------------------------------------------

TEST_CASE("join throws what failed, once") {
    on_kernel([]() -> Coro<void> {
        std::string texts;
        co_await task_group([&](TaskGroup& group) -> Coro<void> {
            co_await group.spawn(failing(1s, "told"));
            co_await group.spawn(sleep_forever());
            texts = co_await errors_of(group.join());
            CHECK(group.empty());
            co_await group.join();
            const Task<int> more = co_await group.spawn(answer_after(1s, 1));
            co_await group.join();
            CHECK(more.terminated());
        });
        CHECK(texts == "told");
    });
}

TEST_CASE("cancel_remaining ends those that run, and the group goes on") {
    on_kernel([]() -> Coro<void> {
        std::vector<std::string> log;
        const int result = co_await task_group([&](TaskGroup& group) -> Coro<int> {
            co_await group.spawn(answer_after(1s, 4));
            const Task<> other = co_await group.spawn(careful("other", 1s, log));
            co_await sleep(2s);
            co_await group.cancel_remaining();
            CHECK(other.cancelled());
            CHECK(group.size() == 1);
            co_await group.spawn(answer_after(1s, 6));
            int sum = 0;
            for (const int each : co_await group.results<int>())
                sum += each;
            co_return sum;
        });
        CHECK(result == 10);
        CHECK(log == std::vector<std::string>{"other"});
    });
}

TEST_CASE("a child that comes while the group is cancelled is cancelled too") {
    on_kernel([]() -> Coro<void> {
        Task<> late;
        const auto calls_for_help = [](TaskGroup& group, Task<>& help) -> Coro<void> {
            detail::Outcome<void> outcome;
            co_await detail::Attempt{sleep_forever(), outcome};
            help = co_await group.spawn(sleep_forever());
            co_await disable_cancellation(sleep(1s));
            outcome.take();
        };
        co_await task_group(WaitFor::none, [&](TaskGroup& group) -> Coro<void> {
            co_await group.spawn(calls_for_help(group, late));
            co_await sleep(1s);
        });
        CHECK(late.cancelled());
    });
}

TEST_CASE("a daemon child is not waited for, and is forgotten when it ends") {
    on_kernel([]() -> Coro<void> {
        Task<> forever;
        co_await task_group([&](TaskGroup& group) -> Coro<void> {
            forever = co_await group.spawn(sleep_forever(), {.daemon = true});
            co_await group.spawn(pause(1s), {.daemon = true});
            co_await group.spawn(pause(2s));
            CHECK(group.size() == 1);
            CHECK(group.running() == 3);
            const Task<> done = co_await group.next_done();
            CHECK(done);
            const Task<> none = co_await group.next_done();
            CHECK_FALSE(none);
            CHECK(group.running() == 1);
        });
        CHECK(forever.cancelled());
    });
}

TEST_CASE("who is interrupted in cancel_remaining has cancelled them none the less") {
    on_kernel([]() -> Coro<void> {
        std::vector<std::string> log;
        bool in_time = true;
        co_await task_group([&](TaskGroup& group) -> Coro<void> {
            co_await group.spawn(careful("slow", 5s, log));
            co_await settle();
            in_time = co_await ignore_after(1s, group.cancel_remaining());
            CHECK(group.running() == 1);
            CHECK(log.empty());
        });
        CHECK_FALSE(in_time);
        CHECK(log == std::vector<std::string>{"slow"});
    });
}

TEST_CASE("results of a group of which a child was cancelled throw TaskError") {
    on_kernel([]() -> Coro<void> {
        std::string text;
        co_await task_group([&](TaskGroup& group) -> Coro<void> {
            const Task<int> gone = co_await group.spawn(answer_after(2s, 1));
            co_await group.spawn(answer_after(1s, 2));
            co_await settle();
            co_await gone.cancel();
            try {
                co_await group.results<int>();
            } catch (const TaskError& error) {
                text = message_of(error.cause());
            }
            CHECK(group.size() == 2); // none was taken
        });
        CHECK(text == "task cancelled");
    });
}

TEST_CASE("a child whose own time limit ends it has failed") {
    on_kernel([]() -> Coro<void> {
        std::size_t errors = 0;
        try {
            co_await task_group([](TaskGroup& group) -> Coro<void> {
                co_await group.spawn([] { return timeout_after(1s, sleep_forever()); });
                co_await group.spawn(sleep_forever());
            });
        } catch (const TaskGroupError& error) {
            errors = error.errors().size();
            CHECK(is_interrupt(error.errors().front()));
        }
        CHECK(errors == 1);
    });
}

TEST_CASE("a daemon child's crash is logged, and fails nobody") {
    const CapturedStderr log;
    on_kernel([]() -> Coro<void> {
        co_await task_group([](TaskGroup& group) -> Coro<void> {
            co_await group.spawn(failing(1s, "unseen"), {.name = "helper", .daemon = true});
            co_await group.spawn(pause(2s));
        });
    });
    CHECK(log.text().starts_with("trapline: task 'helper' crashed and nobody can join it: unseen"));
}

// --- interrupts ----------------------------------------------------------------------------

TEST_CASE("a cancelled parent takes its group down and waits for it") {
    on_kernel([]() -> Coro<void> {
        std::vector<std::string> log;
        const auto parent = [](std::vector<std::string>& to) -> Coro<void> {
            co_await task_group([&](TaskGroup& group) -> Coro<void> {
                co_await group.spawn(careful("a", 2s, to));
                co_await group.spawn(
                    [](std::vector<std::string>& deeper) -> Coro<void> {
                        co_await task_group([&](TaskGroup& inner) -> Coro<void> {
                            co_await inner.spawn(careful("b", 1s, deeper));
                        });
                    },
                    std::ref(to));
            });
        };
        const Task<> task = co_await spawn(parent(log));
        co_await sleep(1s);
        const TimePoint start = co_await now();
        const bool reached = co_await task.cancel();
        const TimePoint end = co_await now();
        CHECK(reached);
        CHECK(task.cancelled());
        CHECK(end - start == 2s);
        CHECK(log == std::vector<std::string>{"b", "a"});
    });
}

TEST_CASE("a time limit around a group reports itself when the group is down") {
    on_kernel([]() -> Coro<void> {
        std::vector<std::string> log;
        const TimePoint start = co_await now();
        std::string seen;
        try {
            co_await timeout_after(1s, task_group([&](TaskGroup& group) -> Coro<void> {
                                       co_await group.spawn(careful("slow", 2s, log));
                                   }));
        } catch (const TaskTimeout& timeout) {
            seen = timeout.deadline() == start + 1s ? "own" : "other";
        }
        const TimePoint end = co_await now();
        CHECK(seen == "own");
        CHECK(end - start == 3s);
        CHECK(log == std::vector<std::string>{"slow"});
    });
}

TEST_CASE("a limit inside of a group inside of a limit") {
    on_kernel([]() -> Coro<void> {
        for (const Duration inner : {1s, 2s, 3s}) {
            for (const Duration outer : {1s, 2s, 3s}) {
                CAPTURE(inner.count());
                CAPTURE(outer.count());
                std::optional<bool> inner_in_time;
                const bool outer_in_time =
                    co_await ignore_after(outer, task_group([&](TaskGroup& g) -> Coro<void> {
                                              co_await g.spawn(sleep_forever());
                                              inner_in_time =
                                                  co_await ignore_after(inner, g.join());
                                              co_await g.cancel_remaining();
                                          }));
                CHECK(outer_in_time == (inner < outer));
                CHECK(inner_in_time.has_value() == (inner < outer));
            }
        }
    });
}

TEST_CASE("a second interrupt does not tear the waiting for the children") {
    on_kernel([]() -> Coro<void> {
        std::vector<std::string> log;
        const auto body = [&](TaskGroup& group) -> Coro<void> {
            co_await group.spawn(careful("careful", 5s, log));
        };
        bool inner_in_time = true;
        const TimePoint start = co_await now();
        // The outer limit runs out while the group goes down because of the inner one.
        const bool outer_in_time = co_await ignore_after(2s, [&]() -> Coro<void> {
            inner_in_time = co_await ignore_after(1s, task_group(body));
            co_await sleep_forever();
        });
        const TimePoint end = co_await now();
        CHECK_FALSE(inner_in_time);
        CHECK_FALSE(outer_in_time);
        CHECK(end - start == 6s);
        CHECK(log == std::vector<std::string>{"careful"});
    });
}

TEST_CASE("an interrupt wins over failures, which are logged") {
    on_kernel([]() -> Coro<void> {
        const auto stubborn = []() -> Coro<void> {
            try {
                co_await sleep_forever();
            } catch (const Cancelled&) {
                throw std::runtime_error("pushed aside, expected in this test's log");
            }
        };
        const bool in_time = co_await ignore_after(
            1s, task_group([&](TaskGroup& g) -> Coro<void> { co_await g.spawn(stubborn()); }));
        CHECK_FALSE(in_time);
    });
}

TEST_CASE("a child's end and the parent's cancellation in one turn: both orders") {
    for (const bool cancel_first : {false, true}) {
        CAPTURE(cancel_first);
        on_kernel([&]() -> Coro<void> {
            WaitQueue gate;
            const auto waits = [](WaitQueue& queue) -> Coro<int> {
                co_await traps::Park{&queue};
                co_return 1;
            };
            int taken = 0;
            int left = -1;
            const Task<> parent = co_await spawn([&]() -> Coro<void> {
                co_await task_group([&](TaskGroup& group) -> Coro<void> {
                    co_await group.spawn(waits(gate));
                    detail::Outcome<int> outcome;
                    co_await detail::Attempt{group.next_result<int>(), outcome};
                    taken += outcome.has_value();
                    left = static_cast<int>(group.size());
                    outcome.take();
                });
            });
            co_await sleep(1s);
            gate.wake();
            if (!cancel_first)
                co_await yield_now(); // the child ends, and wakes its parent
            (void)co_await traps::Cancel{parent.record()};
            co_await parent.wait();
            CHECK(taken + left == 1);
            CHECK(taken == (cancel_first ? 0 : 1));
        });
    }
}

TEST_CASE("shutdown takes groups down") {
    const LeakGuard guard;
    std::vector<std::string> log;
    {
        Kernel kernel{test::virtual_time()};
        kernel.run([&]() -> Coro<void> {
            co_await spawn([&]() -> Coro<void> {
                co_await task_group([&](TaskGroup& group) -> Coro<void> {
                    co_await group.spawn(careful("child", 1s, log));
                });
            });
            co_await sleep(1s);
        });
        kernel.shutdown();
        CHECK(kernel.task_count() == 0);
    }
    CHECK(log == std::vector<std::string>{"child"});
}

TEST_CASE("a parent that can never go on lets its children go") {
    const LeakGuard guard;
    std::vector<std::string> log;
    KernelOptions options = test::virtual_time();
    options.log = [&](std::string_view line) { log.emplace_back(line); };
    {
        WaitQueue never_woken;
        Kernel kernel{options};
        kernel.run([&]() -> Coro<void> {
            co_await spawn(disable_cancellation([&]() -> Coro<void> {
                co_await task_group([&](TaskGroup& group) -> Coro<void> {
                    co_await group.spawn(disable_cancellation(traps::Park{&never_woken}));
                });
            }));
            co_await sleep(1s);
        });
        kernel.shutdown();
        CHECK(kernel.task_count() == 0);
    }
    CHECK(log.size() == 1); // the child is destroyed, and then its parent goes on
}

TEST_CASE("a thousand children, in any order of ending") {
    on_kernel([]() -> Coro<void> {
        const auto results = co_await task_group([](TaskGroup& group) -> Coro<std::vector<int>> {
            for (int i = 0; i < 1000; ++i)
                co_await group.spawn(answer_after((i * 7919 % 1000) * 1ms, i));
            co_return co_await group.results<int>();
        });
        CHECK(results.size() == 1000);
        CHECK(std::ranges::is_sorted(results));
    });
}
