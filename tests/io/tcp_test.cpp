#include <trapline/io/tcp.hpp>

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <grp.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <trapline/kernel/kernel.hpp>

#include "../support/leaks.hpp"
#include "../support/process.hpp"
#include "../support/sockets.hpp"

using namespace trapline;
using namespace std::chrono_literals;
using test::LeakGuard;

namespace {

SocketAddress any_port(const char* host = "127.0.0.1") { return SocketAddress::ipv4(host, 0); }

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Coro<void> echo(TcpStream client) {
    std::array<std::byte, 4096> buffer;
    while (std::size_t n = co_await client.recv(buffer))
        co_await client.send_all(std::span(buffer).first(n));
}

/// Serves until it is cancelled.
Coro<void> echo_server(TcpListener& listener) {
    for (;;)
        co_await spawn(echo(co_await listener.accept()));
}

struct Pair {
    TcpStream server;
    TcpStream client;
};

Coro<Pair> connected_pair(SocketAddress at = any_port()) {
    TcpListener listener = co_await TcpListener::bind(at);
    Task<TcpStream> accepting =
        co_await spawn([](TcpListener& l) -> Coro<TcpStream> { co_return co_await l.accept(); },
                       std::ref(listener));
    TcpStream client = co_await TcpStream::connect(listener.local_address());
    TcpStream server = co_await accepting.join();
    co_return Pair{std::move(server), std::move(client)};
}

/// Receives to the end of the stream.
Coro<std::string> receive_all(TcpStream& stream) {
    std::string all;
    std::array<std::byte, 4096> buffer;
    while (const std::size_t n = co_await stream.recv(buffer))
        all += text_of(std::span(buffer).first(n));
    co_return all;
}

std::string pattern(std::size_t size) {
    std::string text(size, '\0');
    std::uint32_t state = 1;
    for (char& c : text)
        c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
    return text;
}

/// What the awaited call complains of: code and text.
struct Complaint {
    std::error_code code;
    std::string text;
};

template <class A>
Coro<Complaint> complaint_of(A call) {
    try {
        (void)co_await std::move(call);
    } catch (const std::system_error& e) {
        co_return Complaint{e.code(), e.what()};
    }
    co_return Complaint{};
}

/// Runs a test body, a callable, and checks that it leaves nothing open.
template <class F>
void check(F body) {
    const LeakGuard guard;
    run(std::move(body));
}

} // namespace

TEST_CASE("what is sent comes back from an echo server") {
    check([]() -> Coro<void> {
        TcpListener listener = co_await TcpListener::bind(any_port());
        Task<> server = co_await spawn(echo_server(listener));
        TcpStream stream = co_await TcpStream::connect(listener.local_address());
        std::vector<std::string> answers;
        for (const char* text : {"hello", "a", "third time"}) {
            std::array<std::byte, 10> buffer;
            co_await stream.send_all(text);
            co_await stream.recv_exactly(std::span(buffer).first(std::strlen(text)));
            answers.push_back(text_of(std::span(buffer).first(std::strlen(text))));
        }
        co_await stream.close();
        co_await server.cancel();
        CHECK(answers == std::vector<std::string>{"hello", "a", "third time"});
    });
}

TEST_CASE("many clients are served at once") {
    check([]() -> Coro<void> {
        constexpr int clients = 100;
        constexpr int rounds = 20;
        const auto client = [](SocketAddress at, int number) -> Coro<int> {
            TcpStream stream = co_await TcpStream::connect(at);
            const std::string text = "client " + std::to_string(number);
            std::string answer(text.size(), ' ');
            int right = 0;
            for (int i = 0; i < rounds; ++i) {
                co_await stream.send_all(text);
                co_await stream.recv_exactly(std::as_writable_bytes(std::span(answer)));
                right += answer == text;
            }
            co_return right;
        };
        TcpListener listener = co_await TcpListener::bind(any_port());
        Task<> server = co_await spawn(echo_server(listener));
        std::vector<Task<int>> tasks;
        for (int i = 0; i < clients; ++i)
            tasks.push_back(co_await spawn(client(listener.local_address(), i)));
        int right = 0;
        for (Task<int>& task : tasks)
            right += co_await task.join();
        co_await server.cancel();
        CHECK(right == clients * rounds);
    });
}

