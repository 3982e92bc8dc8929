// Streams: what TCP, Unix-domain and TLS connections, pipes and in-memory pairs have in common, so
// that a protocol is written once and tested without a network.
//
//     template <Stream S>
//     Coro<void> greet(S& peer) {
//         BufferedReader reader{peer};
//         co_await peer.send_all("your name?\n");
//         std::optional<std::string> name = co_await reader.read_line();
//         if (name)
//             co_await peer.send_all("hello " + *name + "\n");
//     }
//
// How a stream ends is one of four things, the same for all of them:
//
//   the peer has ended it      recv answers 0, each time
//   it is broken               a std::system_error whose code() == StreamError::broken
//   it was closed on this end  ... StreamError::closed, also for those who wait in it
//   two use it at once         ... StreamError::busy, for the second one to receive, or to send
#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <system_error>

#include "../traps/awaitable.hpp"

namespace trapline {

namespace detail {

template <class A, class T>
concept Answers = Awaitable<A> && std::same_as<await_result_t<A>, T>;

} // namespace detail

/// recv(buffer): at least one byte, 0 at the end. close(): not interruptible, harmless twice.
template <class S>
concept ReceiveStream = requires(S& stream, std::span<std::byte> buffer) {
    { stream.recv(buffer) } -> detail::Answers<std::size_t>;
    { stream.close() } -> detail::Answers<void>;
};

/// send_all(data): all of it, or TransferError, or an interrupt whose progress() says how much.
template <class S>
concept SendStream = requires(S& stream, std::span<const std::byte> data) {
    { stream.send_all(data) } -> detail::Answers<void>;
    { stream.close() } -> detail::Answers<void>;
};

/// Both; shutdown(): nothing more will be sent, and the peer sees the end, while this end goes on
/// receiving.
template <class S>
concept Stream = ReceiveStream<S> && SendStream<S> && requires(S& stream) {
    { stream.shutdown() } -> detail::Answers<void>;
};

/// What a stream's error means, whatever the system called it: compare code() with it.
enum class StreamError {
    broken = 1, ///< the peer is gone, or unreachable, without having ended it
    closed,     ///< closed on this end
    busy,       ///< another task receives, or sends
};

const std::error_category& stream_error_category() noexcept;

inline std::error_condition make_error_condition(StreamError error) noexcept {
    return {static_cast<int>(error), stream_error_category()};
}

} // namespace trapline

template <>
struct std::is_error_condition_enum<trapline::StreamError> : std::true_type {};
