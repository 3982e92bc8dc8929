// tls_server: a server, see server.hpp, whose clients speak TLS.
//
//     Coro<void> greet(TlsStream client) {
//         co_await client.send_all("hello " + client.server_name() + "\n");
//         co_await client.close();
//     }
//
//     co_await tls_server(SocketAddress::parse("127.0.0.1:0"), context, greet);
//
// Each connection does its handshake first, within its limits, in its own task; one that fails is
// logged in one line, ends that connection, and its handler never runs. All that ServerOptions say
// holds of the connections beneath: the limits count encrypted bytes, from the handshake's first
// on. When the server stops, handshakes have nothing to finish, and end at once.
//
// A handler that leaves without closing its stream, or throws, cuts its client off: that says
// close_notify only if it is asked to, as stream.close() does.
#pragma once

#include <optional>
#include <utility>

#include "server.hpp"
#include "tls.hpp"

namespace trapline {

namespace detail {

/// The handler of the TCP connections beneath.
template <class F>
struct TlsHandler {
    TlsServerContext context;
    F handler;
    TlsHandshakeLimits limits;

    /// Lives, by the server, for as long as its coroutines do.
    Coro<void> operator()(TcpStream client, Connection& connection) {
        std::optional<TlsStream> stream =
            co_await connection.idle(TlsStream::accept(std::move(client), context, limits));
        if (stream)
            co_await call_handler(handler, std::move(*stream), connection);
    }
};

} // namespace detail

/// Serves the clients of `listener` over TLS, each by a task that runs `handler`, until it is
/// cancelled. The handler takes the TlsStream, and may take the Connection. Throws
/// std::system_error if accepting fails for good. Blocks.
template <ConnectionHandler<TlsStream> F>
Coro<void> serve_tls(TcpListener listener, TlsServerContext context, F handler,
                     ServerOptions options = {}, TlsHandshakeLimits limits = {}) {
    using Handler = detail::TlsHandler<F>;
    co_await serve<TcpStream>(std::move(listener),
                              Handler{std::move(context), std::move(handler), limits},
                              std::move(options));
}

/// Listens at `address` and serves. Throws what TcpListener::bind throws.
template <ConnectionHandler<TlsStream> F>
Coro<void> tls_server(SocketAddress address, TlsServerContext context, F handler,
                      ServerOptions options = {}, TlsHandshakeLimits limits = {}) {
    TcpListener listener = co_await TcpListener::bind(address, options.listen);
    co_await serve_tls(std::move(listener), std::move(context), std::move(handler),
                       std::move(options), limits);
}

} // namespace trapline
