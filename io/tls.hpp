// TlsStream: a stream made secure: TLS over any other stream.
//
//     Coro<std::string> ask(SocketAddress at, const TlsClientContext& context) {
//         TcpStream tcp = co_await TcpStream::connect(at);
//         TlsClientOptions options{.host = "example.org", .context = &context};
//         TlsStream server = co_await TlsStream::connect(std::move(tcp), options);
//         co_await server.send_all("who are you?");
//         std::array<std::byte, 100> answer;
//         std::size_t n = co_await server.recv(answer);
//         co_await server.close();
//         co_return std::string(reinterpret_cast<const char*>(answer.data()), n);
//     }
//
// It is a stream as stream.hpp has it; contexts and certificates are in tls_context.hpp. That the
// transport ends without the peer's close_notify is no end but an error, TlsFault::cut_off:
// somebody else may have cut it. One task may receive while another sends.
//
// With TLS 1.3 a client's handshake is over before the server has looked at the client's
// certificate: that it was refused is an error of the client's first recv.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "../traps/coro.hpp"
#include "any_stream.hpp"
#include "tls_context.hpp"

namespace trapline {

namespace detail {
struct TlsState;
using TlsStateOwner = std::shared_ptr<TlsState>; // who waits in it holds it, too
} // namespace detail

/// Reaching the time is std::errc::timed_out, reaching the bytes TlsFault::too_long.
struct TlsHandshakeLimits {
    Duration time = std::chrono::seconds{10};
    std::size_t bytes_max = 64 * 1024; ///< received
};

struct TlsClientOptions {
    /// Who the server must prove to be: a name, which it is also told, or an IP address. Only where
    /// the context verifies nothing it may be empty.
    std::string_view host{};
    /// None: one with default settings is made for this connection, which looks for the system's
    /// trust store each time.
    const TlsClientContext* context = nullptr;
    /// Of an earlier connection to the same host. If the server has forgotten it, or with none, the
    /// handshake is a full one.
    const TlsSession* session = nullptr;
    TlsHandshakeLimits limits{};
};

class TlsStream {
public:
    /// Closed.
    TlsStream() noexcept;
    TlsStream(TlsStream&&) noexcept;
    TlsStream& operator=(TlsStream&&) noexcept;
    /// Drops the transport without close_notify. No task may wait in it, but for those that were
    /// told by a close() and have not run since.
    ~TlsStream();

    /// Does the client's handshake over `transport`, which is the TlsStream's from then on. What is
    /// in the options is needed until this returns, the coroutine needs none of it. Throws
    /// std::invalid_argument at once for options that make no sense; awaited, TlsHandshakeError,
    /// std::system_error (timed_out) or what the transport throws. Blocks. Interrupted, like
    /// failed, the transport is closed.
    static Coro<TlsStream> connect(AnyStream transport, const TlsClientOptions& options);

    /// The same as the server.
    static Coro<TlsStream> accept(AnyStream transport, const TlsServerContext& context,
                                  const TlsHandshakeLimits& limits = {});

    /// Receives what there is, at least one byte; answers how many, 0 when the peer has ended the
    /// stream by close_notify (and for an empty buffer). Throws std::system_error. Blocks. The
    /// buffer stays the caller's; a cancelled one has taken nothing.
    Coro<std::size_t> recv(std::span<std::byte> buffer);

    /// Sends all of the data. Throws TransferError. Blocks. Cancelled half way, the exception's
    /// progress() bytes are on their way: what the transport has not taken of them is kept, and
    /// goes out before anything else does, with the next send_all, shutdown or close.
    Coro<void> send_all(std::span<const std::byte> data);
    Coro<void> send_all(std::string_view text);

    /// Ends sending by close_notify; the peer may still send. Blocks. Cancelled half way, a second
    /// call goes on. Harmless twice.
    Coro<void> shutdown();

    /// Sends close_notify, and what cancelled sends have left, as far as the transport takes it
    /// within half a second; not while another task sends. Ends what other tasks do on the stream
    /// (they get operation_canceled), and closes the transport. Blocks. Not interruptible. Harmless
    /// twice: the second one waits for the first. Like any close it waits for no answer: who must
    /// know that the peer has got everything calls shutdown() and receives to the end before.
    Coro<void> close();

    // What was agreed on, and with whom. Never blocks. Answers nothing when it was moved from.

    /// The protocol that both sides speak, empty if none was agreed on.
    std::string alpn() const;
    TlsVersion version() const;
    /// As OpenSSL names it, "TLS_AES_256_GCM_SHA384".
    std::string cipher() const;
    /// The host that the client asked for, empty if it named none.
    std::string server_name() const;
    std::optional<TlsCertificate> peer_certificate() const;

    /// For TlsClientOptions::session; none at a server's end, or if the server has given none. With
    /// TLS 1.3 it comes after the handshake: after the first recv it should be there.
    TlsSession session() const;
    /// Whether the handshake was a short one, due to a session.
    bool resumed() const noexcept;

    /// The stream that it runs over. To look at: who uses it breaks what goes on there. It must not
    /// have been moved from.
    AnyStream& transport() noexcept;

    /// False when it was closed or moved from.
    explicit operator bool() const noexcept;

private:
    explicit TlsStream(detail::TlsStateOwner state) noexcept;

    static Coro<TlsStream> shake_hands(detail::TlsStateOwner state, TlsHandshakeLimits limits);
    detail::TlsStateOwner state(const char* operation) const;

    detail::TlsStateOwner state_;
};

} // namespace trapline
