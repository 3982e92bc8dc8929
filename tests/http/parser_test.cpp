#include "../../examples/http/parser.hpp"

#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

using namespace trapline::http;
using Event = RequestParser::Event;
using Stage = RequestParser::Stage;

namespace {

/// All that a parser made of some bytes, as a text.
std::string told(RequestParser& parser, Event event) {
    if (event == Event::failed)
        return "failed " + std::to_string(parser.error().status) + "\n";
    const Request& request = parser.request();
    std::string text =
        std::string(request.method) + " [" + std::string(request.target) + "] [" +
        std::string(request.path) + "] [" + std::string(request.query) + "] 1." +
        std::to_string(request.version_minor) + (request.keep_alive ? " keeps" : " closes") +
        (request.upgrade ? " upgrade" : "") + (request.expects_continue ? " expects" : "") + "\n";
    for (const auto& [name, value] : request.headers)
        text += "  " + std::string(name) + "=[" + std::string(value) + "]\n";
    return text + "  body [" + request.body + "]\n";
}

/// The same bytes in pieces of `size`.
std::string parsed(std::string_view bytes, std::size_t size, ParserLimits limits = {}) {
    RequestParser parser{limits};
    std::string report;
    while (!bytes.empty()) {
        parser.feed(bytes.substr(0, size));
        bytes.remove_prefix(std::min(size, bytes.size()));
        Event event = parser.next();
        for (; event == Event::request; event = parser.next())
            report += told(parser, event);
        if (event == Event::failed)
            return report + told(parser, event);
    }
    const Stage stage = parser.stage();
    return report + (stage == Stage::nothing ? "" : stage == Stage::head ? "head\n" : "body\n");
}

std::string parsed(std::string_view bytes) { return parsed(bytes, bytes.size()); }

/// The status of the error that a text ends in, 0 if it is well.
int status_of(std::string_view bytes, ParserLimits limits = {}) {
    RequestParser parser{limits};
    parser.feed(bytes);
    Event event = parser.next();
    while (event == Event::request)
        event = parser.next();
    return event == Event::failed ? parser.error().status : 0;
}

std::string get(std::string_view headers) {
    return "GET / HTTP/1.1\r\nHost: a\r\n" + std::string(headers) + "\r\n";
}
std::string post(std::string_view headers, std::string_view body = {}) {
    return "POST / HTTP/1.1\r\nHost: a\r\n" + std::string(headers) + "\r\n" + std::string(body);
}
std::string chunked(std::string_view body) { return post("Transfer-Encoding: chunked\r\n", body); }

const std::string conversation =
    "\r\nGET /hello/a%20b?x=1&y=2 HTTP/1.1\r\nHost: example.org:80\r\nAccept:  a, b \t\r\n"
    "X-Empty:\r\nX-Bytes: \xc3\xa4\r\n\r\n"
    "POST /form HTTP/1.1\r\nhost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\nhe\r\no"
    "PUT /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
    "3\r\nabc\r\nA;name=value\r\n0123456789\r\n0\r\nX-Trailer: t\r\n\r\n"
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"
    "GET http://example.org?q HTTP/1.1\r\nHost: b\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    "Upgrade: h2c\r\n\r\n"
    "POST / HTTP/1.1\r\nHost: b\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nok"
    "GET / HTTP/1.0\r\n\r\n"
    "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    "DELETE /x HTTP/1.1\r\nHost: [::1]:8080\r\nConnection: close\r\n\r\n";

} // namespace

TEST_CASE("a request comes out when its last byte has come") {
    RequestParser parser;
    parser.feed("POST /a?b HTTP/1.1\r\nHost: example.org\r\nContent-Le");
    RequestParser::Event first = parser.next(); // more
    parser.feed("ngth: 4\r\n\r\nbodyGET / HTTP/1.1\r\n");
    RequestParser::Event second = parser.next(); // request
    std::string body = parser.request().body;
    RequestParser::Event third = parser.next(); // more, of the one behind it
    CHECK(first == Event::more);
    CHECK(second == Event::request);
    CHECK(body == "body");
    CHECK(third == Event::more);
    CHECK(parser.stage() == Stage::head);
}

