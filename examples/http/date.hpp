// Dates as HTTP has them: "Sun, 06 Nov 1994 08:49:37 GMT".
//
//     std::string text = http_date(784111777);
//     std::optional<std::time_t> time = parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT");
//     DateClock clock;
//     std::string_view today = clock.text();
#pragma once

#include <ctime>
#include <optional>
#include <string>
#include <string_view>

namespace trapline::http {

/// Seconds since 1970 as a date.
std::string http_date(std::time_t time);

/// The other way, for that form of dates and no other. Nothing for what is none.
std::optional<std::time_t> parse_http_date(std::string_view text) noexcept;

/// The date of now, written anew once a second. For the tasks of one kernel.
class DateClock {
public:
    /// Valid until the next call.
    std::string_view text();

private:
    std::time_t second_ = -1;
    std::string text_;
};

} // namespace trapline::http
