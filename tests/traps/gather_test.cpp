#include <trapline/traps/gather.hpp>

#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/traps/cancel.hpp>

#include "on_kernel.hpp"

using namespace trapline;
using namespace trapline::test;
using namespace std::chrono_literals;

namespace {

Coro<std::string> fetch_name() {
    const Counted frame;
    co_await sleep(1s);
    co_return "three";
}

Coro<int> fetch_size() {
    const Counted frame;
    co_await sleep(1s);
    co_return 5;
}

template <class T>
Coro<T> answer_after(Duration delay, T value) {
    const Counted frame;
    co_await sleep(delay);
    co_return value;
}

Coro<void> failing(Duration delay, std::string text) {
    const Counted frame;
    co_await sleep(delay);
    throw std::runtime_error(text);
}

} // namespace

TEST_CASE("gather.hpp: all of several, and the first") {
    on_kernel([]() -> Coro<void> {
        std::vector<Coro<int>> coros;
        for (int i = 3; i > 0; --i)
            coros.push_back(answer_after(i * 1s, i));
        const TimePoint start = co_await now();

        std::tuple<std::string, int> both = co_await gather(fetch_name(), fetch_size());
        std::vector<int> all = co_await gather(std::move(coros));
        std::variant<int, TimePoint> first = co_await race(fetch_size(), sleep(2s));

        const TimePoint end = co_await now();
        CHECK(both == std::tuple{"three", 5});
        CHECK(all == std::vector<int>{3, 2, 1});
        CHECK(first.index() == 0);
        CHECK(std::get<0>(first) == 5);
        CHECK(end - start == 1s + 3s + 1s);
    });
}

TEST_CASE("gather takes void, references, what can only be moved, callables and awaitables") {
    on_kernel([]() -> Coro<void> {
        int value = 1;
        const auto reference = [](int& v) -> Coro<int&> {
            co_await yield_now();
            co_return v;
        };
        const auto pointer = []() -> Coro<std::unique_ptr<int>> {
            co_await yield_now();
            co_return std::make_unique<int>(2);
        };
        const std::string word = "kept";
        const auto callable = [word]() -> Coro<std::string> {
            co_await sleep(1s);
            co_return word;
        };
        auto results = co_await gather(yield_now(), reference(value), pointer(), callable);
        static_assert(std::is_same_v<decltype(results),
                                     std::tuple<std::monostate, std::reference_wrapper<int>,
                                                std::unique_ptr<int>, std::string>>);
        CHECK(&std::get<1>(results).get() == &value);
        CHECK(*std::get<2>(results) == 2);
        CHECK(std::get<3>(results) == "kept");
    });
}

TEST_CASE("gather of nothing") {
    on_kernel([]() -> Coro<void> {
        const std::tuple<> nothing = co_await gather();
        const std::vector<int> none = co_await gather(std::vector<Coro<int>>{});
        CHECK(nothing == std::tuple{});
        CHECK(none.empty());
    });
}

TEST_CASE("gather of a vector of void and of bool") {
    on_kernel([]() -> Coro<void> {
        std::vector<Coro<void>> nothings;
        std::vector<Coro<bool>> flags;
        for (int i = 0; i < 3; ++i) {
            nothings.push_back([]() -> Coro<void> { co_await yield_now(); }());
            flags.push_back(answer_after(1s, i != 1));
        }
        const std::vector<std::monostate> ended = co_await gather(std::move(nothings));
        const std::vector<bool> answers = co_await gather(std::move(flags));
        CHECK(ended.size() == 3);
        CHECK(answers == std::vector<bool>{true, false, true});
    });
}

TEST_CASE("the first failure ends gather, and cancels the others") {
    on_kernel([]() -> Coro<void> {
        const TimePoint start = co_await now();
        std::size_t errors = 0;
        try {
            co_await gather(failing(1s, "one"), sleep_forever(), failing(1s, "two"));
        } catch (const TaskGroupError& error) {
            errors = error.errors().size();
        }
        const TimePoint end = co_await now();
        CHECK(errors == 2);
        CHECK(end - start == 1s);
    });
}

