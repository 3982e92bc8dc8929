#include "demo_tasks.hpp"

#include <utility>
#include <vector>

#include <trapline/traps/task.hpp>

#include "echo.hpp"
#include "rockets.hpp"

namespace demo {

using namespace trapline;

Coro<Duration> rocket(std::string name, int count, int delay) {
    return countdown(std::move(name), count, delay, tick);
}

Coro<void> launch_site() {
    std::vector<Task<Duration>> rockets;
    rockets.push_back(co_await spawn(rocket("Ariane", 5, 0)));
    rockets.push_back(co_await spawn(rocket("Soyuz", 3, 2)));
    rockets.push_back(co_await spawn(rocket("Falcon", 4, 1)));
    for (const Task<Duration>& task : rockets)
        co_await task.join();
}

Coro<void> echo_end(TcpStream client) { return echo(std::move(client)); }

Coro<void> client_end(TcpStream server, unsigned number) {
    return exchange(std::move(server), number, share(number));
}

static Coro<void> serve(TcpListener& listener) {
    for (;;)
        co_await spawn(echo(co_await listener.accept()));
}

static Coro<void> connect_and_exchange(SocketAddress server, unsigned number) {
    co_await exchange(co_await TcpStream::connect(server), number, share(number));
}

Coro<void> server_and_clients() {
    TcpListener listener = co_await TcpListener::bind(SocketAddress::parse("127.0.0.1:0"));
    auto serving = co_await spawn(serve(listener));
    std::vector<Task<void>> running;
    for (unsigned number = 0; number < clients; ++number)
        running.push_back(co_await spawn(connect_and_exchange(listener.local_address(), number)));
    for (const Task<void>& task : running)
        co_await task.join();
    co_await serving.cancel();
}

} // namespace demo
