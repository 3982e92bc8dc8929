// The promise of Generator: see generator.hpp.
#pragma once

#include "generator.hpp"

namespace trapline {

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
