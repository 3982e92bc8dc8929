#include <trapline/traps/task.hpp>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

#include <doctest/doctest.h>

#include "hand_loop.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

Coro<int> value_after_a_turn(int value) {
    co_await yield_now();
    co_return value;
}

Coro<void> failing_after_a_turn(std::string text) {
    co_await yield_now();
    throw std::runtime_error(text);
}

/// Runs `body`, a callable, as the main task of a loop of its own.
template <class F>
auto in_loop(F body) {
    HandLoop loop;
    return loop.run(body());
}

struct Counted {
    explicit Counted(int& count) : count_(&count) { ++*count_; }
    Counted(const Counted& other) : count_(other.count_) { ++*count_; }
    Counted& operator=(const Counted&) = delete;
    ~Counted() { --*count_; }

private:
    int* count_;
};

} // namespace

TEST_CASE("a task is spawned with a name, and joined for its result") {
    const auto body = []() -> Coro<std::string> {
        const auto work = value_after_a_turn;
        Task<int> t = co_await spawn(work(3), {.name = "worker"});
        int result = co_await t.join();
        co_return t.name() + " " + std::to_string(result);
    };
    CHECK(in_loop(body) == "worker 3");
}

TEST_CASE("a spawned task runs beside its parent, and join answers its result") {
    const auto body = []() -> Coro<std::string> {
        std::string states;
        Task<int> task = co_await spawn(value_after_a_turn(5));
        states += name_of(task.state());
        co_await yield_now();
        states += std::string(", ") + name_of(task.state());
        const int value = co_await task.join();
        states += std::string(", ") + name_of(task.state()) + " " + std::to_string(value);
        co_return states;
    };
    CHECK(in_loop(body) == "ready, ready, terminated 5");
}

TEST_CASE("states have names") {
    CHECK(std::string(name_of(TaskState::created)) == "created");
    CHECK(std::string(name_of(TaskState::ready)) == "ready");
    CHECK(std::string(name_of(TaskState::blocked)) == "blocked");
    CHECK(std::string(name_of(TaskState::terminated)) == "terminated");
}

TEST_CASE("an empty handle is false, and handles compare by their task") {
    const auto body = []() -> Coro<bool> {
        const Task<int> none;
        Task<int> task = co_await spawn(value_after_a_turn(1));
        const Task<int> other = co_await spawn(value_after_a_turn(1));
        const Task<int> same = task;
        const Task<> untyped = task;
        Task<int> moved = std::move(task);
        co_return !none && moved && !task && moved == same && moved != other && untyped == same;
    };
    CHECK(in_loop(body));
}

TEST_CASE("a task bears the name it was given, or one with its number") {
    const auto body = []() -> Coro<std::string> {
        std::string name = "worker";
        Task<int> named = co_await spawn(value_after_a_turn(1), {.name = name});
        name = "changed"; // it was copied
        Task<int> unnamed = co_await spawn(value_after_a_turn(1));
        co_return named.name() + " " + std::to_string(named.id()) + ", " + unnamed.name();
    };
    CHECK(in_loop(body) == "worker 2, task-3");
}

TEST_CASE("current_task is a handle to the asking task") {
    const auto asks = [](Task<>& self) -> Coro<void> { self = co_await current_task(); };
    const auto body = [&]() -> Coro<bool> {
        const Task<> self = co_await current_task();
        Task<> of_child;
        co_await (co_await spawn(asks(of_child), {.name = "child"})).join();
        const bool own = self.id() == 1 && self.name() == "main";
        const bool child = of_child.id() == 2 && of_child.name() == "child";
        co_return (own && child && of_child != self);
    };
    CHECK(in_loop(body));
}

TEST_CASE("any number of handles get a copy of the result") {
    const auto text = []() -> Coro<std::string> {
        co_return "a text too long to be stored inline";
    };
    const auto body = [&]() -> Coro<bool> {
        Task<std::string> task = co_await spawn(text());
        const Task<std::string> copy = task;
        const std::string first = co_await task.join();
        const std::string second = co_await copy.join();
        const std::string third = co_await task.join();
        co_return (first == second && second == third && first.starts_with("a text"));
    };
    CHECK(in_loop(body));
}

TEST_CASE("any number of tasks may join one") {
    const auto joiner = [](Task<int> task) -> Coro<int> { co_return co_await task.join(); };
    const auto body = [&]() -> Coro<int> {
        Task<int> task = co_await spawn(value_after_a_turn(7));
        Task<int> a = co_await spawn(joiner(task));
        Task<int> b = co_await spawn(joiner(task));
        const int first = co_await a.join();
        const int second = co_await b.join();
        co_return first + second;
    };
    CHECK(in_loop(body) == 14);
}

