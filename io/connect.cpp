// TcpStream::connect by name: the addresses, then the first of them that answers.
#include <string>
#include <utility>
#include <vector>

#include "happy_eyeballs.hpp"
#include "resolve.hpp"
#include "tcp.hpp"

namespace trapline {

Coro<TcpStream> TcpStream::connect(std::string host, std::uint16_t port, ConnectOptions options) {
    std::vector<SocketAddress> addresses = co_await resolve(host, port);
    co_return co_await happy_eyeballs(std::move(addresses), {.host = host, .connect = options});
}

} // namespace trapline
