#include "transport.hpp"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <memory>
#include <new>
#include <stdexcept>
#include <system_error>

#include <sys/socket.h>
#include <sys/uio.h>

#include "server.hpp"

namespace future_design {

namespace traps = trapline::traps;

namespace {

/// After so many writes to a connection that was lost, each is told.
constexpr unsigned writes_lost_quietly = 5;

/// The peer ended the connection: nothing to tell of.
bool is_disconnect(int error) noexcept {
    return error == EPIPE || error == ECONNRESET || error == ECONNABORTED;
}

} // namespace

/// For one operation that sends several things.
struct Transport::Gathered {
    static constexpr std::size_t parts_max = 1024; // Linux takes no more

    std::vector<Bytes> parts;
    std::vector<iovec> places;
    msghdr message{};
};

// --- operations ----------------------------------------------------------------------------

void Transport::Direction::start(const traps::IoRequest& request) noexcept {
    request_ = request;
    std::construct_at(&operation_)->request = &request_;
    in_flight_ = true;
    transport_.add_reference();
    transport_.loop().start_io(operation_, *this);
}

void Transport::Direction::cancel() noexcept {
    if (in_flight_ && !operation_.cancel_requested)
        transport_.loop().cancel_io(operation_);
}

void Transport::Direction::over(Operation&) noexcept {
    in_flight_ = false;
    over_ = true;
    transport_.loop().push_ready(*this);
}

void Transport::Direction::call(Loop& loop) noexcept {
    const auto self = detail::Ref<Transport>::adopt(&transport_);
    over_ = false;
    try {
        (transport_.*ready_)();
    } catch (...) {
        detail::exception_left_callback(loop);
    }
    transport_.leave_socket_if_over();
}

void Transport::Direction::drop() noexcept {
    const auto self = detail::Ref<Transport>::adopt(&transport_);
    over_ = false;
}

void Transport::Flush::ask() noexcept {
    if (std::exchange(asked_, true))
        return;
    transport_.add_reference();
    transport_.loop().push_before_wait(*this);
}

void Transport::Flush::call(Loop&) noexcept {
    const auto self = detail::Ref<Transport>::adopt(&transport_);
    asked_ = false;
    if (!transport_.writing_.busy())
        transport_.send_more();
}

void Transport::Flush::drop() noexcept {
    const auto self = detail::Ref<Transport>::adopt(&transport_);
    asked_ = false;
}

// --- its life ------------------------------------------------------------------------------

Transport::Transport(Socket socket, std::unique_ptr<Protocol> protocol,
                     detail::Ref<detail::ServerState> server)
    : loop_(socket.loop()),
      socket_(std::move(socket)),
      protocol_(std::move(protocol)),
      server_(std::move(server)) {
    if (server_)
        server_->attach(*this);
}

Transport::~Transport() {
    if (server_)
        server_->detach(*this);
}

void Transport::loop_goes() noexcept {
    const auto self = std::exchange(self_, nullptr);
    lost_ = true;
    reading_.cancel();
    writing_.cancel();
}

void Transport::start() {
    self_ = detail::Ref{this};
    loop_.keep(*this);
    loop_.call_soon([self = detail::Ref{this}] {
        self->started_ = true;
        if (self->lost_)
            return;
        // As in asyncio an exception of its does not keep the transport from reading.
        self->loop_.call_soon([self] { self->read_more(); });
        self->protocol_->connection_made(*self);
    });
}

Transport& connect_accepted_socket(std::unique_ptr<Protocol> protocol, Socket socket) {
    const detail::Ref<Transport> transport{
        new Transport{std::move(socket), std::move(protocol), nullptr}};
    transport->start();
    return *transport;
}

void Transport::close() {
    if (std::exchange(closing_, true))
        return;
    stop_reading();
    if (buffered_ == 0)
        connection_lost_soon(nullptr);
}

void Transport::abort() { force_close(nullptr); }

void Transport::force_close(std::exception_ptr failure) {
    if (writes_lost_ > 0)
        return;
    written_ = {};
    more_ = {};
    buffered_ = 0;
    writing_.cancel();
    closing_ = true;
    stop_reading();
    connection_lost_soon(std::move(failure));
}

void Transport::fatal_error(int error, const char* operation) {
    const auto failure =
        std::make_exception_ptr(std::system_error(error, std::system_category(), operation));
    if (is_disconnect(error))
        return force_close(failure);
    fatal_error(failure, "fatal error of a transport");
}

void Transport::fatal_error(const std::exception_ptr& failure, const char* message) {
    loop_.call_exception_handler({message, failure});
    force_close(failure);
}

void Transport::connection_lost_soon(std::exception_ptr failure) {
    ++writes_lost_;
    loop_.call_soon([self = detail::Ref{this}, failure = std::move(failure)] {
        self->call_connection_lost(failure);
    });
}

void Transport::call_connection_lost(const std::exception_ptr& failure) noexcept {
    if (std::exchange(lost_, true))
        return;
    loop_.leave(*this);
    self_ = nullptr; // whoever calls has another
    try {
        protocol_->connection_lost(failure);
    } catch (...) {
        detail::exception_left_callback(loop_);
    }
    protocol_ = nullptr;
    waiting_.reset();
    if (server_)
        std::exchange(server_, nullptr)->detach(*this);
    leave_socket_if_over();
}

/// Nothing is in flight on it any more: it is closed.
void Transport::leave_socket_if_over() noexcept {
    if (lost_ && !reading_.busy() && !writing_.busy())
        socket_.close();
}

// --- reading -------------------------------------------------------------------------------

void Transport::read_more() noexcept {
    if (!started_ || closing_ || paused_ || eof_received_ || waiting_ || reading_.busy())
        return;
    reading_.start(traps::Receive{socket_.fileno(), 0, &lease_});
}

void Transport::read_ready() {
    trapline::BufferLease lease = std::move(lease_);
    if (closing_)
        return; // what comes now is ignored
    const std::int64_t result = reading_.operation().result;
    if (result < 0)
        return fatal_error(static_cast<int>(-result), "recv");
    if (result == 0) {
        eof_received_ = true;
        return paused_ ? void() : end_of_stream();
    }
    Bytes data = Bytes::received(loop_, std::move(lease));
    if (paused_) {
        waiting_ = std::move(data);
        return;
    }
    received(std::move(data));
    read_more();
}

void Transport::received(Bytes data) {
    try {
        protocol_->data_received(std::move(data));
    } catch (...) {
        fatal_error(std::current_exception(), "protocol.data_received() failed");
    }
}

void Transport::end_of_stream() {
    bool keep_open = false;
    try {
        keep_open = protocol_->eof_received();
    } catch (...) {
        return fatal_error(std::current_exception(), "protocol.eof_received() failed");
    }
    if (!keep_open)
        close();
}

void Transport::stop_reading() noexcept { reading_.cancel(); }

void Transport::pause_reading() noexcept {
    if (!closing_)
        paused_ = true;
}

void Transport::resume_reading() {
    if (closing_ || !std::exchange(paused_, false))
        return;
    if (!waiting_ && !eof_received_)
        return read_more();
    loop_.call_soon([self = detail::Ref{this}] {
        if (self->closing_ || self->paused_)
            return; // it waits on
        if (self->waiting_) {
            Bytes data = *std::exchange(self->waiting_, std::nullopt);
            self->received(std::move(data));
            self->read_more();
        } else if (self->eof_received_) {
            self->end_of_stream();
        }
    });
}

// --- writing -------------------------------------------------------------------------------

void Transport::write(Bytes data) {
    if (eof_written_)
        throw std::runtime_error("write() after write_eof()");
    if (data.empty())
        return;
    if (writes_lost_ > 0) {
        if (++writes_lost_ > writes_lost_quietly)
            loop_.call_exception_handler({"write() to a connection that was lost", nullptr});
        return;
    }
    buffered_ += data.size();
    if (written_.empty() && more_.empty())
        written_ = std::move(data);
    else
        more_.push_back(std::move(data));
    if (!writing_.busy())
        flush_.ask();
    maybe_pause_protocol();
}

void Transport::send_more() {
    if (lost_ || buffered_ == 0)
        return;
    if (!more_.empty())
        return send_gathered();
    sending_ = std::exchange(written_, {});
    sending_bytes_ = sending_.size();
    writing_.start(traps::Send{socket_.fileno(), MSG_WAITALL, sending_.data(), sending_.size()});
}

/// As many as Linux takes at once.
void Transport::send_gathered() {
    if (!gathered_)
        gathered_ = std::make_unique<Gathered>();
    Gathered& gathered = *gathered_;
    if (!written_.empty())
        gathered.parts.push_back(std::exchange(written_, {}));
    const std::size_t count = std::min(more_.size(), Gathered::parts_max - gathered.parts.size());
    const auto end = more_.begin() + static_cast<std::ptrdiff_t>(count);
    std::move(more_.begin(), end, std::back_inserter(gathered.parts));
    more_.erase(more_.begin(), end);
    sending_bytes_ = 0;
    gathered.places.clear();
    for (const Bytes& part : gathered.parts) {
        gathered.places.push_back({const_cast<std::byte*>(part.data()), part.size()});
        sending_bytes_ += part.size();
    }
    gathered.message = {};
    gathered.message.msg_iov = gathered.places.data();
    gathered.message.msg_iovlen = gathered.places.size();
    writing_.start(traps::SendMsg{socket_.fileno(), MSG_WAITALL, &gathered.message});
}

void Transport::write_ready() {
    const Operation& operation = writing_.operation();
    sending_ = {};
    if (gathered_)
        gathered_->parts.clear();
    if (writes_lost_ > 0)
        return;
    if (operation.result < 0 || operation.stopped_by != 0) {
        return fatal_error(operation.result < 0 ? static_cast<int>(-operation.result)
                                                : operation.stopped_by,
                           "send");
    }
    if (static_cast<std::size_t>(operation.result) < sending_bytes_)
        return fatal_error(EPIPE, "send"); // a reset half way hides behind a short count
    buffered_ -= sending_bytes_;
    if (buffered_ > 0)
        send_more();
    maybe_resume_protocol(); // which may write
    if (buffered_ > 0)
        return;
    if (closing_)
        call_connection_lost(nullptr);
    else if (eof_written_)
        ::shutdown(socket_.fileno(), SHUT_WR);
}

void Transport::write_eof() {
    if (closing_ || std::exchange(eof_written_, true))
        return;
    if (buffered_ == 0)
        ::shutdown(socket_.fileno(), SHUT_WR);
}

void Transport::maybe_pause_protocol() noexcept {
    if (buffered_ <= high_ || std::exchange(protocol_paused_, true))
        return;
    try {
        protocol_->pause_writing();
    } catch (...) {
        loop_.call_exception_handler({"protocol.pause_writing() failed", std::current_exception()});
    }
}

void Transport::maybe_resume_protocol() noexcept {
    if (buffered_ > low_ || !std::exchange(protocol_paused_, false))
        return;
    try {
        protocol_->resume_writing();
    } catch (...) {
        loop_.call_exception_handler(
            {"protocol.resume_writing() failed", std::current_exception()});
    }
}

void Transport::set_write_buffer_limits(std::optional<std::size_t> high,
                                        std::optional<std::size_t> low) {
    const std::size_t new_high = high ? *high : low ? 4 * *low : std::size_t{64} << 10;
    const std::size_t new_low = low.value_or(new_high / 4);
    if (new_low > new_high)
        throw std::invalid_argument("the low-water mark is above the high one");
    high_ = new_high;
    low_ = new_low;
    maybe_pause_protocol();
}

} // namespace future_design
