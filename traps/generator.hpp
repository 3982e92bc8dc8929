// Generator<Y, S>: a coroutine that yields values of type Y one at a time, when it is asked, and
// may be sent an S with each further asking. Plain code drives it; no kernel, no traps.
//
//     Generator<int> countdown(int from) {
//         for (; from > 0; --from)
//             co_yield from;
//     }
//
//     for (int left : countdown(3))
//         numbers.push_back(left);
//
//     Generator<double, double> running_mean() { // co_yield answers what is sent
//         double sum = co_yield 0;
//         for (int n = 1;; ++n)
//             sum += co_yield sum / n;
//     }
//
// The body runs only while it is asked, and an exception that leaves it is thrown to the one who
// asked. One that is dropped half way is destroyed where it stands, so its locals clean up; so are
// its arguments as soon as the body has ended. Move-only; neither thread-safe nor reentrant.
//
// `co_yield elements_of(sub)` yields all that another generator yields. What is sent or thrown in
// goes to that one until it has ended, straight to the innermost however deep they are nested.
// `co_await` cannot stand in it: AsyncGenerator may trap between values.
#pragma once

#include <cassert>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <iterator>
#include <memory>
#include <ranges>
#include <type_traits>
#include <utility>
#include <variant>

#include "frame_pool.hpp"
#include "yielded.hpp"

namespace trapline {

template <class Y, class S = void>
class Generator;

namespace detail {
template <class Y, class S>
class GeneratorPromise;
}

/// See elements_of(). Stands behind `co_yield` at once: it refers to what it was made of.
template <class R>
class [[nodiscard]] ElementsOf {
public:
    explicit ElementsOf(R&& range) noexcept : range_(std::forward<R>(range)) {}
    ElementsOf(const ElementsOf&) = delete;
    ElementsOf& operator=(const ElementsOf&) = delete;

private:
    template <class Y, class S>
    friend class detail::GeneratorPromise;

    R&& range_;
};

/// `co_yield elements_of(sub)` in a Generator<Y, S>: all that `sub` yields, in its place. `sub` is
/// another Generator<Y, S>, given up (`elements_of(std::move(sub))` if it has a name), or, in a
/// Generator<Y>, any range of what converts to Y. An exception that leaves `sub` is thrown at this
/// co_yield. A generator that takes values must not have been started: std::logic_error.
template <class R>
ElementsOf<R> elements_of(R&& sub) noexcept {
    return ElementsOf<R>{std::forward<R>(sub)};
}

/// None of its functions blocks. Those that run the body throw what leaves the body, which has
/// ended then, and std::logic_error when the body runs already: it asked itself.
template <class Y, class S>
class [[nodiscard("a Generator does nothing until it is asked")]] Generator
    : public std::ranges::view_base {
public:
    static_assert(!std::is_rvalue_reference_v<S>, "send the value itself: it is moved");

    using promise_type = detail::GeneratorPromise<Y, S>;
    using value_type = Y;

    /// std::optional<Y>; a pointer if Y is a reference. False when the body has ended.
    using Next = typename detail::Yielded<Y>::Next;

    /// One without a body has ended: also one that was moved from.
    Generator() noexcept = default;
    Generator(Generator&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Generator& operator=(Generator&& other) noexcept {
        if (this != &other) {
            reset();
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }
    ~Generator() { reset(); }

    /// Runs to the next co_yield and answers its value.
    Next next()
        requires std::is_void_v<S>
    {
        return advance() ? take() : Next{};
    }

    /// The same, the first time, for one that takes values. Throws std::logic_error the second.
    Next start()
        requires(!std::is_void_v<S>)
    {
        if (handle_)
            handle_.promise().require_started(false);
        return advance() ? take() : Next{};
    }

    using Sent = std::conditional_t<std::is_void_v<S>, std::monostate, S>;

    /// Makes `value` what its co_yield answers, runs to the next and answers that one's value.
    /// Before start(): std::logic_error. When the body has ended: nothing happens.
    Next send(Sent value)
        requires(!std::is_void_v<S>)
    {
        if (handle_) {
            handle_.promise().require_started(true);
            handle_.promise().put(value);
        }
        return advance() ? take() : Next{};
    }

    /// Throws `failure` at the co_yield where it stands, and runs to the next one if it is caught.
    /// Throws std::logic_error if it stands at none.
    Next throw_in(std::exception_ptr failure) {
        promise_type::require_throwable(handle_ ? &handle_.promise() : nullptr, failure);
        handle_.promise().put_failure(std::move(failure));
        return advance() ? take() : Next{};
    }

    /// Destroys the body where it stands. Harmless when it has ended. Throws std::logic_error when
    /// it is running.
    void close() {
        if (handle_)
            handle_.promise().require_idle();
        reset();
    }

    bool ended() const noexcept { return !handle_; }

    class Iterator;

    /// To loop over what is left: runs to the next value. Once a loop; what was begun goes on.
    Iterator begin()
        requires std::is_void_v<S>
    {
        advance();
        return Iterator{*this};
    }
    std::default_sentinel_t end() const noexcept
        requires std::is_void_v<S>
    {
        return {};
    }

private:
    friend promise_type;
    explicit Generator(promise_type& promise) noexcept
        : handle_(std::coroutine_handle<promise_type>::from_promise(promise)) {}

    Next take() { return handle_.promise().yielded().take(); }

    /// Runs to the next co_yield. False if the body ended instead, or had before.
    bool advance() {
        if (!handle_)
            return false;
        promise_type& promise = handle_.promise();
        promise.require_idle();
        if (promise.run()) [[likely]]
            return true;
        const std::exception_ptr failure = promise.failure();
        reset();
        if (failure)
            std::rethrow_exception(failure);
        return false;
    }

    void reset() noexcept {
        if (handle_) {
            assert(!handle_.promise().running() && "a generator destroys itself");
            handle_.promise().unwind();
            std::exchange(handle_, nullptr).destroy();
        }
    }

    std::coroutine_handle<promise_type> handle_;
};

/// An input iterator: goes through what the generator yields, once.
template <class Y, class S>
class Generator<Y, S>::Iterator {
public:
    using value_type = std::remove_cvref_t<Y>;
    using difference_type = std::ptrdiff_t;
    using reference = typename detail::Yielded<Y>::Item&;

    Iterator(Iterator&&) noexcept = default;
    Iterator& operator=(Iterator&&) noexcept = default;

    /// The value, the generator's own until the next step. It may be moved from.
    reference operator*() const noexcept { return generator_->handle_.promise().yielded().item(); }
    auto* operator->() const noexcept { return std::addressof(**this); }

    /// Runs to the next value.
    Iterator& operator++() {
        generator_->advance();
        return *this;
    }
    void operator++(int) { ++*this; }

    friend bool operator==(const Iterator& at, std::default_sentinel_t) noexcept {
        return at.generator_->ended();
    }

private:
    friend Generator;
    explicit Iterator(Generator& generator) noexcept : generator_(&generator) {}

    Generator* generator_;
};

} // namespace trapline

#include "generator.inl.hpp"
