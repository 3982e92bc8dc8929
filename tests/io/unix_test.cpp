#include <trapline/io/unix.hpp>

#include <array>
#include <cstdlib>
#include <string>

#include <sys/stat.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <trapline/io/pipe.hpp>

#include "../support/sockets.hpp"
#include "../support/streams.hpp"

// What they share with other sockets is in stream_test.cpp and datagram_socket_test.cpp.

using namespace trapline;
using namespace trapline::test;

namespace {

/// A new directory, removed with the sockets in it.
class Directory {
public:
    Directory() { must(::mkdtemp(path_) ? 0 : -1, "mkdtemp"); }
    ~Directory() {
        ::unlink(file("socket").c_str());
        ::rmdir(path_);
    }
    Directory(const Directory&) = delete;
    Directory& operator=(const Directory&) = delete;

    std::string file(const std::string& name) const { return std::string(path_) + "/" + name; }

private:
    char path_[32] = "/tmp/trapline-unix-XXXXXX";
};

Coro<std::string> bind_error(SocketAddress at, UnixListenOptions options) {
    try {
        (void)co_await UnixListener::bind(at, options);
    } catch (const std::system_error& failure) {
        co_return failure.what();
    }
    co_return "";
}

} // namespace

TEST_CASE("a client is known by its credentials, and hands over a descriptor") {
    const LeakGuard guard;
    const Directory directory;
    const std::string path = directory.file("socket");
    run([&]() -> Coro<void> {
        Pipe pipe = co_await Pipe::open();
        UnixListener listener = co_await UnixListener::bind(SocketAddress::unix_path(path));
        UnixStream client = co_await UnixStream::connect(listener.local_address());
        UnixStream server = co_await listener.accept();
        uid_t who = server.peer_credentials().uid;
        co_await client.send_descriptors("a pipe", std::array{pipe.reader.fd()});
        CHECK(who == ::getuid());
        CHECK(server.peer_credentials().pid == ::getpid());

        std::array<std::byte, 64> buffer;
        DescriptorMessage message = co_await server.recv_descriptors(buffer);
        CHECK(message.size == 6);
        REQUIRE(message.descriptors.size() == 1);
        PipeReader handed{std::move(message.descriptors[0])};
        co_await pipe.writer.send_all("through it");
        CHECK((co_await handed.recv(buffer)) == 10);
    });
}

TEST_CASE("many descriptors come with one message, and too many are closed") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        UnixStreamPair ends = co_await UnixStream::pair();
        const std::vector<int> zeros(descriptors_max, 0);
        std::array<std::byte, 8> buffer;
        co_await ends.a.send_descriptors("x", zeros);
        CHECK((co_await ends.b.recv_descriptors(buffer)).descriptors.size() == descriptors_max);

        co_await ends.a.send_descriptors("x", std::array{0, 0, 0});
        std::error_code code;
        try {
            (void)co_await ends.b.recv_descriptors(buffer, 2);
        } catch (const std::system_error& failure) {
            code = failure.code();
        }
        CHECK(code == std::errc::message_size);

        co_await ends.a.send_descriptors("no descriptors", {});
        const DescriptorMessage none = co_await ends.b.recv_descriptors(buffer);
        CHECK(none.size == 8);
        CHECK(none.descriptors.empty());
        co_await ends.a.close();
        CHECK((co_await ends.b.recv_descriptors(buffer)).size == 6);
        CHECK((co_await ends.b.recv_descriptors(buffer)).size == 0);
    });
}

TEST_CASE("descriptors need a byte to go with, and there is a limit to their number") {
    run([]() -> Coro<void> {
        UnixStreamPair ends = co_await UnixStream::pair();
        int refused = 0;
        try {
            co_await ends.a.send_descriptors("", std::array{0});
        } catch (const std::invalid_argument&) {
            ++refused;
        }
        try {
            const std::vector<int> zeros(descriptors_max + 1, 0);
            co_await ends.a.send_descriptors("x", zeros);
        } catch (const std::invalid_argument&) {
            ++refused;
        }
        CHECK(refused == 2);
    });
}

TEST_CASE("descriptors are not received into no buffer: their byte would be lost") {
    run([]() -> Coro<void> {
        UnixStreamPair ends = co_await UnixStream::pair();
        bool refused = false;
        try {
            (void)co_await ends.a.recv_descriptors({});
        } catch (const std::invalid_argument&) {
            refused = true;
        }
        CHECK(refused);
    });
}

TEST_CASE("a receive of descriptors that is interrupted has taken nothing") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        UnixStreamPair ends = co_await UnixStream::pair();
        std::array<std::byte, 8> buffer;
        CHECK_FALSE((co_await ignore_after(1ms, [&] {
                        return ends.b.recv_descriptors(buffer);
                    })).has_value());
        co_await ends.a.send_descriptors("late", std::array{0});
        CHECK((co_await ends.b.recv_descriptors(buffer)).descriptors.size() == 1);
    });
}

TEST_CASE("an abstract address is no file, and is gone with its listener") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        const SocketAddress at = SocketAddress::parse("unix:@trapline-unix-test");
        {
            UnixListener listener = co_await UnixListener::bind(at);
            const UnixStream client = co_await UnixStream::connect(at);
            CHECK(client.peer_address().to_string() == "unix:@trapline-unix-test");
            CHECK((co_await bind_error(at, {})) ==
                  "bind to unix:@trapline-unix-test: Address already in use");
        }
        std::string text;
        try {
            (void)co_await UnixStream::connect(at);
        } catch (const std::system_error& failure) {
            text = failure.what();
        }
        CHECK(text == "connect to unix:@trapline-unix-test: Connection refused");
    });
}

TEST_CASE("a socket that was left behind is replaced on request, one in use never") {
    const LeakGuard guard;
    const Directory directory;
    const SocketAddress at = SocketAddress::unix_path(directory.file("socket"));
    run([&]() -> Coro<void> {
        const std::string in_use = "bind to " + at.to_string() + ": Address already in use";
        {
            const UnixListener first = co_await UnixListener::bind(at);
            CHECK((co_await bind_error(at, {.replace = true})) == in_use);
        }
        CHECK((co_await bind_error(at, {})) == in_use);
        const UnixListener second = co_await UnixListener::bind(at, {.replace = true});
        CHECK(static_cast<bool>(second));
    });
}

TEST_CASE("permissions of the socket file are those that were asked for") {
    const Directory directory;
    const std::string path = directory.file("socket");
    run([&]() -> Coro<void> {
        const UnixListener listener =
            co_await UnixListener::bind(SocketAddress::unix_path(path), {.mode = 0600});
        struct stat status{};
        CHECK(::stat(path.c_str(), &status) == 0);
        CHECK((status.st_mode & 0777) == 0600);
    });
}
