#include <trapline/io/stream_socket.hpp>

#include <array>
#include <string>
#include <vector>

#include <netinet/tcp.h>

#include <doctest/doctest.h>

#include "../support/sockets.hpp"
#include "../support/streams.hpp"

// More of it is in tcp_test.cpp and stream_test.cpp.

using namespace trapline;
using namespace trapline::test;

namespace {

Coro<std::size_t> count(StreamSocket& from) {
    std::array<std::byte, 4096> buffer;
    std::size_t bytes = 0;
    while (std::size_t n = co_await from.recv(buffer))
        bytes += n;
    co_return bytes;
}

} // namespace

TEST_CASE("what a peer sends is counted to its end") {
    const LeakGuard guard;
    Ends ends = tcp_pair();
    write_all(ends.b.get(), "0123456789");
    ends.b = Descriptor{};
    StreamSocket from{std::move(ends.a), {}};
    CHECK(run(count(from)) == 10);
}

TEST_CASE("parts are sent as if they lay in one piece, whatever their number and size") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Ends ends = tcp_pair();
        StreamSocket from{std::move(ends.a), {}};
        StreamSocket to{std::move(ends.b), {}};
        const std::string text = pattern(3'000'000);
        std::vector<iovec> parts{part(std::string_view{})};
        std::size_t size = 0;
        for (std::string_view rest = text; !rest.empty(); size = (size * 7 + 1) % 40'000) {
            parts.push_back(part(rest.substr(0, size)));
            rest.remove_prefix(std::min(size, rest.size()));
        }
        parts.push_back(part(std::string_view{}));
        CHECK(parts.size() > 64); // more than one system call takes
        Task<std::string> receiving =
            co_await spawn([](StreamSocket& s) { return receive_to_end(s); }, std::ref(to));
        co_await from.send_all(parts);
        co_await from.send_all(std::span<const iovec>{});
        co_await from.close();
        const std::string got = co_await receiving.join();
        CHECK((got == text));
    });
}

TEST_CASE("sending parts says how much went, interrupted or broken") {
    run([]() -> Coro<void> {
        Ends ends = tcp_pair();
        StreamSocket from{std::move(ends.a), {}};
        const std::string text = pattern(large_bytes);
        const std::array parts{part(std::string_view("head")), part(std::string_view(text))};
        std::size_t progress = 0;
        const auto sends = [&]() -> Coro<void> {
            try {
                co_await from.send_all(parts);
            } catch (const Cancelled& interrupt) {
                progress = interrupt.progress();
                throw;
            }
        };
        CHECK_FALSE((co_await ignore_after(5ms, sends)));
        CHECK(progress >= 4);
        CHECK(progress < text.size());
        co_await from.shutdown();
        StreamSocket to{std::move(ends.b), {}};
        const std::string got = co_await receive_to_end(to);
        CHECK(got.size() == progress);
        CHECK((got == "head" + text.substr(0, progress - 4)));
    });
}

TEST_CASE("close ends a sending of parts half way, and says so") {
    for (const char* engine : {"uring", "epoll"}) {
        CAPTURE(engine);
        const auto body = []() -> Coro<void> {
            Ends ends = tcp_pair();
            StreamSocket stream{std::move(ends.a), {}};
            const std::string text = pattern(large_bytes);
            const std::array parts{part(std::string_view("head")), part(std::string_view(text))};
            const auto sends = [&]() -> Coro<std::pair<std::error_code, std::size_t>> {
                try {
                    co_await stream.send_all(parts);
                } catch (const TransferError& stopped) {
                    co_return std::pair{stopped.code(), stopped.progress()};
                }
                co_return std::pair{std::error_code{}, std::size_t{0}};
            };
            const auto sending = co_await spawn(sends);
            co_await sleep(5ms); // some of it is on its way, and the peer reads nothing
            co_await stream.close();
            const auto [code, progress] = co_await sending.join();
            CHECK(code == std::errc::operation_canceled);
            CHECK(progress >= 4);
            CHECK(progress < text.size());
        };
        run(body, {.engine = engine});
    }
}

TEST_CASE("abort makes the peer see a reset") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Ends ends = tcp_pair();
        StreamSocket stream{std::move(ends.a), {}};
        StreamSocket peer{std::move(ends.b), {}};
        co_await stream.abort();
        std::array<std::byte, 8> buffer;
        CHECK((co_await complaint_of([&] { return peer.recv(buffer); })) == broken);
        co_await stream.abort(); // harmless twice
    });
}

TEST_CASE("an option that the socket does not know is an error that names it and the peer") {
    run([]() -> Coro<void> {
        Ends ends = socket_pair();
        StreamSocket stream{std::move(ends.a), SocketAddress::unix_path("/peer")};
        std::string text;
        try {
            co_await stream.set_option(IPPROTO_TCP, TCP_NODELAY, 1, "no delay");
        } catch (const std::system_error& failure) {
            text = failure.what();
        }
        CHECK(text == "no delay of stream to unix:/peer: Operation not supported");
    });
}

TEST_CASE("a descriptor that was given up is not closed") {
    const LeakGuard guard;
    Ends ends = socket_pair();
    Descriptor given;
    {
        StreamSocket stream{std::move(ends.a), {}};
        given = stream.release();
        CHECK_FALSE(static_cast<bool>(stream));
    }
    CHECK(write_all(given.get(), "still open"));
}
