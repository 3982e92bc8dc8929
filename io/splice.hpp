// splice, sendfile: bytes between descriptors, without passing through the program's memory.
//
//     std::uint64_t bytes = co_await splice(client, server); // until the client ends
//
//     Descriptor page{(co_await traps::open_at(AT_FDCWD, path, O_RDONLY)).value()};
//     co_await sendfile(client, page.get(), 0, size);
//
// Between two sockets the bytes pass through a pipe in the kernel. The sockets are in non-blocking
// mode from then on, which nobody notices who uses them by traps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "../traps/coro.hpp"
#include "pipe.hpp"
#include "stream_socket.hpp"

namespace trapline {

struct SpliceOptions {
    std::uint64_t bytes_max = std::numeric_limits<std::uint64_t>::max(); ///< stops after that many
    std::size_t pipe_bytes = 256 * 1024; ///< of the pipe between; less where Linux allows less
};

/// Moves what comes from `from` to `to`, until that ends; answers how many bytes. Closes nothing,
/// and does not end `to`. Throws std::system_error, or TransferError for what stops it half way.
/// Blocks. Interrupted, progress() says how much has gone out; what had come and not gone is lost.
Coro<std::uint64_t> splice(StreamSocket& from, StreamSocket& to, SpliceOptions options = {});
Coro<std::uint64_t> splice(StreamSocket& from, PipeWriter& to, SpliceOptions options = {});
Coro<std::uint64_t> splice(PipeReader& from, StreamSocket& to, SpliceOptions options = {});

/// Sends `size` bytes of a file, from `offset` on, whatever the file's own position; answers how
/// many: less if the file ends before. Throws and blocks as above; progress() says how much was
/// sent. The file's descriptor stays the caller's.
Coro<std::uint64_t> sendfile(StreamSocket& to, int file, std::uint64_t offset, std::uint64_t size);

} // namespace trapline
