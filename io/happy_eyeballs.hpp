// happy_eyeballs: connects to the first of several addresses that answers (RFC 8305).
//
//     std::vector<SocketAddress> addresses = co_await resolve("localhost", port);
//     TcpStream stream = co_await happy_eyeballs(
//         addresses, {.host = "localhost"}, [&](const ConnectAttempt& attempt) {
//             if (attempt.state == ConnectAttempt::State::failed)
//                 log += attempt.address.to_string() + ": " + attempt.error.message();
//         });
//
// Hosts often have addresses that do not work from here: IPv6 without a route, a machine that is
// down. Families take turns. An attempt that fails makes room for the next one at once, one that
// only takes long gets company after 250 ms. The first connection wins; when it is answered, the
// other attempts have ended and their sockets are closed.
//
// TcpStream::connect(host, port) is resolve() and this. All addresses are there when it begins, so
// the RFC's delay for the second family's answers has no place here.
#pragma once

#include <chrono>
#include <functional>
#include <string_view>
#include <system_error>
#include <vector>

#include "../traps/coro.hpp"
#include "../traps/time.hpp"
#include "address.hpp"
#include "tcp.hpp"

namespace trapline {

/// A step of one attempt to connect. Each is `begun`, then one of the others.
struct ConnectAttempt {
    enum class State {
        begun,
        failed,    ///< `error` says why
        connected, ///< this is the connection that is answered
        given_up,  ///< another one won, or all was cancelled
    };

    const SocketAddress& address;
    State state;
    Duration since_start;    ///< of happy_eyeballs, by the kernel's clock
    std::error_code error{}; ///< of one that failed
};

/// Is told of every step, in the order in which they happen. It must neither throw nor block.
using ConnectReport = std::function<void(const ConnectAttempt&)>;

struct HappyEyeballsOptions {
    /// How long an attempt is waited for before the next one begins beside it. The RFC allows 10 ms
    /// to 2 s. 0: all begin at once. Duration::max(): one after the other.
    Duration stagger = std::chrono::milliseconds{250};

    std::string_view host{}; ///< what errors name; copied at the call

    ConnectOptions connect{}; ///< of each attempt
};

/// Connects. `addresses` come best first, as resolve() answers them. Throws std::system_error if
/// all fail, "connect to www.example.com: [2001:db8::1]:80: Network is unreachable;
/// 192.0.2.1:80: Connection refused", with the code of the last one named; with EDESTADDRREQ if
/// there is none. Blocks. Cancelled, all sockets are closed; a connection that was there before is
/// answered all the same.
Coro<TcpStream> happy_eyeballs(std::vector<SocketAddress> addresses,
                               HappyEyeballsOptions options = {}, ConnectReport report = {});

/// The order in which they are tried: families in turns, beginning with that of the first address,
/// and as they were within each.
std::vector<SocketAddress> interleave_families(const std::vector<SocketAddress>& addresses);

} // namespace trapline
