// Coro<T>: the coroutine type. Lazy: the body starts when it is awaited, spawned or driven by a
// Routine. Move-only; dropping one that never ran destroys its arguments and nothing else.
//
//     Coro<int> twice(int x) {
//         co_await sleep(1ms);
//         co_return 2 * x;
//     }
//
//     Coro<int> four_times(int x) {
//         int doubled = co_await twice(x);
//         co_return co_await twice(doubled);
//     }
//
// What may stand behind `co_await` in a Coro: another Coro, a trap, and the awaitables of this
// library. Somebody else's awaitable would resume the coroutine behind the kernel's back, so it
// is refused at compile time.
//
// Awaits go as deep as memory does; but a chain that is destroyed before its end is destroyed
// recursively, and takes stack for each coroutine.
//
// Take parameters by value in everything that is spawned: a reference is dead before the body
// starts. `co_await` cannot stand in a destructor or a catch block: note in there what is to be
// done, and await it afterwards.
#pragma once

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#error "g++ below 13 destroys temporaries twice in co_await expressions: take g++ 13 or clang 16"
#endif

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <source_location>
#include <type_traits>
#include <utility>

#include "frame.hpp"
#include "frame_pool.hpp"
#include "outcome.hpp"
#include "trap_call.hpp"

namespace trapline {

template <class T>
class Coro;

namespace detail {

/// An awaitable of this library says so by a member type `trapline_awaitable`.
template <class A>
concept MarkedAwaitable = requires { typename std::remove_cvref_t<A>::trapline_awaitable; };

/// What all promises of this library begin with.
struct PromiseBase {
    TrapFrame* frame = nullptr;    ///< set when the coroutine is awaited or driven
    PromiseBase* parent = nullptr; ///< who awaits this one; null for the outermost
    std::coroutine_handle<> parent_handle;
    std::source_location where; ///< the await it stands at, or last stood at

    static void* operator new(std::size_t bytes) { return FramePool::allocate(bytes); }
    static void operator delete(void* memory, std::size_t bytes) noexcept {
        FramePool::deallocate(memory, bytes);
    }

    struct FinalAwaiter {
        bool await_ready() const noexcept { return false; }
        template <class Promise>
        HandOver await_suspend(std::coroutine_handle<Promise> self) const noexcept {
            PromiseBase& promise = self.promise();
            if (promise.parent) [[likely]]
                return hand_over(*promise.frame, promise.parent_handle);
            promise.frame->innermost = nullptr;
            return hand_to_driver();
        }
        void await_resume() const noexcept {}
    };

    std::suspend_always initial_suspend() const noexcept { return {}; }
    FinalAwaiter final_suspend() const noexcept { return {}; }

    template <MarkedAwaitable A>
        requires(!PlainCall<std::remove_cvref_t<A>>)
    A&& await_transform(A&& awaitable,
                        std::source_location at = std::source_location::current()) noexcept {
        where = at;
        return std::forward<A>(awaitable);
    }
    template <PlainCall A>
    Asked<A> await_transform(const A& call,
                             std::source_location at = std::source_location::current()) noexcept {
        where = at;
        return {*frame, call};
    }
    template <TrapType T>
    Asked<TrapCall<T>> await_transform(
        const T& trap, std::source_location at = std::source_location::current()) noexcept {
        where = at;
        return {*frame, TrapCall<T>{trap}};
    }

    template <class T>
    static void await_transform(Coro<T>&) {
        static_assert(!std::same_as<T, T>, "a Coro is awaited once: co_await std::move(coro)");
    }

    /// Notes where the exception that is being handled began, once for each.
    void note_failure() noexcept;
};

/// Throws std::logic_error: `use` of a Coro that was moved from or awaited before.
[[noreturn]] void raise_empty_coro(const char* use);

template <class T>
struct CoroPromise;

template <class T>
struct CoroPromiseBase : PromiseBase {
    Outcome<T> outcome;

    Coro<T> get_return_object() noexcept;
    void unhandled_exception() noexcept {
        note_failure();
        outcome.set_failure(std::current_exception());
    }
};

template <class T>
struct CoroPromise : CoroPromiseBase<T> {
    template <class U = T>
        requires std::is_convertible_v<U&&, T>
    void return_value(U&& value) {
        this->outcome.set_value(std::forward<U>(value));
    }
};

template <class T>
struct CoroPromise<T&> : CoroPromiseBase<T&> {
    void return_value(T& value) noexcept { this->outcome.set_value(&value); }
};

template <>
struct CoroPromise<void> : CoroPromiseBase<void> {
    void return_void() noexcept { outcome.set_value(); }
};

} // namespace detail

template <class T = void>
class [[nodiscard("a Coro does nothing until it is awaited")]] Coro {
public:
    using promise_type = detail::CoroPromise<T>;
    using handle_type = std::coroutine_handle<promise_type>;
    using value_type = T;
    using trapline_awaitable = void;

    Coro() noexcept = default;
    Coro(Coro&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Coro& operator=(Coro&& other) noexcept {
        if (this != &other) {
            reset();
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }
    ~Coro() { reset(); }

    /// False once it was moved from or awaited.
    explicit operator bool() const noexcept { return static_cast<bool>(handle_); }

    class Awaiter;
    /// Starts the body and waits for its result; throws what the body threw.
    Awaiter operator co_await() &&;

    /// For drivers: gives up the coroutine, which must then be destroyed by hand.
    handle_type release() noexcept { return std::exchange(handle_, nullptr); }

    /// For drivers: the coroutine, still owned.
    handle_type handle() const noexcept { return handle_; }

    /// For drivers: destroys the coroutine.
    void reset() noexcept {
        if (handle_)
            std::exchange(handle_, nullptr).destroy();
    }

private:
    friend detail::CoroPromiseBase<T>;
    explicit Coro(handle_type handle) noexcept : handle_(handle) {}

    handle_type handle_;
};

template <class T>
class Coro<T>::Awaiter {
public:
    explicit Awaiter(Coro&& body) : body_(std::move(body)) {
        if (!body_) [[unlikely]]
            detail::raise_empty_coro("co_await");
    }

    bool await_ready() const noexcept { return false; }

    template <class Promise>
    detail::HandOver await_suspend(std::coroutine_handle<Promise> caller) noexcept {
        auto& promise = body_.handle_.promise();
        promise.frame = caller.promise().frame;
        promise.parent = &caller.promise();
        promise.parent_handle = caller;
        return detail::hand_over(*promise.frame, body_.handle_);
    }

    T await_resume() { return body_.handle_.promise().outcome.take(); }

private:
    Coro body_;
};

template <class T>
typename Coro<T>::Awaiter Coro<T>::operator co_await() && {
    return Awaiter{std::move(*this)};
}

template <class T>
Coro<T> detail::CoroPromiseBase<T>::get_return_object() noexcept {
    static_assert(alignof(CoroPromise<T>) <= 2 * sizeof(void*),
                  "a coroutine's result cannot be aligned so strictly: return a pointer to it");
    auto& self = static_cast<CoroPromise<T>&>(*this);
    return Coro<T>{std::coroutine_handle<CoroPromise<T>>::from_promise(self)};
}

} // namespace trapline
