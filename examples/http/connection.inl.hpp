// The bodies of connection.hpp's templates.
#pragma once

#include "connection.hpp"

namespace trapline::http {

namespace detail {

/// Memory for answers that an idle connection keeps.
inline constexpr std::size_t out_kept = 8 * 1024;

template <Stream S>
Coro<void> Session<S>::run() {
    bool goes_on = true;
    while (goes_on) {
        switch (parser_.next()) {
        case Event::more:
            if (is_to_send())
                goes_on = co_await flush();
            if (goes_on && parser_.stage() == Stage::nothing)
                goes_on = co_await receive_first();
            else if (goes_on)
                goes_on = co_await receive_more();
            break;
        case Event::request: goes_on = co_await answer(); break;
        case Event::failed:
            goes_on = co_await refuse(parser_.error().status, parser_.error().why);
            break;
        }
    }
    if (!dropped_)
        co_await stream_.close();
}

// --- receiving -----------------------------------------------------------------------------

/// While there is nothing to finish, so that a server that stops need not wait.
template <Stream S>
Coro<bool> Session<S>::receive_first() {
    std::optional<std::size_t> count;
    if (server_) {
        std::optional<std::optional<std::size_t>> answer = co_await server_->idle(
            ignore_after(options().idle_limit, stream_.recv(parser_.room())));
        if (answer)
            count = *answer;
    } else {
        count = co_await ignore_after(options().idle_limit, stream_.recv(parser_.room()));
    }
    parser_.filled(count.value_or(0));
    co_return count.value_or(0) > 0;
}

/// Receives more of a head, or of a body.
template <Stream S>
Coro<bool> Session<S>::receive_more() {
    if (parser_.stage() == Stage::body)
        co_return co_await receive_body();
    if (head_deadline_ == never)
        head_deadline_ = later(co_await now(), options().head_limit);
    const std::optional<std::size_t> count =
        co_await ignore_at(head_deadline_, stream_.recv(parser_.room()));
    if (!count)
        co_return co_await refuse(408, "the request did not come in time");
    if (*count == 0)
        co_return co_await refuse(400, "the stream ended in the middle of the request");
    parser_.filled(*count);
    co_return true;
}

template <Stream S>
Coro<bool> Session<S>::receive_body() {
    if (body_deadline_ == never)
        body_deadline_ = later(co_await now(), options().body_span);
    const std::optional<std::size_t> count =
        co_await ignore_at(body_deadline_, stream_.recv(parser_.room()));
    if (!count) {
        if (body_received_ < options().body_pace)
            co_return co_await refuse(408, "the body comes too slowly");
        body_received_ = 0;
        body_deadline_ = never;
        co_return true;
    }
    if (*count == 0)
        co_return co_await refuse(400, "the stream ended in the middle of the body");
    body_received_ += *count;
    parser_.filled(*count);
    co_return true;
}

// --- answering -----------------------------------------------------------------------------

template <Stream S>
Coro<bool> Session<S>::answer() {
    Request& request = parser_.request();
    const Response response = co_await service_.answer(request);
    // Those that wait behind it are answered yet, though the server stops.
    const bool last = stopping() && parser_.buffered() == 0;
    const bool close = !request.keep_alive || response.close() || last;
    const BodySent body = append_answer(out_, request, response, service_.date(), close);
    if (body == BodySent::separately || out_.size() >= options().gather_max) {
        bool sent = co_await flush();
        if (sent && body == BodySent::separately) {
            if (response.file())
                sent = co_await send_file(*response.file());
            else
                sent = co_await send(std::as_bytes(std::span(response.body())));
        }
        if (!sent)
            co_return false;
    }
    head_deadline_ = body_deadline_ = never;
    body_received_ = 0;
    continued_ = false;
    if (close) {
        const bool sent = co_await flush();
        if (sent)
            co_await drain();
    }
    co_return !close;
}

/// Answers what was no request, or did not become one.
template <Stream S>
Coro<bool> Session<S>::refuse(int status, std::string_view why) {
    Request unknown;
    append_answer(out_, unknown, error_response(status, why), service_.date(), true);
    const bool sent = co_await flush();
    if (sent)
        co_await drain();
    co_return false;
}

// --- sending -------------------------------------------------------------------------------

/// Whether something waits to be sent before more is received.
template <Stream S>
bool Session<S>::is_to_send() {
    if (parser_.stage() == Stage::body && parser_.request().expects_continue && !continued_) {
        continued_ = true;
        out_ += "HTTP/1.1 100 Continue\r\n\r\n";
    }
    return !out_.empty();
}

template <Stream S>
Coro<bool> Session<S>::flush() {
    const bool sent = co_await send(std::as_bytes(std::span(out_)));
    out_.clear();
    if (out_.capacity() > out_kept)
        out_ = {};
    co_return sent;
}

/// Sends all of it, as long as the client takes some of it now and then.
template <Stream S>
Coro<bool> Session<S>::send(std::span<const std::byte> data) {
    while (!data.empty()) {
        std::size_t sent = data.size();
        try {
            co_await timeout_after(options().stall_limit, stream_.send_all(data));
        } catch (const TaskTimeout& stalled) {
            sent = stalled.progress();
        }
        if (sent == 0) {
            co_await drop();
            co_return false;
        }
        data = data.subspan(sent);
    }
    co_return true;
}

template <Stream S>
Coro<bool> Session<S>::send_file(const FileBody& body) {
    std::uint64_t sent = 0;
    while (sent < body.size) {
        std::uint64_t piece = 0;
        try {
            piece = co_await timeout_after(options().stall_limit, send_piece(body, sent));
        } catch (const TaskTimeout& stalled) {
            piece = stalled.progress();
        }
        if (piece == 0) { // stalled, or the file has become shorter than was announced
            co_await drop();
            co_return false;
        }
        sent += piece;
    }
    co_return true;
}

/// Sends a piece that a slow client takes within the time limit; answers its size.
template <Stream S>
Coro<std::uint64_t> Session<S>::send_piece(const FileBody& body, std::uint64_t sent) {
    const std::uint64_t offset = body.offset + sent;
    const std::uint64_t left = body.size - sent;
    if constexpr (std::derived_from<S, StreamSocket>) {
        co_return co_await sendfile(stream_, body.file.get(), offset, left);
    } else {
        std::vector<std::byte> buffer(
            static_cast<std::size_t>(std::min<std::uint64_t>(left, 64 * 1024)));
        const auto got =
            co_await traps::read(body.file.get(), buffer, static_cast<std::int64_t>(offset));
        if (!got)
            throw std::system_error(got.error(), "read of a file to be served");
        co_await stream_.send_all(std::span<const std::byte>(buffer).first(*got));
        co_return *got;
    }
}

// --- the end -------------------------------------------------------------------------------

/// Ends it so that the client cannot take what it got for all.
template <Stream S>
Coro<void> Session<S>::drop() {
    dropped_ = true;
    if constexpr (requires { stream_.abort(); })
        co_await stream_.abort();
    else if constexpr (requires { stream_.transport(); })
        co_await stream_.transport().close(); // without TLS's own mark of the end
    else
        co_await stream_.close();
}

/// Lets the client read its last answer before the connection is closed.
template <Stream S>
Coro<void> Session<S>::drain() {
    try {
        co_await stream_.shutdown();
        (void)co_await ignore_after(options().drain_limit, [this]() -> Coro<void> {
            std::array<std::byte, 4096> dropped;
            std::size_t total = 0;
            while (total < options().drain_max) {
                const std::size_t count = co_await stream_.recv(dropped);
                if (count == 0)
                    break;
                total += count;
            }
        });
    } catch (const std::system_error&) {
        // It has gone already.
    }
}

} // namespace detail

template <Stream S>
Coro<void> serve_connection(S& stream, Service& service, Connection* server) {
    detail::Session<S> session{stream, service, server};
    try {
        co_await session.run();
    } catch (const std::system_error& failure) {
        if (failure.code() != StreamError::broken)
            throw;
    }
}

} // namespace trapline::http
