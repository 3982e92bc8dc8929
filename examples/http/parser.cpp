#include "parser.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <llhttp.h>

#include "bytes.hpp"

namespace trapline::http {

using namespace detail;

namespace {

bool contains_chunked(std::string_view value) noexcept {
    constexpr std::string_view chunked = "chunked";
    for (std::size_t at = 0; at + chunked.size() <= value.size(); ++at)
        if (same_name(value.substr(at, chunked.size()), chunked))
            return true;
    return false;
}

/// Methods that a server may be expected to know, whether it implements them or not.
bool is_known_method(std::string_view method) noexcept {
#define TRAPLINE_METHOD(number, name, string) #string,
    static constexpr std::array known =
        std::to_array<std::string_view>({HTTP_METHOD_MAP(TRAPLINE_METHOD)});
#undef TRAPLINE_METHOD
    return std::ranges::find(known, method) != known.end();
}

constexpr std::size_t empty_lines_max = 2;     ///< in front of a request: some clients send one
constexpr std::size_t buffer_kept = 16 * 1024; ///< of what a large request took
constexpr std::size_t piece_max = 16 * 1024;   ///< of a body, received at once

} // namespace

struct RequestParser::State {
    enum class Phase : unsigned char {
        head,
        body, ///< with its length given
        chunk_line,
        chunk,
        chunk_end,
        trailers,
        complete,
        failed,
    };

    explicit State(ParserLimits with) : limits(with) {
        llhttp_settings_init(&settings);
        settings.on_url = &State::on_url;
        settings.on_header_field = &State::on_header_field;
        settings.on_header_value = &State::on_header_value;
        settings.on_header_value_complete = &State::on_header_value_complete;
        settings.on_headers_complete = &State::on_headers_complete;
        settings.on_body = &State::on_body;
        settings.on_message_complete = &State::on_message_complete;
        settings.on_chunk_header = &State::on_chunk_header;
        llhttp_init(&parser, HTTP_REQUEST, &settings);
        parser.data = this;
    }

    // --- memory ----------------------------------------------------------------------------
    //
    //     | over | the head of the request | over | not looked at yet | room |
    //            begin                             at                  end
    //
    // The views of a request are into its head, which does not move once it is complete.

    std::string_view waiting() const noexcept { return {bytes.data() + at, end - at}; }

    std::size_t buffered() const noexcept { return end - (phase == Phase::head ? begin : at); }

    /// Makes room for `wanted` bytes at least.
    void reserve(std::size_t wanted) {
        if (bytes.size() - end < wanted)
            move_down();
        if (bytes.size() - end < wanted)
            grow(wanted);
    }

    /// Takes the place of what is over.
    void move_down() noexcept {
        const std::size_t from = phase == Phase::head ? begin : at;
        const std::size_t to = phase == Phase::head ? 0 : head_end;
        if (from == to)
            return;
        std::memmove(bytes.data() + to, bytes.data() + from, end - from);
        const std::size_t by = from - to;
        at -= by;
        end -= by;
        searched -= by;
        if (phase == Phase::head) {
            begin -= by;
            headers_begin -= std::min(headers_begin, by);
        }
    }

    void grow(std::size_t wanted) {
        std::vector<char> larger;
        larger.resize(std::max({2 * bytes.size(), end + wanted, limits.buffer_at_first}));
        if (end > 0)
            std::memcpy(larger.data(), bytes.data(), end);
        if (phase != Phase::head) {
            for (auto& [name, value] : request.headers) {
                rebase(name, larger);
                rebase(value, larger);
            }
            for (std::string_view* view : {&request.target, &request.path, &request.query})
                rebase(*view, larger);
        }
        bytes = std::move(larger);
    }

    /// A view into `bytes` becomes one into `larger`; others stay.
    void rebase(std::string_view& view, const std::vector<char>& larger) const noexcept {
        const std::less<> before;
        if (!before(view.data(), bytes.data()) && before(view.data(), bytes.data() + end))
            view = {larger.data() + (view.data() - bytes.data()), view.size()};
    }

