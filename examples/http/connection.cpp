#include "connection.hpp"

#include <charconv>
#include <cstdio>
#include <memory>

#include <trapline/traps/exceptions.hpp>

namespace trapline::http {

Service::Service(Router router, ConnectionOptions options)
    : Service(
          // Shared, since a std::function can be copied.
          [routes = std::make_shared<const Router>(std::move(router))](Request& request) {
              return routes->answer(request);
          },
          std::move(options)) {}

void Service::failed(const Request& request) const {
    std::string line = "answer to " + std::string(request.method) + " " +
                       std::string(request.target) + ": " + message_of(std::current_exception());
    std::ranges::replace_if(
        line, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 127; }, '?');
    if (options_.log)
        options_.log(line);
    else
        std::fprintf(stderr, "http: %s\n", line.c_str());
}

Coro<Response> Service::answer(Request& request) const {
    try {
        co_return co_await handler_(request);
    } catch (const Cancelled&) {
        throw;
    } catch (...) {
        failed(request);
    }
    co_return error_response(500);
}

namespace detail {

namespace {

/// Up to this size a body is copied behind its head, so that both go out at once.
constexpr std::uint64_t copied_max = 64 * 1024;

void append_number(std::string& to, std::uint64_t number) {
    char text[20];
    to.append(text, std::to_chars(text, text + sizeof text, number).ptr);
}

void append_status_line(std::string& to, int status) {
    if (status == 200) {
        to.append("HTTP/1.1 200 OK\r\n");
        return;
    }
    to.append("HTTP/1.1 ");
    append_number(to, static_cast<std::uint64_t>(status));
    to.append(" ").append(reason_of(status)).append("\r\n");
}

} // namespace

BodySent append_answer(std::string& to, const Request& request, const Response& response,
                       std::string_view date, bool close) {
    const int status = response.status();
    const bool has_body = status >= 200 && status != 204 && status != 304;
    const std::uint64_t size = response.size();
    const bool copies = has_body && !response.file() && size <= copied_max;
    to.reserve(to.size() + 256 + response.lines().size() + (copies ? response.body().size() : 0));
    append_status_line(to, status);
    to.append("Date: ").append(date).append("\r\n");
    if (has_body) {
        if (!response.type().empty())
            to.append("Content-Type: ").append(response.type()).append("\r\n");
        to.append("Content-Length: ");
        append_number(to, size);
        to.append("\r\n");
    }
    to.append(response.lines());
    if (close)
        to.append("Connection: close\r\n");
    else if (request.version_minor == 0)
        to.append("Connection: keep-alive\r\n");
    to.append("\r\n");
    if (!has_body || request.method == "HEAD" || size == 0)
        return BodySent::with_head;
    if (response.file() || size > copied_max)
        return BodySent::separately;
    to.append(response.body());
    return BodySent::with_head;
}

} // namespace detail

} // namespace trapline::http
