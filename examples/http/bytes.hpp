// Internal. Which bytes may stand where in a request.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace trapline::http::detail {

enum Kind : unsigned char {
    token = 1,  ///< in methods and names of headers
    text = 2,   ///< in values of headers: no control character but the tab
    target = 4, ///< in the target of a request
    digit = 8,
    hex = 16,
    host = 32, ///< in a host and port; brackets and all that names may have by RFC 3986
};

inline constexpr std::array<unsigned char, 256> kinds = [] {
    std::array<unsigned char, 256> table{};
    constexpr std::string_view marks = "!#$%&'*+-.^_`|~";
    constexpr std::string_view host_marks = "-._~%!$&'()*+,;=:[]";
    for (unsigned c = 0; c < 256; ++c) {
        const bool is_digit = c >= '0' && c <= '9';
        const unsigned small = c | 0x20;
        const bool is_letter = c < 128 && small >= 'a' && small <= 'z';
        const auto in = [c](std::string_view set) {
            return c < 128 && set.contains(static_cast<char>(c));
        };
        unsigned kind = 0;
        if (is_digit || is_letter || in(marks))
            kind |= token;
        if (c == '\t' || (c >= ' ' && c != 127))
            kind |= text;
        if (c > ' ' && c < 127 && c != '#')
            kind |= target;
        if (is_digit)
            kind |= digit;
        if (is_digit || (c < 128 && small >= 'a' && small <= 'f'))
            kind |= hex;
        if (is_digit || is_letter || in(host_marks))
            kind |= host;
        table[c] = static_cast<unsigned char>(kind);
    }
    return table;
}();

constexpr bool is(char c, Kind kind) noexcept {
    return (kinds[static_cast<unsigned char>(c)] & kind) != 0;
}

/// How many bytes from the front on are of that kind.
inline std::size_t count_of(std::string_view bytes, Kind kind) noexcept {
    std::size_t count = 0;
    while (count < bytes.size() && is(bytes[count], kind))
        ++count;
    return count;
}

inline bool all(std::string_view bytes, Kind kind) noexcept {
    return count_of(bytes, kind) == bytes.size();
}

/// Without the blanks around it.
inline std::string_view without_blanks(std::string_view value) noexcept {
    const auto blank = [](char c) { return c == ' ' || c == '\t'; };
    while (!value.empty() && blank(value.front()))
        value.remove_prefix(1);
    while (!value.empty() && blank(value.back()))
        value.remove_suffix(1);
    return value;
}

} // namespace trapline::http::detail
