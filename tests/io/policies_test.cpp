#include <trapline/io/policies.hpp>

#include <array>
#include <cerrno>
#include <filesystem>
#include <string>
#include <utility>

#include <doctest/doctest.h>

#include <sys/stat.h>

#include <trapline/trapline.hpp>

#include "../support/leaks.hpp"
#include "../support/process.hpp"
#include "../support/sockets.hpp"

using namespace trapline;
using namespace trapline::test;
using namespace std::chrono_literals;

namespace {

Coro<void> converse(TcpStream client); // may talk to its client and do nothing else

Coro<void> converse(TcpStream client) {
    std::array<std::byte, 64> buffer;
    while (std::size_t n = co_await client.recv(buffer))
        co_await client.send_all(std::span(buffer).first(n));
}

struct Pair {
    TcpListener listener;
    TcpStream client;
    TcpStream server;
};

Coro<Pair> connected() {
    Pair pair;
    pair.listener = co_await TcpListener::bind(SocketAddress::ipv4("127.0.0.1", 0));
    pair.client = co_await TcpStream::connect(pair.listener.local_address());
    pair.server = co_await pair.listener.accept();
    co_return pair;
}

/// The text of the std::system_error that ends `what`, which is of the errno `error`.
template <class W>
Coro<std::string> failure_of(W what, int error) {
    try {
        co_await std::move(what);
    } catch (const std::system_error& failure) {
        CHECK(failure.code().value() == error);
        co_return failure.what();
    }
    co_return "none";
}

} // namespace

TEST_CASE("allow_only: a task that may talk to its client does that, and nothing else") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Pair pair = co_await connected();
        TcpStream client = std::move(pair.server);
        const auto fence = allow_only({.descriptors = {client.fd()}});
        co_await spawn(with_policy(fence, converse(std::move(client))));
        co_await pair.client.send_all("hello");
        std::array<std::byte, 5> buffer;
        CHECK((co_await pair.client.recv_exactly(buffer)) == 5);
        co_await pair.client.shutdown();
        CHECK((co_await pair.client.recv(buffer)) == 0);
    });
}

TEST_CASE("allow_only: what is not permitted is refused, and the error says what it was") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Pair pair = co_await connected();
        co_await with_policy(allow_only({.descriptors = {pair.server.fd()}}), [&]() -> Coro<void> {
            const std::string send = co_await failure_of(pair.client.send_all("x"), EPERM);
            CHECK(send == "send to " + pair.client.peer_address().to_string() +
                              ": Operation not permitted");
            const std::string open = co_await failure_of(File::open("/etc/passwd"), EPERM);
            CHECK(open == "open of /etc/passwd: Operation not permitted");
            const SocketAddress there = pair.listener.local_address();
            CHECK((co_await failure_of(TcpStream::connect(there), EPERM)) != "none");
            CHECK((co_await failure_of(spawn(converse(TcpStream{})), EPERM)) != "none");
            CHECK((co_await failure_of(run_in_thread([] { return 1; }), EPERM)) != "none");
            co_await sleep(1us);
        });
        co_await pair.client.send_all("x");
    });
}

TEST_CASE("allow_only: what a task accepts, opens or connects is its own, until it closes it") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        TcpListener listener = co_await TcpListener::bind(SocketAddress::ipv4("127.0.0.1", 0));
        const auto fence =
            allow_only({.descriptors = {listener.fd()}, .sockets = true, .files = true});
        co_await with_policy(fence, [&]() -> Coro<void> {
            TcpStream client = co_await TcpStream::connect(listener.local_address());
            TcpStream server = co_await listener.accept();
            co_await client.send_all("x");
            std::array<std::byte, 1> buffer;
            CHECK((co_await server.recv(buffer)) == 1);
            const int closed = server.fd();
            co_await server.close();
            const auto after = co_await traps::recv(closed, buffer);
            CHECK((!after && after.error().value() == EPERM));
            File file = co_await File::open("/proc/self/comm");
            CHECK((co_await file.read(buffer)) == 1);
            co_await file.close();
        });
    });
}

TEST_CASE("allow_only: what is not its own it cannot close, and it stays open and owned") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        Pair pair = co_await connected();
        const int fd = pair.server.fd();
        co_await with_policy(allow_only({}), [&]() -> Coro<void> {
            CHECK((co_await failure_of(pair.server.close(), EPERM)) != "none");
        });
        CHECK(pair.server.fd() == fd);
        co_await pair.server.close();
        CHECK((co_await pair.client.recv(std::span<std::byte>{})) == 0);
    });
}