TEST_CASE("the first failure ends a race") {
    on_kernel([]() -> Coro<void> {
        std::string text;
        try {
            co_await race(sleep(2s), failing(1s, "stumbled"));
        } catch (const TaskGroupError& error) {
            text = message_of(error.errors().front());
        }
        CHECK(text == "stumbled");
    });
}

TEST_CASE("of those that end at the same time, the one that was given first wins") {
    on_kernel([]() -> Coro<void> {
        const std::variant<int, int, int> first =
            co_await race(answer_after(2s, 1), answer_after(1s, 2), answer_after(1s, 3));
        CHECK(first.index() == 1);
        CHECK(std::get<1>(first) == 2);
    });
}

TEST_CASE("a race moves its winner's result out") {
    on_kernel([]() -> Coro<void> {
        const auto pointer = [](Duration delay) -> Coro<std::unique_ptr<int>> {
            co_await sleep(delay);
            co_return std::make_unique<int>(4);
        };
        const auto first = co_await race(pointer(2s), pointer(1s));
        CHECK(first.index() == 1);
        CHECK(*std::get<1>(first) == 4);
    });
}

TEST_CASE("gather and race nest, and a limit takes all of it down") {
    on_kernel([]() -> Coro<void> {
        const bool in_time =
            (co_await ignore_after(1s, gather(race(sleep_forever(), sleep_forever()), sleep(5s))))
                .has_value();
        CHECK_FALSE(in_time);
        CHECK(Counted::alive() == 0);
    });
}

TEST_CASE("a race that the shutdown ends while its caller holds interrupts back throws TaskError") {
    const LeakGuard guard;
    std::string text;
    {
        Kernel kernel{test::virtual_time()};
        kernel.run([&]() -> Coro<void> {
            co_await spawn(disable_cancellation([&]() -> Coro<void> {
                try {
                    co_await race(sleep_forever(), sleep_forever());
                } catch (const TaskError& error) {
                    text = message_of(error.cause());
                }
            }));
            co_await sleep(1s);
        });
        kernel.shutdown();
    }
    CHECK(text == "task cancelled");
}

TEST_CASE("a loser of a race: its result is dropped, its failure is thrown") {
    on_kernel([]() -> Coro<void> {
        const auto ends_anyway = [](bool fails) -> Coro<int> {
            try {
                co_await sleep_forever();
            } catch (const TaskCancelled&) {}
            if (fails)
                throw std::runtime_error("fell over the line");
            co_return 2;
        };
        const std::variant<int, int> first = co_await race(answer_after(1s, 1), ends_anyway(false));
        CHECK(first.index() == 0);
        std::string text;
        try {
            co_await race(answer_after(1s, 1), ends_anyway(true));
        } catch (const TaskGroupError& error) {
            CHECK(error.errors().size() == 1);
            text = message_of(error.errors().front());
        }
        CHECK(text == "fell over the line");
    });
}

TEST_CASE("who gathers is cancelled when all of them have cleaned up") {
    on_kernel([]() -> Coro<void> {
        int cleaned_up = 0;
        const auto careful = [&]() -> Coro<void> {
            const Counted frame;
            detail::Outcome<void> outcome;
            co_await detail::Attempt{sleep_forever(), outcome};
            co_await disable_cancellation(sleep(1s));
            ++cleaned_up;
            outcome.take();
        };
        for (const bool racing : {false, true}) {
            cleaned_up = 0;
            int seen = -1;
            const Task<> task = co_await spawn([&]() -> Coro<void> {
                try {
                    if (racing)
                        co_await race(careful, careful);
                    else
                        co_await gather(careful, careful);
                } catch (const TaskCancelled&) {
                    seen = cleaned_up;
                    throw;
                }
            });
            co_await settle();
            const bool cancelled = co_await task.cancel();
            CHECK(cancelled);
            CHECK(seen == 2);
            CHECK(Counted::alive() == 0);
        }
    });
}
