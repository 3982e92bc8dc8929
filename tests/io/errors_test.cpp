#include <trapline/io/errors.hpp>

#include <array>
#include <cerrno>
#include <ostream>
#include <string>

#include <doctest/doctest.h>

#include <trapline/io/tcp.hpp>
#include <trapline/traps/routine.hpp>

using namespace trapline;

TEST_CASE("a stream that ends too soon says how much is missing") {
    const auto body = [](std::size_t& missing) -> Coro<void> {
        TcpStream stream;
        std::array<std::byte, 8> buffer{};
        try {
            co_await stream.recv_exactly(buffer);
        } catch (const EndOfStream& end) {
            missing = buffer.size() - end.progress();
        }
    };
    std::size_t missing = 0;
    Routine<void> routine{body(missing)};
    routine.start();
    CHECK(routine.send({3}) == nullptr);
    CHECK_NOTHROW(routine.result());
    CHECK(missing == 5);
}

TEST_CASE("an error names the operation and what the system says") {
    try {
        detail::raise_error(ECONNREFUSED, "connect to 127.0.0.1:9");
        FAIL("nothing was thrown");
    } catch (const std::system_error& e) {
        CHECK(std::string(e.what()) == "connect to 127.0.0.1:9: Connection refused");
        CHECK(e.code() == std::errc::connection_refused);
    }
}

TEST_CASE("a failed transfer says how far it came") {
    const TransferError error{{ECONNRESET, std::system_category()}, "send to [::1]:5", 77};
    CHECK(std::string(error.what()) == "send to [::1]:5: Connection reset by peer");
    CHECK(error.progress() == 77);
}

TEST_CASE("a stream that ended too soon says how far it came") {
    const EndOfStream error{"recv from x: the stream ended", 3};
    CHECK(std::string(error.what()) == "recv from x: the stream ended");
    CHECK(error.progress() == 3);
}
