// BufferedReader: reads lines and other pieces from a stream, however they arrive.
//
//     Coro<int> count_words(TcpStream client) {
//         BufferedReader reader{client};
//         int words = 0;
//         co_await for_each(reader.lines({.bytes_max = 1024}), [&](std::string_view line) {
//             words += static_cast<int>(std::ranges::count(line, ' ')) + 1;
//         });
//         co_return words;
//     }
//
// What came and was not asked for yet waits in the reader's buffer, so all reading goes through it.
// Whatever stops a call (an interrupt, a limit, an error, the end of the stream), what had come
// stays readable, and the exception's progress() says how much that is. The stream is not owned and
// must outlive the reader. For one task at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../traps/async_generator.hpp"
#include "../traps/coro.hpp"
#include "../traps/exceptions.hpp"
#include "errors.hpp"
#include "stream.hpp"

namespace trapline {

struct ReadLimits {
    std::size_t bytes_max = 64 * 1024; ///< of the piece, its delimiter included
};

namespace detail {

/// The bytes between a stream and who reads it.
class ReadBuffer {
public:
    explicit ReadBuffer(std::size_t bytes) : bytes_(std::max<std::size_t>(bytes, 1)) {}

    std::span<const std::byte> waiting() const noexcept {
        return std::span(bytes_).subspan(begin_, end_ - begin_);
    }
    std::string_view text() const noexcept {
        return {reinterpret_cast<const char*>(waiting().data()), waiting().size()};
    }
    std::size_t size() const noexcept { return end_ - begin_; }

    void drop(std::size_t count) noexcept {
        begin_ += count;
        if (begin_ == end_)
            begin_ = end_ = 0;
    }
    std::string take(std::size_t count);
    std::size_t take(std::span<std::byte> to) noexcept;

    /// Room for at least one more byte; made, if there is none.
    std::span<std::byte> room();
    void filled(std::size_t count) noexcept { end_ += count; }

    /// Puts bytes back in front of those that wait.
    void put_back(std::span<const std::byte> data);

private:
    std::vector<std::byte> bytes_;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
};

[[noreturn]] void raise_end(std::string_view wanted, std::size_t progress);
[[noreturn]] void raise_limit(std::string_view wanted, std::size_t bytes_max);
[[noreturn]] void raise_too_much(std::size_t bytes_max);

} // namespace detail

template <ReceiveStream S>
class BufferedReader {
public:
    /// @param bytes of the buffer at first; it grows with what is asked for
    explicit BufferedReader(S& stream, std::size_t bytes = 8 * 1024)
        : stream_(&stream), buffer_(bytes) {}

    /// Reads what there is, at least one byte; answers how many, 0 at the end. Throws what the
    /// stream throws, as all of these do. Blocks if nothing is buffered.
    Coro<std::size_t> recv(std::span<std::byte> to) {
        if (buffer_.size() == 0)
            co_return co_await stream_->recv(to);
        co_return buffer_.take(to);
    }

    /// Fills `to`; answers its size, or 0 if the stream had ended before. Throws EndOfStream if it
    /// ends in between. Blocks.
    Coro<std::size_t> read_exactly(std::span<std::byte> to);

    /// Reads up to and with `delimiter`, which is not empty; answers that text, or "" if the stream
    /// had ended before. Throws LimitExceeded if it would be longer than limits.bytes_max, and
    /// EndOfStream if the stream ends in between. Blocks.
    Coro<std::string> read_until(std::string delimiter, ReadLimits limits = {});

    /// Reads a line; answers it without its "\n" or "\r\n", or nothing at the end of the stream,
    /// which also ends the last line. Throws LimitExceeded. Blocks.
    Coro<std::optional<std::string>> read_line(ReadLimits limits = {});

    /// The lines to the end of the stream, each as from read_line().
    AsyncGenerator<std::string> lines(ReadLimits limits = {}) {
        while (std::optional<std::string> line = co_await read_line(limits))
            co_yield std::move(*line);
    }