TEST_CASE("join on a temporary handle moves the result out") {
    struct Copies {
        explicit Copies(int& c) : copies(&c) {}
        Copies(const Copies& other) : copies(other.copies) { ++*copies; }
        Copies(Copies&&) noexcept = default;
        int* copies;
    };
    int copies = 0;
    const auto result = [](int& c) -> Coro<Copies> { co_return Copies{c}; };
    const auto body = [&]() -> Coro<void> {
        Task<Copies> task = co_await spawn(result(copies));
        co_await std::move(task).join();
    };
    in_loop(body);
    CHECK(copies == 0);
}

TEST_CASE("a result that cannot be copied is moved out") {
    const auto pointer = []() -> Coro<std::unique_ptr<int>> { co_return std::make_unique<int>(3); };
    const auto body = [&]() -> Coro<int> {
        Task<std::unique_ptr<int>> task = co_await spawn(pointer());
        const std::unique_ptr<int> kept = co_await task.join();
        const std::unique_ptr<int> direct = co_await (co_await spawn(pointer())).join();
        co_return *kept + *direct;
    };
    CHECK(in_loop(body) == 6);
}

TEST_CASE("a second join of a result that was moved out says so") {
    const auto pointer = []() -> Coro<std::unique_ptr<int>> { co_return std::make_unique<int>(3); };
    const auto body = [&]() -> Coro<bool> {
        Task<std::unique_ptr<int>> task = co_await spawn(pointer());
        const std::unique_ptr<int> kept = co_await task.join();
        try {
            co_await task.join();
        } catch (const std::logic_error&) {
            co_return kept != nullptr;
        }
        co_return false;
    };
    CHECK(in_loop(body));
}

TEST_CASE("a temporary handle that is not the last one copies the result") {
    const auto text = []() -> Coro<std::string> { co_return std::string(40, 'x'); };
    const auto body = [&]() -> Coro<bool> {
        Task<std::string> task = co_await spawn(text());
        Task<std::string> other = task;
        const std::string first = co_await std::move(task).join();
        const std::string second = co_await other.join();
        co_return first == second && !second.empty();
    };
    CHECK(in_loop(body));
}

TEST_CASE("a reference as result is the same object for all who join") {
    int value = 1;
    const auto reference = [](int& v) -> Coro<int&> { co_return v; };
    const auto body = [&]() -> Coro<bool> {
        Task<int&> task = co_await spawn(reference(value));
        int& first = co_await task.join();
        int& second = co_await task.join();
        co_return &first == &value && &second == &value;
    };
    CHECK(in_loop(body));
}

TEST_CASE("join of a task that failed throws TaskError, which names the task and holds the cause") {
    const auto body = []() -> Coro<std::string> {
        Task<> task = co_await spawn(failing_after_a_turn("broken"), {.name = "worker"});
        std::string text;
        for (int i = 0; i < 2; ++i) { // it is kept for all who join
            try {
                co_await task.join();
            } catch (const TaskError& e) {
                text += e.what();
                try {
                    e.rethrow_cause();
                } catch (const std::runtime_error& cause) {
                    text += std::string(" (") + cause.what() + ") ";
                }
            }
        }
        co_return text;
    };
    CHECK(in_loop(body) == "task 'worker' ended by an exception: broken (broken) "
                           "task 'worker' ended by an exception: broken (broken) ");
}

TEST_CASE("wait says nothing of how a task ended") {
    const auto body = []() -> Coro<bool> {
        Task<> task = co_await spawn(failing_after_a_turn("unheard of"));
        co_await task.wait();
        const bool ended = task.terminated() && !task.cancelled();
        try { // so that it counts as seen
            co_await task.join();
        } catch (const TaskError&) {}
        co_return ended;
    };
    CHECK(in_loop(body));
}

TEST_CASE("a task's coroutine and arguments are gone when it has ended, its result stays") {
    int alive = 0;
    const auto holder = [](Counted) -> Coro<int> {
        co_await yield_now();
        co_return 4;
    };
    const auto body = [&]() -> Coro<bool> {
        Task<int> task = co_await spawn(holder(Counted{alive}));
        const bool held = alive == 1;
        co_await task.wait();
        const bool gone = alive == 0;
        const int value = co_await task.join();
        co_return (held && gone && value == 4);
    };
    CHECK(in_loop(body));
}

TEST_CASE("a task whose handles are dropped runs on") {
    bool ran = false;
    const auto child = [](bool& flag) -> Coro<void> {
        co_await yield_now();
        flag = true;
    };
    const auto body = [&]() -> Coro<void> {
        co_await spawn(child(ran));
        for (int i = 0; i < 3; ++i)
            co_await yield_now();
    };
    in_loop(body);
    CHECK(ran);
}

TEST_CASE("a result lives until its last handle is gone") {
    int alive = 0;
    const auto child = [](int& count) -> Coro<std::shared_ptr<Counted>> {
        co_return std::make_shared<Counted>(count);
    };
    const auto body = [&]() -> Coro<bool> {
        Task<std::shared_ptr<Counted>> task = co_await spawn(child(alive));
        Task<> second = task;
        co_await task.wait();
        task = {};
        const bool kept = alive == 1;
        second = {};
        co_return (kept && alive == 0);
    };
    CHECK(in_loop(body));
}

