// Random programs: tasks that sleep, yield, park, join, cancel, use permits, send and receive, with
// time limits and masks around all that. Whatever they do, at the end nothing may be missing.
//
// On each engine a hundred run side by side (twenty under a sanitizer), ten times over, whatever
// TRAPLINE_PROGRAMS says. A failure names its seed; TRAPLINE_SEED=<seed> runs as many from it on.
#include "conformance.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>

using namespace trapline;
using namespace trapline::test;

namespace {

using Seed = std::uint64_t;

/// One direction of a socket pair. The bytes count up, so that each has its place.
struct Stream {
    int from;
    int to;
    std::size_t sent = 0;
    std::size_t received = 0;
    bool sending = false;
    bool receiving = false;
    bool in_order = true;

    static char byte(std::size_t at) { return static_cast<char>(at % 251); }

    std::string next(std::size_t count) const {
        std::string bytes(count, '\0');
        for (std::size_t i = 0; i < count; ++i)
            bytes[i] = byte(sent + i);
        return bytes;
    }
    void take(std::string_view bytes) {
        for (const char got : bytes)
            in_order = got == byte(received++) && in_order;
    }
};

class Taken {
public:
    explicit Taken(bool& flag) noexcept : flag_(flag) { flag_ = true; }
    Taken(const Taken&) = delete;
    Taken& operator=(const Taken&) = delete;
    ~Taken() { flag_ = false; }

private:
    bool& flag_;
};

/// What the programs came to: a generator that reaches nothing proves nothing.
struct Reached {
    std::size_t whole_transfers = 0;
    std::size_t stopped_transfers = 0; ///< with some bytes moved
    std::size_t results_beside_interrupts = 0;
    std::size_t limits = 0;
    std::size_t waits_for_permits = 0;
    std::size_t wake_ups = 0;
    std::size_t cancelled = 0;
    std::size_t ended = 0;
};
Reached reached;

class Program {
public:
    explicit Program(Seed seed) : seed_(seed), dice_(seed) {
        for (Ends& pair : pairs_) {
            pair = socket_pair(below(3) == 0 ? SOCK_NONBLOCK : 0);
            if (below(2))
                shrink_send_buffer(pair.a.get());
            streams_.push_back({pair.a.get(), pair.b.get()});
            streams_.push_back({pair.b.get(), pair.a.get()});
        }
    }

    /// Runs it to its end and tells what is wrong then, "" if nothing is.
    Coro<std::string> run() {
        const std::size_t count = 2 + below(19);
        for (std::size_t i = 0; i < count; ++i) {
            tasks_.push_back(co_await spawn(actor()));
            if (below(4) == 0)
                co_await yield_now();
        }
        if (below(2))
            co_await sleep(1us * below(1000));
        std::ranges::shuffle(tasks_, dice_);
        for (const Task<void>& task : tasks_) {
            if (below(3))
                (void)co_await task.cancel();
        }
        for (const Task<void>& task : tasks_) {
            (void)co_await traps::Cancel{task.record()};
            try {
                co_await task.join();
                ++reached.ended;
            } catch (const TaskError& error) {
                if (!is_interrupt(error.cause()))
                    co_return error.what();
                ++reached.cancelled;
            }
        }
        co_return complaint();
    }

    Seed seed() const noexcept { return seed_; }

private:
    unsigned below(unsigned limit) { return static_cast<unsigned>(dice_() % limit); }
    const Task<void>& any_task() { return tasks_[below(static_cast<unsigned>(tasks_.size()))]; }

    Coro<void> actor() {
        const Counted frame;
        const unsigned steps = 2 + below(7);
        for (unsigned step = 0; step < steps; ++step)
            co_await act(0);
    }

    /// Any one action. Those that are nested in another one are plainer.
    Coro<void> act(int depth) {
        const Counted frame;
        switch (below(depth < 3 ? 12 : 9)) {
        case 0: co_await sleep(1us * below(below(4) ? 100 : 2000)); break;
        case 1: co_await yield_now(); break;
        case 2: co_await use_permit(); break;
        case 3: co_await send(); break;
        case 4: co_await receive(); break;
        case 5: co_await interrupt(any_task()); break;
        case 6: co_await wait_for(any_task()); break;
        case 7: (void)co_await ignore_after(1us * below(500), park_on(board_)); break;
        case 8: reached.wake_ups += board_.wake(below(3)); break;
        case 9: co_await limited(depth); break;
        case 10: co_await disable_cancellation([this] { return use_permit(); }); break;
        case 11: (void)co_await ignore_after(1us * below(800), act(depth + 1)); break;
        }
    }

    Coro<void> limited(int depth) {
        try {
            co_await timeout_after(1us * below(500), act(depth + 1));
        } catch (const TaskTimeout&) {
            ++reached.limits;
        }
    }

    Coro<void> use_permit() {
        reached.waits_for_permits += permits_.free() == 0;
        co_await permits_.acquire();
        struct Release {
            Program& program;
            ~Release() {
                --program.permits_out_;
                program.permits_.release();
            }
        } const release{*this};
        most_permits_out_ = std::max(most_permits_out_, ++permits_out_);
        co_await yield_now();
        if (below(2))
            co_await sleep(1us * below(200));
    }

