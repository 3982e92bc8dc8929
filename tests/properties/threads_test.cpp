// Random programs in which tasks and threads work for each other: functions in a ThreadPool, and
// calls of threads through a Portal. They do not repeat themselves: the seed decides what each
// does, not how they meet.
#include "programs.hpp"

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

#include <trapline/traps/portal.hpp>
#include <trapline/traps/thread_pool.hpp>
#include <trapline/traps/universal_queue.hpp>

#include "helper.hpp"
#include "items.hpp"

using namespace trapline;
using namespace trapline::properties;

namespace {

class Failed : public std::runtime_error {
public:
    Failed() : std::runtime_error("failed on purpose") {}
};

// --- ThreadPool ----------------------------------------------------------------------------

/// Tasks that have functions run, and go away while they run.
class UsePool {
public:
    static constexpr bool always_ends = true;

    explicit UsePool(World& world) : world_(world) {}
    UsePool(const UsePool&) = delete;
    UsePool& operator=(const UsePool&) = delete;
    ~UsePool() { wait_for_functions(); } // they refer to this

    Coro<void> step(World& world) { return world.one_in(2) ? world.pause() : call(); }

    std::string complaint() {
        wait_for_functions();
        if (wrong_)
            return "a task got what was not its function's";
        return ran_twice_ ? "a function ran twice" : "";
    }

private:
    /// A function: moved to the thread, called at most once, and gone when it has returned.
    class Function {
    public:
        Function(UsePool& owner, int number, bool fails) : run_(new Run{owner, number, fails}) {
            ++owner.functions_;
        }
        std::unique_ptr<int> operator()() {
            run_->owner.ran_twice_ = run_->owner.ran_twice_ || std::exchange(run_->ran, true);
            if (run_->fails)
                throw Failed();
            return std::make_unique<int>(run_->number);
        }

    private:
        struct Run {
            Run(UsePool& of, int its_number, bool will_fail)
                : owner(of), number(its_number), fails(will_fail) {}
            Run(const Run&) = delete;
            Run& operator=(const Run&) = delete;
            ~Run() { --owner.functions_; }
            UsePool& owner;
            int number;
            bool fails;
            bool ran = false;
        };
        std::unique_ptr<Run> run_;
    };

    static ThreadPool& pool() {
        static ThreadPool two{2};
        return two;
    }

    Coro<void> call() {
        const test::Counted frame;
        const int number = ++last_number_;
        const bool fails = world_.one_in(8);
        try {
            const std::unique_ptr<int> result = co_await pool().run(Function{*this, number, fails});
            wrong_ = wrong_ || fails || !result || *result != number;
        } catch (const Failed&) {
            wrong_ = wrong_ || !fails;
        }
        co_await world_.note_result();
    }

    void wait_for_functions() const {
        while (functions_ > 0)
            std::this_thread::yield();
    }

    World& world_;
    std::atomic<int> functions_ = 0; ///< that exist
    std::atomic<bool> ran_twice_ = false;
    int last_number_ = 0;
    bool wrong_ = false;
};

// --- Portal --------------------------------------------------------------------------------

/// Two threads that call through a portal, whose task is cancelled, out of time, or shut down with
/// its kernel.
class UsePortal {
public:
    UsePortal(Seed seed, Reached& reached) : world_(seed, reached) {}

    Coro<void> main() {
        serving_ = co_await spawn(serve());
        world_.tasks().push_back(serving_);
        for (unsigned left = world_.below(3); left > 0; --left)
            world_.tasks().push_back(co_await spawn(disturb()));
        for (unsigned left = world_.below(4); left > 0; --left) { // there are four calls or more
            (void)co_await over_.get();
            co_await world_.pause();
        }
        if (world_.one_in(4))
            co_return; // and the kernel shuts down
        if (world_.one_in(3)) {
            const bool reached = co_await serving_.cancel();
            world_.reached().cancelled += reached;
        } else {
            portal_.close();
        }
        co_await serving_.wait();
    }

