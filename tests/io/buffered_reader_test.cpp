#include <trapline/io/buffered_reader.hpp>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/io/memory_stream.hpp>
#include <trapline/io/tcp.hpp>

#include "../support/sockets.hpp"
#include "../support/streams.hpp"

using namespace trapline;
using namespace trapline::test;

namespace {

Coro<int> count_words(TcpStream client) {
    BufferedReader reader{client};
    int words = 0;
    co_await for_each(reader.lines({.bytes_max = 1024}), [&](std::string_view line) {
        words += static_cast<int>(std::ranges::count(line, ' ')) + 1;
    });
    co_return words;
}

/// Sends `text` in pieces of `piece` bytes, each as something of its own, and ends.
Coro<void> dribble(MemoryStream& to, std::string_view text, std::size_t piece) {
    for (; !text.empty(); text.remove_prefix(std::min(piece, text.size()))) {
        co_await to.send_all(text.substr(0, piece));
        co_await yield_now();
    }
    co_await to.shutdown();
}

/// Runs `body(reader)` over a stream that brings `text` in pieces of each size.
template <class Body>
void however_it_comes(std::string_view text, Body body) {
    for (const std::size_t piece : {1, 2, 3, 7, 1000}) {
        INFO("pieces of ", piece);
        run([&]() -> Coro<void> {
            MemoryStreamPair ends = memory_stream_pair();
            Task<> sends = co_await spawn(dribble, std::ref(ends.a), text, piece);
            BufferedReader reader{ends.b, 4};
            co_await body(reader);
            co_await sends.cancel();
        });
    }
}

using Reader = BufferedReader<MemoryStream>;

} // namespace

TEST_CASE("words of the lines that a client sends") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Ends ends = tcp_pair();
        write_all(ends.b.get(), "one two three\nfour\r\n\nfive six");
        ends.b = Descriptor{};
        const int words = co_await count_words(TcpStream{std::move(ends.a), {}});
        CHECK(words == 7); // an empty line counts as one
    });
}

TEST_CASE("lines come without their ends, and the last one needs none") {
    however_it_comes("one\ntwo\r\n\nlast", [](Reader& reader) -> Coro<void> {
        const auto lines = co_await collect(reader.lines());
        CHECK(lines == std::vector<std::string>{"one", "two", "", "last"});
        CHECK((co_await reader.read_line()) == std::nullopt);
    });
}

TEST_CASE("read_until answers all up to and with its delimiter, and nothing at the end") {
    however_it_comes("head: a\r\n\r\nbody\r\n\r\n", [](Reader& reader) -> Coro<void> {
        CHECK((co_await reader.read_until("\r\n\r\n")) == "head: a\r\n\r\n");
        CHECK((co_await reader.read_until("\r\n\r\n")) == "body\r\n\r\n");
        CHECK((co_await reader.read_until("\r\n\r\n")) == "");
    });
}

TEST_CASE("read_exactly waits for all of it, and answers 0 at the end") {
    however_it_comes("abcdefghij", [](Reader& reader) -> Coro<void> {
        std::string piece(6, '\0');
        CHECK((co_await reader.read_exactly(std::as_writable_bytes(std::span(piece)))) == 6);
        CHECK(piece == "abcdef");
        CHECK((co_await reader.read_until("h")) == "gh");
        std::string rest(2, '\0');
        CHECK((co_await reader.read_exactly(std::as_writable_bytes(std::span(rest)))) == 2);
        CHECK(rest == "ij");
        CHECK((co_await reader.read_exactly(std::as_writable_bytes(std::span(rest)))) == 0);
    });
}

TEST_CASE("an end in the middle is an exception, and what came stays readable") {
    however_it_comes("incomplete", [](Reader& reader) -> Coro<void> {
        std::size_t progress = 0;
        std::string text;
        try {
            (void)co_await reader.read_until("\n");
        } catch (const EndOfStream& end) {
            progress = end.progress();
            text = end.what();
        }
        CHECK(progress == 10);
        CHECK(text == "the stream ended after 10 bytes, in the middle of what was read: \"\\n\"");
        std::string piece(20, '\0');
        try {
            progress = 0;
            (void)co_await reader.read_exactly(std::as_writable_bytes(std::span(piece)));
        } catch (const EndOfStream& end) {
            progress = end.progress();
        }
        CHECK(progress == 10);
        CHECK((co_await reader.read_all()) == "incomplete");
    });
}