    // --- errors ----------------------------------------------------------------------------

    bool fail(int status, std::string_view why) noexcept {
        if (phase != Phase::failed)
            error = {status, why};
        phase = Phase::failed;
        return false;
    }

    // --- lines -----------------------------------------------------------------------------

    enum class Line : unsigned char { none, taken, failed };

    /// Takes a line that is there whole; `line` is without its end. `size_max` is with it.
    Line take_line(std::string_view& line, std::size_t size_max, int status,
                   std::string_view too_long) noexcept {
        const char* from = bytes.data() + searched;
        const void* found = end > searched ? std::memchr(from, '\n', end - searched) : nullptr;
        searched =
            found ? static_cast<std::size_t>(static_cast<const char*>(found) - bytes.data()) : end;
        const std::size_t size = searched - at + (found ? 1 : 0);
        if (size > size_max) {
            fail(status, too_long);
            return Line::failed;
        }
        if (!found)
            return Line::none;
        line = {bytes.data() + at, size - 1};
        ++searched;
        at = searched;
        if (!line.ends_with('\r')) {
            fail(400, "a line ends with LF alone");
            return Line::failed;
        }
        line.remove_suffix(1);
        return Line::taken;
    }

    bool check_request_line(std::string_view line) noexcept {
        const std::size_t method = count_of(line, token);
        if (method == 0 || method == line.size() || line[method] != ' ')
            return fail(400, "the request line does not begin with a method and a blank");
        line.remove_prefix(method + 1);
        const std::size_t path = count_of(line, target);
        if (path == 0 || path == line.size() || line[path] != ' ')
            return fail(400, "the request line has no target, or it has forbidden bytes");
        line.remove_prefix(path + 1);
        if (line.size() != 8 || !line.starts_with("HTTP/") || !is(line[5], digit) ||
            line[6] != '.' || !is(line[7], digit))
            return fail(400, "the request line does not end with HTTP and a version");
        if (line != "HTTP/1.1" && line != "HTTP/1.0")
            return fail(505, "spoken here are HTTP/1.0 and HTTP/1.1");
        return true;
    }

    bool check_header_line(std::string_view line) noexcept {
        const std::size_t name = count_of(line, token);
        if (name == 0 || name == line.size() || line[name] != ':')
            return fail(400, "a header line does not begin with a name and a colon");
        if (!all(line.substr(name + 1), text))
            return fail(400, "a header has a control character in it");
        return true;
    }

    // --- the head --------------------------------------------------------------------------

    /// Takes the lines of the head that are there; true when all are.
    bool take_head() {
        std::string_view line;
        for (;;) {
            const bool first = at == begin;
            std::size_t size_max = limits.line_max;
            if (!first)
                size_max = std::min(size_max, limits.headers_max - (at - headers_begin));
            const Line taken = first
                                   ? take_line(line, size_max, 414, "the request line is too long")
                                   : take_line(line, size_max, 431, "the headers are too long");
            if (taken != Line::taken)
                return false;
            if (first && line.empty()) {
                begin = at;
                if (++empty_lines > empty_lines_max)
                    return fail(400, "empty lines instead of a request");
            } else if (first) {
                headers_begin = at;
                if (!check_request_line(line))
                    return false;
            } else if (line.empty()) {
                head_end = at;
                return true;
            } else if (++header_lines > limits.header_count_max) {
                return fail(431, "there are too many headers");
            } else if (!check_header_line(line)) {
                return false;
            }
        }
    }

    /// The head is there whole: llhttp parses it in one piece.
    bool parse_head() {
        request.headers.reserve(header_lines); // llhttp must not be left by an exception
        llhttp_reset(&parser);
        if (!run(begin, head_end))
            return false;
        if (is_complete == (is_chunked || left > 0))
            return fail(400, "the length of the body is unclear");
        if (is_complete)
            phase = Phase::complete;
        else
            phase = is_chunked ? Phase::chunk_line : Phase::body;
        return true;
    }