    /// Reads to the end of the stream. Throws LimitExceeded if that is more than allowed. Blocks.
    Coro<std::string> read_all(ReadLimits limits = {.bytes_max = 16 * 1024 * 1024});

    /// What has come and was not taken yet; valid until the next call.
    std::span<const std::byte> buffered() const noexcept { return buffer_.waiting(); }

    /// Waits until something is buffered; answers what, nothing at the end. Takes nothing. Blocks.
    Coro<std::span<const std::byte>> peek() {
        if (buffer_.size() == 0)
            co_await fill();
        co_return buffer_.waiting();
    }

    /// Takes `count` of the buffered bytes, at most all. Never blocks.
    void consume(std::size_t count) noexcept { buffer_.drop(std::min(count, buffer_.size())); }

    /// Closes the stream.
    Coro<void> close() { co_await stream_->close(); }

private:
    /// Receives more; false at the end of the stream.
    Coro<bool> fill() {
        const std::size_t count = co_await stream_->recv(buffer_.room());
        buffer_.filled(count);
        co_return count > 0;
    }

    /// Fills until `delimiter` is there; answers where it ends, 0 if the stream ends before.
    Coro<std::size_t> find(std::string_view delimiter, ReadLimits limits);

    S* stream_;
    detail::ReadBuffer buffer_;
};

template <ReceiveStream S>
Coro<std::size_t> BufferedReader<S>::read_exactly(std::span<std::byte> to) {
    std::size_t read = buffer_.take(to);
    try {
        while (read < to.size()) {
            const std::size_t count = co_await stream_->recv(to.subspan(read));
            if (count == 0 && read == 0)
                co_return 0;
            if (count == 0)
                detail::raise_end(std::to_string(to.size()) + " bytes", read);
            read += count;
        }
    } catch (Cancelled& interrupt) {
        buffer_.put_back(to.first(read));
        interrupt.set_progress(read);
        throw;
    } catch (...) {
        buffer_.put_back(to.first(read));
        throw;
    }
    co_return read;
}

template <ReceiveStream S>
Coro<std::size_t> BufferedReader<S>::find(std::string_view delimiter, ReadLimits limits) {
    std::size_t searched = 0;
    try {
        for (;;) {
            const std::string_view text = buffer_.text().substr(0, limits.bytes_max);
            if (const std::size_t at = text.find(delimiter, searched); at != text.npos)
                co_return at + delimiter.size();
            if (text.size() == limits.bytes_max)
                detail::raise_limit(delimiter, limits.bytes_max);
            if (text.size() >= delimiter.size())
                searched = text.size() - delimiter.size() + 1;
            if (!co_await fill())
                co_return 0;
        }
    } catch (Cancelled& interrupt) {
        interrupt.set_progress(buffer_.size());
        throw;
    }
}

template <ReceiveStream S>
Coro<std::string> BufferedReader<S>::read_until(std::string delimiter, ReadLimits limits) {
    const std::size_t end = co_await find(delimiter, limits);
    if (end == 0 && buffer_.size() > 0)
        detail::raise_end(delimiter, buffer_.size());
    co_return buffer_.take(end);
}

template <ReceiveStream S>
Coro<std::optional<std::string>> BufferedReader<S>::read_line(ReadLimits limits) {
    const std::size_t end = co_await find("\n", limits);
    if (end == 0 && buffer_.size() == 0)
        co_return std::nullopt;
    std::string line = buffer_.take(end == 0 ? buffer_.size() : end);
    if (line.ends_with('\n'))
        line.pop_back();
    if (line.ends_with('\r'))
        line.pop_back();
    co_return line;
}

template <ReceiveStream S>
Coro<std::string> BufferedReader<S>::read_all(ReadLimits limits) {
    try {
        for (;;) {
            if (buffer_.size() > limits.bytes_max)
                detail::raise_too_much(limits.bytes_max);
            if (!co_await fill())
                co_return buffer_.take(buffer_.size());
        }
    } catch (Cancelled& interrupt) {
        interrupt.set_progress(buffer_.size());
        throw;
    }
}

} // namespace trapline
