// Generator<Y, S>: a coroutine that yields values of type Y one at a time, when it is asked, and
// may be sent an S with each further asking. Plain code drives it; no kernel, no traps.
//
//     Generator<int> countdown(int from) {
//         for (; from > 0; --from)
//             co_yield from;
//     }
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

namespace detail {

/// Throws std::logic_error.
[[noreturn]] void raise_generator_misuse(const char* what);

// Generators that delegate make a stack: `innermost_` of the lowest, whom the outside holds, is
// the one to resume; each knows the one below it. Values pass through the lowest. One that ends is
// popped, and the loop in run() goes on with the one below: neither depth nor length takes stack.
// Nor does dropping them, the innermost first.
template <class Y, class S>
class GeneratorPromise {
public:
    Generator<Y, S> get_return_object() noexcept { return Generator<Y, S>{*this}; }

    static void* operator new(std::size_t bytes) { return FramePool::allocate(bytes); }
    static void operator delete(void* memory, std::size_t bytes) noexcept {
        FramePool::deallocate(memory, bytes);
    }

    struct FinalAwaiter {
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<GeneratorPromise> self) const noexcept {
            self.promise().pop();
        }
        void await_resume() const noexcept {}
    };

    std::suspend_always initial_suspend() const noexcept { return {}; }
    FinalAwaiter final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() noexcept { failure_ = std::current_exception(); }

    template <class A>
    void await_transform(A&&) = delete; // a Generator cannot trap: see AsyncGenerator

    // --- co_yield

    class Yielding {
    public:
        explicit Yielding(GeneratorPromise& self) noexcept : self_(self) {}
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<>) const noexcept {}
        S await_resume() const { return self_.lowest_->arrived(); }

    private:
        GeneratorPromise& self_;
    };

    template <class U = Y>
        requires YieldableAs<U, Y>
    Yielding yield_value(U&& value) {
        lowest_->yielded_.fill(std::forward<U>(value));
        return Yielding{*this};
    }
    Yielding yield_value(Y value)
        requires std::is_lvalue_reference_v<Y>
    {
        lowest_->yielded_.fill(value);
        return Yielding{*this};
    }

    class Delegating {
    public:
        Delegating(GeneratorPromise& self, Generator<Y, S>&& sub) : self_(self) {
            if (sub.handle_) {
                sub.handle_.promise().require_idle();
                if constexpr (!std::is_void_v<S>)
                    sub.handle_.promise().require_started(false);
            }
            sub_ = std::move(sub);
        }
        Delegating(Delegating&&) = delete;

        bool await_ready() const noexcept { return sub_.ended(); }
        void await_suspend(std::coroutine_handle<>) noexcept { self_.push(sub_); }
        void await_resume() const {
            if (!sub_.ended() && sub_.handle_.promise().failure_)
                std::rethrow_exception(sub_.handle_.promise().failure_);
        }

    private:
        GeneratorPromise& self_;
        Generator<Y, S> sub_;
    };

    Delegating yield_value(ElementsOf<Generator<Y, S>> sub) {
        return Delegating{*this, std::move(sub.range_)};
    }
    template <std::ranges::input_range R>
        requires std::is_void_v<S> && std::is_convertible_v<std::ranges::range_reference_t<R>, Y>
    Delegating yield_value(ElementsOf<R> range) {
        return Delegating{*this, each_of(range.range_)};
    }

    // --- for the Generator

    Yielded<Y>& yielded() noexcept { return yielded_; }
    const std::exception_ptr& failure() const noexcept { return failure_; }
    bool running() const noexcept { return running_; }

    void require_idle() const {
        if (running_) [[unlikely]]
            raise_generator_misuse("it is running already");
    }
    void require_started(bool started) const {
        if (started_ != started) [[unlikely]]
            raise_generator_misuse(started ? "send() before start()" : "it was started before");
    }
    static void require_throwable(const GeneratorPromise* self, const std::exception_ptr& failure) {
        if (!failure)
            raise_generator_misuse("throw_in() of no exception");
        if (!self || !self->started_)
            raise_generator_misuse("throw_in() while it stands at no co_yield");
        self->require_idle();
    }

    void put(std::conditional_t<std::is_void_v<S>, std::monostate, S>& value) noexcept {
        sent_ = std::addressof(value);
    }
    void put_failure(std::exception_ptr failure) noexcept { thrown_ = std::move(failure); }

    /// Runs to the next co_yield. False if the lowest ended instead.
    bool run() {
        yielded_.clear();
        started_ = true;
        running_ = true;
        do
            std::coroutine_handle<GeneratorPromise>::from_promise(*innermost_).resume();
        while (!yielded_.full() && innermost_);
        running_ = false;
        return innermost_ != nullptr;
    }

    /// Destroys all on top of this one, which is the lowest and does not run.
    void unwind() noexcept {
        while (innermost_ && innermost_ != this) {
            innermost_ = innermost_->below_;
            innermost_->above_->reset();
        }
    }

private:
    /// The stack of `above` comes on top of this one, which is the innermost.
    void push(Generator<Y, S>& above) noexcept {
        GeneratorPromise& sub = above.handle_.promise();
        above_ = &above;
        sub.below_ = this;
        sub.started_ = true;
        lowest_->innermost_ = std::exchange(sub.innermost_, &sub);
        lowest_->innermost_->lowest_ = lowest_;
    }

    /// This one, the innermost, has ended.
    void pop() noexcept {
        if (below_)
            below_->lowest_ = lowest_;
        lowest_->innermost_ = below_;
    }

    S arrived() {
        if (thrown_) [[unlikely]]
            std::rethrow_exception(std::exchange(thrown_, nullptr));
        if constexpr (!std::is_void_v<S>)
            return static_cast<S&&>(*sent_);
    }

    template <class R>
    static Generator<Y, S> each_of(R& range) {
        for (auto&& element : range)
            co_yield std::forward<decltype(element)>(element);
    }

    GeneratorPromise* below_ = nullptr;  ///< who delegated to this one
    Generator<Y, S>* above_ = nullptr;   ///< whom this one delegated to last
    GeneratorPromise* lowest_ = this;    ///< right in the innermost
    GeneratorPromise* innermost_ = this; ///< right in the lowest
    Yielded<Y> yielded_;                 ///< this and the rest: used in the lowest
    std::add_pointer_t<std::remove_reference_t<S>> sent_ = nullptr;
    std::exception_ptr thrown_;
    std::exception_ptr failure_; ///< what this one's body threw
    bool started_ = false;
    bool running_ = false;
};

} // namespace detail

} // namespace trapline
