#include "splice.hpp"

#include <algorithm>
#include <cerrno>
#include <expected>
#include <memory>
#include <span>

#include <fcntl.h>

#include "../traps/exceptions.hpp"
#include "errors.hpp"

namespace trapline {

namespace {

/// Up to this much of a file is cheaper to read and send than to send through a pipe, which takes a
/// worker thread. Measured from the page cache over loopback by bench/servers.sh sendfile, CPU ps a
/// byte of both ends: 32 KiB 608 copied and 966 spliced, 64 KiB 555 and 680, 128 KiB 601 and 545,
/// 256 KiB 722 and 355, 1 MiB 779 and 442. At 4 KiB the pipe costs four times as much.
constexpr std::uint64_t copied_max = 64 * 1024;

/// For good: it costs those who wait by traps nothing, and to take it back would be to guess
/// whether the number is still this socket's.
void set_non_blocking(int socket) noexcept {
    if (const int flags = ::fcntl(socket, F_GETFL); flags >= 0 && !(flags & O_NONBLOCK))
        ::fcntl(socket, F_SETFL, flags | O_NONBLOCK);
}

/// The pipe in the middle.
class Relay {
public:
    explicit Relay(std::size_t bytes) {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
            detail::raise_error(errno, "pipe of a splice");
        out_ = Descriptor{ends[0]};
        in_ = Descriptor{ends[1]};
        const int granted = ::fcntl(ends[1], F_SETPIPE_SZ, static_cast<int>(bytes));
        bytes_ = granted > 0 ? static_cast<std::size_t>(granted) : 64 * 1024;
    }

    int in() const noexcept { return in_.get(); }
    int out() const noexcept { return out_.get(); }
    std::size_t bytes() const noexcept { return bytes_; }

private:
    Descriptor in_;
    Descriptor out_;
    std::size_t bytes_;
};

using Moved = std::expected<std::size_t, std::error_code>;

enum class WaitFirst : bool { input, output };

/// An end by its owner, asked anew at each step: once that is closed, its number is somebody
/// else's.
class End {
public:
    End(const StreamSocket& socket) noexcept : socket_(&socket) {}
    End(const detail::PipeEnd& pipe) noexcept : pipe_(&pipe) {}
    End(int fd) noexcept : fd_(fd) {} // for as long as it is used