TEST_CASE("a large transfer arrives byte for byte, both ways at once") {
    check([]() -> Coro<void> {
        const std::string sent = pattern(4 << 20);
        const auto sends = [](TcpStream& stream, const std::string& text) -> Coro<void> {
            co_await stream.send_all(text);
            co_await stream.shutdown();
        };
        Pair pair = co_await connected_pair();
        Task<> there = co_await spawn(sends(pair.client, sent));
        Task<> back = co_await spawn(sends(pair.server, sent));
        Task<std::string> at_server = co_await spawn(receive_all(pair.server));
        const std::string at_client = co_await receive_all(pair.client);
        const bool server_right = co_await at_server.join() == sent;
        co_await there.join();
        co_await back.join();
        const bool client_right = at_client == sent;
        CHECK(server_right);
        CHECK(client_right);
    });
}

TEST_CASE("after half a close the other direction stays open") {
    check([]() -> Coro<void> {
        Pair pair = co_await connected_pair();
        co_await pair.client.send_all("last words");
        co_await pair.client.shutdown();
        const std::string heard = co_await receive_all(pair.server);
        co_await pair.server.send_all("answer");
        co_await pair.server.close();
        const std::string answer = co_await receive_all(pair.client);
        CHECK(heard == "last words");
        CHECK(answer == "answer");
    });
}

TEST_CASE("the end of a stream is 0, again and again") {
    check([]() -> Coro<void> {
        Pair pair = co_await connected_pair();
        co_await pair.server.close();
        std::array<std::byte, 8> buffer;
        const std::size_t first = co_await pair.client.recv(buffer);
        const std::size_t second = co_await pair.client.recv(buffer);
        const std::size_t exactly = co_await pair.client.recv_exactly(buffer);
        CHECK(first == 0);
        CHECK(second == 0);
        CHECK(exactly == 0);
    });
}

TEST_CASE("recv_exactly waits for all of it, however it comes") {
    check([]() -> Coro<void> {
        const auto drips = [](TcpStream& stream) -> Coro<void> {
            for (const char* part : {"a", "bc", "def"}) {
                co_await stream.send_all(part);
                for (int i = 0; i < 3; ++i)
                    co_await yield_now();
            }
        };
        Pair pair = co_await connected_pair();
        Task<> dripping = co_await spawn(drips(pair.server));
        std::array<std::byte, 6> buffer;
        const std::size_t n = co_await pair.client.recv_exactly(buffer);
        co_await dripping.join();
        CHECK(n == 6);
        CHECK(text_of(buffer) == "abcdef");
    });
}

TEST_CASE("recv_exactly of a stream that ends half way throws EndOfStream with what came") {
    check([]() -> Coro<void> {
        Pair pair = co_await connected_pair();
        const std::string peer = pair.client.peer_address().to_string();
        co_await pair.server.send_all("abc");
        co_await pair.server.close();
        std::array<std::byte, 8> buffer;
        std::string text;
        std::size_t progress = 0;
        try {
            co_await pair.client.recv_exactly(buffer);
        } catch (const EndOfStream& e) {
            text = e.what();
            progress = e.progress();
        }
        CHECK(text == "recv from " + peer + ": the stream ended after 3 of 8 bytes");
        CHECK(progress == 3);
        CHECK(text_of(std::span(buffer).first(3)) == "abc");
    });
}

TEST_CASE("an empty buffer is filled at once, though nothing is there to be received") {
    check([]() -> Coro<void> {
        Pair pair = co_await connected_pair();
        const auto received = co_await ignore_after(20ms, pair.client.recv({}));
        const auto exactly = co_await ignore_after(20ms, pair.client.recv_exactly({}));
        const auto sent = co_await ignore_after(20ms, pair.client.send_all(""));
        CHECK(received == 0);
        CHECK(exactly == 0);
        CHECK(sent);
    });
}

TEST_CASE("send answers how much it took, at least one byte") {
    check([]() -> Coro<void> {
        Pair pair = co_await connected_pair();
        const std::size_t sent = co_await pair.client.send("some text");
        co_await pair.client.shutdown();
        const std::string heard = co_await receive_all(pair.server);
        CHECK(sent > 0);
        CHECK(heard == std::string("some text").substr(0, sent));
    });
}

TEST_CASE("addresses of both ends are known, and agree") {
    check([]() -> Coro<void> {
        Pair pair = co_await connected_pair();
        CHECK(pair.client.peer_address() == pair.server.local_address());
        CHECK(pair.server.peer_address() == pair.client.local_address());
        CHECK(pair.client.peer_address().port() != 0);
    });
}