    /// Has llhttp parse the bytes from `from` to `to`.
    bool run(std::size_t from, std::size_t to) {
        const llhttp_errno_t result = llhttp_execute(&parser, bytes.data() + from, to - from);
        if (phase == Phase::failed)
            return false;
        if (result == HPE_PAUSED_UPGRADE && is_complete)
            return true; // nobody here changes the protocol
        if (result == HPE_OK)
            return true;
        std::string_view line(bytes.data() + begin, head_end - begin);
        if (!is_known_method(line.substr(0, line.find(' '))))
            return fail(501, "the method is not known here");
        return fail(400, "the request is malformed");
    }

    // --- the body --------------------------------------------------------------------------

    bool take_body() {
        const std::size_t piece =
            static_cast<std::size_t>(std::min<std::uint64_t>(left, waiting().size()));
        if (piece == 0)
            return false;
        std::string& body = request.body;
        if (body.capacity() - body.size() < piece) // as above
            body.reserve(std::max(2 * body.size(), body.size() + piece));
        const std::size_t from = at;
        at += piece;
        searched = at;
        left -= piece;
        if (!run(from, at))
            return false;
        if (left > 0)
            return false;
        if (phase == Phase::body)
            return complete();
        phase = Phase::chunk_end;
        return true;
    }

    bool complete() {
        if (!is_complete)
            return fail(400, "the end of the body is unclear");
        phase = Phase::complete;
        return true;
    }

    bool take_chunk_line() {
        const std::size_t from = at;
        std::string_view line;
        if (take_line(line, limits.chunk_line_max, 400, "the line before a chunk is too long") !=
            Line::taken)
            return false;
        const std::size_t digits = count_of(line, hex);
        if (digits == 0 || digits > 15)
            return fail(400, "the size of a chunk is no hexadecimal number");
        if (digits < line.size() && (line[digits] != ';' || !all(line.substr(digits), text)))
            return fail(400, "the size of a chunk is followed by something else");
        const std::uint64_t size = std::stoull(std::string(line.substr(0, digits)), nullptr, 16);
        if (size > limits.body_max - request.body.size())
            return fail(413, "the body is too large");
        chunk_size = size + 1; // on_chunk_header must say otherwise
        if (!run(from, at))
            return false;
        if (chunk_size != size)
            return fail(400, "the size of a chunk is unclear");
        left = size;
        phase = size > 0 ? Phase::chunk : Phase::trailers;
        return true;
    }

    bool take_chunk_end() {
        if (waiting().size() < 2)
            return false;
        if (!waiting().starts_with("\r\n"))
            return fail(400, "a chunk is not followed by the end of a line");
        at += 2;
        searched = at;
        phase = Phase::chunk_line;
        return run(at - 2, at);
    }

    bool take_trailer() {
        const std::size_t from = at;
        std::string_view line;
        if (take_line(line, limits.trailers_max - trailer_bytes, 431,
                      "the trailers are too long") != Line::taken)
            return false;
        trailer_bytes += at - from;
        if (!line.empty()) {
            if (!check_header_line(line))
                return false;
            const std::string_view name = line.substr(0, line.find(':'));
            for (const std::string_view framing : {"Content-Length", "Transfer-Encoding", "Host"})
                if (same_name(name, framing))
                    return fail(400, "a trailer that belongs into the head");
        }
        if (!run(from, at))
            return false;
        return !line.empty() || complete();
    }

    // --- the next request ------------------------------------------------------------------

    void forget_request() noexcept {
        request.headers.clear();
        request.parameters.clear();
        if (request.body.capacity() > buffer_kept)
            request.body = {};
        request.body.clear();
        request.target = {};
        if (at == end) {
            at = end = 0;
            if (bytes.size() > buffer_kept)
                bytes = {};
        }
        begin = searched = head_end = at;
        empty_lines = header_lines = 0;
        trailer_bytes = 0;
        left = 0;
        is_complete = is_chunked = in_field = false;
        phase = Phase::head;
    }