TEST_CASE("all that a request tells is there") {
    CHECK(parsed(conversation) ==
          "GET [/hello/a%20b?x=1&y=2] [/hello/a%20b] [x=1&y=2] 1.1 keeps\n"
          "  Host=[example.org:80]\n  Accept=[a, b]\n  X-Empty=[]\n  X-Bytes=[\xc3\xa4]\n"
          "  body []\n"
          "POST [/form] [/form] [] 1.1 keeps expects\n"
          "  host=[a]\n  Content-Length=[5]\n  Expect=[100-Continue]\n  body [he\r\no]\n"
          "PUT [/chunks] [/chunks] [] 1.1 keeps\n"
          "  Host=[a]\n  Transfer-Encoding=[Chunked]\n  body [abc0123456789]\n"
          "OPTIONS [*] [*] [] 1.1 keeps\n  Host=[a]\n  body []\n"
          "GET [http://example.org?q] [/] [q] 1.1 keeps upgrade\n"
          "  Host=[b]\n  Connection=[Upgrade, HTTP2-Settings]\n  Upgrade=[h2c]\n  body []\n"
          "POST [/] [/] [] 1.1 keeps upgrade\n"
          "  Host=[b]\n  Connection=[upgrade]\n  Upgrade=[x]\n  Content-Length=[2]\n  body [ok]\n"
          "GET [/] [/] [] 1.0 closes\n  body []\n"
          "GET [/] [/] [] 1.0 keeps\n  Connection=[keep-alive]\n  body []\n"
          "DELETE [/x] [/x] [] 1.1 closes\n  Host=[[::1]:8080]\n  Connection=[close]\n  body []\n");
}

TEST_CASE("in whatever pieces the bytes come, the requests are the same") {
    const std::string whole = parsed(conversation);
    for (std::size_t size = 1; size < conversation.size(); ++size) {
        CAPTURE(size);
        CHECK(parsed(conversation, size) == whole);
        // Also if memory is so short that what came must be moved all the time.
        CHECK(parsed(conversation, size, {.buffer_at_first = 1}) == whole);
    }
}

