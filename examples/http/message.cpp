#include "message.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>

namespace trapline::http {

namespace {

constexpr char lower(char c) noexcept {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

int hex_value(char c) noexcept {
    if (c >= '0' && c <= '9')
        return c - '0';
    const char small = lower(c);
    return small >= 'a' && small <= 'f' ? small - 'a' + 10 : -1;
}

bool breaks_line(char c) noexcept {
    return (static_cast<unsigned char>(c) < ' ' && c != '\t') || c == 127;
}

bool is_unreserved(char c) noexcept {
    return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z') || c == '-' || c == '.' ||
           c == '_' || c == '~';
}

constexpr std::array connections_own = {"Content-Length", "Content-Type", "Date", "Connection",
                                        "Transfer-Encoding"};

} // namespace

bool same_name(std::string_view a, std::string_view b) noexcept {
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                              [](char x, char y) { return lower(x) == lower(y); });
}

std::optional<std::string_view> Request::header(std::string_view name) const noexcept {
    for (const Header& header : headers)
        if (same_name(header.name, name))
            return header.value;
    return std::nullopt;
}

std::string_view Request::parameter(std::string_view name) const noexcept {
    for (const Parameter& parameter : parameters)
        if (parameter.name == name)
            return parameter.value;
    return {};
}

void Response::set(std::string_view name, std::string_view value) {
    const auto is_bad = [](char c) { return breaks_line(c) || c == ':' || c == ' ' || c == '\t'; };
    if (name.empty() || std::ranges::any_of(name, is_bad))
        throw std::invalid_argument("header name \"" + std::string(name) + "\" is no token");
    if (std::ranges::any_of(value, breaks_line))
        throw std::invalid_argument("value of header " + std::string(name) +
                                    " has a control character in it");
    for (const std::string_view own : connections_own)
        if (same_name(name, own))
            throw std::invalid_argument("header " + std::string(own) + " is set by the connection");
    lines_.append(name).append(": ").append(value).append("\r\n");
}

std::string_view Response::header(std::string_view name) const noexcept {
    std::string_view rest = lines_;
    while (!rest.empty()) {
        const std::string_view line = rest.substr(0, rest.find("\r\n"));
        rest.remove_prefix(line.size() + 2);
        const std::size_t colon = line.find(':');
        if (same_name(line.substr(0, colon), name))
            return line.substr(colon + 2);
    }
    return {};
}

Response error_response(int status, std::string_view why) {
    std::string text = std::to_string(status) + " " + std::string(reason_of(status));
    if (!why.empty())
        text.append(": ").append(why);
    return Response{status, text_type, text + "\n"};
}

std::string_view reason_of(int status) noexcept {
    switch (status) {
    case 100: return "Continue";
    case 101: return "Switching Protocols";
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 206: return "Partial Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 303: return "See Other";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 411: return "Length Required";
    case 412: return "Precondition Failed";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 416: return "Range Not Satisfiable";
    case 417: return "Expectation Failed";
    case 422: return "Unprocessable Content";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    default: return "Unknown";
    }
}

std::optional<std::string> percent_decoded(std::string_view text) {
    std::string decoded;
    decoded.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%') {
            decoded += text[i];
            continue;
        }
        if (text.size() - i < 3)
            return std::nullopt;
        const int high = hex_value(text[i + 1]);
        const int low = hex_value(text[i + 2]);
        if (high < 0 || low < 0)
            return std::nullopt;
        decoded += static_cast<char>(high * 16 + low);
        i += 2;
    }
    return decoded;
}

std::string percent_encoded(std::string_view path) {
    static constexpr std::string_view digits = "0123456789ABCDEF";
    std::string encoded;
    encoded.reserve(path.size());
    for (const char c : path) {
        const auto byte = static_cast<unsigned char>(c);
        if (is_unreserved(c) || c == '/')
            encoded += c;
        else
            encoded.append({'%', digits[byte >> 4], digits[byte & 15]});
    }
    return encoded;
}

std::string html_escaped(std::string_view text) {
    std::string escaped;
    escaped.reserve(text.size());
    for (const char c : text) {
        switch (c) {
        case '&': escaped += "&amp;"; break;
        case '<': escaped += "&lt;"; break;
        case '>': escaped += "&gt;"; break;
        case '"': escaped += "&quot;"; break;
        case '\'': escaped += "&#39;"; break;
        default: escaped += c;
        }
    }
    return escaped;
}

} // namespace trapline::http
