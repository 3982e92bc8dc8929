#include <trapline/io/errors.hpp>

#include <cerrno>
#include <ostream>
#include <string>

#include <doctest/doctest.h>

using namespace trapline;

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
