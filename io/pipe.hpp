// Pipe: bytes from a writer to a reader, also between processes.
//
//     Pipe pipe = co_await Pipe::open();
//     co_await pipe.writer.send_all("hello");
//     co_await pipe.writer.close();
//     std::array<std::byte, 64> buffer;
//     std::size_t n = co_await pipe.reader.recv(buffer); // 5, and after that 0
//
// The ends are streams, each in its direction: see stream.hpp. Either can also be made of a
// descriptor that somebody else opened, standard input say.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "../traps/calls.hpp"
#include "../traps/coro.hpp"
#include "close.hpp"
#include "descriptor.hpp"

namespace trapline {

namespace detail {

/// What both ends have in common.
class PipeEnd {
public:
    PipeEnd() noexcept = default;
    explicit PipeEnd(Descriptor end) noexcept : end_(std::move(end)) {}

    /// Ends what other tasks do on this end (they get operation_canceled), then closes it. Blocks.
    /// Not interruptible. Harmless twice.
    CloseAwaiter close() noexcept { return {end_, "close of a pipe"}; }

    /// False when it was closed or moved from.
    explicit operator bool() const noexcept { return static_cast<bool>(end_); }

    /// The descriptor, still owned; -1 when closed.
    int fd() const noexcept { return end_.get(); }

    /// Gives the descriptor up without closing it.
    Descriptor release() noexcept { return std::move(end_); }

protected:
    std::string about(const char* operation) const;

private:
    Descriptor end_;
};

} // namespace detail

class PipeReader : public detail::PipeEnd {
public:
    using PipeEnd::PipeEnd;

    class Recv;

    /// Reads what there is, at least one byte; answers how many, 0 when all writers have closed
    /// (and for an empty buffer). Throws std::system_error. Blocks. A cancelled one has taken
    /// nothing.
    Recv recv(std::span<std::byte> buffer) noexcept;
};

class PipeWriter : public detail::PipeEnd {
public:
    using PipeEnd::PipeEnd;

    class Send;

    /// Writes some of the data, at least one byte; answers how many. Throws std::system_error,
    /// broken_pipe when all readers have closed. Blocks.
    Send send(std::span<const std::byte> data) noexcept;

    /// Writes all of it. Throws TransferError on failure. Blocks. Cancelled half way, the
    /// exception's progress() bytes are in the pipe. Other writers' bytes may come in between.
    Coro<void> send_all(std::span<const std::byte> data);
    Coro<void> send_all(std::string_view text);
};

struct Pipe {
    PipeReader reader;
    PipeWriter writer;

    /// Throws std::system_error. Never blocks.
    static Coro<Pipe> open();
};

class [[nodiscard]] PipeReader::Recv : public ReplyAwaiter {
public:
    Recv(const PipeReader& pipe, std::span<std::byte> buffer) noexcept
        : pipe_(&pipe), buffer_(buffer) {}

    bool await_ready() noexcept { return ready(buffer_.empty()); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        yield<traps::Io>(self, traps::Read{pipe_->fd(), buffer_.data(), buffer_.size()});
    }
    std::size_t await_resume() const {
        return asked() ? static_cast<std::size_t>(checked(reply()).value) : 0;
    }

private:
    const Reply& checked(const Reply& answer) const;

    const PipeReader* pipe_;
    std::span<std::byte> buffer_;
};

class [[nodiscard]] PipeWriter::Send : public ReplyAwaiter {
public:
    Send(const PipeWriter& pipe, std::span<const std::byte> data) noexcept
        : pipe_(&pipe), data_(data) {}

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        yield<traps::Io>(self, traps::Write{pipe_->fd(), data_.data(), data_.size()});
    }
    std::size_t await_resume() const { return static_cast<std::size_t>(checked(reply()).value); }

private:
    const Reply& checked(const Reply& answer) const;

    const PipeWriter* pipe_;
    std::span<const std::byte> data_;
};

inline PipeReader::Recv PipeReader::recv(std::span<std::byte> buffer) noexcept {
    return {*this, buffer};
}
inline PipeWriter::Send PipeWriter::send(std::span<const std::byte> data) noexcept {
    return {*this, data};
}

} // namespace trapline
