#include <trapline/traps/io_request.hpp>

#include <array>
#include <string>
#include <type_traits>

#include <fcntl.h>

#include <doctest/doctest.h>

#include <trapline/traps/routine.hpp>

using namespace trapline::traps;
using trapline::Coro;
using trapline::Routine;
using trapline::Trap;
namespace traps = trapline::traps;

static_assert(std::is_trivially_copyable_v<IoRequest>);
static_assert(sizeof(IoRequest) <= 56);
static_assert(std::variant_size_v<IoRequest> == 23); // one more: it needs its lines below

namespace {

bool is(const DescriptorUse& use, int fd, Side side) { return use.fd == fd && use.side == side; }

template <class Request>
Request on(int fd) {
    Request request{};
    request.fd = fd;
    return request;
}

template <class Request>
Request from(int directory) {
    Request request{};
    request.directory = directory;
    return request;
}

/// What the request occupies is exactly one side of one descriptor.
bool occupies(const IoRequest& request, int fd, Side side) {
    const DescriptorUses uses = descriptors_of(request);
    return is(uses.first, fd, side) && is(uses.second, -1, Side::none);
}

} // namespace

TEST_CASE("a request is asked for by the trap Io, and its answer is a count") {
    const auto body = [](int fd) -> Coro<std::int64_t> {
        std::array<std::byte, 16> buffer{};
        traps::IoRequest request = traps::Recv{fd, MSG_PEEK, buffer.data(), buffer.size()};
        std::int64_t received = (co_await traps::Io{request}).value();
        co_return received;
    };
    Routine<std::int64_t> routine{body(3)};
    const Trap* trap = routine.start();
    REQUIRE(trap);
    const Recv asked = std::get<Recv>(std::get<Io>(*trap).request);
    CHECK(asked.fd == 3);
    CHECK(asked.flags == MSG_PEEK);
    CHECK(asked.size == 16);
    CHECK(routine.send({10}) == nullptr);
    CHECK(routine.result() == 10);
}

TEST_CASE("each request bears the name of its system call") {
    const auto name = [](const IoRequest& request) { return std::string(name_of(request)); };
    CHECK(name(Nop{}) == "nop");
    CHECK(name(Poll{}) == "poll");
    CHECK(name(Socket{}) == "socket");
    CHECK(name(Bind{}) == "bind");
    CHECK(name(Listen{}) == "listen");
    CHECK(name(SocketName{}) == "getsockname");
    CHECK(name(SetOption{}) == "setsockopt");
    CHECK(name(Accept{}) == "accept");
    CHECK(name(Connect{}) == "connect");
    CHECK(name(Recv{}) == "recv");
    CHECK(name(Receive{}) == "receive");
    CHECK(name(Send{}) == "send");
    CHECK(name(RecvMsg{}) == "recvmsg");
    CHECK(name(SendMsg{}) == "sendmsg");
    CHECK(name(Read{}) == "read");
    CHECK(name(Write{}) == "write");
    CHECK(name(OpenAt{}) == "openat");
    CHECK(name(OpenAt2{}) == "openat2");
    CHECK(name(Close{}) == "close");
    CHECK(name(Fsync{}) == "fsync");
    CHECK(name(Statx{}) == "statx");
    CHECK(name(Shutdown{}) == "shutdown");
    CHECK(name(Splice{}) == "splice");
}

TEST_CASE("what receives occupies the reading side, what sends the writing side") {
    CHECK(occupies(on<Accept>(3), 3, Side::read));
    CHECK(occupies(on<Recv>(3), 3, Side::read));
    CHECK(occupies(on<Receive>(3), 3, Side::read));
    CHECK(occupies(on<RecvMsg>(3), 3, Side::read));
    CHECK(occupies(on<Read>(3), 3, Side::read));
    CHECK(occupies(on<Connect>(3), 3, Side::write));
    CHECK(occupies(on<Send>(3), 3, Side::write));
    CHECK(occupies(on<SendMsg>(3), 3, Side::write));
    CHECK(occupies(on<Write>(3), 3, Side::write));
}

