// tcp_server, unix_server, serve: a task for each client, and what a server must mind besides.
//
//     Coro<void> talk(TcpStream client, Connection& connection) {
//         BufferedReader reader{client};
//         while (auto line = co_await connection.idle(reader.read_line())) {
//             if (!*line)
//                 break; // the end of the stream
//             co_await client.send_all(answer_to(**line));
//         }
//     }
//
//     co_await tcp_server(SocketAddress::parse("127.0.0.1:0"), talk, {.connections_max = 100});
//
// Whatever a handler throws ends that one connection, and is logged, unless the peer has just gone
// (connection_reset, broken_pipe). At its limit of connections a server stops accepting, and Linux
// keeps the next ones waiting; nobody is refused.
//
// Cancelled, a server stops gracefully: it accepts nothing more, lets the handlers come to their
// end for as long as `stop_limit`, then cancels those that are left, and ends when all have. A
// handler need not take the Connection; with it, it can say where it has nothing to finish, and is
// told there.
#pragma once

#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

#include "../traps/cancel.hpp"
#include "../traps/coro.hpp"
#include "../traps/task.hpp"
#include "../traps/wait_queue.hpp"
#include "listener.hpp"
#include "tcp.hpp"
#include "unix.hpp"

namespace trapline {

/// What a server does by itself. Limits of Duration::max() are none.
struct ServerOptions {
    /// Clients served at the same time. 0: as many as descriptors allow, less 64 for other things,
    /// at most 10,000. At the limit the server stops accepting until a tenth of them has gone.
    std::size_t connections_max = 0;

    /// A client that has sent nothing after so long is cut off.
    Duration first_byte_limit = Duration::max();

    /// A client that neither sends nor takes anything for so long is cut off. Both limits are kept
    /// to within an eighth.
    Duration idle_limit = Duration::max();

    /// How long handlers may go on when the server stops.
    Duration stop_limit = std::chrono::seconds{30};

    /// Called when it listens, with the address: the port, if that was left to Linux.
    std::function<void(const SocketAddress&)> on_listening{};

    /// Where its messages go, one line each; stderr by default.
    std::function<void(std::string_view)> log{};

    ListenOptions listen{};                         ///< of tcp_server
    UnixListenOptions listen_unix{.replace = true}; ///< of unix_server
};

namespace detail {

class ServerCore;

/// One of the connections that a server has room for.
class Admission {
public:
    explicit Admission(std::shared_ptr<ServerCore> server) noexcept;
    Admission(Admission&& other) noexcept = default;
    Admission& operator=(Admission&&) = delete;
    ~Admission();

    ServerCore& server() const noexcept { return *server_; }

private:
    std::shared_ptr<ServerCore> server_;
};

} // namespace detail

/// A connection, as its handler sees the server behind it.
class Connection {
public:
    /// For servers.
    Connection(detail::Admission admission, StreamSocket& stream, TaskRecord* task, TimePoint now);
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection();

    /// Whether the server stops. What was begun should come to an end.
    bool stopping() const noexcept;

    /// Waits for `what` while there is nothing to finish: answers its result, or nothing (void:
    /// false) if the server stops before: `what` is cancelled then. It runs as a task of its own.
    /// Throws what `what` throws. Interrupted, `what` is cancelled, too, and its answer dropped.
    template <detail::Body W>
    auto idle(W what) -> Coro<typename detail::LimitedResult<true, detail::body_result_t<W>>::type>;

    SocketAddress peer() const noexcept { return peer_.get(); }

    /// For servers: what the handler threw.
    void failed(const std::exception_ptr& failure) const;

private:
    friend class detail::ServerCore;

    detail::ServerCore& server() const noexcept;

    detail::Admission admission_;
    detail::PeerAddress peer_;
    TaskRecord* task_;     ///< that runs the handler
    WaitQueue idle_;       ///< the handler, while it is idle
    bool cut_off_ = false; ///< by the server, for a time limit

    TimePoint since_;
    TimePoint moved_at_;      ///< when the server last saw that something had moved
    std::uint64_t moved_ = 0; ///< and how much had, then
    detail::TrafficPointer traffic_;

    Connection* previous_ = nullptr;
    Connection* next_;
};

/// Handlers take the stream, and may take the Connection.
template <class F, class S>
concept ConnectionHandler = requires(F& handler, S stream, Connection& connection) {
    { handler(std::move(stream)) } -> detail::Awaitable;
} || requires(F& handler, S stream, Connection& connection) {
    { handler(std::move(stream), connection) } -> detail::Awaitable;
};

/// Serves the clients of `listener`, each by a task that runs `handler`, until it is cancelled.
/// Throws std::system_error if accepting fails for good. Blocks.
template <class S, ConnectionHandler<S> F>
Coro<void> serve(Listener<S> listener, F handler, ServerOptions options = {});

/// Listens at `address` and serves. Throws what TcpListener::bind throws.
template <ConnectionHandler<TcpStream> F>
Coro<void> tcp_server(SocketAddress address, F handler, ServerOptions options = {}) {
    TcpListener listener = co_await TcpListener::bind(address, options.listen);
    co_await serve<TcpStream>(std::move(listener), std::move(handler), std::move(options));
}

/// The same for a Unix-domain address. A socket that lies at the path, and where nobody listens, is
/// replaced by default; the server's own stays when it has stopped.
template <ConnectionHandler<UnixStream> F>
Coro<void> unix_server(SocketAddress address, F handler, ServerOptions options = {}) {
    UnixListener listener = co_await UnixListener::bind(address, options.listen_unix);
    co_await serve<UnixStream>(std::move(listener), std::move(handler), std::move(options));
}

} // namespace trapline

#include "server.inl.hpp"