    Event next() {
        if (phase == Phase::complete)
            forget_request();
        for (;;) {
            bool goes_on = true;
            switch (phase) {
            case Phase::head: goes_on = take_head() && parse_head(); break;
            case Phase::body:
            case Phase::chunk: goes_on = take_body(); break;
            case Phase::chunk_line: goes_on = take_chunk_line(); break;
            case Phase::chunk_end: goes_on = take_chunk_end(); break;
            case Phase::trailers: goes_on = take_trailer(); break;
            case Phase::complete: return Event::request;
            case Phase::failed: return Event::failed;
            }
            if (!goes_on && phase != Phase::failed)
                return Event::more;
        }
    }

    // --- what llhttp reports ---------------------------------------------------------------

    static State& of(llhttp_t* parser) noexcept { return *static_cast<State*>(parser->data); }

    /// Pieces of one thing lie one behind the other, since the head is parsed in one piece.
    static void extend(std::string_view& view, const char* data, std::size_t size) noexcept {
        view = view.empty() ? std::string_view(data, size)
                            : std::string_view(view.data(), view.size() + size);
    }

    static int on_url(llhttp_t* parser, const char* data, std::size_t size) noexcept {
        extend(of(parser).request.target, data, size);
        return 0;
    }

    static int on_header_field(llhttp_t* parser, const char* data, std::size_t size) noexcept {
        State& self = of(parser);
        if (self.phase == Phase::trailers)
            return 0;
        auto& headers = self.request.headers;
        if (!self.in_field && headers.size() == headers.capacity())
            return -1; // it sees more of them than there are lines
        if (!self.in_field)
            headers.emplace_back();
        self.in_field = true;
        extend(headers.back().name, data, size);
        return 0;
    }

    static int on_header_value(llhttp_t* parser, const char* data, std::size_t size) noexcept {
        State& self = of(parser);
        if (self.phase != Phase::trailers && !self.request.headers.empty())
            extend(self.request.headers.back().value, data, size);
        return 0;
    }

    static int on_header_value_complete(llhttp_t* parser) noexcept {
        State& self = of(parser);
        self.in_field = false;
        if (self.phase != Phase::trailers && !self.request.headers.empty())
            self.request.headers.back().value = without_blanks(self.request.headers.back().value);
        return 0;
    }

    static int on_headers_complete(llhttp_t* parser) noexcept {
        State& self = of(parser);
        return self.check_headers() ? 0 : -1;
    }

    static int on_body(llhttp_t* parser, const char* data, std::size_t size) noexcept {
        of(parser).request.body.append(data, size);
        return 0;
    }

    static int on_chunk_header(llhttp_t* parser) noexcept {
        of(parser).chunk_size = parser->content_length;
        return 0;
    }

    static int on_message_complete(llhttp_t* parser) noexcept {
        of(parser).is_complete = true;
        return 0;
    }

    // --- what a head must be like ----------------------------------------------------------

    bool check_headers() noexcept {
        request.method = llhttp_method_name(static_cast<llhttp_method_t>(parser.method));
        request.version_minor = parser.http_minor;
        request.keep_alive = llhttp_should_keep_alive(&parser) != 0;
        request.upgrade = parser.upgrade != 0;
        request.expects_continue = false;
        if (request.method == "CONNECT")
            return fail(501, "this is no proxy");
        return check_target() && check_framing();
    }

    bool check_target() noexcept {
        std::string_view target = request.target;
        if (target == "*" && request.method == "OPTIONS") {
            request.path = target;
            request.query = {};
            return true;
        }
        if (!target.starts_with('/')) {
            // As to a proxy: https://host/path
            const std::size_t scheme = target.find("://");
            if (scheme == target.npos || (!same_name(target.substr(0, scheme), "http") &&
                                          !same_name(target.substr(0, scheme), "https")))
                return fail(400, "the target is neither a path nor a URL");
            target.remove_prefix(scheme + 3);
            const std::size_t host_size = std::min(target.find_first_of("/?"), target.size());
            if (host_size == 0 || !all(target.substr(0, host_size), host))
                return fail(400, "the target has no host");
            target.remove_prefix(host_size);
        }
        const std::size_t question = target.find('?');
        request.path = target.empty() || question == 0 ? "/" : target.substr(0, question);
        request.query = question == target.npos ? "" : target.substr(question + 1);
        return true;
    }

