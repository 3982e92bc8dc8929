#include <trapline/traps/trap_call.hpp>

#include <cerrno>
#include <string>
#include <system_error>

#include <poll.h>

#include <doctest/doctest.h>

#include <trapline/traps/routine.hpp>

using namespace trapline;

namespace {

class [[nodiscard]] Readable : public TrapAwaiter<traps::ReadWait> {
public:
    explicit Readable(int fd) noexcept : TrapAwaiter(traps::ReadWait{fd}) {}
    void await_resume() const {
        if (reply().failed())
            throw std::system_error(reply().error(), std::system_category(), "wait");
    }
};

Coro<std::string> waits(int fd) {
    try {
        co_await Readable{fd};
    } catch (const std::system_error& error) {
        co_return error.what();
    }
    co_return "readable";
}

} // namespace

TEST_CASE("an awaitable of one's own yields its trap and judges the reply") {
    Routine<std::string> ready{waits(7)};
    const Trap* trap = ready.start();
    REQUIRE(trap);
    CHECK(std::get<traps::ReadWait>(*trap).fd == 7);
    ready.send({POLLIN});
    CHECK(ready.result() == "readable");

    Routine<std::string> refused{waits(-1)};
    refused.start();
    refused.send({-EBADF});
    CHECK(refused.result() == "wait: Bad file descriptor");
}

TEST_CASE("an awaitable of one's own is interrupted as all others are") {
    Routine<std::string> routine{waits(7)};
    routine.start();
    routine.send({.interrupt = Interrupt::cancelled});
    CHECK_THROWS_AS(routine.result(), TaskCancelled);
}
