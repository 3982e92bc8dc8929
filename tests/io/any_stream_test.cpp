#include <trapline/io/any_stream.hpp>

#include <string>

#include <doctest/doctest.h>

#include <trapline/io/memory_stream.hpp>
#include <trapline/io/tcp.hpp>

#include "../support/sockets.hpp"
#include "../support/streams.hpp"

// That it does what the stream inside must is in stream_test.cpp.

using namespace trapline;
using namespace trapline::test;

namespace {

Coro<AnyStream> dial(SocketAddress to, bool rehearsal) {
    if (rehearsal)
        co_return memory_stream_pair().a;
    co_return co_await TcpStream::connect(to);
}

} // namespace

TEST_CASE("which stream it is can be chosen at run time") {
    const LeakGuard guard;
    run([]() -> Coro<void> {
        const Descriptor listener = tcp_listener();
        const SocketAddress at = SocketAddress::ipv4("127.0.0.1", port_of(listener.get()));
        AnyStream rehearsal = co_await dial(at, true);
        CHECK(rehearsal.get_if<MemoryStream>() != nullptr);
        CHECK(rehearsal.get_if<TcpStream>() == nullptr);
        AnyStream real = co_await dial(at, false);
        REQUIRE(real.get_if<TcpStream>() != nullptr);
        CHECK(real.get_if<TcpStream>()->peer_address() == at);
        co_await real.close();
        CHECK_FALSE(static_cast<bool>(*real.get_if<TcpStream>()));
        CHECK_FALSE(static_cast<bool>(AnyStream{}));
    });
}
