// The two ends of an echo: a server's side, and a client that checks every byte that comes back.
// Both trap, and know nothing of who answers.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <stdexcept>

#include <trapline/io/tcp.hpp>

/// Sends back what comes, until the client has ended.
inline trapline::Coro<void> echo(trapline::TcpStream client) {
    std::array<std::byte, 4096> buffer;
    while (std::size_t n = co_await client.recv(buffer))
        co_await client.send_all(std::span(buffer).first(n));
}

/// Exchanges `count` messages of 64 bytes, each unlike the others, and checks them.
inline trapline::Coro<void> exchange(trapline::TcpStream server, unsigned client, unsigned count) {
    std::array<std::byte, 64> message;
    std::array<std::byte, 64> answer;
    for (unsigned i = 0; i < count; ++i) {
        for (std::size_t at = 0; at < message.size(); ++at)
            message[at] = static_cast<std::byte>(client * 31 + i * 7 + at);
        co_await server.send_all(message);
        co_await server.recv_exactly(answer);
        if (!std::ranges::equal(message, answer))
            throw std::runtime_error("the echo is not what was sent");
    }
    co_await server.shutdown();
}
