#include <trapline/kernel/options.hpp>

#include <csignal>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/kernel/kernel.hpp>

#include "../support/process.hpp"
#include "manual_engine.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

/// Sets TRAPLINE_ENGINE, and restores what it was.
class EngineVariable {
public:
    explicit EngineVariable(const char* value) {
        if (const char* old = std::getenv(name))
            old_ = old;
        setenv(name, value, 1);
    }
    ~EngineVariable() {
        if (old_)
            setenv(name, old_->c_str(), 1);
        else
            unsetenv(name);
    }
    EngineVariable(const EngineVariable&) = delete;
    EngineVariable& operator=(const EngineVariable&) = delete;

private:
    static constexpr const char* name = "TRAPLINE_ENGINE";
    std::optional<std::string> old_;
};

Coro<std::string> order_of_ten() {
    std::string order;
    const auto notes = [](std::string& text, char letter) -> Coro<void> {
        text += letter;
        co_return;
    };
    std::vector<Task<>> tasks;
    for (char letter = 'a'; letter < 'k'; ++letter)
        tasks.push_back(co_await spawn(notes(order, letter)));
    for (Task<>& task : tasks)
        co_await task.join();
    co_return order;
}

std::string order_with(std::optional<std::uint64_t> seed) {
    KernelOptions options = manual();
    options.shuffle_seed = seed;
    return run(order_of_ten(), options);
}

bool is_default(int signal) {
    struct sigaction action{};
    sigaction(signal, nullptr, &action);
    return action.sa_handler == SIG_DFL;
}

} // namespace

TEST_CASE("a kernel is made with a ring, a patience and a log of one's own") {
    const EngineVariable uring{"uring"};
    std::vector<std::string> journal;
    WaitQueue queue;
    Kernel kernel{{
        .uring = {.entries = 128, .completions = 1024},
        .cancel_on = stop_signals,
        .shutdown_patience = 1s,
        .log = [&](std::string_view line) { journal.emplace_back(line); },
    }};
    const std::string ring = kernel.describe(); // half of it where memory is short
    CHECK((ring.contains(" 128 entries") || ring.contains(" 64 entries")));
    kernel.run([&]() -> Coro<void> {
        co_await spawn([&] { return disable_cancellation(traps::Park{&queue}); }, {.name = "late"});
        co_await yield_now();
    });
    kernel.shutdown();
    REQUIRE(journal.size() == 1);
    CHECK(journal[0].contains("'late'"));
}

TEST_CASE("an engine is chosen by name, and an unknown name is an error that says what there is") {
    CHECK(Kernel{{.engine = "uring"}}.describe().contains("uring"));
    std::string text;
    try {
        const Kernel kernel{{.engine = "steam"}};
    } catch (const std::invalid_argument& e) {
        text = e.what();
    }
    CHECK(text.contains("'steam'"));
    CHECK(text.contains("'uring'"));
    CHECK(text.contains("'epoll'"));
}

TEST_CASE("the environment chooses the engine where the program does not") {
    const EngineVariable steam{"steam"};
    CHECK_THROWS_AS(Kernel{}, std::invalid_argument);
    CHECK_NOTHROW(Kernel{{.engine = "uring"}});
    CHECK(Kernel{manual()}.describe() == "manual");
}

TEST_CASE("tasks run first in, first out, or as a seed shuffles them, the same each time") {
    CHECK(order_with(std::nullopt) == "abcdefghij");
    const std::string seven = order_with(7);
    CHECK(seven != "abcdefghij");
    CHECK(order_with(7) == seven);
    CHECK(order_with(8) != seven);
}

TEST_CASE("SIGPIPE is ignored from the first kernel on, unless that is switched off") {
    const std::string answer = test::in_child([] {
        std::signal(SIGPIPE, SIG_DFL);
        KernelOptions options = manual();
        options.ignore_sigpipe = false;
        { const Kernel kernel{options}; }
        const bool kept = is_default(SIGPIPE);
        options.ignore_sigpipe = true;
        { const Kernel kernel{options}; }
        return std::string(kept && !is_default(SIGPIPE) ? "" : "wrong");
    });
    CHECK(answer == "");
}

TEST_CASE("a handler for SIGPIPE that the program has is left alone") {
    const std::string answer = test::in_child([] {
        std::signal(SIGPIPE, [](int) {});
        { const Kernel kernel{manual()}; }
        struct sigaction action{};
        sigaction(SIGPIPE, nullptr, &action);
        return std::string(action.sa_handler != SIG_IGN ? "" : "wrong");
    });
    CHECK(answer == "");
}

TEST_CASE("what the kernel has to say goes to the log, a line each") {
    std::vector<std::string> lines;
    KernelOptions options = manual();
    options.log = [&](std::string_view line) { lines.emplace_back(line); };
    {
        WaitQueue queue;
        Kernel kernel{options};
        kernel.run([&]() -> Coro<void> {
            const auto stubborn = [](WaitQueue& q) -> Coro<void> {
                co_await disable_cancellation(traps::Park{&q});
            };
            co_await spawn(stubborn(queue), {.name = "stubborn"});
            co_await yield_now();
        });
    }
    REQUIRE(lines.size() == 1);
    CHECK(lines[0] == "shutdown: task 'stubborn' can never go on, and is destroyed");
}
