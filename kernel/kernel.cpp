#include "kernel.hpp"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

#include "engines/uring.hpp"

namespace trapline {

namespace {

/// The kernel that runs on this thread, if one does: a second one inside would block its loop.
/// (With the frame pool the only thread-local of the library.)
constinit thread_local const Kernel* running_kernel = nullptr;

class Running {
public:
    explicit Running(const Kernel* kernel) noexcept { running_kernel = kernel; }
    ~Running() { running_kernel = nullptr; }
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

std::unique_ptr<Engine> make_engine(const KernelOptions& options) {
    if (options.make_engine) return options.make_engine();
    std::string name = options.engine;
    if (const char* chosen = std::getenv("TRAPLINE_ENGINE"); name.empty() && chosen) name = chosen;
    if (name.empty() || name == "uring") return make_uring_engine(options.uring);
    throw std::invalid_argument("there is no engine named '" + name + "'; there is 'uring'");
}

} // namespace

Kernel::Kernel(KernelOptions options)
    : engine_(make_engine(options)), observer_(options.observer), log_(std::move(options.log)) {
    if (options.shuffle_seed) shuffler_ = std::make_unique<std::mt19937_64>(*options.shuffle_seed);
    if (options.ignore_sigpipe) ignore_sigpipe_if_default();
}

Kernel::~Kernel() {
    try {
        shutdown();
    } catch (const std::exception& failure) {
        log(failure.what());
        std::abort(); // tasks are left that use this kernel
    }
    while (threads_inside_.load(std::memory_order_acquire) != 0) std::this_thread::yield();
}

Kernel::Counters Kernel::counters() const noexcept {
    return {traps_, turns_, last_id_, engine_->counters()};
}

// --- the turn of the loop ------------------------------------------------------------------

void Kernel::check_may_run() const {
    if (shut_down_) throw std::logic_error("the kernel was shut down");
    if (running_kernel)
        throw std::logic_error("run() within a running kernel: await or spawn instead");
    if (thread_ != std::this_thread::get_id())
        throw std::logic_error("a kernel runs on the thread that made it");
}

void Kernel::run_main(TaskRecord& main) {
    check_may_run();
    const Running running{this};
    adopt(main);
    while (main.state != TaskState::terminated) {
        if (stuck()) throw Deadlock(describe_deadlock());
        serve_world(ready_.empty());
        run_ready();
    }
}

/// Nothing is ready, and nothing is left that could make it so.
bool Kernel::stuck() const noexcept {
    return ready_.empty() && timers_.empty() && operations_ == 0 && thread_waits_ == 0;
}

void Kernel::serve_world(bool may_wait) {
    if (may_wait || operations_ != 0) {
        OperationList completed;
        engine_->wait(may_wait ? timers_.next() : TimePoint::min(), completed);
        while (Operation* operation = completed.pop()) complete(*operation);
    }
    if (inbox_.load(std::memory_order_relaxed)) [[unlikely]]
        empty_inbox();
    if (!timers_.empty()) {
        const TimePoint now = read_clock();
        while (Timer* timer = timers_.pop(now)) timer_fired(static_cast<TaskTimer&>(*timer));
    }
}

void Kernel::run_ready() {
    ++turns_;
    ReadyQueue batch = ready_.take();
    if (shuffler_) [[unlikely]]
        shuffle(batch);
    while (TaskRecord* task = batch.pop()) run_task(*task);
}

void Kernel::run_task(TaskRecord& task) {
    task.state = TaskState::running;
    if (observer_) [[unlikely]]
        observer_->running(task);
    do {
        task.frame.resume();
        if (task.frame.ended()) return terminate(task);
        ++traps_;
        if (observer_) [[unlikely]]
            observer_->trapped(task, task.frame.trap);
    } while (answer(task) == Answer::now);
}

void Kernel::shuffle(ReadyQueue& batch) {
    shuffled_.clear();
    while (TaskRecord* task = batch.pop()) shuffled_.push_back(task);
    std::shuffle(shuffled_.begin(), shuffled_.end(), *shuffler_);
    for (TaskRecord* task : shuffled_) batch.push(*task);
}

// --- tasks ---------------------------------------------------------------------------------

void Kernel::adopt(TaskRecord& task) {
    ::new (task.room()) TaskControl(*this, task);
    task.id = ++last_id_;
    task.add_reference();
    tasks_.insert(task);
    if (observer_) [[unlikely]]
        observer_->created(task);
    ready_.push(task);
}

void Kernel::terminate(TaskRecord& task) noexcept {
    timers_.drop(control(task).limit);
    task.finish();
    task.cancelled = task.failure && is_interrupt(task.failure);
    retire(task);
}

/// Destroys a task that is parked for good. Its destructors run, its joiners see it cancelled.
void Kernel::abandon(TaskRecord& task) noexcept {
    timers_.drop(control(task).limit);
    task.node.unlink();
    task.abandon();
    task.failure = std::make_exception_ptr(TaskCancelled{});
    task.cancelled = true;
    retire(task);
}

void Kernel::retire(TaskRecord& task) noexcept {
    task.state = TaskState::terminated;
    task.interrupt_pending = false;
    tasks_.remove(task);
    if (observer_) [[unlikely]]
        observer_->terminated(task);
    task.joiners.wake_all();
    task.drop_reference();
}

void Kernel::make_ready(TaskRecord& task, const Reply& reply) noexcept {
    task.frame.reply = reply;
    if (observer_) [[unlikely]]
        observer_->replied(task, reply);
    ready_.push(task);
}

void Kernel::wake_parked(void* context) noexcept {
    auto& task = *static_cast<TaskRecord*>(context);
    control(task).kernel->make_ready(task, Reply{});
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
        control(task).next_in_inbox = first;
    } while (!kernel.inbox_.compare_exchange_weak(first, &task, std::memory_order_release,
                                                  std::memory_order_relaxed));
    if (!first) kernel.engine_->interrupt();
    kernel.threads_inside_.fetch_sub(1, std::memory_order_release);
}

void Kernel::empty_inbox() noexcept {
    TaskRecord* last_first = inbox_.exchange(nullptr, std::memory_order_acquire);
    TaskRecord* in_order = nullptr;
    while (last_first) {
        TaskRecord* task = last_first;
        last_first = std::exchange(control(*task).next_in_inbox, in_order);
        in_order = task;
    }
    while (in_order) {
        TaskRecord& task = *in_order;
        in_order = control(task).next_in_inbox;
        --thread_waits_;
        make_ready(task, {std::get<traps::AwaitThread>(task.frame.trap).completion->value()});
    }
}

// --- shutdown ------------------------------------------------------------------------------

void Kernel::shutdown() {
    if (tasks_.empty()) shut_down_ = true;
    if (shut_down_) return;
    check_may_run();
    const Running running{this};
    std::uint64_t cancelled_up_to = 0;
    while (!tasks_.empty()) {
        // Those that cleanup spawns are cancelled, too.
        if (last_id_ != cancelled_up_to) {
            for (TaskRecord* task = tasks_.newest(); task; task = TaskTable::older(*task)) {
                if (std::exchange(control(*task).shutdown_sent, true)) continue;
                control(*task).cancel_sent = false; // it may have survived an earlier one
                send_cancel(*task);
            }
            cancelled_up_to = last_id_;
        }
        if (stuck()) {
            // Parked for ever with interrupts held back, or by a join of one that is.
            TaskRecord& task = *tasks_.newest();
            log("shutdown: task '" + task.name() + "' can never go on, and is destroyed");
            abandon(task);
            continue;
        }
        serve_world(ready_.empty());
        run_ready();
    }
    shut_down_ = true;
}

} // namespace trapline