TEST_CASE("IPv6 works like IPv4") {
    check([]() -> Coro<void> {
        bool available = true;
        try {
            Pair pair = co_await connected_pair(SocketAddress::parse("[::1]:0"));
            co_await pair.client.send_all("six");
            std::array<std::byte, 3> buffer;
            co_await pair.server.recv_exactly(buffer);
            CHECK(text_of(buffer) == "six");
            CHECK(pair.server.peer_address().to_string().starts_with("[::1]:"));
        } catch (const std::system_error& e) {
            available = e.code() != std::errc::address_not_available &&
                        e.code() != std::errc::address_family_not_supported;
            if (available)
                throw;
        }
        if (!available)
            MESSAGE("skipped: this system has no IPv6");
    });
}

TEST_CASE("Unix-domain addresses work, and peers without a name print as such") {
    const std::string path = "/tmp/trapline-tcp-test-" + std::to_string(getpid());
    check([&]() -> Coro<void> {
        Pair pair = co_await connected_pair(SocketAddress::unix_path(path));
        co_await pair.client.send_all("local");
        std::array<std::byte, 5> buffer;
        co_await pair.server.recv_exactly(buffer);
        CHECK(text_of(buffer) == "local");
        CHECK(pair.client.peer_address().to_string() == "unix:" + path);
        CHECK(pair.server.peer_address().to_string() == "unix:");
    });
    ::unlink(path.c_str());
}

// --- bad days ------------------------------------------------------------------------------

TEST_CASE("a refused connection names the peer") {
    check([]() -> Coro<void> {
        // A port that was free a moment ago and is taken by nobody else meanwhile.
        TcpListener listener = co_await TcpListener::bind(any_port());
        const SocketAddress address = listener.local_address();
        co_await listener.close();
        const Complaint c = co_await complaint_of(TcpStream::connect(address));
        CHECK(c.code == std::errc::connection_refused);
        CHECK(c.text == "connect to " + address.to_string() + ": Connection refused");
    });
}

TEST_CASE("a connect to a socket path that is not there names it") {
    check([]() -> Coro<void> {
        const Complaint c =
            co_await complaint_of(TcpStream::connect(SocketAddress::unix_path("/no/such/path")));
        CHECK(c.text == "connect to unix:/no/such/path: No such file or directory");
    });
}

TEST_CASE("connect and bind want an address") {
    check([]() -> Coro<void> {
        const Complaint connect = co_await complaint_of(TcpStream::connect(SocketAddress{}));
        const Complaint bind = co_await complaint_of(TcpListener::bind(SocketAddress{}));
        CHECK(connect.text == "connect to no address: Address family not supported by protocol");
        CHECK(bind.text == "bind to no address: Address family not supported by protocol");
    });
}

TEST_CASE("a connect that is cancelled leaves no socket behind") {
    check([]() -> Coro<void> {
        const Descriptor full = test::tcp_listener(0);
        const SocketAddress address = SocketAddress::ipv4("127.0.0.1", test::port_of(full.get()));
        // The backlog of one fills up; then a connect waits.
        std::vector<TcpStream> filling;
        bool waited = false;
        for (int i = 0; i < 10 && !waited; ++i) {
            auto stream = co_await ignore_after(5ms, TcpStream::connect(address));
            waited = !stream;
            if (stream)
                filling.push_back(std::move(*stream));
        }
        CHECK(waited);
    });
}

TEST_CASE("a port in use is an error that names the address") {
    check([]() -> Coro<void> {
        TcpListener first = co_await TcpListener::bind(any_port());
        const std::string address = first.local_address().to_string();
        const Complaint c = co_await complaint_of(TcpListener::bind(first.local_address()));
        CHECK(c.code == std::errc::address_in_use);
        CHECK(c.text == "bind to " + address + ": Address already in use");
        // The first one is not disturbed.
        TcpStream client = co_await TcpStream::connect(first.local_address());
        TcpStream server = co_await first.accept();
        CHECK(server);
    });
}

TEST_CASE("an address of another machine is an error that names it") {
    check([]() -> Coro<void> {
        const Complaint c =
            co_await complaint_of(TcpListener::bind(SocketAddress::parse("192.0.2.1:80")));
        CHECK(c.text == "bind to 192.0.2.1:80: Cannot assign requested address");
    });
}

