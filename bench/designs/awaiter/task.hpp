// Coroutines of the awaiter design: whoever is awaited keeps the state of the wait in its awaiter,
// on the frame of who waits, and what ends the wait resumes that frame. Nobody stands between.
//
//     Task<int> length(int fd) {
//         std::array<std::byte, 64> buffer;
//         co_return co_await recv(fd, buffer);
//     }
//
// A Task begins when it is awaited; control passes to it and back without a loop (symmetric
// transfer). What awaits one another is a chain. A chain is stopped as a whole: the innermost wait
// ends with Stopped, and so does each one after it.
#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <utility>

#include <trapline/traps/frame_pool.hpp>

namespace awaiter_design {

class Scheduler;

/// Thrown where a chain waits that was stopped. As with std::stop_token, nothing takes it back.
class Stopped {};

/// What a stop tells: the innermost wait.
class Stoppable {
public:
    virtual void stop() noexcept = 0;

protected:
    ~Stoppable() = default;
};

/// What the coroutines that await one another share. Does not move.
struct Chain {
    using Ended = void (*)(Chain&) noexcept;

    explicit Chain(Ended on_end) noexcept : ended(on_end) {}
    Chain(const Chain&) = delete;
    Chain& operator=(const Chain&) = delete;

    void request_stop() noexcept {
        stop_requested = true;
        if (Stoppable* waits = std::exchange(waiting, nullptr))
            waits->stop();
    }

    Scheduler* scheduler = nullptr;
    Stoppable* waiting = nullptr; ///< null while it runs, or will
    Ended ended;                  ///< the outermost one has
    bool stop_requested = false;
};

namespace detail {

class PromiseBase {
public:
    static void* operator new(std::size_t bytes) {
        return trapline::detail::FramePool::allocate(bytes);
    }
    static void operator delete(void* memory, std::size_t bytes) noexcept {
        trapline::detail::FramePool::deallocate(memory, bytes);
    }

    std::suspend_always initial_suspend() const noexcept { return {}; }
    auto final_suspend() noexcept {
        struct HandBack {
            bool await_ready() const noexcept { return false; }
            std::coroutine_handle<> await_suspend(std::coroutine_handle<>) const noexcept {
                if (self.awaited_by)
                    return self.awaited_by;
                self.chain->ended(*self.chain);
                return std::noop_coroutine();
            }
            void await_resume() const noexcept {}
            PromiseBase& self;
        };
        return HandBack{*this};
    }
    void unhandled_exception() noexcept { failure = std::current_exception(); }

    Chain* chain = nullptr;
    std::coroutine_handle<> awaited_by; ///< null for the outermost one
    std::exception_ptr failure;
};

template <class T>
class Promise : public PromiseBase {
public:
    std::coroutine_handle<Promise> get_return_object() noexcept {
        return std::coroutine_handle<Promise>::from_promise(*this);
    }
    template <class U>
    void return_value(U&& value) {
        result_.emplace(std::forward<U>(value));
    }
    T take() {
        if (failure)
            std::rethrow_exception(std::exchange(failure, nullptr));
        return std::move(*result_);
    }

private:
    std::optional<T> result_;
};

template <>
class Promise<void> : public PromiseBase {
public:
    std::coroutine_handle<Promise> get_return_object() noexcept {
        return std::coroutine_handle<Promise>::from_promise(*this);
    }
    void return_void() const noexcept {}
    void take() {
        if (failure)
            std::rethrow_exception(std::exchange(failure, nullptr));
    }
};

template <class T>
class ChildAwaiter {
public:
    explicit ChildAwaiter(std::coroutine_handle<Promise<T>> child) noexcept : child_(child) {}
    bool await_ready() const noexcept { return false; }
    template <class P>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<P> self) const noexcept {
        child_.promise().chain = self.promise().chain;
        child_.promise().awaited_by = self;
        return child_;
    }
    T await_resume() const { return child_.promise().take(); }

private:
    std::coroutine_handle<Promise<T>> child_;
};

} // namespace detail

/// Awaited once, or given to the scheduler. Move-only.
template <class T = void>
class [[nodiscard]] Task {
public:
    using promise_type = detail::Promise<T>;
    using Handle = std::coroutine_handle<promise_type>;

    Task(Handle handle) noexcept : handle_(handle) {} // what a coroutine answers
    Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
    Task& operator=(Task&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Task() {
        if (handle_)
            handle_.destroy();
    }

    Handle handle() const noexcept { return handle_; }
    Handle release() noexcept { return std::exchange(handle_, {}); }

    /// Answers its result or throws its exception.
    detail::ChildAwaiter<T> operator co_await() && noexcept {
        return detail::ChildAwaiter<T>{handle_};
    }

private:
    Handle handle_;
};

} // namespace awaiter_design