TEST_CASE("allow_only: who may open files may replace and cut them, and nobody else") {
    const LeakGuard guard;
    const std::string path =
        std::filesystem::temp_directory_path() / ("fenced_in." + std::to_string(::getpid()));
    run([&]() -> Coro<void> {
        co_await with_policy(allow_only({.files = true}), [&]() -> Coro<void> {
            co_await write_file(path, "first");
            co_await write_file(path, "second");
            File file = co_await File::open(path, O_RDWR);
            co_await file.truncate(3);
            co_await file.close();
        });
        CHECK((co_await read_file(path, 64)) == "sec");
        co_await with_policy(allow_only({}), [&]() -> Coro<void> {
            (void)co_await failure_of(write_file(path, "third"), EPERM);
        });
    });
    std::filesystem::remove(path);
}

TEST_CASE("allow_only: descriptors come by messages, and only its own go") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        UnixStreamPair pair = co_await UnixStream::pair();
        UnixStream& ours = pair.a;
        UnixStream& theirs = pair.b;
        Pipe pipe = co_await Pipe::open();
        const std::array<int, 1> passed{pipe.writer.fd()};
        co_await ours.send_descriptors("x", passed);
        const auto fence = allow_only({.descriptors = {theirs.fd()}});
        co_await with_policy(fence, [&]() -> Coro<void> {
            std::array<std::byte, 1> byte;
            auto message = co_await theirs.recv_descriptors(byte, 1);
            CHECK(message.descriptors.size() == 1);
            const int fd = message.descriptors.front().get();
            const auto written = co_await traps::write(fd, byte);
            CHECK(written.has_value());
            const std::array<int, 1> back{fd};
            co_await theirs.send_descriptors(byte, back);
            const std::array<int, 1> stranger{pipe.reader.fd()};
            CHECK((co_await failure_of(theirs.send_descriptors(byte, stranger), EPERM)) != "none");
        });
    });
}

TEST_CASE("allow_only: a file of its own goes to a socket of its own, however large it is") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        constexpr std::size_t size = 1'000'000;
        const std::string path =
            std::filesystem::temp_directory_path() / ("fenced." + std::to_string(::getpid()));
        co_await write_file(path, std::string(size, 'x'));
        File file = co_await File::open(path);
        std::filesystem::remove(path);
        Pair pair = co_await connected();
        Task<std::size_t> reads = co_await spawn(
            [](TcpStream from) -> Coro<std::size_t> {
                std::array<std::byte, 65536> buffer;
                std::size_t sum = 0;
                while (const std::size_t n = co_await from.recv(buffer))
                    sum += n;
                co_return sum;
            },
            std::move(pair.client));
        const auto fence = allow_only({.descriptors = {file.fd(), pair.server.fd()}});
        co_await with_policy(fence, [&]() -> Coro<void> {
            co_await sendfile(pair.server, file.fd(), 0, size);
            co_await pair.server.close();
        });
        CHECK((co_await reads.join()) == size);
    });
}

TEST_CASE("what a policy delays does not find another file under its descriptor's number") {
    const LeakGuard guard;
    for (const bool again : {false, true}) {
        run([again]() -> Coro<void> {
            Pair pair = co_await connected();
            const auto limit = again ? retry({.attempts = 2, .first = 24h, .errors = {EAGAIN}})
                                     : rate_limit(0.0001);
            if (!again)
                co_await with_policy(limit, [] { return traps::Io{traps::Nop{}}; });
            const int fd = pair.server.fd();
            std::array<std::byte, 1> byte{};
            Task<int> sends = co_await spawn(with_policy(limit, [&]() -> Coro<int> {
                const auto sent = again ? co_await traps::recv(fd, byte, MSG_DONTWAIT)
                                        : co_await traps::send(fd, byte);
                co_return sent ? 0 : sent.error().value();
            }));
            co_await sleep(1ms);
            CHECK_FALSE(sends.terminated());
            co_await pair.server.close();
            CHECK((co_await sends.join()) == ECANCELED); // at once, not in hours
        });
    }
}

