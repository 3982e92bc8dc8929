// The awaitables that yield one trap each. None of them allocates.
#pragma once

#include <concepts>
#include <coroutine>
#include <expected>
#include <system_error>

#include "frame.hpp"
#include "trap.hpp"

namespace trapline {

/// What is common to awaitables that yield a trap: suspending with it, and its reply.
class ReplyAwaiter {
public:
    using trapline_awaitable = void;

    bool await_ready() const noexcept { return false; }

protected:
    /// Yields the trap T made of `arguments`. It is made in the frame, its final place: a copy of
    /// what was written a moment ago piece by piece would have to wait for all the pieces.
    template <TrapType T, class Promise, class... Arguments>
    void yield(std::coroutine_handle<Promise> self, const Arguments&... arguments) noexcept {
        TrapFrame& frame = *self.promise().frame;
        frame.trap.template emplace<T>(arguments...);
        frame.innermost = self;
        frame.chain = &self.promise();
        frame_ = &frame;
    }

    /// The reply; an interrupt is thrown.
    const Reply& reply() const {
        if (frame_->reply.interrupt != Interrupt::none) [[unlikely]]
            detail::raise_interrupt(*frame_);
        return frame_->reply;
    }

    /// Whether the trap was yielded: not if await_ready() spared it.
    bool asked() const noexcept { return frame_ != nullptr; }

    /// The frame that the trap was yielded to. Only if it was.
    TrapFrame& frame() const noexcept { return *frame_; }

private:
    TrapFrame* frame_ = nullptr;
};

/// Yields the trap T, and hands its reply to whoever derives from it.
template <TrapType T>
class TrapAwaiter : public ReplyAwaiter {
public:
    explicit TrapAwaiter(const T& trap) noexcept : trap_(trap) {}

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        this->template yield<T>(self, trap_);
    }

protected:
    const T& trap() const noexcept { return trap_; }

    /// The trap to be, until await_suspend.
    T& ask() noexcept { return trap_; }

private:
    T trap_;
};

namespace detail {

inline std::error_code error_of(int error) noexcept { return {error, std::system_category()}; }

/// A reply's value as the result type of its trap.
template <class R>
R result_of(const Reply& reply) noexcept {
    if constexpr (std::same_as<R, TimePoint>)
        return reply.time();
    else if constexpr (std::is_pointer_v<R>)
        return reinterpret_cast<R>(reply.value);
    else if constexpr (!std::is_void_v<R>)
        return static_cast<R>(reply.value);
}

/// Throws the error that answered a trap which cannot fail otherwise: usually ENOSYS, by a
/// kernel that does not know the trap. The text names it.
[[noreturn]] void raise_unanswered(const char* trap, int error);

} // namespace detail

/// A trap as an awaitable that answers std::expected.
template <TrapType T>
class [[nodiscard]] TrapCall : public TrapAwaiter<T> {
public:
    using TrapAwaiter<T>::TrapAwaiter;
    using result = std::expected<typename T::result, std::error_code>;

    result await_resume() {
        const Reply& reply = this->reply();
        if (reply.failed()) [[unlikely]]
            return std::unexpected(detail::error_of(reply.error()));
        if constexpr (std::is_void_v<typename T::result>)
            return {};
        else
            return detail::result_of<typename T::result>(reply);
    }
};

template <TrapType T>
TrapCall(const T&) -> TrapCall<T>;

/// A trap as an awaitable that answers its bare result: for traps that cannot fail.
template <TrapType T>
class [[nodiscard]] SureTrap : public TrapAwaiter<T> {
public:
    using TrapAwaiter<T>::TrapAwaiter;

    typename T::result await_resume() {
        const Reply& reply = this->reply();
        if (reply.failed()) [[unlikely]]
            detail::raise_unanswered(traps::name_of(Trap{this->trap()}), reply.error());
        return detail::result_of<typename T::result>(reply);
    }
};

template <TrapType T>
SureTrap(const T&) -> SureTrap<T>;

} // namespace trapline
