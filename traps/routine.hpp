// Routine<T>: drives a coroutine by hand, with the protocol that Python's coroutines have.
//
//     Routine<int> r{work()};
//     for (const Trap* trap = r.start(); trap; trap = r.send(answer(*trap))) {}
//     int result = r.result();
//
// A kernel is nothing but a loop around that. A Routine owns its coroutine and its frame and
// stays where it is: it neither copies nor moves.
#pragma once

#include <exception>
#include <stdexcept>
#include <utility>

#include "coro.hpp"
#include "exceptions.hpp"

namespace trapline {

template <class T>
class Routine {
public:
    explicit Routine(Coro<T> body) : body_(std::move(body)) {
        if (!body_)
            detail::raise_empty_coro("Routine");
        body_.handle().promise().frame = &frame_;
        frame_.innermost = body_.handle();
    }
    Routine(const Routine&) = delete;
    Routine& operator=(const Routine&) = delete;

    /// Runs to the first trap. Answers it, or null if the coroutine has ended. Call once.
    const Trap* start() {
        require(!started_ && !closed_, "started twice, or after close()");
        started_ = true;
        return resume();
    }

    /// Answers the trap and runs to the next one; null if the coroutine has ended.
    const Trap* send(Reply reply = {}) {
        require(started_ && !ended(), "sent to a routine that waits for nothing");
        require(reply.interrupt != Interrupt::thrown || (frame_.extras && frame_.extras->thrown),
                "nothing to throw: see throw_in");
        frame_.reply = reply;
        return resume();
    }

    /// Throws `failure` at the trap where the coroutine waits, and runs to the next one.
    const Trap* throw_in(std::exception_ptr failure) {
        require(started_ && !ended(), "threw into a routine that waits for nothing");
        require(failure != nullptr, "threw no exception in");
        frame_.with_extras().thrown = std::move(failure);
        return send({.interrupt = Interrupt::thrown});
    }

    /// Ends the coroutine: throws TaskCancelled at its trap, so that cleanup runs, and swallows
    /// it if it comes out again. Any other exception is thrown; so is std::runtime_error if the
    /// coroutine traps once more instead of ending (it is destroyed then). Harmless when it has
    /// ended or was never started.
    void close() {
        if (!started_ || ended()) {
            body_.reset();
            closed_ = true;
            return;
        }
        const Trap* another = send({.interrupt = Interrupt::cancelled});
        closed_ = true;
        if (another) {
            body_.reset();
            throw std::runtime_error("coroutine trapped again instead of ending on close()");
        }
        try {
            body_.handle().promise().outcome.take();
        } catch (const TaskCancelled&) {}
    }

    /// The result, moved out, or the coroutine's own exception. Only when it has ended.
    T result() {
        require(!closed_ && ended(), "asked for a result that is not there");
        return body_.handle().promise().outcome.take();
    }

    bool ended() const noexcept { return closed_ || frame_.ended(); }

    /// The frame: the trap, and the chain of awaits behind it.
    TrapFrame& frame() noexcept { return frame_; }

private:
    const Trap* resume() {
        require(!running_, "driven from within itself");
        running_ = true;
        frame_.resume();
        running_ = false;
        return frame_.ended() ? nullptr : &frame_.trap;
    }

    static void require(bool condition, const char* complaint) {
        if (!condition)
            throw std::logic_error(complaint);
    }

    TrapFrame frame_; // outlives the coroutine, which may look at it while it is destroyed
    Coro<T> body_;
    bool started_ = false;
    bool closed_ = false;
    bool running_ = false;
};

template <class T>
Routine(Coro<T>) -> Routine<T>;

} // namespace trapline