    Coro<void> send() {
        Stream& stream = streams_[below(static_cast<unsigned>(streams_.size()))];
        if (stream.sending)
            co_return;
        const Taken taken{stream.sending};
        const std::string data = stream.next(1 + below(below(4) ? 100 : 20'000));
        try {
            const auto sent = co_await traps::send(stream.from, std::as_bytes(std::span(data)),
                                                   below(2) ? MSG_WAITALL : 0);
            stream.sent += sent.value();
            co_await note_result();
        } catch (const Cancelled& interrupt) {
            stream.sent += interrupt.progress();
            reached.stopped_transfers += interrupt.progress() > 0;
            throw;
        }
    }

    Coro<void> receive() {
        Stream& stream = streams_[below(static_cast<unsigned>(streams_.size()))];
        if (stream.receiving)
            co_return;
        const Taken taken{stream.receiving};
        std::string buffer(1 + below(below(4) ? 200 : 20'000), '\0');
        const std::string_view bytes = buffer;
        try {
            const auto got =
                co_await traps::recv(stream.to, bytes_of(buffer), below(2) ? MSG_WAITALL : 0);
            stream.take(bytes.substr(0, got.value()));
            co_await note_result();
        } catch (const Cancelled& interrupt) {
            stream.take(bytes.substr(0, interrupt.progress()));
            reached.stopped_transfers += interrupt.progress() > 0;
            throw;
        }
    }

    /// A transfer gave its result, though an interrupt may have come meanwhile.
    Coro<void> note_result() {
        const bool interrupted = co_await check_cancellation();
        ++reached.whole_transfers;
        reached.results_beside_interrupts += interrupted;
    }

    Coro<void> interrupt(Task<void> task) {
        if (below(3) == 0)
            (void)co_await traps::Cancel{task.record()};
    }

    Coro<void> wait_for(Task<void> task) {
        const Task<void> self = co_await current_task();
        if (task == self)
            co_return;
        (void)co_await ignore_after(1us * below(500), task.wait());
    }

    std::string complaint() {
        if (permits_.free() != permits || permits_out_ != 0)
            return "permits are missing";
        if (most_permits_out_ > permits)
            return "more permits were out than there are";
        if (!board_.empty())
            return "somebody is still parked";
        for (Stream& stream : streams_) {
            stream.take(read_waiting(stream.to));
            if (!stream.in_order)
                return "bytes are out of order";
            if (stream.received != stream.sent)
                return std::to_string(stream.sent) + " bytes were sent, but " +
                       std::to_string(stream.received) + " came";
        }
        return "";
    }

    static constexpr std::size_t permits = 2;

    Seed seed_;
    std::mt19937_64 dice_;
    std::array<Ends, 2> pairs_;
    std::vector<Stream> streams_;
    Permits permits_{permits};
    std::size_t permits_out_ = 0;
    std::size_t most_permits_out_ = 0;
    WaitQueue board_;
    std::vector<Task<void>> tasks_;
};

/// Programs with the seeds from `first` on, side by side.
Coro<void> programs(Seed first, unsigned count) {
    std::vector<std::unique_ptr<Program>> all;
    std::vector<Task<std::string>> tasks;
    for (unsigned i = 0; i < count; ++i) {
        all.push_back(std::make_unique<Program>(first + i));
        tasks.push_back(co_await spawn(all.back()->run()));
    }
    for (unsigned i = 0; i < count; ++i) {
        const std::string complaint = co_await tasks[i].join();
        CHECK_MESSAGE(complaint == "", "TRAPLINE_SEED=" << all[i]->seed());
    }
    CHECK(Counted::alive() == 0);
}

constexpr unsigned side_by_side = sanitized ? 20 : 100;
constexpr Seed apart = 1'000'000;

} // namespace

TEST_CASE("P1 to P12: random programs lose no byte, permit, task, frame or descriptor") {
    std::vector<Seed> seeds{1 * apart, 2 * apart, 3 * apart, 4 * apart, 5 * apart,
                            6 * apart, 7 * apart, 8 * apart, 9 * apart};
    if (const char* given = std::getenv("TRAPLINE_SEED"))
        seeds = {std::strtoull(given, nullptr, 10)};
    else
        seeds.push_back(std::random_device{}() % apart * apart);
    MESSAGE("the fresh seed is TRAPLINE_SEED=" << seeds.back());
    each_io_engine([&](const KernelOptions& options) {
        for (const Seed seed : seeds) {
            KernelOptions chosen = options;
            if (seed / apart % 2)
                chosen.shuffle_seed = seed;
            Kernel kernel{chosen};
            kernel.run(programs(seed, side_by_side));
            CHECK(kernel.task_count() == 0);
        }
    });
    CHECK(reached.whole_transfers > 0);
    CHECK(reached.stopped_transfers > 0);
    CHECK(reached.results_beside_interrupts > 0);
    CHECK(reached.limits > 0);
    CHECK(reached.waits_for_permits > 0);
    CHECK(reached.wake_ups > 0);
    CHECK(reached.cancelled > 0);
    CHECK(reached.ended > 0);
}
