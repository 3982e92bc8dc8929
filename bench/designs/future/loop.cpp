#include "loop.hpp"

#include <algorithm>
#include <cstdio>
#include <stdexcept>

#include "future.hpp"
#include "task.hpp"

namespace future_design {

using trapline::OperationList;

namespace {

/// An operation in flight and who waits for it.
struct Pending {
    Operation* operation;
    Future<Completion> future;
};

Completion completion_of(const Operation& operation) noexcept {
    return {operation.result, operation.transferred, operation.stopped_by,
            operation.cancel_requested && operation.ended_by_cancel()};
}

void write_log(const ExceptionContext& context) noexcept {
    const std::string why = context.exception ? ": " + describe(context.exception) : "";
    std::fprintf(stderr, "loop: %s%s\n", context.message.c_str(), why.c_str());
}

} // namespace

std::string describe(const std::exception_ptr& exception) {
    try {
        std::rethrow_exception(exception);
    } catch (const std::exception& known) {
        return known.what();
    } catch (const CancelledError& cancelled) {
        return cancelled.what();
    } catch (...) {
        return "an exception of a kind of its own";
    }
}

Loop::~Loop() {
    take_from_threads(); // the last one from another thread has let go of the lock then
    // What is destroyed may call us once more.
    while (!tasks_.empty() || !ready_.empty() || !timers_.empty()) {
        if (!tasks_.empty()) {
            tasks_.back()->destroy_pending();
            continue;
        }
        const auto ready = std::exchange(ready_, {});
        const auto timers = std::exchange(timers_, {});
    }
}

Handle Loop::call_soon(Callback callback) {
    ready_.push_back(std::make_shared<Callback>(std::move(callback)));
    return Handle{ready_.back()};
}

Handle Loop::call_later(Duration delay, Callback callback) {
    return call_at(trapline::later(time(), delay), std::move(callback));
}

Handle Loop::call_at(TimePoint when, Callback callback) {
    auto entry = std::make_shared<Callback>(std::move(callback));
    if (timers_.size() >= timers_max_)
        forget_called_off();
    timers_.push_back({when, timers_set_++, entry});
    std::ranges::push_heap(timers_, std::less{});
    return Handle{std::move(entry)};
}

void Loop::call_soon_threadsafe(Callback callback) {
    // The lock is held to the end: when the callback runs, nothing of the loop is in use here.
    const std::scoped_lock lock{mutex_};
    from_threads_.push_back(std::move(callback));
    engine_->interrupt();
}

Future<Completion> Loop::start_io(Operation& operation) {
    Future<Completion> future{*this};
    // The kernel's field for the task is free here: whose it is tells the future instead.
    auto pending = std::make_unique<Pending>(&operation, future);
    operation.task = reinterpret_cast<trapline::TaskRecord*>(pending.get());
    if (engine_->start(operation) == Engine::Started::done) {
        future.set_result(completion_of(operation));
    } else {
        ++operations_;
        (void)pending.release(); // until it is handed back
    }
    return future;
}

bool Loop::idle() const noexcept {
    if (!ready_.empty() || operations_ != 0 || engine_->threads_awaited != 0)
        return false;
    // Time never jumps to its end: who waits until then waits for ever.
    if (!timers_.empty() && !(engine_->virtual_time() && timers_.front().when == trapline::never))
        return false;
    const std::scoped_lock lock{mutex_};
    return from_threads_.empty();
}

void Loop::run_forever() {
    if (running_)
        throw std::runtime_error("the loop runs already");
    struct Running {
        Loop& loop;
        ~Running() { loop.running_ = loop.stopping_ = false; }
    } const running{*this};
    running_ = true;
    do
        run_once();
    while (!stopping_ && !idle());
}

void Loop::run_once() {
    take_from_threads();
    serve_engine();
    take_from_threads();
    for (const TimePoint now = timers_.empty() ? TimePoint::min() : time();
         !timers_.empty() && timers_.front().when <= now; pop_timer())
        ready_.push_back(timers_.front().callback);
    for (std::size_t count = ready_.size(); count > 0; --count) {
        const std::shared_ptr<Callback> callback = std::move(ready_.front());
        ready_.pop_front();
        if (*callback)
            call(*callback);
    }
}

void Loop::take_from_threads() {
    const std::scoped_lock lock{mutex_};
    for (Callback& callback : std::exchange(from_threads_, {}))
        call_soon(std::move(callback));
}

/// Waits until something happens, if nobody is ready.
void Loop::serve_engine() {
    while (!timers_.empty() && !*timers_.front().callback) // was called off
        pop_timer();
    if (idle())
        return;
    TimePoint deadline = trapline::never;
    if (stopping_ || !ready_.empty())
        deadline = TimePoint::min();
    else if (!timers_.empty())
        deadline = timers_.front().when;
    OperationList completed;
    engine_->wait(deadline, completed);
    while (Operation* operation = completed.pop()) {
        --operations_;
        const std::unique_ptr<Pending> pending{reinterpret_cast<Pending*>(operation->task)};
        if (!pending->future.done()) // it may have been cancelled meanwhile
            pending->future.set_result(completion_of(*operation));
    }
}

void Loop::pop_timer() {
    std::ranges::pop_heap(timers_, std::less{});
    timers_.pop_back();
}

/// A limit that is set for an hour and called off at once does not stay for an hour.
void Loop::forget_called_off() {
    std::erase_if(timers_, [](const Timer& timer) { return !*timer.callback; });
    std::ranges::make_heap(timers_, std::less{});
    timers_max_ = std::max<std::size_t>(128, 2 * timers_.size());
}

void Loop::call(Callback& callback) noexcept {
    try {
        std::exchange(callback, nullptr)();
    } catch (...) {
        call_exception_handler({"an exception left a callback", std::current_exception()});
    }
}

void Loop::call_exception_handler(const ExceptionContext& context) noexcept {
    try {
        if (handler_)
            return handler_(context);
    } catch (...) {
        write_log({"an exception left the exception handler", std::current_exception()});
    }
    write_log(context);
}

} // namespace future_design