TEST_CASE("a privileged port is an error that names the address") {
    const std::string said = test::in_child([]() -> std::string {
        constexpr uid_t nobody = 65534;
        if (geteuid() == 0 && (setgroups(0, nullptr) != 0 || setuid(nobody) != 0))
            return "skipped: cannot become nobody";
        Kernel kernel;
        try {
            kernel.run(TcpListener::bind(SocketAddress::parse("127.0.0.1:80")));
        } catch (const std::system_error& e) {
            return e.what();
        }
        return "skipped: ports below 1024 are free for all here";
    });
    if (said.starts_with("skipped"))
        MESSAGE(said);
    else
        CHECK(said == "bind to 127.0.0.1:80: Permission denied");
}

TEST_CASE("a port whose last connections linger can be taken again") {
    check([]() -> Coro<void> {
        TcpListener first = co_await TcpListener::bind(any_port());
        const SocketAddress address = first.local_address();
        TcpStream client = co_await TcpStream::connect(address);
        TcpStream server = co_await first.accept();
        co_await server.close(); // the server's side closes first and lingers
        const std::string rest = co_await receive_all(client);
        co_await client.close();
        co_await first.close();
        TcpListener second = co_await TcpListener::bind(address);
        CHECK(second.local_address() == address);
        CHECK(rest.empty());
    });
}