    bool check_framing() noexcept {
        int hosts = 0;
        int lengths = 0;
        int codings = 0;
        for (const auto& [name, value] : request.headers) {
            // Nearly every name is of another size than those that are looked for.
            if (name.size() == 4 && same_name(name, "Host")) {
                ++hosts;
                if (!all(value, host))
                    return fail(400, "the Host header is malformed");
            } else if (name.size() == 14 && same_name(name, "Content-Length")) {
                ++lengths;
                if (value.empty() || value.size() > 18 || !all(value, digit))
                    return fail(400, "the Content-Length is no number");
                left = std::stoull(std::string(value));
            } else if (name.size() == 17 && same_name(name, "Transfer-Encoding")) {
                ++codings;
                if (!same_name(value, "chunked"))
                    return contains_chunked(value)
                               ? fail(400, "a Transfer-Encoding with others beside chunked")
                               : fail(501, "the Transfer-Encoding is not known here");
            } else if (name.size() == 6 && same_name(name, "Expect")) {
                if (!same_name(value, "100-continue"))
                    return fail(417, "only 100-continue can be expected");
                request.expects_continue = request.version_minor == 1;
            }
        }
        if (hosts > 1 || (hosts == 0 && request.version_minor == 1))
            return fail(400, "there must be one Host header");
        if (lengths + codings > 1)
            return fail(400, "the length of the body is given twice");
        if (codings > 0 && request.version_minor == 0)
            return fail(400, "HTTP/1.0 has no Transfer-Encoding");
        if (left > limits.body_max)
            return fail(413, "the body is too large");
        is_chunked = codings > 0;
        return true;
    }

    ParserLimits limits;
    std::vector<char> bytes;
    std::size_t begin = 0;
    std::size_t at = 0;
    std::size_t end = 0;
    std::size_t searched = 0; ///< no line ends before
    std::size_t headers_begin = 0;
    std::size_t head_end = 0;
    std::size_t empty_lines = 0;
    std::size_t header_lines = 0;
    std::size_t trailer_bytes = 0;
    std::uint64_t left = 0; ///< of the body, or of a chunk of it
    std::uint64_t chunk_size = 0;
    Phase phase = Phase::head;
    bool is_complete = false; ///< says llhttp
    bool is_chunked = false;
    bool in_field = false;
    Request request;
    ParseError error;
    llhttp_t parser{};
    llhttp_settings_t settings{};
};

RequestParser::RequestParser(ParserLimits limits) : state_(std::make_unique<State>(limits)) {}
RequestParser::~RequestParser() = default;

std::span<std::byte> RequestParser::room() {
    State& state = *state_;
    // Never so little that the bytes come one by one.
    const auto least = std::max<std::uint64_t>(state.limits.buffer_at_first / 4, 1);
    state.reserve(std::max(least, std::min<std::uint64_t>(state.left, piece_max)));
    return std::as_writable_bytes(std::span(state.bytes).subspan(state.end));
}

void RequestParser::filled(std::size_t count) noexcept { state_->end += count; }

void RequestParser::feed(std::string_view bytes) {
    if (bytes.empty())
        return;
    state_->reserve(bytes.size());
    std::memcpy(state_->bytes.data() + state_->end, bytes.data(), bytes.size());
    state_->end += bytes.size();
}

RequestParser::Event RequestParser::next() { return state_->next(); }

Request& RequestParser::request() noexcept { return state_->request; }

const ParseError& RequestParser::error() const noexcept { return state_->error; }

RequestParser::Stage RequestParser::stage() const noexcept {
    const State& state = *state_;
    if (state.phase == State::Phase::complete || state.phase == State::Phase::head)
        return state.buffered() == 0 ? Stage::nothing : Stage::head;
    return Stage::body;
}

std::size_t RequestParser::buffered() const noexcept { return state_->buffered(); }

} // namespace trapline::http
