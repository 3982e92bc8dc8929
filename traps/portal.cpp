#include "portal.hpp"

#include <new>

#include "cancel.hpp"

namespace trapline {

namespace detail {

std::exception_ptr closed_before_the_end() noexcept {
    return std::make_exception_ptr(PortalClosed("the portal was closed before the call had ended"));
}

std::exception_ptr portal_interrupt(const Cancelled& interrupt) {
    if (dynamic_cast<const TaskCancelled*>(&interrupt))
        return closed_before_the_end();
    return std::current_exception(); // its own time limit, which it did not catch
}

void PortalState::submit(PortalCall& call) {
    if (server.load(std::memory_order_relaxed) == std::this_thread::get_id())
        throw std::logic_error("Portal::run on the thread that serves the portal would wait for "
                               "itself: await the coroutine instead");
    try {
        calls.put_sync(&call);
    } catch (const QueueClosed&) {
        throw PortalClosed("the portal is closed");
    }
}

void PortalState::shut() noexcept {
    calls.close();
    server.store({}, std::memory_order_relaxed); // nobody would wait any more
    while (const std::optional<PortalCall*> call = calls.try_get())
        (*call)->finish();
}

namespace {

/// In the frame of serve(): however that ends, nobody waits any more.
class Shutter {
public:
    explicit Shutter(std::shared_ptr<PortalState> state) noexcept : state_(std::move(state)) {}
    Shutter(Shutter&&) noexcept = default;
    Shutter& operator=(Shutter&&) = delete;
    ~Shutter() {
        if (state_)
            state_->shut();
    }
    PortalState& operator*() const noexcept { return *state_; }
    const std::shared_ptr<PortalState>& state() const noexcept { return state_; }

private:
    std::shared_ptr<PortalState> state_;
};

/// A call that has begun, in the frame of its task: however that ends, the thread is told.
class Begun {
public:
    Begun(std::shared_ptr<PortalState> state, PortalCall& call) noexcept
        : state_(std::move(state)), call_(&call), place_(state_->running.end()) {}
    Begun(Begun&& other) noexcept
        : state_(std::move(other.state_)),
          call_(std::exchange(other.call_, nullptr)),
          place_(other.place_) {}
    Begun& operator=(Begun&&) = delete;
    ~Begun() {
        if (!call_)
            return;
        if (place_ != state_->running.end())
            state_->running.erase(place_);
        call_->finish();
    }

    /// A place for the handle of its task, as long as that runs.
    Task<void>& enlist() {
        place_ = state_->running.emplace(state_->running.end());
        return *place_;
    }
    PortalCall& call() const noexcept { return *call_; }

private:
    std::shared_ptr<PortalState> state_;
    PortalCall* call_;
    std::list<Task<void>>::iterator place_;
};

Coro<void> carry_out(Begun begun) { co_await begun.call().carry_out(); }

Coro<void> begin_call(const std::shared_ptr<PortalState>& state, PortalCall& call) {
    Begun begun{state, call};
    Task<void>& place = begun.enlist();
    Task<void> task = co_await spawn(carry_out(std::move(begun)), {.name = "portal call"});
    place = std::move(task);
}

Coro<void> wait_for_calls(PortalState& state) {
    while (!state.running.empty()) {
        const Task<void> task = state.running.front();
        co_await task.wait();
    }
}

Coro<void> answer_calls(const std::shared_ptr<PortalState>& state) {
    for (;;) {
        const std::optional<PortalCall*> call = co_await state->calls.next();
        if (!call)
            break;
        try {
            co_await begin_call(state, **call);
        } catch (const std::bad_alloc&) { // the thread was told; the next one may be luckier
        }
    }
    co_await wait_for_calls(*state);
}

Coro<void> serve(Shutter shutter) {
    PortalState& state = *shutter;
    state.server.store(std::this_thread::get_id(), std::memory_order_relaxed);
    Outcome<void> outcome;
    co_await Attempt{answer_calls(shutter.state()), outcome};
    state.shut();
    for (const Task<void>& task : state.running) // there are none unless it was interrupted
        (void)co_await traps::Cancel{task.record()};
    co_await disable_cancellation([&] { return wait_for_calls(state); });
    outcome.take();
}

} // namespace

} // namespace detail

Portal::Portal() : state_(std::make_shared<detail::PortalState>()) {}

Coro<void> Portal::serve() {
    if (state_->served.exchange(true))
        throw std::logic_error("a portal is served once");
    state_->server.store(std::this_thread::get_id(), std::memory_order_relaxed);
    return detail::serve(detail::Shutter{state_});
}

void Portal::close() noexcept {
    state_->calls.close();
    if (!state_->served)
        state_->shut();
}

} // namespace trapline