TEST_CASE("spawn of a callable keeps its captures and arguments alive for as long as it runs") {
    int alive = 0;
    const auto body = [&]() -> Coro<bool> {
        auto closure = [counted = Counted{alive}](const Counted&, std::string text) -> Coro<int> {
            co_await yield_now();
            co_return static_cast<int>(text.size());
        };
        Task<int> task = co_await spawn(std::move(closure), Counted{alive}, "four");
        const int held = alive; // the moved-from closure holds one more
        const int size = co_await task.join();
        co_return held == 3 && alive == 1 && size == 4;
    };
    CHECK(in_loop(body));
    CHECK(alive == 0);
}

TEST_CASE("spawn moves arguments that can only be moved into the coroutine") {
    const auto takes = [](std::unique_ptr<int> p) -> Coro<int> {
        co_await yield_now();
        co_return *p;
    };
    const auto body = [&]() -> Coro<int> {
        co_return co_await (co_await spawn(takes, std::make_unique<int>(8))).join();
    };
    CHECK(in_loop(body) == 8);
}

TEST_CASE("a callable with reference parameters sees the task's own arguments") {
    const auto body = []() -> Coro<int> {
        int value = 1;
        const auto increments = [](int& v) -> Coro<int> {
            co_await yield_now();
            co_return ++v;
        };
        const int inside = co_await (co_await spawn(increments, value)).join();
        co_return inside * 10 + value; // the original is left alone
    };
    CHECK(in_loop(body) == 21);
}

TEST_CASE("std::ref hands a reference through") {
    const auto body = []() -> Coro<int> {
        int value = 1;
        const auto increments = [](int& v) -> Coro<void> {
            co_await yield_now();
            ++v;
        };
        co_await (co_await spawn(increments, std::ref(value))).join();
        co_return value;
    };
    CHECK(in_loop(body) == 2);
}

TEST_CASE("spawn takes member functions and callables with options") {
    struct Machine {
        int state = 20;
        Coro<int> step(int by) {
            co_await yield_now();
            co_return state += by;
        }
    };
    const auto body = []() -> Coro<std::string> {
        Machine machine;
        Task<int> member = co_await spawn(&Machine::step, &machine, 1);
        Task<int> named = co_await spawn([]() -> Coro<int> { co_return 2; }, {.name = "lambda"});
        const int first = co_await member.join();
        const int second = co_await named.join();
        co_return named.name() + " " + std::to_string(first + second);
    };
    CHECK(in_loop(body) == "lambda 23");
}

TEST_CASE("spawn of an empty coroutine is refused") {
    const auto body = []() -> Coro<void> { co_await spawn(Coro<void>{}); };
    CHECK_THROWS_WITH_AS(in_loop(body),
                         "spawn of an empty Coro: it was moved from or awaited before",
                         std::logic_error);
}

TEST_CASE("a result whose move fails becomes the task's failure") {
    struct Picky {
        Picky() = default;
        Picky(Picky&& other) : moves_left(other.moves_left - 1) {
            if (moves_left < 0)
                throw std::runtime_error("moved too often");
        }
        int moves_left = 1;
    };
    const auto body = []() -> Coro<bool> {
        Task<Picky> task = co_await spawn([]() -> Coro<Picky> { co_return Picky{}; }());
        try {
            co_await task.join();
        } catch (const TaskError& e) {
            co_return std::string(e.what()).contains("moved too often");
        }
        co_return false;
    };
    CHECK(in_loop(body));
}

TEST_CASE("an interrupt reaches a joiner though the joined task ends before it runs again") {
    const auto joiner = [](Task<int> task) -> Coro<bool> {
        try {
            co_await task.join();
        } catch (const TaskCancelled&) {
            co_return true;
        }
        co_return false;
    };
    const auto waiter = [](Task<int> task) -> Coro<bool> {
        try {
            co_await task.wait();
        } catch (const TaskCancelled&) {
            co_return true;
        }
        co_return false;
    };
    const auto body = [&]() -> Coro<bool> {
        Task<int> joined = co_await spawn(value_after_a_turn(1));
        Task<bool> first = co_await spawn(joiner(joined));
        Task<bool> second = co_await spawn(waiter(joined));
        co_await yield_now();
        // Now `joined` is ready and stands before those who wait for it.
        HandLoop::interrupt(*first.record());
        HandLoop::interrupt(*second.record());
        const bool first_saw = co_await first.join();
        const bool second_saw = co_await second.join();
        co_return (first_saw && second_saw);
    };
    CHECK(in_loop(body));
}

TEST_CASE("a task that never ran is destroyed with its last handle") {
    int alive = 0;
    {
        const auto body = [](Counted) -> Coro<void> { co_return; };
        const Task<> task = detail::make_task(body(Counted{alive}));
        CHECK(task.state() == TaskState::created);
        CHECK(alive == 1);
    }
    CHECK(alive == 0);
}