TEST_CASE("what parsers disagree about is refused") {
    struct Case {
        const char* name;
        std::string bytes;
        int status;
    };
    using namespace std::string_literals;
    const std::string ok = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const std::vector<Case> cases = {
        // the length of a body
        {"length and coding", post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), 400},
        {"coding and length", post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"), 400},
        {"two lengths", post("Content-Length: 3\r\nContent-Length: 4\r\n", "abc"), 400},
        {"the same twice", post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"), 400},
        {"a list of lengths", post("Content-Length: 3, 3\r\n", "abc"), 400},
        {"a sign", post("Content-Length: +3\r\n", "abc"), 400},
        {"negative", post("Content-Length: -3\r\n", "abc"), 400},
        {"hexadecimal", post("Content-Length: 0x3\r\n", "abc"), 400},
        {"a blank inside", post("Content-Length: 1 1\r\n", "abc"), 400},
        {"no length", post("Content-Length:\r\n"), 400},
        {"too many digits", post("Content-Length: 18446744073709551617\r\n"), 400},
        {"a letter", post("Content-Length: 3a\r\n", "abc"), 400},
        {"a header that only begins so", post("Content-Length-X: 3\r\n"), 0},
        // codings
        {"chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
         400},
        {"a list", post("Transfer-Encoding: gzip, chunked\r\n"), 400},
        {"chunked not last", post("Transfer-Encoding: chunked, identity\r\n"), 400},
        {"gzip", post("Transfer-Encoding: gzip\r\n"), 501},
        {"identity", post("Transfer-Encoding: identity\r\n"), 501},
        {"nearly chunked", post("Transfer-Encoding: xchunked\r\n"), 400},
        {"a parameter", post("Transfer-Encoding: chunked;q=1\r\n"), 400},
        {"a comma", post("Transfer-Encoding: ,chunked\r\n"), 400},
        {"a vertical tab", post("Transfer-Encoding: \vchunked\r\n"), 400},
        {"in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        // lines
        {"a blank before the colon", get("Content-Length : 3\r\n"), 400},
        {"a tab before the colon", get("X\t: 3\r\n"), 400},
        {"a blank at the front", get(" X: 3\r\n"), 400},
        {"a folded line", get("X: 1\r\n 2\r\n"), 400},
        {"folded by a tab", get("X: 1\r\n\t2\r\n"), 400},
        {"no colon", get("X\r\n"), 400},
        {"no name", get(": x\r\n"), 400},
        {"LF alone", "GET / HTTP/1.1\nHost: a\n\n", 400},
        {"LF in a header", get("X: a\nY: b\r\n"), 400},
        {"LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400},
        {"CR in a header", get("X: a\rY: b\r\n"), 400},
        {"CR at its end", get("X: a\r\r\n"), 400},
        {"NUL in a value", get("X: a\0b\r\n"s), 400},
        {"NUL in a name", get("X\0: b\r\n"s), 400},
        {"NUL in the target", "GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n"s, 400},
        {"an escape sequence", get("X: \033[2J\r\n"), 400},
        {"DEL", get("X: \177\r\n"), 400},
        {"a name with bytes of UTF-8", get("X\xc3\xa4: 1\r\n"), 400},
        {"parentheses in a name", get("(x): 1\r\n"), 400},
        // Host
        {"no Host", "GET / HTTP/1.1\r\n\r\n", 400},
        {"two of them", get("Host: a\r\n"), 400},
        {"two different ones", get("Host: b\r\n"), 400},
        {"two in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400},
        {"a slash in it", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
        {"an @ in it", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400},
        {"a blank in it", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
        // the request line
        {"no method known", "BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501},
        {"lower case", "get / HTTP/1.1\r\nHost: a\r\n\r\n", 501},
        {"one for proxies", "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 501},
        {"of another protocol", "DESCRIBE / HTTP/1.1\r\nHost: a\r\n\r\n", 501},
        {"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
        {"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505},
        {"HTTP/0.9", "GET /\r\n", 400},
        {"HTTP/1.10", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400},
        {"http/1.1", "GET / http/1.1\r\nHost: a\r\n\r\n", 400},
        {"two blanks", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"a blank in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"a blank at the end", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400},
        {"a blank at the front", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"a tab", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"no slash", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"a fragment", "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"bytes of UTF-8", "GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"another scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"a URL without a host", "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"a URL with a password", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"* for what it is not", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n"s, 400},
        {"a text", "hello\r\n", 400},
        {"empty lines", "\r\n\r\n\r\n", 400},
        // chunks
        {"no size", chunked("\r\nabc\r\n"), 400},
        {"a sign", chunked("+3\r\nabc\r\n"), 400},
        {"0x", chunked("0x3\r\nabc\r\n"), 400},
        {"a blank behind the size", chunked("3 \r\nabc\r\n"), 400},
        {"a blank before the size", chunked(" 3\r\nabc\r\n"), 400},
        {"a size of 17 digits", chunked("00000000000000003\r\nabc\r\n"), 400},
        {"a size that overflows", chunked("FFFFFFFFFFFFFFFFF\r\n"), 400},
        {"LF behind the size", chunked("3\nabc\r\n"), 400},
        {"LF behind the chunk", chunked("3\r\nabc\n0\r\n\r\n"), 400},
        {"a chunk that is longer", chunked("3\r\nabcd\r\n0\r\n\r\n"), 400},
        {"a line behind the size", chunked("3;" + std::string(80, 'x') + "\r\n"), 400},
        {"a control character", chunked("3;\x01\r\nabc\r\n"), 400},
        {"a length in the trailers", chunked("0\r\nContent-Length: 3\r\n\r\n"), 400},
        {"a coding in the trailers", chunked("0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400},
        {"a trailer with a blank", chunked("0\r\nX : 3\r\n\r\n"), 400},
        {"a trailer with LF", chunked("0\r\nX: 3\n\r\n"), 400},
        // others
        {"an unknown expectation", post("Expect: the unexpected\r\n"), 417},
        {"as it should be", chunked("3\r\nabc\r\n0\r\n\r\n"), 0},
    };
    for (const auto& [name, bytes, status] : cases) {
        CAPTURE(name);
        CHECK(status_of(bytes) == status);
        CHECK(parsed(bytes + ok, 1) == parsed(bytes + ok));
        // Whatever stood before it is still answered.
        if (status != 0)
            CHECK(parsed(ok + bytes) == parsed(ok) + "failed " + std::to_string(status) + "\n");
    }
}

TEST_CASE("each limit is kept, to the byte") {
    const auto line = [](std::size_t size, std::string_view begin, std::string_view end) {
        return std::string(begin) + std::string(size - begin.size() - end.size(), 'x') +
               std::string(end);
    };
    const std::string end = "Host: a\r\n\r\n";
    const auto request_line = [&](std::size_t size) {
        return line(size, "GET /", " HTTP/1.1\r\n") + end;
    };
    CHECK(status_of(request_line(8192)) == 0);
    CHECK(status_of(request_line(8193)) == 414);
    CHECK(status_of(std::string(8193, 'G')) == 414);

    const auto header = [&](std::size_t size) { return get(line(size, "X: ", "\r\n")); };
    CHECK(status_of(header(8192)) == 0);
    CHECK(status_of(header(8193)) == 431);

    const auto headers = [&](std::size_t count) {
        std::string lines;
        for (std::size_t i = 1; i < count; ++i) // and Host
            lines += "X: y\r\n";
        return get(lines);
    };
    CHECK(status_of(headers(64)) == 0);
    CHECK(status_of(headers(65)) == 431);

    const auto all = [&](std::size_t size) {
        std::string lines;
        for (size -= end.size(); size > 4096; size -= 4096)
            lines += line(4096, "X: ", "\r\n");
        return get(lines + line(size, "X: ", "\r\n"));
    };
    CHECK(status_of(all(32 * 1024)) == 0);
    CHECK(status_of(all(32 * 1024 + 1)) == 431);

    CHECK(status_of(headers(64) + headers(64)) == 0); // each request has its own

    const ParserLimits small{.body_max = 10};
    CHECK(status_of(post("Content-Length: 10\r\n", "0123456789"), small) == 0);
    CHECK(status_of(post("Content-Length: 11\r\n"), small) == 413);
    CHECK(status_of(chunked("5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n"), small) == 0);
    CHECK(status_of(chunked("5\r\n01234\r\n6\r\n"), small) == 413);
    CHECK(status_of(chunked("FFFFFFFFFFFFFFF\r\n"), small) == 413);

    const auto chunk_line = [&](std::size_t size) { return chunked(line(size, "0;", "\r\n")); };
    CHECK(status_of(chunk_line(64)) == 0);
    CHECK(status_of(chunk_line(65)) == 400);

    const auto trailer = [&](std::size_t size) {
        return chunked("0\r\n" + line(size - 2, "X: ", "\r\n") + "\r\n");
    };
    CHECK(status_of(trailer(4096)) == 0);
    CHECK(status_of(trailer(4097)) == 431);
    CHECK(status_of(trailer(4096) + trailer(4096)) == 0);
    for (const std::size_t size : {1U, 7U, 1000U}) {
        CAPTURE(size);
        for (const std::string& bytes : {request_line(8193), header(8193), all(32 * 1024 + 1),
                                         headers(65), chunk_line(65), trailer(4097)})
            CHECK(parsed(bytes, size) == parsed(bytes));
    }
}

TEST_CASE("a body that is moved about in memory leaves the head as it was") {
    const std::string body(500'000, 'b');
    const std::string bytes =
        "PUT /path?query HTTP/1.1\r\nHost: a\r\nX-Long: " + std::string(3000, 'x') +
        "\r\nContent-Length: 500000\r\n\r\n" + body;
    RequestParser parser;
    std::string_view rest = bytes;
    Event event = Event::more;
    while (!rest.empty()) {
        REQUIRE(event == Event::more);
        const std::span<std::byte> room = parser.room();
        REQUIRE_FALSE(room.empty());
        CHECK(room.size() < 48 * 1024); // what is over makes room for what comes
        const std::size_t count = std::min(room.size(), rest.size());
        std::memcpy(room.data(), rest.data(), count);
        parser.filled(count);
        rest.remove_prefix(count);
        event = parser.next();
        if (event == Event::more && parser.stage() == Stage::body)
            CHECK(parser.request().header("x-long") == std::string(3000, 'x'));
    }
    CHECK(event == Event::request);
    CHECK(parser.request().path == "/path");
    CHECK(parser.request().query == "query");
    CHECK(parser.request().header("X-LONG") == std::string(3000, 'x'));
    CHECK(parser.request().body == body);
    CHECK(parser.buffered() == 0);
}

TEST_CASE("random mutations are parsed or refused, the same in pieces as in one") {
    constexpr std::string_view pieces[] = {"\r\n",
                                           "\n",
                                           "\r",
                                           std::string_view("\0", 1),
                                           " ",
                                           ":",
                                           ",",
                                           "GET ",
                                           "0\r\n",
                                           "\r\n\r\n",
                                           "chunked",
                                           "HTTP/1.1",
                                           "Host: a\r\n",
                                           "5\r\n",
                                           "\xff",
                                           "Expect: 1",
                                           "*",
                                           "http://a/b",
                                           "Content-Length: 1\r\n"};
    int refused = 0;
    for (unsigned seed = 0; seed < 4000; ++seed) {
        CAPTURE(seed);
        std::mt19937 dice{seed};
        std::string bytes = conversation;
        for (unsigned n = 1 + dice() % 4; n > 0; --n) {
            const std::size_t at = dice() % bytes.size();
            switch (dice() % 5) {
            case 0: bytes[at] = static_cast<char>(dice()); break;
            case 1: bytes.erase(at, 1 + dice() % 8); break;
            case 2: bytes.insert(at, pieces[dice() % std::size(pieces)]); break;
            case 3: bytes.insert(at, bytes.substr(dice() % bytes.size(), dice() % 80)); break;
            default: bytes.resize(at + 1); break;
            }
        }
        const std::string whole = parsed(bytes);
        refused += whole.contains("failed");
        REQUIRE(parsed(bytes, 1 + dice() % 40) == whole);
    }
    CHECK(refused > 1000);
    CHECK(refused < 3900);
}
