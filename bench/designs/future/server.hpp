// create_server() as asyncio has it: a protocol, made by the factory, for each connection.
//
//     Server server = create_server(loop, [] { return std::make_unique<Echo>(); }, address);
//     ...
//     server.close();
//     co_await server.wait_closed();
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "transport.hpp"

namespace future_design {

using ProtocolFactory = std::function<std::unique_ptr<Protocol>()>;

namespace detail {

class ServerState final : public Counted, public IoWaiter {
public:
    ServerState(Socket listening, ProtocolFactory factory);

    void accept() noexcept;
    void close();
    void close_clients();
    Future<void> wait_closed();
    const Socket& listening() const noexcept { return listening_; }
    trapline::SocketAddress address() const { return address_; }
    std::size_t connections() const noexcept { return connections_; }

    // By transports.
    void attach(Transport& transport) noexcept;
    void detach(Transport& transport) noexcept;

private:
    void over(Operation& operation) noexcept override;
    void accept_later();
    void accepted(Socket socket);
    void wake_if_closed();

    Loop& loop_;
    Socket listening_;
    Socket closing_; ///< until the accept is over
    const trapline::SocketAddress address_;
    const ProtocolFactory factory_;
    Transport* newest_ = nullptr;
    std::size_t connections_ = 0;
    std::vector<Future<void>> waiters_;
    bool accepting_ = false;
    trapline::traps::IoRequest request_;
    Operation operation_;
};

} // namespace detail

/// A handle: copies are the same server, which goes on without any.
class Server {
public:
    explicit Server(detail::Ref<detail::ServerState> state) noexcept : state_(std::move(state)) {}

    bool is_serving() const noexcept { return static_cast<bool>(state_->listening()); }
    trapline::SocketAddress local_address() const { return state_->address(); }
    std::size_t connections() const noexcept { return state_->connections(); }

    /// Accepts no more. Connections go on.
    void close() { state_->close(); }
    /// Closes the transport of each connection.
    void close_clients() { state_->close_clients(); }
    /// Until it was closed, and all connections have ended (as since Python 3.12).
    Future<void> wait_closed() { return state_->wait_closed(); }

private:
    detail::Ref<detail::ServerState> state_;
};

/// Listens, and begins to accept at once. Throws std::system_error.
Server create_server(Loop& loop, ProtocolFactory factory, const trapline::SocketAddress& address);

} // namespace future_design
