// RequestParser: bytes in, requests of HTTP/1.0 and 1.1 out. It knows no socket.
//
//     RequestParser parser;
//     parser.feed("POST /a?b HTTP/1.1\r\nHost: example.org\r\nContent-Le");
//     RequestParser::Event first = parser.next(); // more
//     parser.feed("ngth: 4\r\n\r\nbodyGET / HTTP/1.1\r\n");
//     RequestParser::Event second = parser.next(); // request
//     std::string body = parser.request().body;
//     RequestParser::Event third = parser.next(); // more, of the one behind it
//
// In whatever pieces the bytes come, the requests are the same, and so is the error. llhttp parses,
// without its lenient flags. What parsers are known to disagree about, which is how requests are
// smuggled past one of them, is refused before: the lengths of a body given twice or not by digits
// alone, a length together with a coding, any coding but exactly "chunked", blanks before a colon,
// lines that begin with a blank, CR or LF alone, control characters, and no Host, or two. An error
// is for good: nobody knows where the next request would begin.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "message.hpp"

namespace trapline::http {

/// In bytes, ends of lines included.
struct ParserLimits {
    std::size_t line_max = 8 * 1024;        ///< the request line (else 414), a header line (431)
    std::size_t headers_max = 32 * 1024;    ///< all header lines (431)
    std::size_t header_count_max = 64;      ///< lines (431)
    std::size_t body_max = 1024 * 1024;     ///< decoded (413)
    std::size_t chunk_line_max = 64;        ///< before each chunk (400)
    std::size_t trailers_max = 4 * 1024;    ///< header lines behind the last chunk (431)
    std::size_t buffer_at_first = 4 * 1024; ///< of the memory that requests are received into
};

/// What was wrong, and the status to answer. The text is a literal.
struct ParseError {
    int status = 0;
    std::string_view why{};
};

class RequestParser {
public:
    enum class Event : unsigned char {
        more,    ///< more bytes are needed
        request, ///< request() is there, whole
        failed,  ///< error() says why; nothing else will come
    };

    /// How far the next request has come.
    enum class Stage : unsigned char {
        nothing, ///< not a byte of it
        head,    ///< the request line or headers are incomplete
        body,    ///< the head is there, and request() holds it: the body is incomplete
    };

    explicit RequestParser(ParserLimits limits = {});
    RequestParser(const RequestParser&) = delete;
    RequestParser& operator=(const RequestParser&) = delete;
    ~RequestParser();

    /// Where bytes may be received to, at least one after Event::more; valid until the next call.
    std::span<std::byte> room();

    /// So many bytes were put there.
    void filled(std::size_t count) noexcept;

    /// Takes a copy of `bytes`, all of them.
    void feed(std::string_view bytes);

    /// Goes on with the bytes that came. After Event::request that one is over with this call, and
    /// the next one is looked for.
    Event next();

    /// The request: whole after Event::request, else its head alone at Stage::body.
    Request& request() noexcept;

    const ParseError& error() const noexcept;

    Stage stage() const noexcept;

    /// Bytes that came and belong to no request yet that was answered by next().
    std::size_t buffered() const noexcept;

private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace trapline::http
