#include <trapline/io/buffered_writer.hpp>

#include <string>

#include <doctest/doctest.h>

#include <trapline/io/memory_stream.hpp>
#include <trapline/io/tcp.hpp>

#include "../support/sockets.hpp"
#include "../support/streams.hpp"

using namespace trapline;
using namespace trapline::test;

namespace {

Coro<void> countdown(TcpStream peer) {
    BufferedWriter writer{peer};
    for (int n = 1000; n > 0; --n)
        co_await writer.write(std::to_string(n) + "\n");
    co_await writer.flush();
}

/// A stream that keeps what it is given, piece by piece.
struct Pieces {
    Coro<void> send_all(std::span<const std::byte> data) {
        sizes.push_back(data.size());
        all.append(reinterpret_cast<const char*>(data.data()), data.size());
        co_return;
    }
    Coro<void> close() { co_return; }

    std::vector<std::size_t> sizes;
    std::string all;
};

} // namespace

TEST_CASE("many small pieces go out as few large ones") {
    const LeakGuard guard;
    Ends ends = tcp_pair();
    run(countdown(TcpStream{std::move(ends.a), {}}));
    const std::string got = read_all(ends.b.get());
    CHECK(got.starts_with("1000\n999\n"));
    CHECK(got.ends_with("\n2\n1\n"));
}

TEST_CASE("what is gathered goes out when it is full, and large pieces go past it") {
    run([]() -> Coro<void> {
        Pieces pieces;
        BufferedWriter writer{pieces, 10};
        for (int i = 0; i < 7; ++i)
            co_await writer.write("abc");
        CHECK(pieces.sizes == std::vector<std::size_t>{10, 10});
        CHECK(writer.gathered() == 1);
        co_await writer.flush();
        CHECK(writer.gathered() == 0);
        co_await writer.write(std::string(25, 'x'));
        CHECK(pieces.sizes == std::vector<std::size_t>{10, 10, 1, 25});
        co_await writer.write("");
        co_await writer.flush();
        CHECK(pieces.all.size() == 46);
    });
}

TEST_CASE("a write that is interrupted says how much it took; each byte goes out once") {
    for (const std::size_t bytes : {1, 5, 64, 1000}) { // of the buffer
        INFO("a buffer of ", bytes);
        run([bytes]() -> Coro<void> {
            const std::string text = pattern(20'000);
            MemoryStreamPair ends = memory_stream_pair(300);
            Task<std::string> received = co_await spawn(
                [](MemoryStream& s) -> Coro<std::string> {
                    co_await sleep(5ms);
                    co_return co_await receive_to_end(s, 100);
                },
                std::ref(ends.b));
            BufferedWriter writer{ends.a, bytes};
            std::string_view rest = text;
            int interrupted = 0;
            while (!rest.empty()) {
                const std::string_view piece = rest.substr(0, 700);
                std::size_t taken = piece.size();
                const auto writes = [&]() -> Coro<void> {
                    try {
                        co_await writer.write(piece);
                    } catch (const Cancelled& interrupt) {
                        taken = interrupt.progress();
                        throw;
                    }
                };
                interrupted += !co_await ignore_after(500us, writes);
                rest.remove_prefix(taken);
            }
            co_await writer.flush();
            co_await ends.a.shutdown();
            const std::string all = co_await received.join();
            CHECK((all == text));
            CHECK(interrupted > 0);
        });
    }
}

TEST_CASE("a broken stream is the error of the write that sends, with what was taken") {
    run([]() -> Coro<void> {
        MemoryStreamPair ends = memory_stream_pair(10);
        BufferedWriter writer{ends.a, 4};
        co_await ends.b.close();
        co_await writer.write("abc");
        std::size_t progress = 99;
        try {
            co_await writer.write("def");
        } catch (const TransferError& failure) {
            progress = failure.progress();
            CHECK(failure.code() == StreamError::broken);
        }
        CHECK(progress == 1);
        CHECK(writer.gathered() == 4);
    });
}
