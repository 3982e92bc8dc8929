#include <trapline/io/pipe.hpp>

#include <array>
#include <string>

#include <doctest/doctest.h>

#include "../support/sockets.hpp"
#include "../support/streams.hpp"

// What it shares with all streams is in stream_test.cpp.

using namespace trapline;
using namespace trapline::test;

TEST_CASE("what is written into a pipe is read from it, and then it ends") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Pipe pipe = co_await Pipe::open();
        co_await pipe.writer.send_all("hello");
        co_await pipe.writer.close();
        std::array<std::byte, 64> buffer;
        std::size_t n = co_await pipe.reader.recv(buffer); // 5, and after that 0
        CHECK(n == 5);
        CHECK((co_await pipe.reader.recv(buffer)) == 0);
        co_await pipe.reader.close();
    });
}

TEST_CASE("a pipe without readers is broken, and nobody gets a SIGPIPE") {
    run([]() -> Coro<void> {
        Pipe pipe = co_await Pipe::open();
        co_await pipe.reader.close();
        std::string text;
        try {
            co_await pipe.writer.send_all("hello");
        } catch (const TransferError& failure) {
            text = failure.what();
            CHECK(failure.code() == std::errc::broken_pipe);
            CHECK(failure.progress() == 0);
        }
        CHECK(text == "write to a pipe: Broken pipe");
    });
}

TEST_CASE("an end can be made of any descriptor, and given up again") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Ends ends = pipe_ends();
        PipeReader reader{std::move(ends.a)};
        PipeWriter writer{std::move(ends.b)};
        CHECK((co_await writer.send(bytes_of("abc"))) == 3);
        std::array<std::byte, 2> buffer;
        CHECK((co_await reader.recv(buffer)) == 2);
        const Descriptor released = reader.release();
        CHECK_FALSE(static_cast<bool>(reader));
        CHECK(read_waiting(released.get()).empty()); // no socket: recv fails, the byte stays
        CHECK(bytes_waiting(released.get()) == 1);
    });
}

TEST_CASE("a pipe whose descriptor does not wait makes its reader wait all the same") {
    run([]() -> Coro<void> {
        Ends ends = pipe_ends(O_NONBLOCK);
        PipeReader reader{std::move(ends.a)};
        PipeWriter writer{std::move(ends.b)};
        const std::string text = pattern(300'000);
        Task<> sends =
            co_await spawn([](PipeWriter& w, const std::string& t) { return send_and_close(w, t); },
                           std::ref(writer), std::cref(text));
        const std::string got = co_await receive_to_end(reader);
        CHECK((got == text));
        co_await sends.join();
    });
}

TEST_CASE("an end that was closed here says so") {
    run([]() -> Coro<void> {
        PipeReader reader;
        std::array<std::byte, 2> buffer;
        std::string text;
        try {
            (void)co_await reader.recv(buffer);
        } catch (const std::system_error& failure) {
            text = failure.what();
        }
        CHECK(text == "read of a pipe that was closed here: Bad file descriptor");
    });
}