TEST_CASE("a poll occupies the side it says") {
    CHECK(occupies(Poll{3, 0, Side::none}, 3, Side::none));
    CHECK(occupies(Poll{3, 0, Side::read}, 3, Side::read));
    CHECK(occupies(Poll{3, 0, Side::write}, 3, Side::write));
}

TEST_CASE("reads and writes at an offset run beside others") {
    CHECK(occupies(Read{.fd = 3, .data = nullptr, .size = 1, .offset = 0}, 3, Side::none));
    CHECK(occupies(Write{.fd = 3, .data = nullptr, .size = 1, .offset = 4096}, 3, Side::none));
}

TEST_CASE("requests that move nothing occupy no side") {
    CHECK(occupies(on<Bind>(3), 3, Side::none));
    CHECK(occupies(on<Listen>(3), 3, Side::none));
    CHECK(occupies(on<SocketName>(3), 3, Side::none));
    CHECK(occupies(on<SetOption>(3), 3, Side::none));
    CHECK(occupies(on<Close>(3), 3, Side::none));
    CHECK(occupies(on<Fsync>(3), 3, Side::none));
    CHECK(occupies(on<Shutdown>(3), 3, Side::none));
}

TEST_CASE("requests without a descriptor use none") {
    CHECK(occupies(Nop{}, -1, Side::none));
    CHECK(occupies(Socket{}, -1, Side::none));
    CHECK(occupies(from<OpenAt>(AT_FDCWD), -1, Side::none));
    CHECK(occupies(from<OpenAt2>(AT_FDCWD), -1, Side::none));
    CHECK(occupies(from<Statx>(AT_FDCWD), -1, Side::none));
}

TEST_CASE("a path uses the directory where it begins, and an empty one what it is about") {
    CHECK(occupies(from<OpenAt>(3), 3, Side::none));
    CHECK(occupies(from<OpenAt2>(3), 3, Side::none));
    CHECK(occupies(from<Statx>(3), 3, Side::none));
    CHECK(occupies(Statx{3, "", AT_EMPTY_PATH, 0, nullptr}, 3, Side::none));
}

TEST_CASE("a splice reads one descriptor and writes another") {
    const DescriptorUses pipes = descriptors_of(Splice{.from = 3, .to = 4, .size = 1, .flags = 0});
    CHECK(is(pipes.first, 3, Side::read));
    CHECK(is(pipes.second, 4, Side::write));
    const DescriptorUses at = descriptors_of(
        Splice{.from = 3, .to = 4, .from_offset = 0, .to_offset = 0, .size = 1, .flags = 0});
    CHECK(is(at.first, 3, Side::none));
    CHECK(is(at.second, 4, Side::none));
}

TEST_CASE("what waits for others can be interrupted, what cannot wait or is cleanup cannot") {
    CHECK(interruptible(Nop{}));
    CHECK(interruptible(Poll{}));
    CHECK(interruptible(Accept{}));
    CHECK(interruptible(Connect{}));
    CHECK(interruptible(Recv{}));
    CHECK(interruptible(Send{}));
    CHECK(interruptible(RecvMsg{}));
    CHECK(interruptible(SendMsg{}));
    CHECK(interruptible(Read{}));
    CHECK(interruptible(Write{}));
    CHECK(interruptible(OpenAt{}));
    CHECK(interruptible(OpenAt2{}));
    CHECK(interruptible(Statx{}));
    CHECK(interruptible(Splice{}));
    CHECK_FALSE(interruptible(Socket{}));
    CHECK_FALSE(interruptible(Bind{}));
    CHECK_FALSE(interruptible(Listen{}));
    CHECK_FALSE(interruptible(SocketName{}));
    CHECK_FALSE(interruptible(SetOption{}));
    CHECK_FALSE(interruptible(Close{}));
    CHECK_FALSE(interruptible(Fsync{}));
    CHECK_FALSE(interruptible(Shutdown{}));
}

TEST_CASE("reads and writes go from the current position unless an offset is given") {
    CHECK(Read{}.offset == -1);
    CHECK(Write{}.offset == -1);
}
