#include "date.hpp"

#include <array>
#include <charconv>
#include <cstdio>

namespace trapline::http {

namespace {

constexpr std::array<std::string_view, 7> days = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
constexpr std::array<std::string_view, 12> months = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

/// Digits alone, all of them.
bool number(std::string_view text, int& value) noexcept {
    for (const char c : text)
        if (c < '0' || c > '9')
            return false;
    return std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc{};
}

} // namespace

std::string http_date(std::time_t time) {
    std::tm parts{};
    ::gmtime_r(&time, &parts);
    char text[64];
    const int size =
        std::snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT",
                      days[static_cast<std::size_t>(parts.tm_wday)].data(), parts.tm_mday,
                      months[static_cast<std::size_t>(parts.tm_mon)].data(), parts.tm_year + 1900,
                      parts.tm_hour, parts.tm_min, parts.tm_sec);
    return {text, static_cast<std::size_t>(size)};
}

std::optional<std::time_t> parse_http_date(std::string_view text) noexcept {
    // Sun, 06 Nov 1994 08:49:37 GMT
    if (text.size() != 29 || text.substr(3, 2) != ", " || text[7] != ' ' || text[11] != ' ' ||
        text[16] != ' ' || text[19] != ':' || text[22] != ':' || text.substr(25) != " GMT")
        return std::nullopt;
    std::tm parts{};
    if (!number(text.substr(5, 2), parts.tm_mday) || !number(text.substr(12, 4), parts.tm_year) ||
        !number(text.substr(17, 2), parts.tm_hour) || !number(text.substr(20, 2), parts.tm_min) ||
        !number(text.substr(23, 2), parts.tm_sec))
        return std::nullopt;
    while (parts.tm_mon < 12 && months[static_cast<std::size_t>(parts.tm_mon)] != text.substr(8, 3))
        ++parts.tm_mon;
    if (parts.tm_mon == 12 || parts.tm_mday < 1 || parts.tm_mday > 31 || parts.tm_hour > 23 ||
        parts.tm_min > 59 || parts.tm_sec > 60)
        return std::nullopt;
    parts.tm_year -= 1900;
    return ::timegm(&parts);
}

std::string_view DateClock::text() {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME_COARSE, &now); // no system call, and exact to some milliseconds
    if (now.tv_sec != second_) {
        text_ = http_date(now.tv_sec);
        second_ = now.tv_sec;
    }
    return text_;
}

} // namespace trapline::http
