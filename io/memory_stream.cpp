#include "memory_stream.hpp"

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <utility>
#include <vector>

#include "../traps/exceptions.hpp"
#include "../traps/park.hpp"
#include "errors.hpp"

namespace trapline {

/// One direction: a ring of bytes with a reader and a writer.
class detail::ByteChannel {
public:
    explicit ByteChannel(std::size_t bytes_max) : ring_(bytes_max) {}

    /// A reader's or a writer's turn. Throws device_or_resource_busy if another task has it.
    class Turn {
    public:
        Turn(bool& taken, const char* what) : taken_(taken) {
            if (std::exchange(taken, true))
                raise_error(EBUSY, what);
        }
        Turn(const Turn&) = delete;
        Turn& operator=(const Turn&) = delete;
        ~Turn() { taken_ = false; }

    private:
        bool& taken_;
    };

    std::size_t take(std::span<std::byte> to) noexcept {
        const std::size_t count = std::min(to.size(), size_);
        const std::size_t first = std::min(count, ring_.size() - begin_);
        std::copy_n(ring_.begin() + offset(begin_), first, to.begin());
        std::copy_n(ring_.begin(), count - first, to.begin() + offset(first));
        begin_ = (begin_ + count) % ring_.size();
        size_ -= count;
        writers.wake_all();
        return count;
    }

    std::size_t put(std::span<const std::byte> from) noexcept {
        const std::size_t count = std::min(from.size(), ring_.size() - size_);
        const std::size_t end = (begin_ + size_) % ring_.size();
        const std::size_t first = std::min(count, ring_.size() - end);
        std::copy_n(from.begin(), first, ring_.begin() + offset(end));
        std::copy_n(from.begin() + offset(first), count - first, ring_.begin());
        size_ += count;
        readers.wake_all();
        return count;
    }

    bool empty() const noexcept { return size_ == 0; }
    bool full() const noexcept { return size_ == ring_.size(); }

    WaitQueue readers;
    WaitQueue writers;
    bool reading = false;
    bool writing = false;
    bool ended = false;       ///< nothing more will be put
    bool reader_gone = false; ///< nothing more will be taken
    bool writer_gone = false; ///< closed, not just ended

private:
    static std::ptrdiff_t offset(std::size_t at) noexcept {
        return static_cast<std::ptrdiff_t>(at);
    }

    std::vector<std::byte> ring_;
    std::size_t begin_ = 0;
    std::size_t size_ = 0;
};

using detail::ByteChannel;
using detail::raise_error;

namespace {

constexpr const char* receive_text = "recv from a memory stream";
constexpr const char* send_text = "send to a memory stream";

} // namespace

MemoryStreamPair memory_stream_pair(std::size_t bytes_max) {
    if (bytes_max == 0)
        throw std::invalid_argument("memory_stream_pair: bytes_max must be at least 1");
    MemoryStreamPair ends;
    ends.a.in_ = ends.b.out_ = std::make_shared<ByteChannel>(bytes_max);
    ends.b.in_ = ends.a.out_ = std::make_shared<ByteChannel>(bytes_max);
    return ends;
}

MemoryStream::MemoryStream() noexcept = default;
MemoryStream::MemoryStream(MemoryStream&&) noexcept = default;

MemoryStream& MemoryStream::operator=(MemoryStream&& other) noexcept {
    if (this != &other) {
        close_now();
        in_ = std::move(other.in_);
        out_ = std::move(other.out_);
    }
    return *this;
}

MemoryStream::~MemoryStream() { close_now(); }

void MemoryStream::close_now() noexcept {
    const auto in = std::exchange(in_, nullptr);
    const auto out = std::exchange(out_, nullptr);
    if (!in)
        return;
    in->reader_gone = true;
    out->ended = out->writer_gone = true;
    for (WaitQueue* waiters : {&in->readers, &in->writers, &out->readers, &out->writers})
        waiters->wake_all();
}

Coro<std::size_t> MemoryStream::recv(std::span<std::byte> buffer) {
    const auto channel = in_;
    if (!channel)
        raise_error(EBADF, receive_text);
    if (buffer.empty())
        co_return 0;
    const ByteChannel::Turn turn{channel->reading, receive_text};
    while (channel->empty()) {
        if (channel->ended)
            co_return 0;
        co_await detail::ParkOn{channel->readers};
        if (channel->reader_gone)
            raise_error(ECANCELED, receive_text);
    }
    co_return channel->take(buffer);
}

Coro<void> MemoryStream::send_all(std::span<const std::byte> data) {
    const auto channel = out_;
    if (!channel)
        raise_error(EBADF, send_text);
    const ByteChannel::Turn turn{channel->writing, send_text};
    std::size_t sent = 0;
    const auto fail = [&](int error) {
        throw TransferError({error, std::system_category()}, send_text, sent);
    };
    try {
        if (channel->ended) // by shutdown()
            fail(EPIPE);
        while (sent < data.size()) {
            if (channel->reader_gone)
                fail(EPIPE);
            if (channel->full()) {
                co_await detail::ParkOn{channel->writers};
                if (channel->writer_gone)
                    fail(ECANCELED);
                continue;
            }
            sent += channel->put(data.subspan(sent));
        }
    } catch (Cancelled& interrupt) {
        interrupt.set_progress(sent);
        throw;
    }
}

Coro<void> MemoryStream::send_all(std::string_view text) {
    return send_all(std::as_bytes(std::span(text)));
}

Coro<void> MemoryStream::shutdown() {
    if (!out_)
        raise_error(EBADF, "shutdown of a memory stream");
    out_->ended = true;
    out_->readers.wake_all();
    co_return;
}

Coro<void> MemoryStream::close() {
    close_now();
    co_return;
}

} // namespace trapline
