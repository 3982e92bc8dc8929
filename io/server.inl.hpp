// The bodies of server.hpp's templates.
#pragma once

#include "../traps/park.hpp"
#include "server.hpp"

namespace trapline {

namespace detail {

/// What a server is, whatever it serves.
class ServerCore : public std::enable_shared_from_this<ServerCore> {
public:
    /// Throws std::system_error.
    ServerCore(ServerOptions options, const SocketAddress& at);

    /// Waits until there is room for one more connection.
    Coro<void> room();

    /// Cuts off the clients that keep no time limit, until it is cancelled.
    Coro<void> watch();
    bool watches() const noexcept;

    /// Waits for the handlers for as long as they may go on, then cancels them. Cancelled itself,
    /// it does that at once.
    Coro<void> finish();

    void log_failure(const SocketAddress& peer, const std::exception_ptr& failure) const;

    bool stopping() const noexcept { return stopping_; }
    void listening() const;

private:
    friend class Admission;
    friend class trapline::Connection;

    void log(const std::string& line) const;
    Coro<void> interrupt_all();
    Coro<void> all_gone();
    Coro<bool> wait_for_handlers();
    const char* complaint(Connection& connection, TimePoint now) const noexcept;

    ServerOptions options_;
    SocketAddress at_;
    std::size_t connections_max_;
    std::size_t connections_ = 0;
    bool stopping_ = false;
    Connection* first_ = nullptr;
    WaitQueue room_; ///< the one who accepts
    WaitQueue gone_; ///< who waits for the end of all connections
};

template <class F, class S>
auto call_handler(F& handler, S stream, Connection& connection) {
    if constexpr (requires { handler(std::move(stream), connection); })
        return handler(std::move(stream), connection);
    else
        return handler(std::move(stream));
}

template <class S, class F>
Coro<void> serve_one(Admission admission, std::shared_ptr<F> handler, S stream) {
    TaskRecord* task = co_await SureTrap{traps::Self{}};
    Connection connection{std::move(admission), stream, task, co_await now()};
    try {
        co_await call_handler(*handler, std::move(stream), connection);
    } catch (...) {
        connection.failed(std::current_exception());
    }
}

template <class S, class F>
Coro<void> accept_all(Listener<S>& listener, std::shared_ptr<F> handler,
                      std::shared_ptr<ServerCore> server) {
    for (;;) {
        co_await server->room();
        S stream = co_await listener.accept();
        const SocketAddress peer = stream.peer_address();
        try {
            (void)co_await spawn(serve_one<S, F>(Admission{server}, handler, std::move(stream)));
        } catch (const std::bad_alloc&) {
            server->log_failure(peer, std::current_exception());
        }
    }
}

/// Cancels a task, and waits for its end whatever comes.
Coro<void> end_task(Task<> task);

/// `what` of an idle connection; then its handler goes on.
template <class W, class R>
Coro<void> end_idle(W& what, Outcome<R>& outcome, bool& ended, WaitQueue& idle) {
    auto&& body = begin(what);
    Attempt attempt{std::move(body), outcome};
    co_await attempt;
    ended = true;
    idle.wake_all();
}

} // namespace detail

template <detail::Body W>
auto Connection::idle(W what)
    -> Coro<typename detail::LimitedResult<true, detail::body_result_t<W>>::type> {
    using R = detail::body_result_t<W>;
    if (stopping())
        co_return {};
    detail::Outcome<R> outcome;
    bool ended = false;
    const Task<> waiting = co_await spawn(detail::end_idle<W, R>(what, outcome, ended, idle_));
    detail::Outcome<void> waited;
    while (!ended && !stopping() && !waited.has_failure()) {
        auto waits = detail::ParkOn{idle_};
        co_await detail::Attempt{std::move(waits), waited};
    }
    if (!ended)
        co_await detail::end_task(waiting);
    if (waited.has_failure())
        waited.take();
    // Whatever came before the end counts. A failure that is an interrupt can only be ours.
    if (!outcome.has_value() && stopping() && is_interrupt(outcome.failure()))
        co_return {};
    if constexpr (std::is_void_v<R>) {
        outcome.take();
        co_return true;
    } else {
        co_return outcome.take();
    }
}

template <class S, ConnectionHandler<S> F>
Coro<void> serve(Listener<S> listener, F handler, ServerOptions options) {
    auto server =
        std::make_shared<detail::ServerCore>(std::move(options), listener.local_address());
    server->listening();
    Task<> watching;
    if (server->watches())
        watching = co_await spawn(server->watch(), {.name = "server: time limits"});
    detail::Outcome<void> outcome;
    Coro<void> accepts =
        detail::accept_all(listener, std::make_shared<F>(std::move(handler)), server);
    co_await detail::Attempt{std::move(accepts), outcome};

    co_await listener.close();
    const Task<> finishing = co_await spawn(server->finish(), {.name = "server: stop"});
    detail::Outcome<void> waited;
    auto waits = finishing.wait();
    co_await detail::Attempt{std::move(waits), waited};
    if (waited.has_failure()) // a time limit of the server's own task
        co_await detail::end_task(finishing);
    if (watching)
        co_await detail::end_task(watching);
    if (waited.has_failure()) // the outer limit counts
        waited.take();
    outcome.take();
}

} // namespace trapline
