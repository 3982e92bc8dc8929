#include <trapline/traps/calls.hpp>

#include <array>
#include <concepts>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sys/stat.h>

#include <doctest/doctest.h>

#include <trapline/traps/routine.hpp>

using namespace trapline;
using namespace std::chrono_literals;

namespace {

/// Awaits `call` and keeps the trap that it yielded and the answer.
template <class A>
struct Asked {
    using Result = decltype(std::declval<A>().await_resume());
    Trap trap;
    Result result;
};

template <class A>
Asked<A> ask(A call, Reply reply) {
    using Result = typename Asked<A>::Result;
    const auto body = [](A awaited) -> Coro<Result> { co_return co_await std::move(awaited); };
    Routine<Result> routine{body(std::move(call))};
    const Trap* trap = routine.start();
    REQUIRE(trap);
    const Trap copy = *trap;
    REQUIRE(routine.send(reply) == nullptr);
    return {copy, routine.result()};
}

template <class Request, class A>
Request request_of(const Asked<A>& asked) {
    return std::get<Request>(std::get<traps::Io>(asked.trap).request);
}

} // namespace

TEST_CASE("a coroutine receives, and waits until there is more to be received") {
    const auto body = [](int fd) -> Coro<std::string> {
        std::array<std::byte, 16> buffer{};
        std::expected<std::size_t, std::error_code> n = co_await traps::recv(fd, buffer);
        short events = (co_await traps::read_wait(fd)).value();
        co_return std::to_string(n.value()) + (events == POLLIN ? " and more" : "");
    };
    Routine<std::string> routine{body(3)};
    routine.start();
    routine.send({10});
    routine.send({POLLIN});
    CHECK(routine.result() == "10 and more");
}

TEST_CASE("a trap call answers the value of its reply") {
    std::array<std::byte, 8> buffer{};
    const auto received = ask(traps::recv(4, buffer, MSG_PEEK), {5});
    CHECK(received.result.value() == 5);
    const auto request = request_of<traps::Recv>(received);
    CHECK(request.fd == 4);
    CHECK(request.flags == MSG_PEEK);
    CHECK(request.data == buffer.data());
    CHECK(request.size == 8);
}

TEST_CASE("a trap call answers an error for a negative reply") {
    std::array<std::byte, 8> buffer{};
    const auto received = ask(traps::recv(4, buffer), {-ECONNRESET});
    REQUIRE_FALSE(received.result);
    CHECK(received.result.error() == std::errc::connection_reset);
    CHECK(received.result.error().category() == std::system_category());
}

