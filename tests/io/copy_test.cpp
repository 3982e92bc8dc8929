#include <trapline/io/copy.hpp>

#include <string>

#include <doctest/doctest.h>

#include <trapline/io/buffered_reader.hpp>
#include <trapline/io/memory_stream.hpp>
#include <trapline/io/tcp.hpp>

#include "../support/sockets.hpp"
#include "../support/streams.hpp"

using namespace trapline;
using namespace trapline::test;

namespace {

Coro<std::uint64_t> relay(TcpStream& from, TcpStream& to) {
    std::uint64_t bytes = co_await copy(from, to);
    co_await to.shutdown();
    co_return bytes;
}

} // namespace

TEST_CASE("all that comes goes on, and then the end") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Ends in = tcp_pair();
        Ends out = tcp_pair();
        const std::string text = pattern(100'000);
        TcpStream source{std::move(in.a), {}};
        TcpStream sink{std::move(out.b), {}};
        TcpStream from{std::move(in.b), {}};
        TcpStream to{std::move(out.a), {}};
        Task<std::uint64_t> relays = co_await spawn(relay, std::ref(from), std::ref(to));
        Task<> sends =
            co_await spawn([](TcpStream& s, const std::string& t) { return send_and_close(s, t); },
                           std::ref(source), std::cref(text));
        const std::string got = co_await receive_to_end(sink);
        CHECK((got == text));
        CHECK((co_await relays.join()) == text.size());
        co_await sends.join();
    });
}

TEST_CASE("a copy of so many bytes stops there, and takes no more") {
    run([]() -> Coro<void> {
        MemoryStreamPair from = memory_stream_pair();
        MemoryStreamPair to = memory_stream_pair();
        co_await from.a.send_all("0123456789");
        CHECK((co_await copy(from.b, to.a, {.bytes_max = 4, .buffer_bytes = 3})) == 4);
        co_await to.a.close();
        CHECK((co_await receive_to_end(to.b)) == "0123");
        co_await from.a.close();
        CHECK((co_await receive_to_end(from.b)) == "456789");
    });
}

TEST_CASE("what a reader has buffered is copied, too") {
    run([]() -> Coro<void> {
        MemoryStreamPair from = memory_stream_pair();
        MemoryStreamPair to = memory_stream_pair();
        co_await from.a.send_all("head\nbody");
        co_await from.a.close();
        BufferedReader reader{from.b};
        CHECK((co_await reader.read_line()) == "head");
        CHECK((co_await copy(reader, to.a)) == 4);
    });
}

TEST_CASE("a copy that is interrupted, or breaks, says how much has gone") {
    run([]() -> Coro<void> {
        MemoryStreamPair from = memory_stream_pair();
        MemoryStreamPair to = memory_stream_pair();
        co_await from.a.send_all("0123456789");
        std::size_t progress = 0;
        const auto copies = [&]() -> Coro<void> {
            try {
                (void)co_await copy(from.b, to.a);
            } catch (const Cancelled& interrupt) {
                progress = interrupt.progress();
                throw;
            }
        };
        CHECK_FALSE((co_await ignore_after(1ms, copies)));
        CHECK(progress == 10);
        co_await to.b.close();
        co_await from.a.send_all("x");
        CHECK((co_await complaint_of([&] { return copy(from.b, to.a); })) == broken);
    });
}
