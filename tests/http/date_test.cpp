#include "../../examples/http/date.hpp"

#include <doctest/doctest.h>

using namespace trapline::http;

TEST_CASE("dates are written and read") {
    std::string text = http_date(784111777);
    std::optional<std::time_t> time = parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT");
    DateClock clock;
    std::string_view today = clock.text();
    CHECK(text == "Sun, 06 Nov 1994 08:49:37 GMT");
    CHECK(time == 784111777);
    const std::optional<std::time_t> now = parse_http_date(today);
    REQUIRE(now);
    CHECK(std::abs(*now - ::time(nullptr)) <= 1);
    CHECK(clock.text().size() == 29);
}

TEST_CASE("what is no date is none") {
    for (const char* text : {"", "Sun", "Sunday, 06-Nov-94 08:49:37 GMT",
                             "Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37 UTC",
                             "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT",
                             "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov -994 08:49:37 GMT",
                             "Sun, 06 Nov 1994 08:49:3x GMT", "Sun, 06 Nov 1994 08:49:37 GMT "}) {
        CAPTURE(text);
        CHECK_FALSE(parse_http_date(text));
    }
    for (const std::time_t time : {0L, 951826088L, 4102444799L})
        CHECK(parse_http_date(http_date(time)) == time);
}