TEST_CASE("what is longer than its limit is an exception, and stays readable") {
    however_it_comes("a very long line\nnext\n", [](Reader& reader) -> Coro<void> {
        std::string text;
        try {
            (void)co_await reader.read_line({.bytes_max = 8});
        } catch (const LimitExceeded& limit) {
            text = limit.what();
            CHECK(limit.bytes_max() == 8);
        }
        CHECK(text == "no \"\\n\" within 8 bytes");
        CHECK((co_await reader.read_line({.bytes_max = 17})) == "a very long line");
        CHECK((co_await reader.read_line({.bytes_max = 5})) == "next");
    });
}

TEST_CASE("a line that is as long as its limit is no longer than its limit") {
    however_it_comes("1234\n12345\n", [](Reader& reader) -> Coro<void> {
        CHECK((co_await reader.read_line({.bytes_max = 5})) == "1234");
        bool refused = false;
        try {
            (void)co_await reader.read_line({.bytes_max = 5});
        } catch (const LimitExceeded&) {
            refused = true;
        }
        CHECK(refused);
    });
}

TEST_CASE("a read that is interrupted says how much came, and loses nothing of it") {
    run([]() -> Coro<void> {
        MemoryStreamPair ends = memory_stream_pair();
        BufferedReader reader{ends.b, 4};
        co_await ends.a.send_all("half a li");
        const auto progress_of = [](auto read) -> Coro<std::size_t> {
            std::size_t progress = 0;
            const auto noting = [&]() -> Coro<void> {
                try {
                    (void)co_await read();
                } catch (const Cancelled& interrupt) {
                    progress = interrupt.progress();
                    throw;
                }
            };
            CHECK_FALSE((co_await ignore_after(1ms, noting)));
            co_return progress;
        };
        CHECK((co_await progress_of([&] { return reader.read_line(); })) == 9);
        std::array<std::byte, 20> buffer;
        CHECK((co_await progress_of([&] { return reader.read_exactly(buffer); })) == 9);
        CHECK((co_await progress_of([&] { return reader.read_all(); })) == 9);
        co_await ends.a.send_all("ne\nand more");
        CHECK((co_await reader.read_line()) == "half a line");
        co_await ends.a.shutdown();
        CHECK((co_await reader.read_all()) == "and more");
    });
}

TEST_CASE("peek shows what is there and takes nothing; consume takes it") {
    run([]() -> Coro<void> {
        MemoryStreamPair ends = memory_stream_pair();
        BufferedReader reader{ends.b};
        co_await ends.a.send_all("GET /");
        CHECK((co_await reader.peek()).size() == 5);
        CHECK((co_await reader.peek()).size() == 5);
        CHECK(reader.buffered().size() == 5);
        reader.consume(4);
        CHECK(reader.buffered().size() == 1);
        reader.consume(100);
        co_await ends.a.close();
        CHECK((co_await reader.peek()).empty());
    });
}

TEST_CASE("read_all has a limit, too") {
    however_it_comes("0123456789", [](Reader& reader) -> Coro<void> {
        std::string refused;
        try {
            (void)co_await reader.read_all({.bytes_max = 9});
        } catch (const LimitExceeded& limit) {
            refused = limit.what();
        }
        CHECK(refused == "more than 9 bytes");
        CHECK((co_await reader.read_all({.bytes_max = 10})) == "0123456789");
    });
}

TEST_CASE("errors of the stream pass, and what came before stays readable") {
    run([]() -> Coro<void> {
        Ends ends = tcp_pair();
        TcpStream stream{std::move(ends.a), {}};
        BufferedReader reader{stream};
        write_all(ends.b.get(), "some");
        CHECK((co_await reader.peek()).size() == 4);
        reset(std::move(ends.b));
        CHECK((co_await complaint_of([&] { return reader.read_line(); })) == broken);
        CHECK(reader.buffered().size() == 4);
    });
}
