// Random programs, recorded and replayed: what their tasks see must be the same, step by step.
// TRAPLINE_PROGRAMS=<n> runs a hundredth of that, TRAPLINE_SEED=<seed> the one that failed.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/kernel/replay.hpp>
#include <trapline/trapline.hpp>
#include <trapline/traps/sanitizers.hpp>

#include "../support/leaks.hpp"
#include "recordings.hpp"

using namespace trapline;
using namespace std::chrono_literals;
using test::Counted;
using test::LeakGuard;
using test::RecordingFile;

namespace {

constexpr bool sanitized = TRAPLINE_ADDRESS_SANITIZER || TRAPLINE_THREAD_SANITIZER;
constexpr std::uint64_t programs = sanitized ? 40 : 200;

/// Its dice are cast by whoever runs, so that another order is another program.
class Program {
public:
    Program(std::uint64_t seed, std::string& log) : dice_(seed), log_(log) {}

    Coro<void> run() {
        for (int i = 0; i < 2; ++i)
            pairs_.push_back(co_await UnixStream::pair());
        for (unsigned count = 3 + below(10); count > 0; --count)
            tasks_.push_back(co_await spawn(actor()));
        co_await sleep(1us * below(2000));
        for (std::size_t i = 0; i < tasks_.size(); ++i) {
            const Task<> task = tasks_[i];
            if (below(3) == 0)
                continue;
            const bool reached = co_await task.cancel();
            note(reached ? "reached" : "late");
        }
        for (std::size_t i = 0; i < tasks_.size(); ++i) {
            const Task<> task = tasks_[i];
            (void)co_await task.cancel();
            note(task.cancelled() ? "cancelled" : "ended");
        }
        for (UnixStreamPair& pair : pairs_) {
            co_await pair.a.close();
            co_await pair.b.close();
        }
    }

private:
    unsigned below(unsigned limit) { return static_cast<unsigned>(dice_() % limit); }
    Duration moment() { return 1us * below(500); }
    void note(const std::string& what) { log_ += what + "\n"; }
    void note(const char* what, std::size_t number) { note(what + std::to_string(number)); }

    Coro<void> actor() {
        const Counted frame;
        for (unsigned steps = 2 + below(6); steps > 0; --steps)
            co_await act(0);
        const TimePoint time = co_await now();
        note("done at " + std::to_string(time.time_since_epoch().count()));
    }

    Coro<void> act(int depth) {
        const Counted frame;
        switch (below(depth < 3 ? 14 : 10)) {
        case 0: co_await sleep(moment()); break;
        case 1: co_await yield_now(); break;
        case 2: co_await use_permit(); break;
        case 3: co_await send(); break;
        case 4: co_await receive(); break;
        case 5:
            (void)co_await ignore_after(moment(), queue_.put(static_cast<int>(below(100))));
            break;
        case 6: co_await take(); break;
        case 7: co_await read_zeros(); break;
        case 8: co_await on_thread(); break;
        case 9: co_await interrupt(); break;
        case 10: co_await limited(depth); break;
        case 11: co_await disable_cancellation(use_permit()); break;
        case 12: (void)co_await ignore_after(moment(), act(depth + 1)); break;
        case 13: co_await in_child(depth); break;
        }
        const bool pending = co_await check_cancellation();
        note(pending ? "pending" : "none");
    }

    Coro<void> limited(int depth) {
        try {
            co_await timeout_after(moment(), act(depth + 1));
        } catch (const TaskTimeout&) {
            note("limit");
        }
    }

    Coro<void> in_child(int depth) {
        const Task<> child = co_await spawn(act(depth + 1), {.name = "child"});
        co_await child.wait();
        note(child.cancelled() ? "child cancelled" : "child ended");
    }

    Coro<void> use_permit() {
        const auto permit = co_await permits_.hold();
        note("permit");
        co_await sleep(moment());
    }

    Coro<void> take() {
        const auto got = co_await ignore_after(moment(), queue_.get());
        if (got)
            note("took ", static_cast<std::size_t>(*got));
    }

