#include "frame.hpp"

#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>

#include <cxxabi.h>

#include "coro.hpp"
#include "exceptions.hpp"
#include "policy.hpp"

namespace trapline {

namespace {

/// Within the library: who keeps a callable alive, or a time limit's scope. No news to a user.
bool is_inner(const std::source_location& at) {
    // "result name<template arguments>(arguments)": neither the result nor the template arguments
    // of a user's function say whose it is.
    const std::string_view function = at.function_name();
    std::size_t name = 0;
    int depth = 0;
    for (std::size_t i = 0; i < function.size(); ++i) {
        depth += (function[i] == '<') - (function[i] == '>');
        if (depth == 0 && function[i] == ' ')
            name = i + 1;
        if (depth == 0 && function[i] == '(')
            break;
    }
    return function.substr(name).starts_with("trapline::detail::");
}

AwaitChain chain_from(const detail::PromiseBase* promise) {
    AwaitChain chain;
    for (; promise; promise = promise->parent) {
        const bool started = promise->where.line() != 0; // and has come to its first await
        if (started && !is_inner(promise->where))
            chain.push_back(promise->where);
    }
    return chain;
}

} // namespace

AwaitChain TrapFrame::where() const {
    if (!innermost)
        return {};
    // All promises begin with a PromiseBase and lie at the same place of their coroutine's frame:
    // none is aligned more strictly (CoroPromiseBase sees to it).
    const void* address = innermost.address();
    using Base = std::coroutine_handle<detail::PromiseBase>;
    return chain_from(&Base::from_address(const_cast<void*>(address)).promise());
}

void TrapFrame::inherit(const FrameExtras& parent) {
    if (parent.locals)
        with_extras().locals = parent.locals;
    if (parent.policing && parent.policing->chain())
        detail::exchange_policies(*this, parent.policing->chain());
}

void TrapFrame::forget_failure() noexcept {
    if (!extras)
        return;
    extras->failure = nullptr;
    extras->failure_began.clear();
}

namespace detail {

void PromiseBase::note_failure() noexcept {
    if (!frame)
        return;
    // An interrupt ends tasks by design, often thousands at once: where it struck is no news.
    const std::type_info* type = abi::__cxa_current_exception_type();
    if (type && (*type == typeid(TaskCancelled) || *type == typeid(TaskTimeout) ||
                 *type == typeid(TimeoutCancellation)))
        return frame->forget_failure();
    try {
        FrameExtras& extras = frame->with_extras();
        // One that a child let out passes here again: it keeps the place where it began.
        if (extras.failure != std::current_exception()) {
            extras.failure_began = chain_from(this);
            extras.failure = std::current_exception();
        }
    } catch (const std::bad_alloc&) {
        frame->forget_failure(); // the exception itself matters more
    }
}

void raise_empty_coro(const char* use) {
    throw std::logic_error(use +
                           std::string{" of an empty Coro: it was moved from or awaited before"});
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
        std::rethrow_exception(std::exchange(frame.extras->thrown, nullptr));
    }
    raise(TaskCancelled{});
    __builtin_unreachable();
}

} // namespace detail

} // namespace trapline