TEST_CASE("rate_limit: who gives up while it is delayed has taken nothing") {
    run(
        []() -> Coro<void> {
            const auto nop = [] { return traps::Io{traps::Nop{}}; };
            const auto limit = rate_limit(1);
            const TimePoint start = co_await now();
            co_await with_policy(limit, nop);
            for (int i = 0; i < 1000; ++i)
                (void)co_await ignore_after(Duration{1}, with_policy(limit, nop));
            const auto in_time = co_await ignore_after(2h, with_policy(limit, nop));
            CHECK(in_time.has_value());
            const TimePoint end = co_await now();
            CHECK(end - start < 3s);
        },
        {.engine = "simulation"});
}

TEST_CASE("rate_limit: operations come evenly spaced, after the first ones at once") {
    run([]() -> Coro<void> {
        const auto limit = rate_limit(1000, 5);
        const TimePoint start = co_await now();
        co_await with_policy(limit, []() -> Coro<void> {
            for (int i = 0; i < 5; ++i)
                (void)co_await traps::Io{traps::Nop{}};
        });
        const TimePoint burst_over = co_await now();
        co_await with_policy(limit, []() -> Coro<void> {
            for (int i = 0; i < 20; ++i)
                (void)co_await traps::Io{traps::Nop{}};
        });
        CHECK(((co_await now()) - start) >= 19ms);
        CHECK(burst_over < (co_await now()));
    });
    CHECK_THROWS_AS(rate_limit(0), std::invalid_argument);
    CHECK_THROWS_AS(rate_limit(1, 0), std::invalid_argument);
}

TEST_CASE("byte_quota: transfers are cut to what is left, and then refused") {
    run([]() -> Coro<void> {
        Pair pair = co_await connected();
        co_await with_policy(byte_quota(10), [&]() -> Coro<void> {
            co_await pair.client.send_all("1234567");
            std::size_t sent = 99;
            try {
                co_await pair.client.send_all("89012345");
            } catch (const TransferError& failure) {
                CHECK(failure.code().value() == EDQUOT);
                sent = failure.progress();
            }
            CHECK(sent == 3);
            std::array<std::byte, 64> buffer;
            CHECK((co_await failure_of(pair.server.recv(buffer), EDQUOT)) ==
                  "recv from " + pair.server.peer_address().to_string() + ": Disk quota exceeded");
        });
        std::array<std::byte, 10> buffer;
        CHECK((co_await pair.server.recv_exactly(buffer)) == 10);
    });
}

TEST_CASE("byte_quota: a file counts once on its way, and the end of a stream is told from a cut") {
    run([]() -> Coro<void> {
        constexpr std::size_t size = 200'000;
        const std::string path =
            std::filesystem::temp_directory_path() / ("quota." + std::to_string(::getpid()));
        co_await write_file(path, std::string(size, 'x'));
        File file = co_await File::open(path);
        std::filesystem::remove(path);
        Pair pair = co_await connected();
        co_await with_policy(byte_quota(size), [&]() -> Coro<void> {
            CHECK((co_await sendfile(pair.server, file.fd(), 0, size)) == size);
            co_await pair.server.close();
        });
        std::vector<std::byte> all(size);
        CHECK((co_await pair.client.recv_exactly(all)) == size);

        Pair other = co_await connected();
        co_await other.client.send_all("12");
        co_await other.client.close();
        std::array<std::byte, 4> wanted;
        bool ended = false;
        co_await with_policy(byte_quota(2 + 4), [&]() -> Coro<void> {
            try {
                co_await other.server.recv_exactly(wanted);
            } catch (const EndOfStream& end) {
                ended = end.progress() == 2;
            }
        });
        CHECK(ended);
    });
}

TEST_CASE("retry: a connection that has broken is not asked again, which would hide it") {
    run([]() -> Coro<void> {
        int asked = 0;
        struct Breaks final : Policy {
            explicit Breaks(int& count) : count_(count) {}
            Verdict trapped(Asking& asking) noexcept override {
                const auto* io = std::get_if<traps::Io>(&asking.trap);
                if (!io || !std::holds_alternative<traps::Recv>(io->request))
                    return Verdict::allow();
                ++count_;
                return Verdict::refuse(ETIMEDOUT);
            }
            int& count_;
        };
        Pair pair = co_await connected();
        std::array<std::byte, 1> buffer;
        co_await with_policy(std::make_shared<Breaks>(asked), [&]() -> Coro<void> {
            auto once = with_policy(retry(), [&] { return pair.server.recv(buffer); });
            (void)co_await failure_of(std::move(once), ETIMEDOUT);
        });
        CHECK(asked == 1);
    });
}

