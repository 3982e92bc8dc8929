// copy: everything that comes from one stream goes to another.
//
//     Coro<std::uint64_t> relay(TcpStream& from, TcpStream& to) {
//         std::uint64_t bytes = co_await copy(from, to);
//         co_await to.shutdown();
//         co_return bytes;
//     }
//
// Between descriptors splice() does the same without copying, see splice.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>

#include "../traps/coro.hpp"
#include "../traps/exceptions.hpp"
#include "errors.hpp"
#include "stream.hpp"

namespace trapline {

struct CopyOptions {
    std::uint64_t bytes_max = std::numeric_limits<std::uint64_t>::max(); ///< stops after that many
    std::size_t buffer_bytes = 16 * 1024;                                ///< moved at a time
};

/// Sends to `to` what comes from `from`, until that ends; answers how many bytes. Closes nothing,
/// and does not end `to`. Throws what the streams throw. Blocks. Interrupted, or stopped by an
/// error of `to`, progress() says how much has gone out; what had come and not gone is lost.
template <ReceiveStream R, SendStream W>
Coro<std::uint64_t> copy(R& from, W& to, CopyOptions options = {}) {
    const std::size_t room_bytes = std::max<std::size_t>(options.buffer_bytes, 1);
    const auto buffer = std::make_unique_for_overwrite<std::byte[]>(room_bytes);
    const std::span room(buffer.get(), room_bytes);
    std::uint64_t copied = 0;
    try {
        while (copied < options.bytes_max) {
            const std::uint64_t wanted =
                std::min<std::uint64_t>(room.size(), options.bytes_max - copied);
            const std::size_t got =
                co_await from.recv(room.first(static_cast<std::size_t>(wanted)));
            if (got == 0)
                break;
            co_await to.send_all(std::span<const std::byte>(room.first(got)));
            copied += got;
        }
    } catch (Cancelled& interrupt) {
        interrupt.set_progress(static_cast<std::size_t>(copied) + interrupt.progress());
        throw;
    } catch (TransferError& failure) {
        failure.set_progress(static_cast<std::size_t>(copied) + failure.progress());
        throw;
    }
    co_return copied;
}

} // namespace trapline
