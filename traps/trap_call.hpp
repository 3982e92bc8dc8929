// The awaitables that yield one trap each, and what to derive those of one's own from. None of
// them allocates.
//
//     class [[nodiscard]] Readable : public TrapAwaiter<traps::ReadWait> {
//     public:
//         explicit Readable(int fd) noexcept : TrapAwaiter(traps::ReadWait{fd}) {}
//         void await_resume() const {
//             if (reply().failed())
//                 throw std::system_error(reply().error(), std::system_category(), "wait");
//         }
//     };
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
        frame.asked_by(self);
        frame_ = &frame;
    }

    ReplyAwaiter() = default;
    explicit ReplyAwaiter(TrapFrame& frame) noexcept : frame_(&frame) {}

    /// The reply; an interrupt is thrown.
    const Reply& reply() const {
        if (frame_->reply.interrupt != Interrupt::none) [[unlikely]]
            detail::raise_interrupt(*frame_);
        return frame_->reply;
    }

    /// For an await_ready() that may spare the trap. Forgets an earlier await.
    bool ready(bool now) noexcept {
        frame_ = nullptr;
        return now;
    }

    /// Whether the trap was yielded, and not spared by ready().
    bool asked() const noexcept { return frame_ != nullptr; }

    /// The frame that the trap was yielded to. Only if it was.
    TrapFrame& frame() const noexcept { return *frame_; }

private:
    TrapFrame* frame_ = nullptr; ///< set while a trap is asked
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

    const T& trap() const noexcept { return trap_; }

protected:
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

/// The same, or the error.
template <class R>
std::expected<R, std::error_code> expected_of(const Reply& reply) noexcept {
    if (reply.failed()) [[unlikely]]
        return std::unexpected(error_of(reply.error()));
    if constexpr (std::is_void_v<R>)
        return {};
    else
        return result_of<R>(reply);
}

/// Throws the error that answered a trap which cannot fail otherwise: usually ENOSYS, by a
/// kernel that does not know the trap. The text names the trap with that index.
[[noreturn]] void raise_unanswered(std::size_t trap, int error);

} // namespace detail

/// A trap as an awaitable that answers std::expected.
template <TrapType T>
class [[nodiscard]] TrapCall : public TrapAwaiter<T> {
public:
    using TrapAwaiter<T>::TrapAwaiter;
    using plain_call = TrapCall;
    using result = std::expected<typename T::result, std::error_code>;

    static result answer(const Reply& reply) noexcept {
        return detail::expected_of<typename T::result>(reply);
    }
    result await_resume() { return answer(this->reply()); }
};

template <TrapType T>
TrapCall(const T&) -> TrapCall<T>;

/// A trap as an awaitable that answers its bare result: for traps that cannot fail.
template <TrapType T>
class [[nodiscard]] SureTrap : public TrapAwaiter<T> {
public:
    using TrapAwaiter<T>::TrapAwaiter;
    using plain_call = SureTrap;

    static typename T::result answer(const Reply& reply) {
        if (reply.failed()) [[unlikely]]
            detail::raise_unanswered(trap_index<T>, reply.error());
        return detail::result_of<typename T::result>(reply);
    }
    typename T::result await_resume() { return answer(this->reply()); }
};

template <TrapType T>
SureTrap(const T&) -> SureTrap<T>;

namespace detail {

/// An awaiter that is nothing but a trap and the way to read its reply. It says so by a member
/// type; what derives from it does not.
template <class A>
concept PlainCall = requires { requires std::same_as<typename A::plain_call, A>; };

/// What a plain call becomes behind `co_await`: its trap is in the frame, the reply to come. The
/// call itself is never kept in the coroutine, so the compiler writes the trap to its place at once
/// and in pieces. To copy it from where it was put together costs a stall of 5 ns: processors do
/// not hand on two narrow stores to one wide load.
template <PlainCall Call>
class [[nodiscard]] Asked : public ReplyAwaiter {
public:
    Asked(TrapFrame& frame, const Call& call) noexcept : ReplyAwaiter(frame) {
        using T = std::remove_cvref_t<decltype(call.trap())>;
        frame.trap.template emplace<T>(call.trap());
    }

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) const noexcept {
        frame().asked_by(self);
    }
    decltype(auto) await_resume() const { return Call::answer(reply()); }
};

} // namespace detail

} // namespace trapline
