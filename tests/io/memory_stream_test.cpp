#include <trapline/io/memory_stream.hpp>

#include <array>
#include <optional>
#include <stdexcept>
#include <string>

#include <doctest/doctest.h>

#include <trapline/io/buffered_reader.hpp>

#include "../support/streams.hpp"

// What it shares with all streams is in stream_test.cpp.

using namespace trapline;
using namespace trapline::test;

namespace {

template <Stream S>
Coro<std::string> greet(S peer) {
    BufferedReader reader{peer};
    std::optional<std::string> name = co_await reader.read_line();
    co_return "hello " + name.value_or("nobody");
}

} // namespace

TEST_CASE("both ends of a connection within a test") {
    const LeakGuard guard;
    const auto body = []() -> Coro<std::string> {
        MemoryStreamPair ends = memory_stream_pair();
        Task<std::string> server = co_await spawn(greet<MemoryStream>, std::move(ends.a));
        co_await ends.b.send_all("ada\n");
        co_await ends.b.shutdown();
        co_return co_await server.join();
    };
    CHECK(run(body()) == "hello ada");
}

TEST_CASE("a pair that holds nothing is refused") {
    CHECK_THROWS_AS(memory_stream_pair(0), std::invalid_argument);
}

TEST_CASE("a sender waits as soon as the pair is full, and goes on as bytes are taken") {
    run([]() -> Coro<void> {
        MemoryStreamPair ends = memory_stream_pair(4);
        Task<> sends =
            co_await spawn([](MemoryStream& s) -> Coro<void> { co_await s.send_all("0123456789"); },
                           std::ref(ends.a));
        co_await yield_now();
        std::array<std::byte, 3> buffer;
        CHECK((co_await ends.b.recv(buffer)) == 3);
        CHECK_FALSE(sends.terminated());
        std::string all = "012";
        while (all.size() < 10) {
            const std::size_t n = co_await ends.b.recv(buffer);
            all.append(reinterpret_cast<const char*>(buffer.data()), n);
        }
        CHECK(all == "0123456789");
        co_await sends.join();
    });
}

TEST_CASE("an end that goes away without a close has ended the stream, too") {
    run([]() -> Coro<void> {
        MemoryStreamPair ends = memory_stream_pair();
        {
            const MemoryStream gone = std::move(ends.a);
            CHECK_FALSE(static_cast<bool>(ends.a));
        }
        std::array<std::byte, 3> buffer;
        CHECK((co_await ends.b.recv(buffer)) == 0);
        CHECK((co_await complaint_of([&] { return ends.b.send_all(std::string_view("x")); })) ==
              broken);
    });
}

TEST_CASE("what a broken send_all had sent is in the exception, and can still be received") {
    run([]() -> Coro<void> {
        MemoryStreamPair ends = memory_stream_pair(4);
        std::size_t progress = 0;
        Task<> sends = co_await spawn(
            [](MemoryStream& s, std::size_t& sent) -> Coro<void> {
                try {
                    co_await s.send_all("0123456789");
                } catch (const TransferError& failure) {
                    sent = failure.progress();
                }
            },
            std::ref(ends.a), std::ref(progress));
        co_await yield_now();
        co_await ends.b.close();
        co_await sends.join();
        CHECK(progress == 4);
    });
}
