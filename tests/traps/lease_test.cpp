#include <trapline/traps/lease.hpp>

#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/io/tcp.hpp>
#include <trapline/kernel/kernel.hpp>

#include "../support/leaks.hpp"
#include "../support/sockets.hpp"

using namespace trapline;
using namespace trapline::test;

namespace {

Coro<void> echo(TcpStream client) {
    while (BufferLease data = co_await client.receive())
        co_await client.send_all(data);
}

/// A pool of one byte that notes what comes back, and its own end.
class Pool final : public BufferPool {
public:
    Pool(std::vector<std::uint32_t>& back, bool& ended) : back_(back), ended_(ended) {}

    BufferLease lend(std::uint32_t buffer) { return {*this, buffer, &byte_, 1}; }

private:
    ~Pool() override { ended_ = true; }
    void take_back(std::uint32_t buffer) noexcept override { back_.push_back(buffer); }

    std::vector<std::uint32_t>& back_;
    bool& ended_;
    std::byte byte_{42};
};

} // namespace

TEST_CASE("what comes is sent back from the buffer that it came in") {
    const LeakGuard guard;
    Ends ends = tcp_pair();
    write_all(ends.b.get(), "hello");
    must(::shutdown(ends.b.get(), SHUT_WR), "shutdown");
    run(echo(TcpStream{std::move(ends.a), {}}));
    CHECK(read_all(ends.b.get()) == "hello");
}

TEST_CASE("a buffer comes back once, when its last holder lets go of it") {
    std::vector<std::uint32_t> back;
    bool ended = false;
    auto* pool = new Pool{back, ended};
    BufferLease one = pool->lend(1);
    BufferLease two = pool->lend(2);
    CHECK(pool->lent() == 2);
    {
        BufferLease moved = std::move(one);
        CHECK(moved.bytes()[0] == std::byte{42});
        CHECK(static_cast<bool>(moved));
        CHECK_FALSE(static_cast<bool>(one));
        CHECK(back.empty());
    }
    CHECK(back == std::vector<std::uint32_t>{1});
    one = std::move(two);
    one.reset();
    one.reset();
    CHECK(back == std::vector<std::uint32_t>{1, 2});
    CHECK(pool->lent() == 0);
    pool->leave();
    CHECK(ended);
}

TEST_CASE("a lease that takes over another gives its own back") {
    std::vector<std::uint32_t> back;
    bool ended = false;
    auto* pool = new Pool{back, ended};
    BufferLease lease = pool->lend(1);
    lease = pool->lend(2);
    CHECK(back == std::vector<std::uint32_t>{1});
    pool->leave();
    CHECK_FALSE(ended); // a lease may outlive the owner
    lease.reset();
    CHECK(ended);
}

TEST_CASE("what was received outlives its kernel") {
    const LeakGuard guard;
    Ends ends = tcp_pair();
    write_all(ends.b.get(), "kept");
    TcpStream stream{std::move(ends.a), {}};
    const BufferLease kept =
        run([&]() -> Coro<BufferLease> { co_return co_await stream.receive(); });
    CHECK(kept.text() == "kept");
}
