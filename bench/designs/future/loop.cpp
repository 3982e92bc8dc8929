#include "loop.hpp"

#include <algorithm>
#include <cstdio>
#include <stdexcept>

#include "future.hpp"
#include "task.hpp"

namespace future_design {

namespace traps = trapline::traps;
using trapline::OperationList;

namespace {

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
    any_from_threads_ = true; // the last one from another thread has let go of the lock then
    take_from_threads();
    // What is destroyed may call us once more.
    for (;;) {
        if (tasks_) {
            tasks_->destroy_pending();
        } else if (detail::Callable* ready = ready_.pop()) {
            ready->drop();
        } else if (detail::Callable* waits = before_wait_.pop()) {
            waits->drop();
        } else if (!timers_.empty()) {
            pop_timer();
        } else if (detail::KeptByLoop* kept = kept_) {
            leave(*kept);
            kept->loop_goes();
        } else if (in_flight_) {
            end_operations();
        } else {
            return;
        }
    }
}

void Loop::keep(detail::KeptByLoop& object) noexcept {
    object.next_ = kept_;
    if (kept_)
        kept_->previous_ = &object;
    kept_ = &object;
}

void Loop::leave(detail::KeptByLoop& object) noexcept {
    (object.previous_ ? object.previous_->next_ : kept_) = object.next_;
    if (object.next_)
        object.next_->previous_ = object.previous_;
}

void Loop::set_timer(TimePoint when, detail::Ref<detail::Entry> entry) {
    if (timers_.size() >= timers_max_)
        forget_called_off();
    timers_.push_back({when, timers_set_++, entry.get()});
    (void)entry.release();
    std::ranges::push_heap(timers_, std::less{});
}

void Loop::hand_over(detail::Ref<detail::Entry> entry) {
    // The lock is held to the end: when the callback runs, nothing of the loop is in use here.
    const std::scoped_lock lock{mutex_};
    from_threads_.push(*entry.release());
    any_from_threads_ = true;
    engine_->interrupt();
}

// --- operations ----------------------------------------------------------------------------

namespace {

/// The future of an operation that belongs to somebody else.
class CompletionState final : public detail::ResultState<Completion>, public detail::IoWaiter {
public:
    using ResultState::ResultState;
    void over(Operation& operation) noexcept override {
        const auto self = detail::Ref<CompletionState>::adopt(this);
        if (!done()) // it may have been cancelled meanwhile
            set_result(completion_of(operation));
    }
};

} // namespace

Future<Completion> Loop::start_io(Operation& operation) {
    auto state = detail::make<CompletionState>(*this);
    start_io(operation, *detail::Ref{state}.release());
    return Future<Completion>{std::move(state)};
}

void Loop::start_io(Operation& operation, detail::IoWaiter& waiter) noexcept {
    // The kernel's field for the task is free here: who waits stands there instead.
    operation.task = reinterpret_cast<trapline::TaskRecord*>(&waiter);
    waiter.operation_ = &operation;
    waiter.previous_ = nullptr;
    waiter.next_ = in_flight_;
    if (in_flight_)
        in_flight_->previous_ = &waiter;
    in_flight_ = &waiter;
    if (engine_->start(operation) == Engine::Started::done)
        is_over(operation);
}

void Loop::is_over(Operation& operation) noexcept {
    auto& waiter = *reinterpret_cast<detail::IoWaiter*>(operation.task);
    (waiter.previous_ ? waiter.previous_->next_ : in_flight_) = waiter.next_;
    if (waiter.next_)
        waiter.next_->previous_ = waiter.previous_;
    waiter.over(operation);
}

/// Their memory is in use until they have ended.
void Loop::end_operations() noexcept {
    for (detail::IoWaiter* at = in_flight_; at; at = at->next_) {
        if (!at->operation_->cancel_requested && traps::interruptible(*at->operation_->request))
            cancel_io(*at->operation_);
    }
    OperationList completed;
    engine_->wait(trapline::never, completed);
    while (Operation* operation = completed.pop())
        is_over(*operation);
}

// --- turns ---------------------------------------------------------------------------------

bool Loop::idle() const noexcept {
    if (!ready_.empty() || !before_wait_.empty() || in_flight_ || engine_->threads_awaited != 0)
        return false;
    // Time never jumps to its end: who waits until then waits for ever.
    if (!timers_.empty() && !(engine_->virtual_time() && timers_.front().when == trapline::never))
        return false;
    return !any_from_threads_.load(std::memory_order_relaxed);
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
         !timers_.empty() && timers_.front().when <= now;) {
        detail::Ref<detail::Entry> due{timers_.front().entry};
        pop_timer();
        push_ready(*due.release());
    }
    detail::CallableList turn = std::exchange(ready_, {});
    while (detail::Callable* callable = turn.pop())
        callable->call(*this);
    while (detail::Callable* callable = before_wait_.pop())
        callable->call(*this);
}

void Loop::take_from_threads() {
    if (!any_from_threads_.load(std::memory_order_relaxed))
        return;
    const std::scoped_lock lock{mutex_};
    any_from_threads_ = false;
    while (detail::Callable* callable = from_threads_.pop())
        push_ready(*callable);
}

/// Waits until something happens, if nobody is ready.
void Loop::serve_engine() {
    while (!timers_.empty() && timers_.front().entry->cancelled())
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
    while (Operation* operation = completed.pop())
        is_over(*operation);
}

void Loop::pop_timer() noexcept {
    std::ranges::pop_heap(timers_, std::less{});
    const auto entry = detail::Ref<detail::Entry>::adopt(timers_.back().entry);
    timers_.pop_back();
}

/// A limit that is set for an hour and called off at once does not stay for an hour.
void Loop::forget_called_off() {
    std::erase_if(timers_, [](const Timer& timer) {
        if (!timer.entry->cancelled())
            return false;
        timer.entry->drop_reference();
        return true;
    });
    std::ranges::make_heap(timers_, std::less{});
    timers_max_ = std::max<std::size_t>(128, 2 * timers_.size());
}

void detail::exception_left_callback(Loop& loop) noexcept {
    loop.call_exception_handler({"an exception left a callback", std::current_exception()});
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
