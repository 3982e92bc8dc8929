#include <trapline/io/splice.hpp>

#include <cstdio>
#include <cstdlib>
#include <string>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <trapline/io/tcp.hpp>
#include <trapline/io/unix.hpp>

#include "../support/sockets.hpp"
#include "../support/streams.hpp"

using namespace trapline;
using namespace trapline::test;

namespace {

/// Two connections with a relay between: what `client` sends comes out at `sink`.
struct Between {
    TcpStream client;
    TcpStream from;
    TcpStream to;
    TcpStream sink;

    Between() {
        Ends in = tcp_pair();
        Ends out = tcp_pair();
        client = TcpStream{std::move(in.a), {}};
        from = TcpStream{std::move(in.b), {}};
        to = TcpStream{std::move(out.a), {}};
        sink = TcpStream{std::move(out.b), {}};
    }
};

/// A file in memory with that content.
Descriptor file_with(std::string_view text) {
    Descriptor file{must(::memfd_create("splice_test", MFD_CLOEXEC), "memfd_create")};
    must(::write(file.get(), text.data(), text.size()), "write");
    return file;
}

Coro<void> sends(TcpStream& stream, std::string_view text) { return send_and_close(stream, text); }

} // namespace

TEST_CASE("bytes go from socket to socket until the client ends") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Between sockets;
        TcpStream& client = sockets.from;
        TcpStream& server = sockets.to;
        const std::string text = pattern(large_bytes);
        Task<> sending = co_await spawn(sends, std::ref(sockets.client), std::string_view(text));
        Task<std::string> receiving =
            co_await spawn([](TcpStream& s) { return receive_to_end(s); }, std::ref(sockets.sink));
        std::uint64_t bytes = co_await splice(client, server); // until the client ends
        co_await server.close();
        CHECK(bytes == text.size());
        const std::string got = co_await receiving.join();
        CHECK((got == text));
        co_await sending.join();
    });
}

