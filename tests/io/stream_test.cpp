#include <trapline/io/stream.hpp>

#include <optional>
#include <string>

#include <doctest/doctest.h>

#include <trapline/io/any_stream.hpp>
#include <trapline/io/buffered_reader.hpp>
#include <trapline/io/memory_stream.hpp>
#include <trapline/io/pipe.hpp>
#include <trapline/io/tcp.hpp>
#include <trapline/io/unix.hpp>

#include "../support/sockets.hpp"
#include "../support/streams.hpp"

using namespace trapline;
using namespace trapline::test;

namespace {

template <Stream S>
Coro<void> greet(S& peer) {
    BufferedReader reader{peer};
    co_await peer.send_all("your name?\n");
    std::optional<std::string> name = co_await reader.read_line();
    if (name)
        co_await peer.send_all("hello " + *name + "\n");
}

/// Ends of two kinds that behave alike.
using MemoryEnds = StreamEnds<MemoryStream>;

template <std::size_t bytes>
Coro<MemoryEnds> memory_ends() {
    MemoryStreamPair ends = memory_stream_pair(bytes);
    co_return MemoryEnds{std::move(ends.a), std::move(ends.b)};
}

Coro<StreamEnds<TcpStream>> tcp_ends() {
    Ends ends = tcp_pair();
    const SocketAddress nowhere = SocketAddress::ipv4("127.0.0.1", 9);
    co_return StreamEnds<TcpStream>{TcpStream{std::move(ends.a), nowhere},
                                    TcpStream{std::move(ends.b), nowhere}};
}

static_assert(Stream<TcpStream> && Stream<UnixStream> && Stream<MemoryStream> && Stream<AnyStream>);
static_assert(ReceiveStream<PipeReader> && !SendStream<PipeReader>);
static_assert(SendStream<PipeWriter> && !ReceiveStream<PipeWriter>);

} // namespace

TEST_CASE("a protocol is written once, and tested without a network") {
    const LeakGuard guard;
    const auto body = []() -> Coro<std::string> {
        MemoryStreamPair ends = memory_stream_pair();
        Task<> server = co_await spawn(greet<MemoryStream>, std::ref(ends.a));
        co_await ends.b.send_all("ada\n");
        co_await server.join();
        co_await ends.a.close();
        co_return co_await receive_to_end(ends.b);
    };
    CHECK(run(body()) == "your name?\nhello ada\n");
}

TEST_CASE("TCP does what a stream must") { check_two_ways(tcp_ends); }

TEST_CASE("Unix-domain sockets do what a stream must") {
    check_two_ways([]() -> Coro<StreamEnds<UnixStream>> {
        UnixStreamPair ends = co_await UnixStream::pair();
        co_return StreamEnds<UnixStream>{std::move(ends.a), std::move(ends.b)};
    });
}

TEST_CASE("a pipe does what a stream must, one way") {
    check_one_way([]() -> Coro<StreamEnds<PipeWriter, PipeReader>> {
        Pipe pipe = co_await Pipe::open();
        co_return StreamEnds<PipeWriter, PipeReader>{std::move(pipe.writer),
                                                     std::move(pipe.reader)};
    });
}

TEST_CASE("a pair in memory does what a stream must, however little it holds") {
    check_two_ways(memory_ends<65536>);
    check_two_ways(memory_ends<1000>);
}

TEST_CASE("a stream of any kind does what the one inside must") {
    check_two_ways([]() -> Coro<StreamEnds<AnyStream>> {
        MemoryEnds ends = co_await memory_ends<65536>();
        co_return StreamEnds<AnyStream>{std::move(ends.a), std::move(ends.b)};
    });
    check_two_ways([]() -> Coro<StreamEnds<AnyStream>> {
        StreamEnds<TcpStream> ends = co_await tcp_ends();
        co_return StreamEnds<AnyStream>{std::move(ends.a), std::move(ends.b)};
    });
}

TEST_CASE("what a stream's error means does not depend on what the system calls it") {
    const auto code = [](std::errc error) { return std::make_error_code(error); };
    CHECK(code(std::errc::connection_reset) == StreamError::broken);
    CHECK(code(std::errc::broken_pipe) == StreamError::broken);
    CHECK(code(std::errc::timed_out) == StreamError::broken);
    CHECK(code(std::errc::operation_canceled) == StreamError::closed);
    CHECK(code(std::errc::bad_file_descriptor) == StreamError::closed);
    CHECK(code(std::errc::device_or_resource_busy) == StreamError::busy);
    CHECK(code(std::errc::invalid_argument) != StreamError::broken);
    CHECK(std::error_code{} != StreamError::broken);
    CHECK(std::error_condition(StreamError::busy).message() == "another task uses the stream");
}
