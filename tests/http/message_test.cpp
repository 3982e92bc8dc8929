#include "../../examples/http/message.hpp"

#include <stdexcept>

#include <doctest/doctest.h>

#include <trapline/kernel/kernel.hpp>

using namespace trapline;
using namespace trapline::http;

namespace {

Coro<Response> hello(Request& request) {
    const std::string name = percent_decoded(request.path.substr(1)).value_or("");
    if (name.empty())
        co_return error_response(404);
    Response answer = html_response("<p>Hello " + html_escaped(name) + "!</p>\n");
    answer.set("Cache-Control", "no-store");
    co_return answer;
}

Request request_for(std::string_view path) {
    Request request;
    request.path = path;
    return request;
}

} // namespace

TEST_CASE("a handler makes an answer of a request") {
    Request request = request_for("/a%3Cb");
    const Response answer = run(hello(request));
    CHECK(answer.status() == 200);
    CHECK(answer.body() == "<p>Hello a&lt;b!</p>\n");
    CHECK(answer.lines() == "Cache-Control: no-store\r\n");
    CHECK(answer.header("cache-control") == "no-store");
    CHECK(answer.header("Cache") == "");
    Request nobody = request_for("/");
    CHECK(run(hello(nobody)).body() == "404 Not Found\n");
}

TEST_CASE("a header cannot break out of its line, nor be the connection's") {
    Response answer;
    CHECK_THROWS_AS(answer.set("X", "a\r\nSet-Cookie: b"), std::invalid_argument);
    CHECK_THROWS_AS(answer.set("X", "a\nb"), std::invalid_argument);
    CHECK_THROWS_AS(answer.set("X", std::string_view("a\0b", 3)), std::invalid_argument);
    CHECK_THROWS_AS(answer.set("X: a", "b"), std::invalid_argument);
    CHECK_THROWS_AS(answer.set("", "b"), std::invalid_argument);
    CHECK_THROWS_AS(answer.set("content-length", "3"), std::invalid_argument);
    CHECK_THROWS_AS(answer.set("Transfer-Encoding", "chunked"), std::invalid_argument);
    CHECK(answer.lines() == "");
    answer.set("X", "a\tb");
    CHECK(answer.lines() == "X: a\tb\r\n");
}

TEST_CASE("per cent is decoded once") {
    CHECK(percent_decoded("/a%20b%2Fc%2f") == "/a b/c/");
    CHECK(percent_decoded("%2541") == "%41");
    CHECK(percent_decoded("%00") == std::string(1, '\0'));
    CHECK(percent_decoded("a+b") == "a+b");
    CHECK_FALSE(percent_decoded("%"));
    CHECK_FALSE(percent_decoded("%4"));
    CHECK_FALSE(percent_decoded("%4g"));
    CHECK_FALSE(percent_decoded("%%41"));
    CHECK(percent_encoded("/a b/\"<\\\xc3\xa4?#%") == "/a%20b/%22%3C%5C%C3%A4%3F%23%25");
    CHECK(html_escaped("<a href=\"'&\">") == "&lt;a href=&quot;&#39;&amp;&quot;&gt;");
}
