#include "kernel.hpp"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <system_error>

#include <unistd.h>

#include "engines/epoll.hpp"
#include "engines/simulation.hpp"
#include "engines/uring.hpp"
#include "follower.hpp"
#include "recorder.hpp"
#include "stop_signals.hpp"
#include "trap_note.hpp"

namespace trapline {

namespace {

/// The process whose kernel runs on this thread, if one does: a second one inside would block its
/// loop. A child that a task forked runs none. (kernel/README.md lists the thread-locals.)
constinit thread_local pid_t running_in = 0;

class Running {
public:
    Running() noexcept { running_in = getpid(); }
    ~Running() { running_in = 0; }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
};

void ignore_sigpipe_if_default() {
    struct sigaction action{};
    if (sigaction(SIGPIPE, nullptr, &action) == 0 && !(action.sa_flags & SA_SIGINFO) &&
        action.sa_handler == SIG_DFL) {
        action.sa_handler = SIG_IGN;
        sigaction(SIGPIPE, &action, nullptr);
    }
}

struct NamedEngine {
    std::string_view name;
    std::unique_ptr<Engine> (*make)(const KernelOptions& options);
};

/// The first is the default, the second stands in for it where the system refuses it.
constexpr NamedEngine engines[] = {
    {"uring", [](const KernelOptions& options) { return make_uring_engine(options.uring); }},
    {"epoll", [](const KernelOptions& options) { return make_epoll_engine(options.epoll); }},
    {"simulation", [](const KernelOptions&) { return make_simulation_engine(); }},
};

std::string engine_names() {
    std::string names;
    for (const NamedEngine& engine : engines)
        names += (names.empty() ? "'" : ", '") + std::string(engine.name) + "'";
    return names;
}

void write_log(const std::function<void(std::string_view)>& log, std::string_view line) {
    if (log)
        return log(line);
    std::fprintf(stderr, "trapline: %.*s\n", static_cast<int>(line.size()), line.data());
}

/// Whether the system does not grant what another engine can do without. What an old Linux calls
/// invalid is a mistake of whoever chose a mode; sandboxes have errors of their own.
bool refused(const std::error_code& error, const KernelOptions& options) noexcept {
    if (error == std::errc::invalid_argument)
        return options.uring.mode == UringOptions::Mode::automatic;
    return error != std::errc::too_many_files_open &&
           error != std::errc::too_many_files_open_in_system;
}

/// Where nobody chose.
std::unique_ptr<Engine> make_default_engine(const KernelOptions& options) {
    try {
        return engines[0].make(options);
    } catch (const std::system_error& refusal) {
        if (!refused(refusal.code(), options))
            throw;
        auto engine = engines[1].make(options);
        write_log(options.log, std::string(refusal.what()) + "; " + std::string(engines[1].name) +
                                   " is used instead (TRAPLINE_ENGINE=" +
                                   std::string(engines[1].name) + " chooses it without this line)");
        return engine;
    }
}

/// The first thing that a kernel makes: it also settles whether it records or replays.
std::unique_ptr<Engine> make_engine(KernelOptions& options) {
    recording::choose(options);
    if (!options.replay.empty())
        return std::make_unique<NoEngine>("replay of " + options.replay);
    if (options.make_engine) {
        if (auto engine = options.make_engine())
            return engine;
        throw std::invalid_argument("KernelOptions::make_engine answered null");
    }
    std::string name = options.engine;
    if (const char* chosen = std::getenv("TRAPLINE_ENGINE"); name.empty() && chosen)
        name = chosen;
    if (name.empty())
        return make_default_engine(options);
    for (const NamedEngine& engine : engines) {
        if (engine.name == name)
            return engine.make(options);
    }
    throw std::invalid_argument("there is no engine named '" + name + "'; there are " +
                                engine_names());
}

} // namespace

Kernel::Kernel(KernelOptions options)
    : engine_(make_engine(options)),
      observer_(options.observer),
      shutdown_patience_(options.shutdown_patience),
      virtual_time_(engine_->virtual_time()),
      log_(std::move(options.log)) {
    if (options.shuffle_seed)
        shuffler_ = std::make_unique<std::mt19937_64>(*options.shuffle_seed);
    if (!options.replay.empty())
        follower_ = std::make_unique<Follower>(*this, options.replay, options.replay_until);
    else if (!options.cancel_on.empty())
        stop_ = std::make_unique<StopSignals>(options.cancel_on);
    if (options.ignore_sigpipe)
        ignore_sigpipe_if_default();
    if (!options.record.empty()) {
        recorder_ = std::make_unique<Recorder>(
            options.record, Recorder::Options{.next = options.observer, .log = log_});
        observer_ = recorder_.get();
    }
}

void Kernel::log(std::string_view line) const { write_log(log_, line); }

Kernel::~Kernel() {
    try {
        shutdown();
    } catch (const std::exception& failure) {
        log(failure.what());
        if (!tasks_.empty())
            std::abort(); // they use this kernel
    }
    while (threads_inside_.load(std::memory_order_acquire) != 0)
        std::this_thread::yield();
}

Kernel::Counters Kernel::counters() const noexcept {
    return {traps_, turns_, tasks_.last_id(), engine_->counters()};
}

/// As long as one is there, the host is in here and waits for nothing.
class Kernel::HostBusy {
public:
    explicit HostBusy(Kernel& kernel) noexcept : kernel_(kernel) { kernel.host_waits_ = false; }
    HostBusy(const HostBusy&) = delete;
    HostBusy& operator=(const HostBusy&) = delete;
    ~HostBusy() {
        if (kernel_.pollable_)
            kernel_.rest();
    }

private:
    Kernel& kernel_;
};

// --- running -------------------------------------------------------------------------------

void Kernel::check_thread() const {
    if (shut_down_)
        throw std::logic_error("the kernel was shut down");
    if (thread_ != std::this_thread::get_id())
        throw std::logic_error("a kernel runs on the thread that made it");
}

void Kernel::check_may_run(const char* call) const {
    if (!shut_down_ && running_in == getpid())
        throw std::logic_error(std::string(call) +
                               "() within a running kernel: await or spawn instead");
    check_thread();
}

void Kernel::run_main(TaskRecord& main) {
    check_may_run("run");
    const Running running;
    const HostBusy busy{*this};
    if (follower_) [[unlikely]]
        return follower_->run(main);
    SignalScope signals{*this};
    adopt(main);
    signals.cancel(main);
    run_until_ended(main);
}

bool Kernel::run_once(Duration max_wait) {
    check_may_run("run_once");
    check_no_replay("run_once");
    const Running running;
    const HostBusy busy{*this};
    const bool left = turn_for_host(max_wait);
    if (!pollable_)
        engine_->rest_until(never); // what was started is under way
    return left;
}

void Kernel::shuffle_ready() {
    shuffled_.clear();
    shuffled_.reserve(tasks_.size()); // none is lost when there is no memory
    const ReadyQueue::Batch batch = ready_.take_all();
    for (TaskRecord* task = batch.first;; task = control(*task).next) {
        shuffled_.push_back(task);
        if (batch.is_last(*task))
            break;
    }
    std::shuffle(shuffled_.begin(), shuffled_.end(), *shuffler_);
    for (TaskRecord* task : shuffled_)
        ready_.push(*task);
}

// --- tasks ---------------------------------------------------------------------------------

bool Kernel::is_parked(const TaskRecord& task) noexcept {
    const Trap& trap = task.frame.trap;
    return std::holds_alternative<traps::Park>(trap) || std::holds_alternative<traps::Join>(trap);
}

bool Kernel::is_asleep(const TaskRecord& task) noexcept {
    const Trap& trap = task.frame.trap;
    return std::holds_alternative<traps::Sleep>(trap) ||
           std::holds_alternative<traps::SleepUntil>(trap);
}

// Another thread has completed what the task waits for. Once the task is in the inbox, the kernel
// may run it, end and be destroyed: `threads_inside_` holds its destructor back until the last
// thread has let go.
void Kernel::wake_from_thread(void* context) noexcept {
    auto& task = *static_cast<TaskRecord*>(context);
    Kernel& kernel = *control(task).kernel;
    kernel.threads_inside_.fetch_add(1, std::memory_order_relaxed);
    TaskRecord* first = kernel.inbox_.load(std::memory_order_relaxed);
    do {
        control(task).next = first;
    } while (!kernel.inbox_.compare_exchange_weak(first, &task, std::memory_order_release,
                                                  std::memory_order_relaxed));
    if (!first)
        kernel.engine_->interrupt();
    kernel.threads_inside_.fetch_sub(1, std::memory_order_release);
}

void Kernel::empty_inbox() noexcept {
    TaskRecord* last_first = inbox_.exchange(nullptr, std::memory_order_acquire);
    TaskRecord* in_order = nullptr;
    while (last_first) {
        TaskRecord* task = last_first;
        last_first = std::exchange(control(*task).next, in_order);
        in_order = task;
    }
    while (in_order) {
        TaskRecord& task = *in_order;
        in_order = control(task).next;
        --awaited_;
        --engine_->threads_awaited;
        make_ready(task, {std::get<traps::AwaitThread>(task.frame.trap).completion->value()});
    }
}

// --- shutdown ------------------------------------------------------------------------------

/// Cancels all tasks, newest first. One that was cancelled before is in its cleanup, which is not
/// to be interrupted a second time; or it swallowed the interrupt, and patience will run out.
void Kernel::interrupt_the_rest(bool once_more) noexcept {
    for (TaskRecord* task = tasks_.newest(); task; task = TaskTable::older(*task)) {
        if (once_more) {
            if (task->state == TaskState::ready &&
                task->frame.reply.interrupt == Interrupt::cancelled)
                continue; // it was interrupted, and has not run since
            log("shutdown: still waiting for task '" + task->name() + "', in " +
                name_of_wait(task->frame.trap));
            control(*task).cancel_sent = false;
        }
        send_cancel(*task);
    }
    timers_.drop(patience_);
    // In virtual time a patience of nothing would run out within the same look at the timers.
    const Duration patience = std::max(shutdown_patience_, Duration{1});
    timers_.set(patience_, later(read_clock(), patience));
}

void Kernel::shutdown() {
    if (tasks_.empty())
        shut_down_ = true;
    if (shut_down_)
        return;
    check_may_run("shutdown");
    const Running running;
    const HostBusy busy{*this};
    if (follower_) [[unlikely]]
        follower_->shutdown();
    std::uint64_t cancelled_up_to = 0;
    while (!tasks_.empty()) {
        if (tasks_.last_id() != cancelled_up_to) { // also what cleanup spawns
            cancelled_up_to = tasks_.last_id();
            interrupt_the_rest(false);
        }
        if (turn_once())
            continue;
        // Parked for ever with interrupts held back, or by a join of one that is.
        TaskRecord& task = *tasks_.newest();
        log("shutdown: task '" + task.name() + "' can never go on, and is destroyed");
        abandon(task);
    }
    timers_.drop(patience_);
    shut_down_ = true;
}

} // namespace trapline
