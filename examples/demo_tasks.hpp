// What the demo runs: compiled once, against traps/ and io/ alone, and linked with every kernel.
#pragma once

#include <string>

#include <trapline/io/tcp.hpp>
#include <trapline/traps/coro.hpp>

namespace demo {

inline constexpr unsigned clients = 64;
inline constexpr unsigned messages = 100'000;
inline constexpr trapline::Duration tick = std::chrono::milliseconds{100};

/// How many messages the client of this number exchanges, so that all make `messages`.
constexpr unsigned share(unsigned client) {
    return messages / clients + (client < messages % clients ? 1 : 0);
}

/// One rocket: see rockets.hpp.
trapline::Coro<trapline::Duration> rocket(std::string name, int count, int delay);

/// Three at once.
trapline::Coro<void> launch_site();

/// The two ends of an echo: see echo.hpp.
trapline::Coro<void> echo_end(trapline::TcpStream client);
trapline::Coro<void> client_end(trapline::TcpStream server, unsigned number);

/// A server on a free port of loopback, and its clients.
trapline::Coro<void> server_and_clients();

} // namespace demo
