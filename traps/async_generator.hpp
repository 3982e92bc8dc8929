// AsyncGenerator<T>: a coroutine that yields values of type T one at a time, when it is asked, and
// may trap between them.
//
//     AsyncGenerator<int> ticks(int count) {
//         for (int tick = 1; tick <= count; ++tick) {
//             co_await sleep(1s);
//             co_yield tick;
//         }
//     }
//
//     while (std::optional<int> tick = co_await gen.next())
//         seen.push_back(*tick);
//
//     co_await for_each(ticks(3), [&](int tick) { seen.push_back(tick); });
//
//     std::vector<int> all = co_await collect(ticks(3));
//
// The body runs only while somebody waits for the next value, as part of that task: its traps are
// the task's traps, and interrupts and time limits reach it there. A value that it has come to is
// never lost: the interrupt waits for the next trap. An interrupt or another exception that leaves
// the body has ended it, and is thrown to the one who asked. Who wants the generator to outlive a
// time limit catches it in the body; a limit's scope can never be left half way by a co_yield.
//
// One that is dropped half way is destroyed where it stands: its locals clean up by destructor.
// Cleanup that traps is run by close(), and by for_each and collect, however they end. Move-only.
// Any number of tasks may use it, one at a time. A call of it costs no allocation but the first.
#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>
#include <functional>
#include <source_location>
#include <type_traits>
#include <utility>
#include <vector>

#include "attempt.hpp"
#include "awaitable.hpp"
#include "cancel.hpp"
#include "coro.hpp"
#include "yielded.hpp"

namespace trapline {

/// What close() throws at the co_yield where the body stands. Let it pass, or catch it to clean up:
/// the body is to end now, and to yield no more.
class GeneratorClosed final : public Cancelled {
public:
    const char* what() const noexcept override { return "generator closed"; }
};

template <class T>
class AsyncGenerator;

namespace detail {

template <class T>
class AsyncGeneratorPromise;
template <class T>
class AsyncGeneratorStep;
template <class T>
class ClosingStep;

/// The body of a generator whose close() was awaited.
template <class T>
Coro<void> close_generator(AsyncGenerator<T> generator);

/// Throws std::logic_error: `use` of a generator while a task waits for its next value.
[[noreturn]] void raise_generator_in_use(const char* use);

/// Throws std::runtime_error: the body yielded after close().
[[noreturn]] void raise_generator_goes_on();

/// Says on stderr that a generator is destroyed, where its body stands, and where the task that
/// waits for it. Where asserts are on the process ends there, unless an exception is on its way.
void report_generator_deserted(const PromiseBase& body) noexcept;

} // namespace detail

template <class T>
class [[nodiscard("an AsyncGenerator does nothing until it is asked")]] AsyncGenerator {
public:
    using promise_type = detail::AsyncGeneratorPromise<T>;
    using value_type = T;

    /// One without a body has ended: also one that was moved from.
    AsyncGenerator() noexcept = default;
    AsyncGenerator(AsyncGenerator&& other) noexcept { take_over(other); }
    AsyncGenerator& operator=(AsyncGenerator&& other) noexcept {
        if (this != &other) {
            drop();
            take_over(other);
        }
        return *this;
    }
    /// Destroys the body where it stands. No task may be waiting for the next value.
    ~AsyncGenerator() { drop(); }

    class Next;
    /// Runs the body to its next co_yield and answers the value as std::optional<T>, as a pointer
    /// if T is a reference; false when the body has ended. Throws what leaves the body. May block,
    /// where the body does; an interrupt is the body's, see above. Throws std::logic_error while
    /// another task waits for the next value.
    Next next() noexcept { return Next{*this}; }

    /// Ends the body: throws GeneratorClosed at its co_yield, and waits until it has ended. Takes
    /// the body along: the generator has ended at once. Throws what else leaves the body, and
    /// std::runtime_error if it yields once more (it is destroyed then). Blocks where the body
    /// does. Interrupts are held back meanwhile. Harmless when it has ended or was never asked.
    /// Throws std::logic_error while another task waits for the next value.
    Coro<void> close();

    bool ended() const noexcept { return !body_; }

private:
    friend promise_type;
    friend detail::AsyncGeneratorStep<T>;
    friend detail::ClosingStep<T>;

    using Handle = std::coroutine_handle<promise_type>;

    explicit AsyncGenerator(promise_type& promise) noexcept : body_(Handle::from_promise(promise)) {
        promise.owner = this;
    }

    void take_over(AsyncGenerator& other) noexcept {
        body_ = std::exchange(other.body_, nullptr);
        if (body_)
            body_.promise().owner = this;
    }

    void drop() noexcept {
        if (body_ && body_.promise().running) [[unlikely]] {
            detail::report_generator_deserted(body_.promise());
            std::exchange(body_, nullptr).promise().owner = nullptr; // it is left to who waits
        }
        destroy();
    }

    void destroy() noexcept {
        if (body_)
            std::exchange(body_, nullptr).destroy();
    }

    Handle body_;
};

namespace detail {

template <class T>
class AsyncGeneratorPromise : public PromiseBase {
public:
    AsyncGenerator<T> get_return_object() noexcept {
        // TrapFrame::where() finds the promises of a chain by it.
        static_assert(alignof(AsyncGeneratorPromise) <= 2 * sizeof(void*),
                      "what a generator yields cannot be aligned so strictly: yield a pointer");
        return AsyncGenerator<T>{*this};
    }

    void return_void() const noexcept {}
    void unhandled_exception() noexcept {
        if (!closing)
            note_failure();
        failure = std::current_exception();
    }