TEST_CASE("a file is sent from anywhere to anywhere, small or large") {
    const LeakGuard guard;
    const std::string text = pattern(1'000'000);
    const Descriptor file = file_with(text);
    const std::string path = "/proc/self/fd/" + std::to_string(file.get());
    for (const auto& [offset, size] : {std::pair<std::size_t, std::size_t>{0, 1'000'000},
                                       {0, 1},
                                       {999'999, 1},
                                       {17, 65'536},
                                       {17, 65'537},
                                       {100, 700'000},
                                       {5, 0}}) {
        INFO("from ", offset, " on ", size);
        run([&]() -> Coro<void> {
            Between sockets;
            Task<std::string> receiving = co_await spawn(
                [](TcpStream& s) { return receive_to_end(s); }, std::ref(sockets.sink));
            TcpStream& client = sockets.to;
            Descriptor page{(co_await traps::open_at(AT_FDCWD, path.c_str(), O_RDONLY)).value()};
            const std::uint64_t sent = co_await sendfile(client, page.get(), offset, size);
            CHECK(sent == size);
            co_await client.close();
            const std::string got = co_await receiving.join();
            CHECK((got == text.substr(offset, size)));
        });
    }
}

TEST_CASE("the whole of a page, as a server sends it") {
    run([]() -> Coro<void> {
        char path[] = "/tmp/trapline-splice-XXXXXX";
        const Descriptor made{must(::mkstemp(path), "mkstemp")};
        const std::size_t size = 5;
        must(::write(made.get(), "hello", size), "write");
        Ends ends = tcp_pair();
        TcpStream client{std::move(ends.a), {}};

        Descriptor page{(co_await traps::open_at(AT_FDCWD, path, O_RDONLY)).value()};
        co_await sendfile(client, page.get(), 0, size);

        ::unlink(path);
        co_await client.close();
        CHECK(read_all(ends.b.get()) == "hello");
    });
}

TEST_CASE("a file that ends before is sent as far as it goes") {
    run([]() -> Coro<void> {
        for (const std::size_t bytes : {10, 100'000}) {
            const Descriptor file = file_with(pattern(bytes));
            Between sockets;
            Task<std::string> receiving = co_await spawn(
                [](TcpStream& s) { return receive_to_end(s); }, std::ref(sockets.sink));
            CHECK((co_await sendfile(sockets.to, file.get(), 0, 1'000'000)) == bytes);
            co_await sockets.to.close();
            CHECK((co_await receiving.join()).size() == bytes);
        }
    });
}

TEST_CASE("a pipe is the source, or where it goes") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Pipe pipe = co_await Pipe::open();
        Between sockets;
        const std::string text = pattern(400'000);
        Task<> sending = co_await spawn(sends, std::ref(sockets.client), std::string_view(text));
        Task<std::uint64_t> into = co_await spawn(
            [](TcpStream& from, PipeWriter& to) -> Coro<std::uint64_t> {
                const std::uint64_t moved = co_await splice(from, to);
                co_await to.close();
                co_return moved;
            },
            std::ref(sockets.from), std::ref(pipe.writer));
        Task<std::uint64_t> out = co_await spawn(
            [](PipeReader& from, TcpStream& to) -> Coro<std::uint64_t> {
                const std::uint64_t moved = co_await splice(from, to);
                co_await to.close();
                co_return moved;
            },
            std::ref(pipe.reader), std::ref(sockets.to));
        const std::string got = co_await receive_to_end(sockets.sink);
        CHECK((got == text));
        CHECK((co_await into.join()) == text.size());
        CHECK((co_await out.join()) == text.size());
        co_await sending.join();
    });
}

TEST_CASE("so many bytes and no more") {
    run([]() -> Coro<void> {
        Between sockets;
        co_await sockets.client.send_all("0123456789");
        CHECK((co_await splice(sockets.from, sockets.to, {.bytes_max = 4})) == 4);
        co_await sockets.to.close();
        CHECK((co_await receive_to_end(sockets.sink)) == "0123");
        std::array<std::byte, 16> buffer;
        CHECK((co_await sockets.from.recv(buffer)) == 6);
    });
}

TEST_CASE("one that is interrupted says how much has gone") {
    run([]() -> Coro<void> {
        Between sockets;
        co_await sockets.client.send_all("0123456789");
        std::size_t progress = 0;
        const auto moves = [&]() -> Coro<void> {
            try {
                (void)co_await splice(sockets.from, sockets.to);
            } catch (const Cancelled& interrupt) {
                progress = interrupt.progress();
                throw;
            }
        };
        CHECK_FALSE((co_await ignore_after(5ms, moves)));
        CHECK(progress == 10);
        // The sockets go on as before.
        co_await sockets.client.send_all("more");
        co_await sockets.client.close();
        CHECK((co_await receive_to_end(sockets.from)) == "more");
    });
}

TEST_CASE("a peer that never reads stops the splice, and close ends it") {
    run([]() -> Coro<void> {
        Between sockets;
        const std::string text = pattern(32 * 1024 * 1024);
        Task<> sending = co_await spawn(
            [](TcpStream& s, std::string_view t) -> Coro<void> {
                co_await complaint_of([&] { return s.send_all(t); });
            },
            std::ref(sockets.client), std::string_view(text));
        Task<int> moving = co_await spawn(
            [](TcpStream& from, TcpStream& to) {
                return complaint_of([&from, &to] { return splice(from, to); });
            },
            std::ref(sockets.from), std::ref(sockets.to));
        co_await sleep(20ms); // for the buffers to fill
        CHECK_FALSE(moving.terminated());
        co_await sockets.to.close();
        CHECK((co_await moving.join()) == closed);
        co_await sockets.from.close();
        co_await sending.join();
    });
}

TEST_CASE("a number that another socket got meanwhile is left alone, on both sides") {
    run([]() -> Coro<void> {
        for (const bool target_closes : {true, false}) {
            Between sockets;
            Ends strangers = tcp_pair();
            Task<int> moving = co_await spawn(
                [](TcpStream& from, TcpStream& to) {
                    return complaint_of([&from, &to] { return splice(from, to); });
                },
                std::ref(sockets.from), std::ref(sockets.to));
            for (int turn = 0; turn < 5; ++turn)
                co_await yield_now();
            TcpStream& closing = target_closes ? sockets.to : sockets.from;
            const int number = closing.fd();
            co_await closing.close();
            Descriptor stranger{must(::dup2(strangers.a.get(), number), "dup2")};
            write_all(strangers.b.get(), "private");
            CHECK((co_await complaint_of(
                      [&] { return sockets.client.send_all(std::string_view("secret")); })) == 0);
            for (int turn = 0; turn < 20; ++turn)
                co_await yield_now();
            CHECK(read_waiting(strangers.b.get()).empty());
            CHECK(read_waiting(stranger.get()) == "private");
            if (target_closes)
                co_await sockets.from.close();
            CHECK((co_await moving.join()) == closed);
        }
    });
}

TEST_CASE("errors name the peer, and say how much went before") {
    run([]() -> Coro<void> {
        Ends in = tcp_pair();
        Ends out = tcp_pair();
        TcpStream from{std::move(in.b), SocketAddress::ipv4("127.0.0.1", 7)};
        TcpStream to{std::move(out.a), SocketAddress::ipv4("127.0.0.1", 8)};
        reset(std::move(in.a));
        std::string text;
        try {
            (void)co_await splice(from, to);
        } catch (const TransferError& failure) {
            text = failure.what();
            CHECK(failure.code() == StreamError::broken);
        }
        CHECK(text == "splice from 127.0.0.1:7: Connection reset by peer");
    });
}

TEST_CASE("no descriptors for the pipe between: the call says so") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Between sockets;
        std::vector<Descriptor> all;
        for (;;) {
            const int fd = ::dup(0);
            if (fd < 0)
                break;
            all.emplace_back(fd);
            if (all.size() > 100'000)
                break;
        }
        std::error_code code;
        try {
            (void)co_await splice(sockets.from, sockets.to);
        } catch (const std::system_error& failure) {
            code = failure.code();
        }
        CHECK(code == std::errc::too_many_files_open);
    });
}
