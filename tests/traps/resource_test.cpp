#include <trapline/traps/resource.hpp>

#include <memory>
#include <stdexcept>
#include <string>

#include <doctest/doctest.h>

#include "on_kernel.hpp"

using namespace trapline;
using namespace trapline::test;
using namespace std::chrono_literals;

namespace {

/// Takes time to be written to and to be closed.
class Log {
public:
    explicit Log(std::string& file) : file_(&file) {}

    Coro<std::size_t> write(std::string text) {
        co_await sleep(1s);
        *file_ += text;
        co_return text.size();
    }
    Coro<void> flush_and_close() {
        co_await sleep(1s);
        *file_ += ".";
    }

private:
    std::string* file_;
};

Coro<Log> opened_log(std::string& file) {
    co_await sleep(1s);
    co_return Log{file};
}

auto closes = [](Log& log) { return log.flush_and_close(); };

} // namespace

TEST_CASE("resource.hpp: a log that is closed by awaiting") {
    on_kernel([]() -> Coro<void> {
        std::string file;
        const auto open_log = [&file] { return opened_log(file); };
        std::size_t written = co_await with_resource(
            open_log(), [](Log& log) { return log.write("started"); },
            [](Log& log) { return log.flush_and_close(); });
        CHECK(written == 7);
        CHECK(file == "started.");
    });
}

TEST_CASE("the resource is closed when the body throws, and its exception comes out") {
    on_kernel([]() -> Coro<void> {
        std::string file;
        std::string text;
        const auto throws_later = [](Log& log) -> Coro<void> {
            co_await log.write("half");
            throw std::runtime_error("broken");
        };
        const auto throws_at_once = [](Log&) -> Coro<void> { // no coroutine: it never awaits
            throw std::runtime_error(" at once");
        };
        try {
            co_await with_resource(opened_log(file), throws_later, closes);
        } catch (const std::runtime_error& error) {
            text += error.what();
        }
        try {
            co_await with_resource(opened_log(file), throws_at_once, closes);
        } catch (const std::runtime_error& error) {
            text += error.what();
        }
        CHECK(text == "broken at once");
        CHECK(file == "half..");
    });
}

TEST_CASE("the resource is closed when a limit interrupts the body, and closing takes its time") {
    on_kernel([]() -> Coro<void> {
        std::string file;
        const TimePoint start = co_await now();
        const auto in_time = co_await ignore_after(
            1500ms,
            with_resource(opened_log(file), [](Log& log) { return log.write("never"); }, closes));
        const TimePoint end = co_await now();
        CHECK_FALSE(in_time.has_value());
        CHECK(file == ".");
        CHECK(end - start == 2500ms);
    });
}

TEST_CASE("what comes while it closes waits for the next trap") {
    on_kernel([]() -> Coro<void> {
        std::string file;
        const auto work = [](std::string& to) -> Coro<void> {
            co_await with_resource(
                opened_log(to), [](Log& log) { return log.write("all"); }, closes);
            to += " closed";
            co_await sleep(1s);
            to += " not reached";
        };
        const Task<> task = co_await spawn(work(file));
        co_await sleep(2500ms);
        const bool reached = co_await task.cancel();
        CHECK(reached);
        CHECK(file == "all. closed");
    });
}

TEST_CASE("when opening fails or is interrupted, nothing is closed") {
    on_kernel([]() -> Coro<void> {
        int closed = 0;
        const auto fails = []() -> Coro<int> {
            co_await sleep(1s);
            throw std::runtime_error("no such thing");
        };
        const auto answers = []() -> Coro<int> {
            co_await sleep(1s);
            co_return 1;
        };
        const auto body = [](int&) -> Coro<void> { co_return; };
        const auto close = [&closed](int&) { ++closed; };
        std::string text;
        try {
            co_await with_resource(fails(), body, close);
        } catch (const std::runtime_error& error) {
            text = error.what();
        }
        const bool opened = co_await ignore_after(500ms, with_resource(answers(), body, close));
        CHECK(text == "no such thing");
        CHECK_FALSE(opened);
        CHECK(closed == 0);
        co_await with_resource(answers(), body, close);
        CHECK(closed == 1);
    });
}

TEST_CASE("a failure of close comes out if the body has none") {
    on_kernel([]() -> Coro<void> {
        const auto answers = [] { return []() -> Coro<int> { co_return 1; }(); };
        const auto good = [](int& value) -> Coro<int> { co_return value; };
        const auto bad = [](int&) -> Coro<int> { throw std::runtime_error("body"); };
        const auto close = [](int&) -> Coro<void> { throw std::runtime_error("close"); };
        std::string texts;
        try {
            co_await with_resource(answers, good, close);
        } catch (const std::runtime_error& error) {
            texts += error.what();
        }
        try {
            co_await with_resource(answers, bad, close);
        } catch (const std::runtime_error& error) {
            texts += std::string(" ") + error.what();
        }
        CHECK(texts == "close body");
    });
}

TEST_CASE("resources may be void, references, or only be moved") {
    on_kernel([]() -> Coro<void> {
        int held = 0;
        const auto acquire = [](int& count) -> Coro<void> {
            co_await sleep(1s);
            ++count;
        };
        const int inside = co_await with_resource(
            acquire(held), [&]() -> Coro<int> { co_return held; }, [&] { --held; });
        CHECK(inside == 1);
        CHECK(held == 0);

        const auto lend = [](int& value) -> Coro<int&> { co_return value; };
        const bool same = co_await with_resource(
            lend(held), [&](int& lent) -> Coro<bool> { co_return &lent == &held; }, [](int&) {});
        CHECK(same);

        const auto make = []() -> Coro<std::unique_ptr<int>> {
            co_return std::make_unique<int>(6);
        };
        const int six = co_await with_resource(
            make(), [](std::unique_ptr<int>& box) -> Coro<int> { co_return *box; },
            [](std::unique_ptr<int>& box) { box.reset(); });
        CHECK(six == 6);
    });
}
