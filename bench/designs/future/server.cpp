#include "server.hpp"

#include <cerrno>
#include <memory>
#include <system_error>
#include <utility>

namespace future_design {

namespace traps = trapline::traps;

namespace detail {

ServerState::ServerState(Socket listening, ProtocolFactory factory)
    : loop_(listening.loop()),
      listening_(std::move(listening)),
      address_(getsockname(listening_)),
      factory_(std::move(factory)) {}

/// The engine has a reference meanwhile.
void ServerState::accept() noexcept {
    add_reference();
    accepting_ = true;
    request_ = traps::Accept{listening_.fileno(), 0, nullptr, nullptr};
    std::construct_at(&operation_)->request = &request_;
    loop_.start_io(operation_, *this);
}

void ServerState::over(Operation& operation) noexcept {
    const auto self = Ref<ServerState>::adopt(this);
    const std::int64_t result = operation.result;
    accepting_ = false;
    closing_.close();
    if (result < 0 && listening_ && !operation.cancel_requested &&
        (result == -EBADF || result == -EINVAL || result == -ENOTSOCK)) { // it stays so
        loop_.call_exception_handler(
            {"a server accepts no more",
             std::make_exception_ptr(
                 std::system_error(static_cast<int>(-result), std::system_category(), "accept"))});
        return listening_.close();
    }
    if (result >= 0)
        loop_.call_soon([self, socket = Socket{loop_, static_cast<int>(result)}]() mutable {
            self->accepted(std::move(socket));
        });
    if (!listening_ || operation.cancel_requested)
        return; // we, or the loop, are to go
    result >= 0 ? accept() : accept_later();
}

/// There may be memory then.
void ServerState::accept_later() {
    using namespace std::chrono_literals;
    loop_.call_later(10ms, [self = Ref<ServerState>{this}] {
        if (self->listening_ && !self->accepting_)
            self->accept();
    });
}

void ServerState::accepted(Socket socket) {
    if (!listening_)
        return; // it came too late, and is closed
    const Ref<Transport> transport{
        new Transport{std::move(socket), factory_(), Ref<ServerState>{this}}};
    transport->start();
}

void ServerState::close() {
    if (!listening_)
        return;
    if (accepting_ && !operation_.cancel_requested)
        loop_.cancel_io(operation_);
    // Until the accept is over the number must not be used again.
    loop_.call_soon([self = Ref<ServerState>{this}] { self->wake_if_closed(); });
    closing_ = std::exchange(listening_, {});
    if (!accepting_)
        closing_.close();
}

void ServerState::close_clients() {
    for (Transport* transport = newest_; transport; transport = transport->next_)
        transport->close();
}

Future<void> ServerState::wait_closed() {
    Future<void> closed{loop_};
    waiters_.push_back(closed);
    wake_if_closed();
    return closed;
}

void ServerState::wake_if_closed() {
    if (listening_ || connections_ > 0)
        return;
    for (Future<void>& waiter : std::exchange(waiters_, {}))
        if (!waiter.done())
            waiter.set_result();
}

void ServerState::attach(Transport& transport) noexcept {
    ++connections_;
    transport.next_ = newest_;
    if (newest_)
        newest_->previous_ = &transport;
    newest_ = &transport;
}

void ServerState::detach(Transport& transport) noexcept {
    --connections_;
    (transport.previous_ ? transport.previous_->next_ : newest_) = transport.next_;
    if (transport.next_)
        transport.next_->previous_ = transport.previous_;
    wake_if_closed();
}

} // namespace detail

Server create_server(Loop& loop, ProtocolFactory factory, const trapline::SocketAddress& address) {
    auto state =
        detail::make<detail::ServerState>(listening_socket(loop, address), std::move(factory));
    state->accept();
    return Server{std::move(state)};
}

} // namespace future_design