TEST_CASE("each call asks for its own operation") {
    std::array<std::byte, 8> buffer{};
    const std::span<const std::byte> data = buffer;
    sockaddr address{};
    socklen_t length = sizeof address;
    msghdr message{};
    struct statx status{};
    const int option = 1;

    const auto socket = ask(traps::socket(AF_INET, SOCK_STREAM), {6});
    CHECK(request_of<traps::Socket>(socket).domain == AF_INET);
    CHECK(request_of<traps::Socket>(socket).type == SOCK_STREAM);
    CHECK(socket.result.value() == 6);
    CHECK(request_of<traps::Bind>(ask(traps::bind(3, &address, length), {})).address == &address);
    CHECK(request_of<traps::Listen>(ask(traps::listen(3), {})).backlog == SOMAXCONN);
    const auto own = ask(traps::socket_name(3, &address, &length), {});
    CHECK_FALSE(request_of<traps::SocketName>(own).peer);
    const auto peer = ask(traps::peer_name(3, &address, &length), {});
    CHECK(request_of<traps::SocketName>(peer).peer);
    const auto set = ask(traps::set_option(3, SOL_SOCKET, SO_REUSEADDR, option), {});
    CHECK(request_of<traps::SetOption>(set).value == &option);
    CHECK(request_of<traps::SetOption>(set).length == sizeof option);
    CHECK(ask(traps::accept(3), {9}).result.value() == 9);
    CHECK(request_of<traps::Connect>(ask(traps::connect(3, &address, length), {})).fd == 3);
    CHECK(request_of<traps::Send>(ask(traps::send(3, data), {8})).data == buffer.data());
    CHECK(request_of<traps::RecvMsg>(ask(traps::recv_message(3, message), {1})).message ==
          &message);
    CHECK(request_of<traps::SendMsg>(ask(traps::send_message(3, message), {1})).message ==
          &message);
    CHECK(request_of<traps::Shutdown>(ask(traps::shutdown(3, SHUT_WR), {})).how == SHUT_WR);
    CHECK(request_of<traps::Read>(ask(traps::read(3, buffer, 16), {1})).offset == 16);
    CHECK(request_of<traps::Write>(ask(traps::write(3, data), {1})).offset == -1);
    const auto opened = ask(traps::open_at(AT_FDCWD, "/", O_RDONLY), {7});
    CHECK(std::string(request_of<traps::OpenAt>(opened).path) == "/");
    CHECK(opened.result.value() == 7);
    open_how how{.flags = O_RDONLY, .mode = 0, .resolve = RESOLVE_BENEATH};
    const auto beneath = ask(traps::open_at2(5, "a/b", how), {8});
    CHECK(request_of<traps::OpenAt2>(beneath).directory == 5);
    CHECK(request_of<traps::OpenAt2>(beneath).how == &how);
    CHECK(beneath.result.value() == 8);
    CHECK(request_of<traps::Fsync>(ask(traps::fsync(3, true), {})).data_only);
    const auto stat = ask(traps::stat_at(AT_FDCWD, "/", 0, STATX_SIZE, status), {});
    CHECK(request_of<traps::Statx>(stat).status == &status);
    const auto spliced = ask(traps::splice(3, 4, 100), {50});
    CHECK(request_of<traps::Splice>(spliced).size == 100);
    CHECK(spliced.result.value() == 50);
    CHECK(request_of<traps::Close>(ask(traps::close(3), {})).fd == 3);
    CHECK(std::holds_alternative<traps::Nop>(
        std::get<traps::Io>(ask(traps::nop(), {}).trap).request));
}

TEST_CASE("waits for a descriptor answer the poll mask") {
    const auto readable = ask(traps::read_wait(3), {POLLIN});
    CHECK(std::get<traps::ReadWait>(readable.trap).fd == 3);
    CHECK(readable.result.value() == POLLIN);
    const auto writable = ask(traps::write_wait(3), {POLLOUT});
    CHECK(std::get<traps::WriteWait>(writable.trap).fd == 3);
    CHECK(writable.result.value() == POLLOUT);
    CHECK(ask(traps::io_release(3), {}).result.has_value());
    CHECK(ask(traps::read_wait(3), {-EBUSY}).result.error() == std::errc::device_or_resource_busy);
}

TEST_CASE("sleep, sleep_until and now answer the time") {
    const Reply at_seven = Reply::time(TimePoint{7s});
    CHECK(ask(sleep(5s), at_seven).result == TimePoint{7s});
    CHECK(std::get<traps::Sleep>(ask(sleep(5s), at_seven).trap).duration == 5s);
    CHECK(ask(sleep_until(TimePoint{6s}), at_seven).result == TimePoint{7s});
    CHECK(ask(now(), at_seven).result == TimePoint{7s});
}

TEST_CASE("a trap can be awaited as it is") {
    const auto body = []() -> Coro<std::int64_t> {
        ThreadCompletion* completion = nullptr;
        co_return (co_await traps::AwaitThread{completion}).value();
    };
    Routine<std::int64_t> routine{body()};
    const Trap* trap = routine.start();
    REQUIRE(trap);
    CHECK(std::holds_alternative<traps::AwaitThread>(*trap));
    routine.send({12});
    CHECK(routine.result() == 12);
}

TEST_CASE("an awaitable of others is no awaitable of ours") {
    CHECK_FALSE(detail::MarkedAwaitable<std::suspend_always>);
    CHECK(detail::MarkedAwaitable<Coro<int>>);
    CHECK(detail::MarkedAwaitable<decltype(sleep(1s))>);
}
