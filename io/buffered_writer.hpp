// BufferedWriter: gathers small pieces and sends them in large ones.
//
//     Coro<void> countdown(TcpStream peer) {
//         BufferedWriter writer{peer};
//         for (int n = 1000; n > 0; --n)
//             co_await writer.write(std::to_string(n) + "\n");
//         co_await writer.flush();
//     }
//
// What was written and not flushed goes with the writer: a destructor cannot send. The stream is
// not owned and must outlive it. For one task at a time. Whatever stops a call, each byte was sent
// once or waits in the buffer: the next flush goes on where it stopped.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "../traps/coro.hpp"
#include "../traps/exceptions.hpp"
#include "errors.hpp"
#include "stream.hpp"

namespace trapline {

template <SendStream S>
class BufferedWriter {
public:
    /// @param bytes_max that are gathered before they are sent
    explicit BufferedWriter(S& stream, std::size_t bytes_max = 16 * 1024)
        : stream_(&stream), bytes_max_(std::max<std::size_t>(bytes_max, 1)) {}

    /// Adds `data`, and sends what is gathered if that becomes too much. Throws what the stream
    /// throws. Blocks only while it sends. Of an interrupt or TransferError, progress() says how
    /// much of `data` was taken: sent or gathered.
    Coro<void> write(std::span<const std::byte> data);
    Coro<void> write(std::string_view text) { return write(std::as_bytes(std::span(text))); }

    /// Sends what is gathered. Throws what the stream throws. Blocks.
    Coro<void> flush();

    /// Bytes that were written and not sent yet.
    std::size_t gathered() const noexcept { return gathered_.size(); }

private:
    /// `sent` says how much was, also when it throws.
    Coro<void> send(std::span<const std::byte> data, std::size_t& sent);

    S* stream_;
    std::size_t bytes_max_;
    std::vector<std::byte> gathered_;
};

template <SendStream S>
Coro<void> BufferedWriter<S>::send(std::span<const std::byte> data, std::size_t& sent) {
    try {
        co_await stream_->send_all(data);
        sent = data.size();
    } catch (const Cancelled& interrupt) {
        sent = interrupt.progress();
        throw;
    } catch (const TransferError& failure) {
        sent = failure.progress();
        throw;
    }
}

template <SendStream S>
Coro<void> BufferedWriter<S>::flush() {
    std::size_t sent = 0;
    try {
        co_await send(gathered_, sent);
    } catch (...) {
        gathered_.erase(gathered_.begin(), gathered_.begin() + static_cast<std::ptrdiff_t>(sent));
        throw;
    }
    gathered_.clear();
}

template <SendStream S>
Coro<void> BufferedWriter<S>::write(std::span<const std::byte> data) {
    std::size_t taken = 0;
    std::size_t sent = 0; // of a piece that is not gathered first
    try {
        while (taken < data.size()) {
            if (gathered_.size() == bytes_max_)
                co_await flush();
            const auto rest = data.subspan(taken);
            if (gathered_.empty() && rest.size() >= bytes_max_) {
                co_await send(rest, sent);
                co_return;
            }
            const auto piece = rest.first(std::min(rest.size(), bytes_max_ - gathered_.size()));
            gathered_.insert(gathered_.end(), piece.begin(), piece.end());
            taken += piece.size();
        }
    } catch (Cancelled& interrupt) {
        interrupt.set_progress(taken + sent);
        throw;
    } catch (TransferError& failure) {
        failure.set_progress(taken + sent);
        throw;
    }
}

} // namespace trapline
