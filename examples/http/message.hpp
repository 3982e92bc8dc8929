// What HTTP/1.1 messages are to a program: Request and Response, and texts out of and into URLs and
// pages.
//
//     Coro<Response> hello(Request& request) {
//         const std::string name = percent_decoded(request.path.substr(1)).value_or("");
//         if (name.empty())
//             co_return error_response(404);
//         Response answer = html_response("<p>Hello " + html_escaped(name) + "!</p>\n");
//         answer.set("Cache-Control", "no-store");
//         co_return answer;
//     }
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <trapline/io/descriptor.hpp>
#include <trapline/traps/coro.hpp>

namespace trapline::http {

struct Header {
    std::string_view name;
    std::string_view value; ///< without blanks around it
};

/// Whether two names are the same, in whatever case.
bool same_name(std::string_view a, std::string_view b) noexcept;

/// A part of a path that a route has a name for, decoded.
struct Parameter {
    std::string_view name;
    std::string value;
};

/// A request as it came. Views are into the connection's memory: they last until it is answered.
struct Request {
    std::string_view method;  ///< "GET"
    std::string_view target;  ///< as sent: "/a%20b?c", "http://host/a", "*"
    std::string_view path;    ///< "/a%20b", not decoded; "*" of OPTIONS *
    std::string_view query{}; ///< behind the first "?"
    int version_minor = 1;    ///< of HTTP/1.x: 0 or 1
    bool keep_alive = true;   ///< whether the client wants another one after it
    bool upgrade = false;     ///< it would speak another protocol; who does not, just answers
    bool expects_continue = false;
    std::vector<Header> headers{};
    std::string body{};                  ///< of either framing, without trailers
    std::vector<Parameter> parameters{}; ///< set by the router

    /// The value of the first header of that name; nothing if there is none.
    std::optional<std::string_view> header(std::string_view name) const noexcept;

    /// The route's parameter; "" if it has none of that name.
    std::string_view parameter(std::string_view name) const noexcept;
};

/// A part of an open file, as a body.
struct FileBody {
    Descriptor file{};
    std::uint64_t offset = 0;
    std::uint64_t size = 0; ///< bytes; a file that turns out shorter ends the connection

    FileBody(Descriptor from, std::uint64_t at, std::uint64_t bytes)
        : file(std::move(from)), offset(at), size(bytes) {}
};

/// An answer. Content-Length, Date and Connection are the connection's business.
class Response {
public:
    /// `type` must live as long as the response: give a literal.
    explicit Response(int status = 200, std::string_view type = {}, std::string body = {})
        : status_(status), type_(type), body_(std::move(body)) {}
    Response(Response&&) = default;
    Response& operator=(Response&&) = default;

    /// Adds a header. Throws std::invalid_argument for what would break out of its line, and for
    /// the headers that are the connection's.
    void set(std::string_view name, std::string_view value);

    /// The body shall be a part of a file.
    void set_file(FileBody file) { file_ = std::move(file); }

    /// This is the connection's last one.
    void set_close() noexcept { close_ = true; }

    int status() const noexcept { return status_; }
    std::string_view type() const noexcept { return type_; }
    const std::string& body() const noexcept { return body_; }
    const std::optional<FileBody>& file() const noexcept { return file_; }
    bool close() const noexcept { return close_; }

    /// All that set() was given, as lines.
    std::string_view lines() const noexcept { return lines_; }

    /// The value of a header that was set, or "".
    std::string_view header(std::string_view name) const noexcept;

    /// Of the body, whichever it is; in bytes.
    std::uint64_t size() const noexcept { return file_ ? file_->size : body_.size(); }

private:
    int status_;
    bool close_ = false;
    std::string_view type_;
    std::string lines_;
    std::string body_;
    std::optional<FileBody> file_;
};

inline constexpr std::string_view text_type = "text/plain; charset=utf-8";
inline constexpr std::string_view html_type = "text/html; charset=utf-8";

inline Response text_response(std::string text) {
    return Response{200, text_type, std::move(text)};
}
inline Response html_response(std::string page) {
    return Response{200, html_type, std::move(page)};
}

/// A short text that says what the status is, and why if that is given.
Response error_response(int status, std::string_view why = {});

/// "Not Found"; "Unknown" for a status that has no name.
std::string_view reason_of(int status) noexcept;

/// Decodes %41 to A, once. Nothing if a "%" is not followed by two hexadecimal digits.
std::optional<std::string> percent_decoded(std::string_view text);

/// As a path in a URL: all but letters, digits and -._~/ as %41.
std::string percent_encoded(std::string_view path);

/// As text in HTML, or in a quoted attribute.
std::string html_escaped(std::string_view text);

} // namespace trapline::http