    /// What each of the threads does.
    void call_some(Dice dice) {
        for (unsigned left = 2 + dice.below(2); left > 0; --left) {
            const int number = static_cast<int>(dice.below(1000));
            const auto body = [this](int from) { return answer(from); };
            try {
                wrong_ = portal_.run(body, number) != number + 1 || wrong_;
                ++answered_;
            } catch (const Failed&) {
                ++failed_;
            } catch (const PortalClosed&) {
                ++refused_;
            }
            over_.put_sync(number);
        }
    }

    /// When the threads are done and the kernel is gone.
    std::string complaint() {
        world_.reached().steps += static_cast<std::size_t>(answered_);
        if (wrong_)
            return "a thread got the answer to another call";
        if (answered_ != completed_)
            return "an answer got lost, or came twice";
        if (failed_ != thrown_)
            return "an exception got lost, or came twice";
        return begun_ == answered_ + failed_ + given_up_ && given_up_ <= refused_
                   ? ""
                   : "a call was given up and its thread not told";
    }

    void make_sure_of_the_end() { portal_.close(); }

private:
    Coro<void> serve() {
        const test::Counted frame;
        if (world_.one_in(4)) {
            const bool in_time = co_await ignore_after(world_.moment(), portal_.serve());
            world_.reached().timed_out += !in_time;
        } else {
            co_await portal_.serve();
        }
    }

    Coro<void> disturb() {
        const test::Counted frame;
        for (unsigned left = world_.below(4); left > 0; --left)
            co_await world_.pause();
    }

    Coro<int> answer(int number) {
        const test::Counted frame;
        ++begun_;
        ++given_up_;
        if (world_.one_in(2))
            co_await pause_somehow();
        --given_up_;
        if (world_.one_in(8)) {
            ++thrown_;
            throw Failed();
        }
        co_await world_.note_result();
        ++completed_;
        co_return number + 1;
    }

    Coro<void> pause_somehow() {
        if (world_.one_in(3)) {
            const bool in_time = co_await ignore_after(world_.moment(), world_.pause());
            world_.reached().timed_out += !in_time;
        } else if (world_.one_in(3)) {
            co_await disable_cancellation(world_.pause());
        } else {
            co_await world_.pause();
        }
    }

    World world_;
    Portal portal_;
    UniversalQueue<int> over_; ///< a call each
    Task<void> serving_;

    // The kernel's.
    int begun_ = 0;
    int given_up_ = 0; ///< begun, and interrupted
    int completed_ = 0;
    int thrown_ = 0;

    // The threads'.
    std::atomic<int> answered_ = 0;
    std::atomic<int> failed_ = 0;
    std::atomic<int> refused_ = 0;
    std::atomic<bool> wrong_ = false;
};

std::string play_portal(Seed seed, Reached& reached) {
    static std::array<Helper, 2> callers;
    const long frames_before = test::Counted::alive();
    std::string complaint;
    {
        UsePortal program{seed, reached};
        for (Seed i = 0; i < callers.size(); ++i)
            callers[i].begin([&program, dice = Dice{seed * 2 + i}] { program.call_some(dice); });
        {
            Kernel kernel{properties::detail::options_of(seed)};
            kernel.run(program.main());
            kernel.shutdown();
        }
        program.make_sure_of_the_end();
        for (Helper& caller : callers)
            caller.wait();
        complaint = program.complaint();
    }
    if (complaint.empty() && test::Counted::alive() != frames_before)
        complaint = "coroutine frames are left";
    return complaint;
}

} // namespace

TEST_CASE("a task gets what its function on another thread came to, or nothing") {
    run<UsePool>("ThreadPool");
}

TEST_CASE("each call through a portal is answered, or refused, and its thread goes on") {
    run_each("Portal", play_portal);
}
