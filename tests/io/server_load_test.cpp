// A server at its limit for long: ten thousand connections through room for a hundred.
#include <trapline/io/server.hpp>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include <sys/resource.h>

#include <doctest/doctest.h>

#include <trapline/kernel/kernel.hpp>
#include <trapline/traps/event.hpp>

#include "../support/leaks.hpp"
#include "../support/sockets.hpp"

using namespace trapline;
using namespace trapline::test;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t connections = 10'000;
constexpr std::size_t clients = 1'000; // at the same time
constexpr std::size_t room = 100;

/// At least `count` descriptors, until it goes.
class MoreDescriptors {
public:
    explicit MoreDescriptors(rlim_t count) {
        must(::getrlimit(RLIMIT_NOFILE, &previous_), "getrlimit");
        const rlimit wanted{std::max(count, previous_.rlim_cur), previous_.rlim_max};
        enough_ = previous_.rlim_max >= count && ::setrlimit(RLIMIT_NOFILE, &wanted) == 0;
    }
    MoreDescriptors(const MoreDescriptors&) = delete;
    MoreDescriptors& operator=(const MoreDescriptors&) = delete;
    ~MoreDescriptors() {
        if (enough_)
            ::setrlimit(RLIMIT_NOFILE, &previous_);
    }

    bool enough() const noexcept { return enough_; }

private:
    rlimit previous_{};
    bool enough_ = false;
};

struct Load {
    std::uint16_t port = 0;
    std::size_t begun = 0;
    std::size_t served = 0;  ///< as the clients see it
    std::size_t handled = 0; ///< as the server does
    std::size_t at_once = 0;
    std::size_t most = 0;
    std::string failures{};
};

/// One client after the other. Their addresses change, so that ports suffice.
Coro<void> connect_again_and_again(Load& load) {
    while (load.begun < connections) {
        const auto number = static_cast<unsigned>(load.begun++);
        const std::string host = "127.0.0." + std::to_string(1 + number % 20);
        try {
            TcpStream server = co_await TcpStream::connect(SocketAddress::ipv4(host, load.port));
            std::array<std::byte, 1> byte{static_cast<std::byte>(number)};
            const std::array<std::byte, 1> sent = byte;
            co_await server.send_all(byte);
            const bool answered = co_await server.recv(byte) == 1 && byte == sent;
            const bool ended = co_await server.recv(byte) == 0;
            load.served += answered && ended;
        } catch (const std::system_error& failure) {
            load.failures += std::string(failure.what()) + "\n";
        }
    }
}

Coro<void> serve_under(Load& load) {
    Event listens;
    Event full; // the first ones are held back until there is no more room
    const auto handler = [&](TcpStream client) -> Coro<void> {
        load.most = std::max(load.most, ++load.at_once);
        if (load.most == room)
            full.set();
        co_await full.wait();
        std::array<std::byte, 1> byte;
        const std::size_t n = co_await client.recv(byte);
        co_await sleep(1ms); // some work to do
        co_await client.send_all(std::span(byte).first(n));
        --load.at_once;
        ++load.handled;
    };
    const ServerOptions options{
        .connections_max = room,
        .on_listening =
            [&](const SocketAddress& at) {
                load.port = at.port();
                listens.set();
            },
        .log = [&](std::string_view line) { load.failures += std::string(line) + "\n"; }};
    Task<> server = co_await spawn(
        [&] { return tcp_server(SocketAddress::ipv4("0.0.0.0", 0), handler, options); });
    co_await listens.wait();
    std::vector<Task<>> all;
    for (std::size_t n = 0; n < clients; ++n)
        all.push_back(co_await spawn(connect_again_and_again(load)));
    for (Task<>& client : all)
        co_await client.join();
    co_await server.cancel();
}

} // namespace

TEST_CASE("ten thousand clients are served, nobody is refused, and never too many at once") {
    const MoreDescriptors descriptors{clients + room + 200};
    if (!descriptors.enough()) {
        MESSAGE("skipped: this process may not open 1,300 descriptors");
        return;
    }
    const LeakGuard guard;
    Load load;
    run([&] { return serve_under(load); });
    CHECK(load.failures == "");
    CHECK(load.served == connections);
    CHECK(load.handled == connections);
    CHECK(load.most == room); // it was reached, and kept
    CHECK(load.at_once == 0);
}