    class Yielding {
    public:
        explicit Yielding(AsyncGeneratorPromise& self) noexcept : self_(self) {}
        bool await_ready() const noexcept { return false; }
        template <class Promise>
        HandOver await_suspend(std::coroutine_handle<Promise>) const noexcept {
            return hand_over(*self_.frame, self_.parent_handle);
        }
        void await_resume() const {
            if (self_.closing) [[unlikely]]
                throw GeneratorClosed{};
        }

    private:
        AsyncGeneratorPromise& self_;
    };

    template <class U = T>
        requires YieldableAs<U, T>
    Yielding yield_value(U&& value, std::source_location at = std::source_location::current()) {
        where = at;
        yielded.fill(std::forward<U>(value));
        return Yielding{*this};
    }
    Yielding yield_value(T value, std::source_location at = std::source_location::current())
        requires std::is_lvalue_reference_v<T>
    {
        where = at;
        yielded.fill(value);
        return Yielding{*this};
    }

    /// Destroys it.
    void dispose() noexcept {
        if (owner) [[likely]]
            owner->destroy();
        else
            std::coroutine_handle<AsyncGeneratorPromise>::from_promise(*this).destroy();
    }

    AsyncGenerator<T>* owner = nullptr; ///< null if it is gone, but somebody waits
    Yielded<T> yielded;
    std::exception_ptr failure;
    bool started = false;
    bool running = false; ///< a task waits for the next value
    bool closing = false;
};

/// Hands over to the body, and is handed over to when that yields or ends. If it is destroyed
/// meanwhile, so is the chain of coroutines that it stands in, and the body goes with it.
template <class T>
class AsyncGeneratorStep {
public:
    using trapline_awaitable = void;

    explicit AsyncGeneratorStep(AsyncGenerator<T>& generator) noexcept : generator_(&generator) {}
    AsyncGeneratorStep(AsyncGeneratorStep&& other) noexcept : generator_(other.generator_) {}
    AsyncGeneratorStep& operator=(AsyncGeneratorStep&&) = delete;
    ~AsyncGeneratorStep() {
        if (running_) [[unlikely]]
            running_->dispose();
    }

    bool await_ready() const noexcept {
        return generator_->ended() || generator_->body_.promise().running;
    }

    template <class Promise>
    HandOver await_suspend(std::coroutine_handle<Promise> asking) noexcept {
        const auto body = generator_->body_;
        running_ = &body.promise();
        running_->started = true;
        running_->running = true;
        running_->frame = asking.promise().frame;
        running_->parent = &asking.promise();
        running_->parent_handle = asking;
        return hand_over(*running_->frame, body);
    }

protected:
    /// The body, which has yielded or ended since; null if it had ended before.
    AsyncGeneratorPromise<T>* stepped() {
        if (running_) [[likely]]
            running_->running = false;
        else if (!generator_->ended())
            raise_generator_in_use("next()");
        return std::exchange(running_, nullptr);
    }

    /// Destroys the body, which has ended, and answers what left it.
    static std::exception_ptr end(AsyncGeneratorPromise<T>& body) noexcept {
        std::exception_ptr failure = std::move(body.failure);
        body.dispose();
        return failure;
    }

    static typename Yielded<T>::Next yielded_by(AsyncGeneratorPromise<T>& body) {
        if (body.owner) [[likely]]
            return body.yielded.take();
        struct Dispose {
            AsyncGeneratorPromise<T>& body;
            ~Dispose() { body.dispose(); }
        } const dispose_after{body};
        return body.yielded.take();
    }

    AsyncGenerator<T>& generator() const noexcept { return *generator_; }

private:
    AsyncGenerator<T>* generator_; ///< until it is awaited: from then on the generator may move
    AsyncGeneratorPromise<T>* running_ = nullptr;
};

} // namespace detail

template <class T>
class [[nodiscard]] AsyncGenerator<T>::Next : public detail::AsyncGeneratorStep<T> {
public:
    using detail::AsyncGeneratorStep<T>::AsyncGeneratorStep;

    typename detail::Yielded<T>::Next await_resume() {
        promise_type* body = this->stepped();
        if (!body)
            return {};
        if (body->yielded.full()) [[likely]]
            return this->yielded_by(*body);
        if (const std::exception_ptr failure = this->end(*body))
            std::rethrow_exception(failure);
        return {};
    }
};

} // namespace trapline

#include "async_generator.inl.hpp"

namespace trapline {

/// Calls `function` with each value that is left, then closes the generator, however it ends: when
/// the generator has ended, when the function answered false, by an exception or an interrupt
/// (which is thrown on; what goes wrong in closing is thrown only if it is alone). The function
/// returns, or answers by a coroutine that it returns, anything that is ignored, or bool: false
/// ends the loop. May block, and can be interrupted, where the body or the function can.
template <class T, detail::ItemFunction<T> F>
Coro<void> for_each(AsyncGenerator<T>&& generator, F function) {
    return detail::for_each_of<AsyncGenerator<T>, F>(std::move(generator), std::move(function));
}
template <class T, detail::ItemFunction<T> F>
Coro<void> for_each(AsyncGenerator<T>& generator, F function) {
    return detail::for_each_of<AsyncGenerator<T>&, F>(generator, std::move(function));
}

/// The values that are left, at most `items_max`, then closes the generator, however it ends. May
/// block where the body does. If it is interrupted, or the body fails, the values are gone.
template <class T>
auto collect(AsyncGenerator<T>&& generator, std::size_t items_max = static_cast<std::size_t>(-1)) {
    return detail::collect_of<T, AsyncGenerator<T>>(std::move(generator), items_max);
}
template <class T>
auto collect(AsyncGenerator<T>& generator, std::size_t items_max = static_cast<std::size_t>(-1)) {
    return detail::collect_of<T, AsyncGenerator<T>&>(generator, items_max);
}

} // namespace trapline
