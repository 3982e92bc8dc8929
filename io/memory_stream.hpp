// MemoryStream: two ends of a connection within the process, without descriptors: for tests of
// protocols, and for kernels that know no I/O.
//
//     MemoryStreamPair ends = memory_stream_pair();
//     Task<std::string> server = co_await spawn(greet<MemoryStream>, std::move(ends.a));
//     co_await ends.b.send_all("ada\n");
//     co_await ends.b.shutdown();
//     co_return co_await server.join();
//
// They behave as sockets do (see stream.hpp): what was sent before an end went away is still
// received; sending to one that is gone is broken_pipe. Both ends belong to one kernel's tasks.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "../traps/coro.hpp"

namespace trapline {

class MemoryStream;
struct MemoryStreamPair;

/// Two connected ends. Each direction holds up to `bytes_max` bytes; who sends more waits. 0:
/// std::invalid_argument.
MemoryStreamPair memory_stream_pair(std::size_t bytes_max = 64 * 1024);

namespace detail {
class ByteChannel;
} // namespace detail

class MemoryStream {
public:
    /// Closed.
    MemoryStream() noexcept;
    MemoryStream(MemoryStream&&) noexcept;
    MemoryStream& operator=(MemoryStream&&) noexcept;
    /// Closes. No task may wait in it.
    ~MemoryStream();

    /// Receives what there is, at least one byte; answers how many, 0 at the end of the stream (and
    /// for an empty buffer). Throws std::system_error. Blocks. A cancelled one has taken nothing.
    Coro<std::size_t> recv(std::span<std::byte> buffer);

    /// Sends all of the data. Throws TransferError. Blocks while the other end is full. Cancelled
    /// half way, the exception's progress() bytes are on their way.
    Coro<void> send_all(std::span<const std::byte> data);
    Coro<void> send_all(std::string_view text);

    /// Ends sending. Never blocks. Harmless twice.
    Coro<void> shutdown();

    /// Ends what other tasks do on this end (they get operation_canceled), and closes it. Never
    /// blocks. Harmless twice.
    Coro<void> close();

    explicit operator bool() const noexcept { return in_ != nullptr; }

private:
    friend MemoryStreamPair memory_stream_pair(std::size_t);

    void close_now() noexcept;

    std::shared_ptr<detail::ByteChannel> in_;
    std::shared_ptr<detail::ByteChannel> out_;
};

struct MemoryStreamPair {
    MemoryStream a;
    MemoryStream b;
};

} // namespace trapline
