#include "frame.hpp"

#include <new>
#include <utility>

#include "coro.hpp"
#include "exceptions.hpp"

namespace trapline {

namespace {

AwaitChain chain_from(const detail::PromiseBase* promise) {
    AwaitChain chain;
    for (; promise; promise = promise->parent)
        chain.push_back(promise->where);
    return chain;
}

} // namespace

AwaitChain TrapFrame::where() const { return chain_from(chain); }

namespace detail {

void PromiseBase::note_failure() noexcept {
    // An interrupt ends tasks by design, often thousands at once: where it struck is no news.
    if (!frame)
        return;
    if (frame->reply.interrupt != Interrupt::none) {
        frame->failing = nullptr;
        frame->failed_at = nullptr;
        return;
    }
    // An exception that a child let out passes here again: it keeps the place where it began.
    const bool first = !frame->failed_at || frame->failed_at->empty() || !frame->failing ||
                       frame->failing != std::current_exception();
    if (!first)
        return;
    try {
        frame->failed_at = std::make_unique<AwaitChain>(chain_from(this));
    } catch (const std::bad_alloc&) {
        frame->failed_at = nullptr; // the exception itself matters more
    }
    frame->failing = std::current_exception();
}

void raise_interrupt(TrapFrame& frame) {
    const Reply reply = frame.reply;
    const auto raise = [&](auto interrupt) {
        interrupt.set_progress(reply.progress);
        throw interrupt;
    };
    if (reply.interrupt == Interrupt::timed_out) {
        const TimeLimit* innermost = frame.limit;
        if (!innermost || (innermost->sooner && innermost->deadline == reply.time()))
            raise(TaskTimeout{reply.time()});
        else
            raise(TimeoutCancellation{reply.time()});
    } else if (reply.interrupt == Interrupt::thrown) {
        std::rethrow_exception(std::exchange(frame.thrown, nullptr));
    }
    raise(TaskCancelled{});
    __builtin_unreachable();
}

} // namespace detail

} // namespace trapline
