// I/O of the awaiter design: the operation lies in the awaiter until it is over.
//
//     std::size_t n = co_await recv(fd, buffer);
//     co_await send_all(fd, std::span(buffer).first(n));
//
// Failures are std::system_error. When a chain is stopped, its operation is asked to end, and the
// wait goes on until it has: the buffer stays the caller's. A result that came all the same counts.
#pragma once

#include <cerrno>
#include <coroutine>
#include <cstddef>
#include <span>
#include <system_error>

#include <poll.h>
#include <sys/socket.h>

#include <trapline/traps/io_request.hpp>

#include "scheduler.hpp"

namespace awaiter_design {

namespace requests = trapline::traps;

/// Answers the operation's count or descriptor.
class [[nodiscard]] IoAwaiter : public Waiter {
public:
    explicit IoAwaiter(requests::IoRequest request) noexcept : request_(request) {}
    IoAwaiter(IoAwaiter&& unused) noexcept : request_(unused.request_) {}

    bool await_ready() const noexcept { return false; }
    template <class P>
    bool await_suspend(std::coroutine_handle<P> self) noexcept {
        if (!begin_wait(self))
            return false;
        operation_.request = &request_;
        if (scheduler().start(operation_, *this))
            return true;
        chain().waiting = nullptr;
        return false;
    }
    std::size_t await_resume() const {
        if (stopped())
            throw Stopped{};
        if (operation_.result < 0 || operation_.stopped_by != 0)
            throw std::system_error(operation_.stopped_by ? operation_.stopped_by
                                                          : static_cast<int>(-operation_.result),
                                    std::system_category(), requests::name_of(request_));
        return static_cast<std::size_t>(operation_.result);
    }
    void stop() noexcept override { // its completion resumes the chain
        operation_.cancel_requested = true;
        scheduler().cancel(operation_);
    }
    bool stopped() const noexcept {
        return Waiter::stopped() || (operation_.cancel_requested && operation_.ended_by_cancel());
    }

private:
    requests::IoRequest request_;
    trapline::Operation operation_;
};

/// Does nothing, by way of the engine.
inline IoAwaiter nop() noexcept { return IoAwaiter{requests::Nop{}}; }

/// Answers 0 at the end of the stream.
inline IoAwaiter recv(int fd, std::span<std::byte> buffer) noexcept {
    return IoAwaiter{requests::Recv{fd, 0, buffer.data(), buffer.size()}};
}
/// Until all is sent.
inline IoAwaiter send_all(int fd, std::span<const std::byte> data) noexcept {
    return IoAwaiter{requests::Send{fd, MSG_WAITALL, data.data(), data.size()}};
}
inline IoAwaiter read(int fd, std::span<std::byte> buffer) noexcept {
    return IoAwaiter{requests::Read{fd, buffer.data(), buffer.size()}};
}
inline IoAwaiter write(int fd, std::span<const std::byte> data) noexcept {
    return IoAwaiter{requests::Write{fd, data.data(), data.size()}};
}
/// Answers the descriptor.
inline IoAwaiter accept(int fd) noexcept {
    return IoAwaiter{requests::Accept{fd, SOCK_CLOEXEC, nullptr, nullptr}};
}
inline IoAwaiter readable(int fd) noexcept {
    return IoAwaiter{requests::Poll{fd, POLLIN, requests::Side::read}};
}

} // namespace awaiter_design
