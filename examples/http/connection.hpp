// Serves HTTP on one connection, over any stream: Service is what all connections share.
//
//     Service service{[](Request& request) -> Coro<Response> {
//         co_return text_response("you asked for " + std::string(request.path) + "\n");
//     }};
//     co_await serve_connection(stream, service);
//
// Requests are answered one after the other, in order; the answers to those that came together go
// out together. A request whose last byte was read is answered, also when the server stops, which
// ends idle connections at once. After anything that is no HTTP the client gets one error and the
// end of the stream, and can read both. What it has sent behind that is read and dropped for a
// moment, since closing with bytes unread would reset the connection.
#pragma once

#include <algorithm>
#include <concepts>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <trapline/io/server.hpp>
#include <trapline/io/splice.hpp>
#include <trapline/io/stream.hpp>

#include "date.hpp"
#include "message.hpp"
#include "parser.hpp"
#include "router.hpp"

namespace trapline::http {

/// Limits of a connection: of time, and in bytes.
struct ConnectionOptions {
    ParserLimits parser{};

    Duration idle_limit = std::chrono::seconds{60}; ///< without a request; then it is closed
    Duration head_limit = std::chrono::seconds{10}; ///< for a head, from its first piece on; 408

    /// A body must come as so many bytes at least in each span of time; 408.
    std::size_t body_pace = 5000;
    Duration body_span = std::chrono::seconds{10};

    /// A client that takes nothing for so long is reset, at the latest after twice that.
    Duration stall_limit = std::chrono::seconds{30};

    std::size_t gather_max = 64 * 1024; ///< of answers that wait to go out together

    // After the last answer: how long, and how much is read that nobody wants.
    Duration drain_limit = std::chrono::seconds{2};
    std::size_t drain_max = 1024 * 1024;

    /// Where failures of handlers go, one line each; stderr by default.
    std::function<void(std::string_view)> log{};
};

/// What connections have in common. Belongs to one kernel's tasks, and outlives them.
class Service {
public:
    explicit Service(Handler handler, ConnectionOptions options = {})
        : handler_(std::move(handler)), options_(std::move(options)) {}
    explicit Service(Router router, ConnectionOptions options = {});
    Service(const Service&) = delete;
    Service& operator=(const Service&) = delete;

    const ConnectionOptions& options() const noexcept { return options_; }

    /// The answer to a request: what the handler throws is logged, and becomes 500. Blocks if the
    /// handler does.
    Coro<Response> answer(Request& request) const;

    /// The date of now, for a header.
    std::string_view date() { return clock_.text(); }

private:
    void failed(const Request& request) const;

    Handler handler_;
    ConnectionOptions options_;
    DateClock clock_;
};

/// Serves requests on `stream` until its end, then closes it. `server` is the connection as a
/// server knows it, null without one. Stream and service stay the caller's and outlive it. Throws
/// what the stream throws, but for StreamError::broken, which is a client that is gone. Blocks.
/// Cancelled, it ends where it is: the caller closes the stream.
template <Stream S>
Coro<void> serve_connection(S& stream, Service& service, Connection* server = nullptr);

// -------------------------------------------------------------------------------------------

namespace detail {

enum class BodySent : bool { separately, with_head };

/// Writes the head of an answer, and its body if that is to go with it.
BodySent append_answer(std::string& to, const Request& request, const Response& response,
                       std::string_view date, bool close);

/// One connection.
template <Stream S>
class Session {
public:
    Session(S& stream, Service& service, Connection* server)
        : stream_(stream), service_(service), server_(server), parser_(options().parser) {}

    Coro<void> run();

private:
    using Event = RequestParser::Event;
    using Stage = RequestParser::Stage;

    const ConnectionOptions& options() const noexcept { return service_.options(); }
    bool stopping() const noexcept { return server_ && server_->stopping(); }

    // Each of these is false where the connection has come to its end.
    Coro<bool> receive_first();
    Coro<bool> receive_more();
    Coro<bool> receive_body();
    Coro<bool> answer();
    Coro<bool> refuse(int status, std::string_view why);

    bool is_to_send();
    Coro<bool> flush();
    Coro<bool> send(std::span<const std::byte> data);
    Coro<bool> send_file(const FileBody& body);
    Coro<std::uint64_t> send_piece(const FileBody& body, std::uint64_t sent);
    Coro<void> drop();
    Coro<void> drain();

    S& stream_;
    Service& service_;
    Connection* server_;
    RequestParser parser_;
    std::string out_; ///< answers that wait to go out together

    // Of the request that is being received.
    TimePoint head_deadline_ = never;
    TimePoint body_deadline_ = never;
    std::uint64_t body_received_ = 0; ///< in this span
    bool continued_ = false;          ///< the client was told to send its body
    bool dropped_ = false;            ///< there is nothing to be closed any more
};

} // namespace detail

} // namespace trapline::http

#include "connection.inl.hpp"