    UnixStream& any_end() {
        UnixStreamPair& pair = pairs_[below(2)];
        return below(2) ? pair.a : pair.b;
    }

    Coro<void> send() {
        UnixStream& stream = any_end();
        std::string data(1 + below(below(4) ? 200 : 50'000), static_cast<char>('a' + below(26)));
        try {
            co_await stream.send_all(data);
            note("sent");
        } catch (const std::system_error& failure) {
            note(failure.what()); // somebody else sends
        } catch (const Cancelled& interrupt) {
            note("sent at least ", interrupt.progress());
            throw;
        }
    }

    Coro<void> receive() {
        UnixStream& stream = any_end();
        try {
            if (below(2)) {
                const BufferLease data = co_await stream.receive();
                note(std::string(data.text()));
                co_return;
            }
            std::array<std::byte, 300> buffer;
            const bool whole = below(2);
            const auto got = co_await traps::recv(stream.fd(), buffer, whole ? MSG_WAITALL : 0);
            if (got)
                note(std::string(reinterpret_cast<const char*>(buffer.data()), *got));
            else
                note(got.error().message());
        } catch (const std::system_error& failure) {
            note(failure.what());
        } catch (const Cancelled& interrupt) {
            note("got at least ", interrupt.progress());
            throw;
        }
    }

    Coro<void> read_zeros() {
        File file = co_await File::open(below(4) ? "/dev/zero" : "/proc/self/status");
        std::string text(100, 'x');
        const std::size_t got = co_await file.read(std::as_writable_bytes(std::span(text)));
        note(text.substr(0, got));
        if (below(2))
            co_await file.close();
    }

    Coro<void> on_thread() {
        const unsigned number = below(1000);
        const unsigned answer =
            co_await disable_cancellation(run_in_thread([number] { return number + 1; }));
        note("thread said ", answer);
    }

    Coro<void> interrupt() {
        const Task<> self = co_await current_task();
        const Task<> other = tasks_[below(static_cast<unsigned>(tasks_.size()))];
        if (other == self || below(3))
            co_return;
        const auto delivery = co_await traps::Cancel{other.record()};
        note("delivery ", static_cast<std::size_t>(delivery.value()));
    }

    std::mt19937_64 dice_;
    std::string& log_;
    std::vector<UnixStreamPair> pairs_;
    std::vector<Task<>> tasks_;
    Semaphore permits_{2};
    Queue<int> queue_{3};
};

/// What is wrong with the program of that seed; "" if nothing is.
std::string play(std::uint64_t seed, std::size_t& seen) {
    const RecordingFile file;
    KernelOptions options;
    options.record = file.path;
    if (seed % 2)
        options.shuffle_seed = seed;
    std::string recorded;
    std::string replayed;
    try {
        Program first{seed, recorded};
        run(first.run(), options);
        Program second{seed, replayed};
        run(second.run(), {.replay = file.path});
    } catch (const std::exception& failure) {
        return failure.what();
    }
    seen += recorded.size();
    return recorded == replayed ? "" : "what it saw is not the same";
}

} // namespace

TEST_CASE("random programs see the same when they are replayed") {
    const LeakGuard guard;
    std::uint64_t first = 1;
    std::uint64_t count = programs;
    if (const char* given = std::getenv("TRAPLINE_SEED")) {
        first = std::strtoull(given, nullptr, 10);
        count = 1;
    } else if (const char* given_count = std::getenv("TRAPLINE_PROGRAMS")) {
        count = std::max<std::uint64_t>(std::strtoull(given_count, nullptr, 10) / 100, 10);
    }
    std::size_t seen = 0;
    for (std::uint64_t seed = first; seed < first + count; ++seed) {
        const std::string complaint = play(seed, seen);
        CHECK_MESSAGE(complaint == "", "TRAPLINE_SEED=" << seed);
    }
    CHECK(seen > count * 100);
}