TEST_CASE("a peer that resets is an error of the operation, which names it") {
    check([]() -> Coro<void> {
        Pair pair = co_await connected_pair();
        const std::string peer = pair.server.peer_address().to_string();
        const linger hard{1, 0};
        setsockopt(pair.client.fd(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        co_await pair.client.close();
        std::array<std::byte, 8> buffer;
        const Complaint c = co_await complaint_of(pair.server.recv(buffer));
        CHECK(c.code == std::errc::connection_reset);
        CHECK(c.text == "recv from " + peer + ": Connection reset by peer");
        const Complaint later = co_await complaint_of(pair.server.send("x"));
        CHECK(later.code == std::errc::broken_pipe);
        CHECK(later.text == "send to " + peer + ": Broken pipe");
    });
}

TEST_CASE("a peer that resets in the middle of send_all: TransferError with what was sent") {
    check([]() -> Coro<void> {
        const std::string large(32 << 20, 'x');
        const auto sends = [](TcpStream& stream, const std::string& text) -> Coro<std::string> {
            try {
                co_await stream.send_all(text);
            } catch (const TransferError& e) {
                co_return std::string(e.progress() > 0 && e.progress() < text.size() ? "" : "?") +
                    e.what();
            }
            co_return "sent";
        };
        Pair pair = co_await connected_pair();
        const std::string peer = pair.client.peer_address().to_string();
        Task<std::string> sending = co_await spawn(sends(pair.client, large));
        std::array<std::byte, 4096> buffer;
        co_await pair.server.recv_exactly(buffer);
        const linger hard{1, 0};
        setsockopt(pair.server.fd(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        co_await pair.server.close();
        const std::string said = co_await sending.join();
        const bool as_expected = said == "send to " + peer + ": Connection reset by peer" ||
                                 said == "send to " + peer + ": Broken pipe";
        CAPTURE(said);
        CHECK(as_expected);
    });
}

TEST_CASE("a peer that resets in the middle of recv_exactly: TransferError with what came") {
    check([]() -> Coro<void> {
        const auto receives = [](TcpStream& stream) -> Coro<std::string> {
            std::array<std::byte, 8> buffer;
            try {
                co_await stream.recv_exactly(buffer);
            } catch (const TransferError& e) {
                co_return std::to_string(e.progress()) + " " + e.what();
            }
            co_return "received";
        };
        Pair pair = co_await connected_pair();
        const std::string peer = pair.server.peer_address().to_string();
        Task<std::string> receiving = co_await spawn(receives(pair.server));
        co_await pair.client.send_all("abc");
        // Until the receiver has taken the three bytes: a reset throws away what is on its way.
        while (test::bytes_waiting(pair.server.fd()) > 0)
            co_await yield_now();
        const linger hard{1, 0};
        setsockopt(pair.client.fd(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        co_await pair.client.close();
        const std::string said = co_await receiving.join();
        CHECK(said == "3 recv from " + peer + ": Connection reset by peer");
    });
}

TEST_CASE("closing twice is harmless, and a closed stream is false") {
    check([]() -> Coro<void> {
        Pair pair = co_await connected_pair();
        CHECK(pair.client);
        co_await pair.client.close();
        CHECK_FALSE(pair.client);
        CHECK(pair.client.fd() == -1);
        co_await pair.client.close();
        TcpListener listener = co_await TcpListener::bind(any_port());
        co_await listener.close();
        co_await listener.close();
        CHECK_FALSE(listener);
    });
}

TEST_CASE("what is asked of a closed stream is an error that names the peer and says so") {
    check([]() -> Coro<void> {
        Pair pair = co_await connected_pair();
        TcpStream& stream = pair.client;
        const std::string peer = stream.peer_address().to_string();
        co_await stream.close();
        std::array<std::byte, 8> buffer;
        const std::string tail = peer + ", a stream that was closed here: Bad file descriptor";
        const Complaint recv = co_await complaint_of(stream.recv(buffer));
        CHECK(recv.text == "recv from " + tail);
        CHECK(recv.code == std::errc::bad_file_descriptor);
        const Complaint exactly = co_await complaint_of(stream.recv_exactly(buffer));
        CHECK(exactly.text == "recv from " + tail);
        const Complaint send = co_await complaint_of(stream.send("x"));
        CHECK(send.text == "send to " + tail);
        const Complaint send_all = co_await complaint_of(stream.send_all("x"));
        CHECK(send_all.text == "send to " + tail);
        const Complaint shutdown = co_await complaint_of(stream.shutdown());
        CHECK(shutdown.text == "shutdown of stream to " + tail);
        std::string local;
        try {
            (void)stream.local_address();
        } catch (const std::system_error& e) {
            local = e.what();
        }
        CHECK(local == "local address of stream to " + tail);
    });
}

TEST_CASE("accept on a closed listener is an error that names the address and says so") {
    check([]() -> Coro<void> {
        TcpListener listener = co_await TcpListener::bind(any_port());
        const std::string address = listener.local_address().to_string();
        co_await listener.close();
        const Complaint c = co_await complaint_of(listener.accept());
        CHECK(c.text ==
              "accept at " + address + ", a listener that was closed here: Bad file descriptor");
    });
}

TEST_CASE("a stream that was moved from is empty, and the other one goes on") {
    check([]() -> Coro<void> {
        Pair pair = co_await connected_pair();
        TcpStream moved = std::move(pair.client);
        CHECK_FALSE(pair.client); // NOLINT(bugprone-use-after-move)
        co_await moved.send_all("moved");
        std::array<std::byte, 5> buffer;
        co_await pair.server.recv_exactly(buffer);
        CHECK(text_of(buffer) == "moved");
    });
}

TEST_CASE(
    "a close and an accept made earlier work on what the object holds when they are awaited") {
    check([]() -> Coro<void> {
        Pair pair = co_await connected_pair();
        Pair other = co_await connected_pair();
        auto closing = pair.client.close();
        pair.client = std::move(other.client);
        co_await closing;
        CHECK_FALSE(pair.client);
        std::array<std::byte, 1> buffer;
        const std::size_t n = co_await other.server.recv(buffer); // its peer was closed
        CHECK(n == 0);
        co_await closing; // harmless

        TcpListener listener = co_await TcpListener::bind(any_port());
        auto accepting = listener.accept();
        co_await listener.close();
        const Complaint c = co_await complaint_of(std::move(accepting));
        CHECK(c.code == std::errc::bad_file_descriptor);
    });
}

TEST_CASE("close ends what another task does on the stream") {
    check([]() -> Coro<void> {
        const auto receives = [](TcpStream& stream) -> Coro<Complaint> {
            std::array<std::byte, 8> buffer;
            co_return co_await complaint_of(stream.recv(buffer));
        };
        Pair pair = co_await connected_pair();
        Task<Complaint> receiving = co_await spawn(receives(pair.client));
        co_await yield_now();
        co_await pair.client.close();
        const Complaint c = co_await receiving.join();
        CHECK(c.code == std::errc::operation_canceled);
        CHECK(c.text.starts_with("recv from "));
    });
}

TEST_CASE("close of a listener ends the accept of another task") {
    check([]() -> Coro<void> {
        TcpListener listener = co_await TcpListener::bind(any_port());
        const auto accepts = [](TcpListener& l) -> Coro<Complaint> {
            co_return co_await complaint_of(l.accept());
        };
        Task<Complaint> accepting = co_await spawn(accepts(listener));
        co_await yield_now();
        co_await listener.close();
        const Complaint c = co_await accepting.join();
        CHECK(c.code == std::errc::operation_canceled);
        CHECK(c.text.starts_with("accept at 127.0.0.1:"));
    });
}

TEST_CASE("a second task on the same side is refused, the other side is free") {
    check([]() -> Coro<void> {
        const auto receives = [](TcpStream& stream) -> Coro<std::size_t> {
            std::array<std::byte, 8> buffer;
            co_return co_await stream.recv(buffer);
        };
        Pair pair = co_await connected_pair();
        Task<std::size_t> receiving = co_await spawn(receives(pair.client));
        co_await yield_now();
        std::array<std::byte, 8> buffer;
        const Complaint c = co_await complaint_of(pair.client.recv(buffer));
        co_await pair.client.send_all("meanwhile");
        co_await pair.server.send_all("ok");
        const std::size_t n = co_await receiving.join();
        CHECK(c.code == std::errc::device_or_resource_busy);
        CHECK(n == 2);
    });
}

TEST_CASE("a time limit on a receive takes nothing from the stream") {
    check([]() -> Coro<void> {
        Pair pair = co_await connected_pair();
        std::array<std::byte, 4> buffer;
        const auto nothing = co_await ignore_after(1ms, pair.client.recv(buffer));
        co_await pair.server.send_all("late");
        co_await pair.client.recv_exactly(buffer);
        CHECK_FALSE(nothing);
        CHECK(text_of(buffer) == "late");
    });
}

TEST_CASE("a time limit on recv_exactly says how much lies in the buffer") {
    check([]() -> Coro<void> {
        Pair pair = co_await connected_pair();
        co_await pair.server.send_all("abc");
        std::array<std::byte, 8> buffer;
        std::size_t progress = 0;
        try {
            co_await timeout_after(5ms, pair.client.recv_exactly(buffer));
        } catch (const TaskTimeout& timeout) {
            progress = timeout.progress();
        }
        CHECK(progress == 3);
        CHECK(text_of(std::span(buffer).first(3)) == "abc");
    });
}

TEST_CASE("no descriptors: the call says so, and all else goes on") {
    check([]() -> Coro<void> {
        Pair pair = co_await connected_pair();
        TcpListener listener = co_await TcpListener::bind(any_port());
        Complaint c;
        {
            const int next = dup(0); // the next free number
            ::close(next);
            const test::DescriptorLimit limit{static_cast<rlim_t>(next)};
            c = co_await complaint_of(TcpStream::connect(listener.local_address()));
            co_await pair.client.send_all("on");
        }
        std::array<std::byte, 2> buffer;
        co_await pair.server.recv_exactly(buffer);
        CHECK(c.code == std::errc::too_many_files_open);
        CHECK(c.text ==
              "connect to " + listener.local_address().to_string() + ": Too many open files");
        CHECK(text_of(buffer) == "on");
    });
}

TEST_CASE("connections opened and dropped at random leave nothing behind") {
    check([]() -> Coro<void> {
        const auto client = [](SocketAddress at, unsigned number) -> Coro<void> {
            const test::Counted frame;
            TcpStream stream = co_await TcpStream::connect(at);
            for (unsigned i = 0; i < number % 4; ++i)
                co_await yield_now();
            if (number % 3 == 0)
                co_return; // dropped as it is
            co_await stream.send_all("some bytes");
            if (number % 3 == 1) {
                const linger hard{1, 0};
                setsockopt(stream.fd(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
                co_await stream.close();
            }
        };
        const auto serve_one = [](TcpStream stream) -> Coro<void> {
            const test::Counted frame;
            try {
                co_await echo(std::move(stream));
            } catch (const std::system_error&) {}
        };
        const auto serve = [&](TcpListener& listener) -> Coro<void> {
            for (;;)
                co_await spawn(serve_one(co_await listener.accept()));
        };
        TcpListener listener = co_await TcpListener::bind(any_port());
        Task<> server = co_await spawn(serve(listener));
        for (unsigned round = 0; round < 10; ++round) {
            std::vector<Task<>> clients;
            for (unsigned i = 0; i < 20; ++i)
                clients.push_back(co_await spawn(client(listener.local_address(), round * 20 + i)));
            for (Task<>& task : clients)
                co_await task.wait();
        }
        co_await server.cancel();
    });
}