TEST_CASE("retry: a connection that is refused at first is made when somebody listens") {
    run([]() -> Coro<void> {
        TcpListener first = co_await TcpListener::bind(SocketAddress::ipv4("127.0.0.1", 0));
        const SocketAddress at = first.local_address();
        co_await first.close();
        Task<TcpStream> connects = co_await spawn(with_policy(
            retry({.attempts = 1000, .first = 1ms, .factor = 1}), TcpStream::connect(at)));
        co_await sleep(5ms);
        CHECK_FALSE(connects.terminated());
        TcpListener second = co_await TcpListener::bind(at);
        TcpStream stream = co_await std::move(connects).join();
        CHECK(stream.peer_address() == at);
    });
}

TEST_CASE("retry: after the last attempt the error is the task's, and other errors at once") {
    run([]() -> Coro<void> {
        TcpListener gone = co_await TcpListener::bind(SocketAddress::ipv4("127.0.0.1", 0));
        const SocketAddress at = gone.local_address();
        co_await gone.close();
        const TimePoint start = co_await now();
        const auto policy = retry({.attempts = 3, .first = 2ms, .factor = 3});
        CHECK((co_await failure_of(with_policy(policy, TcpStream::connect(at)), ECONNREFUSED)) ==
              "connect to " + at.to_string() + ": Connection refused");
        CHECK(((co_await now()) - start) >= 2ms + 6ms);
        const auto patient = retry({.first = 1h, .errors = {EAGAIN}});
        (void)co_await failure_of(with_policy(patient, TcpStream::connect(at)), ECONNREFUSED);
    });
}

TEST_CASE("dry_run: files seem to be written, and nothing has changed") {
    const LeakGuard guard;
    const std::filesystem::path folder =
        std::filesystem::temp_directory_path() / ("dry_run." + std::to_string(::getpid()));
    std::filesystem::create_directory(folder);
    const std::string there = folder / "there";
    const std::string fresh = folder / "fresh";
    run([&]() -> Coro<void> {
        File file = co_await File::open(there, O_WRONLY | O_CREAT | O_EXCL);
        co_await file.write_all("before");
        co_await file.close();
        co_await with_policy(dry_run(), [&]() -> Coro<void> {
            File old = co_await File::open(there, O_RDWR | O_CREAT | O_TRUNC);
            co_await old.write_all("after, and much more of it");
            co_await old.write_all_at("AFTER", 0);
            co_await old.sync();
            std::string text(64, '\0');
            text.resize(co_await old.read(std::as_writable_bytes(std::span(text))));
            CHECK(text == "before");
            co_await old.close();
            File made = co_await File::open(fresh, O_WRONLY | O_CREAT | O_EXCL);
            co_await made.write_all("new");
            co_await made.close();
            const std::string again =
                co_await failure_of(File::open(there, O_WRONLY | O_CREAT | O_EXCL), EEXIST);
            CHECK(again == "open of " + there + ": File exists");
            co_await write_file(there, "replaced");
            co_await write_file(fresh, "written");
            File cut = co_await File::open(there, O_RDWR);
            co_await cut.truncate(0);
            co_await cut.close();
            File synced = co_await File::open(fresh, O_WRONLY | O_CREAT);
            co_await synced.write_all("new");
            co_await synced.sync();
            co_await synced.close();
            (void)co_await failure_of(File::open(folder / "none" / "x", O_WRONLY | O_CREAT),
                                      ENOENT);
            (void)co_await failure_of(write_file(folder / "none" / "x", "text"), ENOENT);
        });
        File after = co_await File::open(there);
        std::string text(64, '\0');
        text.resize(co_await after.read(std::as_writable_bytes(std::span(text))));
        CHECK(text == "before");
    });
    CHECK_FALSE(std::filesystem::exists(fresh));
    std::filesystem::remove_all(folder);
}

TEST_CASE("dry_run: what goes to sockets and pipes is sent") {
    run([]() -> Coro<void> {
        Pipe pipe = co_await Pipe::open();
        co_await with_policy(dry_run(), pipe.writer.send_all("hello"));
        std::array<std::byte, 64> buffer;
        CHECK((co_await pipe.reader.recv(buffer)) == 5);
    });
}
