#include "server.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string>

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include "../traps/park.hpp"

namespace trapline {

namespace {

constexpr std::size_t connections_limit = 10'000;
constexpr std::size_t descriptors_kept = 64; // for other things than connections

/// As many as the process may open, less some.
std::size_t connections_by_descriptors() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return connections_limit;
    const auto descriptors = static_cast<std::size_t>(limit.rlim_cur);
    const std::size_t left = descriptors > descriptors_kept ? descriptors - descriptors_kept : 1;
    return std::min(left, connections_limit);
}

/// What comes from a peer may try to write lines of its own.
std::string printable(std::string text) {
    std::ranges::replace_if(
        text, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 127; }, '?');
    return text;
}

} // namespace

namespace detail {

// --- Admission -----------------------------------------------------------------------------

Admission::Admission(std::shared_ptr<ServerCore> server) noexcept : server_(std::move(server)) {
    ++server_->connections_;
}

Admission::~Admission() {
    if (!server_)
        return;
    ServerCore& server = *server_;
    const std::size_t left = --server.connections_;
    if (left <= server.connections_max_ - (server.connections_max_ + 9) / 10)
        server.room_.wake_all();
    if (left == 0)
        server.gone_.wake_all();
}

// --- ServerCore ----------------------------------------------------------------------------

ServerCore::ServerCore(ServerOptions options, const SocketAddress& at)
    : options_(std::move(options)),
      at_(at),
      connections_max_(options_.connections_max ? options_.connections_max
                                                : connections_by_descriptors()) {}

void ServerCore::listening() const {
    if (options_.on_listening)
        options_.on_listening(at_);
}

void ServerCore::log(const std::string& line) const {
    const std::string text = "server at " + at_.to_string() + ": " + printable(line);
    try {
        if (options_.log)
            return options_.log(text);
    } catch (...) {
        // A server goes on, also where nobody hears of it.
    }
    std::fprintf(stderr, "trapline: %s\n", text.c_str());
}

void ServerCore::log_failure(const SocketAddress& peer, const std::exception_ptr& failure) const {
    log("connection from " + peer.to_string() + ": " + message_of(failure));
}

Coro<void> ServerCore::room() {
    if (connections_ >= connections_max_)
        co_await ParkOn{room_};
}

Coro<void> ServerCore::all_gone() {
    if (connections_ > 0)
        co_await ParkOn{gone_};
}

Coro<void> ServerCore::interrupt_all() {
    for (Connection* at = first_; at; at = at->next_)
        co_await traps::Cancel{at->task_};
}

/// False if they take too long. Says that it waits if that is not over at once.
Coro<bool> ServerCore::wait_for_handlers() {
    const Duration quiet = std::min<Duration>(options_.stop_limit, std::chrono::seconds{1});
    if (co_await ignore_after(quiet, all_gone()))
        co_return true;
    if (options_.stop_limit > quiet)
        log("stops, and waits for " + std::to_string(connections_) + " connections");
    co_return co_await ignore_after(options_.stop_limit - quiet, all_gone());
}

Coro<void> ServerCore::finish() {
    stopping_ = true;
    for (Connection* at = first_; at; at = at->next_)
        at->idle_.wake_all();
    Outcome<bool> in_time;
    auto patience = wait_for_handlers();
    co_await Attempt{std::move(patience), in_time};
    if (in_time.has_value() && in_time.get())
        co_return;
    log("cancels " + std::to_string(connections_) + " connections that have not come to their end");
    co_await disable_cancellation([this]() -> Coro<void> {
        co_await interrupt_all();
        co_await all_gone();
    });
}

// --- time limits ---------------------------------------------------------------------------

bool ServerCore::watches() const noexcept {
    return std::min(options_.first_byte_limit, options_.idle_limit) != Duration::max();
}

namespace {

/// Also of operations that have not ended, and of those past us (splice): TCP knows. Of a
/// Unix-domain socket at least how much waits to be taken.
Traffic traffic_now(const Traffic& noted) noexcept {
    Traffic traffic = noted;
    if (noted.fd < 0)
        return traffic;
    tcp_info info{};
    socklen_t size = sizeof info;
    if (::getsockopt(noted.fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0) {
        traffic.received += info.tcpi_bytes_received;
        traffic.sent += info.tcpi_bytes_acked;
    } else {
        int waiting = 0;
        if (::ioctl(noted.fd, SIOCOUTQ, &waiting) == 0)
            traffic.sent += static_cast<std::uint64_t>(waiting);
    }
    return traffic;
}

} // namespace

/// Which limit a connection has not kept, if any.
const char* ServerCore::complaint(Connection& connection, TimePoint now) const noexcept {
    const Traffic traffic = traffic_now(*connection.traffic_);
    const std::uint64_t moved = traffic.received + traffic.sent;
    if (std::exchange(connection.moved_, moved) != moved)
        connection.moved_at_ = now;
    if (traffic.received == 0 && now - connection.since_ >= options_.first_byte_limit)
        return "has sent nothing within its time limit";
    if (now - connection.moved_at_ >= options_.idle_limit)
        return "was idle for too long";
    return nullptr;
}

Coro<void> ServerCore::watch() {
    const auto keep_alive = shared_from_this();
    using namespace std::chrono_literals;
    const Duration limit = std::min(options_.first_byte_limit, options_.idle_limit);
    const Duration step = std::max<Duration>(limit / 8, 1ms);
    for (;;) {
        const TimePoint now = co_await sleep(step);
        for (Connection* at = first_; at; at = at->next_) {
            if (const char* why = complaint(*at, now); why && !std::exchange(at->cut_off_, true)) {
                log("connection from " + at->peer_.to_string() + " " + why);
                co_await traps::Cancel{at->task_};
            }
        }
    }
}

Coro<void> end_task(Task<> task) {
    co_await traps::Cancel{task.record()};
    co_await disable_cancellation(task.wait());
}

} // namespace detail

// --- Connection ----------------------------------------------------------------------------

Connection::Connection(detail::Admission admission, StreamSocket& stream, TaskRecord* task,
                       TimePoint now)
    : admission_(std::move(admission)),
      peer_(stream.peer_address()),
      task_(task),
      since_(now),
      moved_at_(now),
      next_(server().first_) {
    if (server().watches())
        traffic_ = stream.count_traffic();
    if (next_)
        next_->previous_ = this;
    server().first_ = this;
}

Connection::~Connection() {
    (previous_ ? previous_->next_ : server().first_) = next_;
    if (next_)
        next_->previous_ = previous_;
}

detail::ServerCore& Connection::server() const noexcept { return admission_.server(); }

bool Connection::stopping() const noexcept { return server().stopping(); }

void Connection::failed(const std::exception_ptr& failure) const {
    try {
        std::rethrow_exception(failure);
    } catch (const TaskCancelled&) {
        return; // by the server, mostly, or with it
    } catch (const std::system_error& error) {
        if (error.code() == std::errc::connection_reset || error.code() == std::errc::broken_pipe)
            return; // clients go as they like, and would fill the log
    } catch (...) {
        // Logged below.
    }
    server().log_failure(peer(), failure);
}

} // namespace trapline