    int fd() const noexcept { return socket_ ? socket_->fd() : pipe_ ? pipe_->fd() : fd_; }

private:
    const StreamSocket* socket_ = nullptr;
    const detail::PipeEnd* pipe_ = nullptr;
    int fd_ = -1;
};

/// Moves at least one byte; answers how many, 0 at the end of `from`. EAGAIN does not tell which of
/// the two was not ready: it waits for each in turn.
Coro<Moved> move_some(End from, End to, std::size_t size, WaitFirst first) {
    for (bool input = first == WaitFirst::input;; input = !input) {
        const Moved moved = co_await traps::splice(from.fd(), to.fd(), size, -1, -1,
                                                   SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
        if (moved || moved.error() != std::errc::resource_unavailable_try_again)
            co_return moved;
        std::expected<short, std::error_code> ready;
        if (input)
            ready = co_await traps::read_wait(from.fd());
        else
            ready = co_await traps::write_wait(to.fd());
        if (!ready)
            co_return std::unexpected(ready.error());
    }
}

struct Route {
    End from;
    End to;
    std::string from_name;
    std::string to_name;
};

/// What was moved, if that was so; else throws.
std::size_t checked(const Moved& answer, const std::string& what, std::uint64_t moved) {
    if (!answer)
        throw TransferError(answer.error(), what, static_cast<std::size_t>(moved));
    return *answer;
}

/// Moves `size` bytes that lie in a pipe.
Coro<void> drain(int pipe, const Route& route, std::size_t size, std::uint64_t& moved) {
    while (size > 0) {
        const Moved answer = co_await move_some(pipe, route.to, size, WaitFirst::output);
        const std::size_t sent = checked(answer, route.to_name, moved);
        moved += sent;
        size -= sent;
    }
}

/// One step of a splice: `wanted` bytes at most; answers how many, 0 at the end.
Coro<std::size_t> step(const Relay* relay, const Route& route, std::size_t wanted,
                       std::uint64_t& moved) {
    const End into = relay ? End{relay->in()} : route.to;
    const Moved answer = co_await move_some(route.from, into, wanted, WaitFirst::input);
    const std::size_t got = checked(answer, route.from_name, moved);
    if (relay)
        co_await drain(relay->out(), route, got, moved);
    else
        moved += got;
    co_return got;
}

Coro<std::uint64_t> move_all(std::unique_ptr<Relay> relay, Route route, SpliceOptions options) {
    const std::size_t step_max =
        relay ? relay->bytes() : std::max<std::size_t>(options.pipe_bytes, 1);
    std::uint64_t moved = 0;
    try {
        while (moved < options.bytes_max) {
            const std::uint64_t left = options.bytes_max - moved;
            const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(step_max, left));
            if (co_await step(relay.get(), route, wanted, moved) == 0)
                break;
            co_await yield_now(); // none of this need have blocked
        }
    } catch (Cancelled& interrupt) {
        interrupt.set_progress(static_cast<std::size_t>(moved));
        throw;
    }
    co_return moved;
}

std::string name_of(const StreamSocket& stream) { return stream.peer_address().to_string(); }

/// Sends a piece of a file by way of our memory, adds to `sent`, and answers how much it was.
Coro<std::size_t> send_copy(StreamSocket& to, int file, std::uint64_t offset, std::size_t size,
                            std::uint64_t& sent) {
    const auto memory = std::make_unique_for_overwrite<std::byte[]>(size);
    const std::span buffer(memory.get(), size);
    const auto answer = co_await traps::read(file, buffer, static_cast<std::int64_t>(offset));
    const std::size_t got = checked(answer, "sendfile to " + name_of(to), sent);
    try {
        co_await to.send_all(std::span<const std::byte>(buffer.first(got)));
        sent += got;
    } catch (Cancelled& interrupt) {
        sent += interrupt.progress();
        throw;
    } catch (TransferError& failure) {
        sent += failure.progress();
        throw;
    }
    co_return got;
}

/// The same through a pipe. The first half may wait for a disk, so it is not done on the spot.
Coro<std::size_t> send_spliced(const Relay& relay, const Route& route, std::uint64_t offset,
                               std::size_t size, std::uint64_t& sent) {
    const auto answer = co_await traps::splice(route.from.fd(), relay.in(), size,
                                               static_cast<std::int64_t>(offset));
    const std::size_t got = checked(answer, route.from_name, sent);
    co_await drain(relay.out(), route, got, sent);
    co_return got;
}

} // namespace

Coro<std::uint64_t> splice(StreamSocket& from, StreamSocket& to, SpliceOptions options) {
    set_non_blocking(from.fd());
    set_non_blocking(to.fd());
    return move_all(std::make_unique<Relay>(options.pipe_bytes),
                    {from, to, "splice from " + name_of(from), "splice to " + name_of(to)},
                    options);
}

Coro<std::uint64_t> splice(StreamSocket& from, PipeWriter& to, SpliceOptions options) {
    set_non_blocking(from.fd());
    return move_all(nullptr, {from, to, "splice from " + name_of(from) + " to a pipe", ""},
                    options);
}

Coro<std::uint64_t> splice(PipeReader& from, StreamSocket& to, SpliceOptions options) {
    set_non_blocking(to.fd());
    return move_all(nullptr, {from, to, "splice from a pipe to " + name_of(to), ""}, options);
}

Coro<std::uint64_t> sendfile(StreamSocket& to, int file, std::uint64_t offset, std::uint64_t size) {
    std::unique_ptr<Relay> relay;
    const Route route{file, to, "sendfile to " + name_of(to), "sendfile to " + name_of(to)};
    std::uint64_t sent = 0;
    try {
        while (sent < size) {
            const std::uint64_t left = size - sent;
            const std::uint64_t from = offset + sent;
            std::size_t step = 0;
            if (left <= copied_max) {
                step = co_await send_copy(to, file, from, static_cast<std::size_t>(left), sent);
            } else {
                if (!relay) {
                    set_non_blocking(to.fd());
                    relay = std::make_unique<Relay>(SpliceOptions{}.pipe_bytes);
                }
                const std::uint64_t piece = std::min<std::uint64_t>(left, relay->bytes());
                step = co_await send_spliced(*relay, route, from, piece, sent);
            }
            if (step == 0)
                break;
        }
    } catch (Cancelled& interrupt) {
        interrupt.set_progress(static_cast<std::size_t>(sent));
        throw;
    } catch (TransferError& failure) {
        failure.set_progress(static_cast<std::size_t>(sent));
        throw;
    }
    co_return sent;
}

} // namespace trapline
