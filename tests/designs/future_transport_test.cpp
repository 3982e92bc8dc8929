#include "../../bench/designs/future/transport.hpp"

#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/kernel/engines/uring.hpp>

#include "../../bench/designs/future/server.hpp"
#include "../../bench/designs/future/waiting.hpp"
#include "../support/leaks.hpp"
#include "../support/sockets.hpp"
#include "world.hpp"

// asyncio's transports and protocols: the order of calls, what closes when, flow control.

using namespace future_design;
using namespace std::chrono_literals;
using trapline::Descriptor;
using trapline::test::LeakGuard;

namespace {

std::unique_ptr<Engine> uring() { return trapline::make_uring_engine({}); }

/// Many turns, however slow the machine is.
void settle(Loop& loop) {
    loop.run_until_complete([]() -> Coroutine<> {
        co_await sleep(2ms);
        for (int turn = 0; turn < 20; ++turn)
            co_await sleep(0s);
    }());
}

/// Writes down what it is called with.
class Notes final : public Protocol {
public:
    explicit Notes(std::string& order) : order_(order) {}
    void connection_made(Transport& transport) override {
        transport_ = &transport;
        order_ += "made ";
        if (on_made)
            on_made(transport);
    }
    void data_received(Bytes data) override {
        order_ += "data:" + std::string(data.text().substr(0, 20)) + " ";
        if (on_data)
            on_data(*transport_, data);
    }
    bool eof_received() override {
        order_ += "eof ";
        return keep_open;
    }
    void connection_lost(const std::exception_ptr& failure) override {
        order_ += failure ? "lost:" + describe(failure) : "lost";
    }
    void pause_writing() override { order_ += "pause "; }
    void resume_writing() override { order_ += "resume "; }

    std::function<void(Transport&)> on_made;
    std::function<void(Transport&, const Bytes&)> on_data;
    bool keep_open = false;

private:
    std::string& order_;
    Transport* transport_ = nullptr;
};

/// A protocol at one end of a socket pair, plain calls at the other.
struct Connection {
    Connection() {
        auto ends = trapline::test::socket_pair();
        peer = std::move(ends.b);
        auto made = std::make_unique<Notes>(order);
        protocol = made.get();
        transport = &connect_accepted_socket(std::move(made), Socket{world.loop, ends.a.release()});
    }
    void settle() { ::settle(world.loop); }
    void send(std::string_view text) const { trapline::test::write_all(peer.get(), text); }
    std::string sent() const { return trapline::test::read_waiting(peer.get()); }
    void write(std::string_view text) const { transport->write(std::as_bytes(std::span(text))); }

    const LeakGuard guard;
    std::string order;
    World world{uring()};
    Descriptor peer;
    Notes* protocol;      ///< until connection_lost
    Transport* transport; ///< the same
};

class Echo final : public Protocol {
public:
    void connection_made(Transport& transport) override { transport_ = &transport; }
    void data_received(Bytes data) override { transport_->write(std::move(data)); }
    void pause_writing() override { transport_->pause_reading(); }
    void resume_writing() override { transport_->resume_reading(); }

private:
    Transport* transport_ = nullptr;
};

Server echo_server(Loop& loop) {
    return create_server(
        loop, [] { return std::make_unique<Echo>(); },
        trapline::SocketAddress::parse("127.0.0.1:0"));
}

} // namespace

TEST_CASE("a server makes a protocol for each connection, which echoes") {
    const LeakGuard guard;
    World world{uring()};
    Server server = echo_server(world.loop);
    std::vector<Socket> clients;
    for (int i = 0; i < 3; ++i) {
        clients.push_back(socket_for(world.loop, server.local_address()));
        world.loop.run_until_complete(sock_connect(clients[i], server.local_address()));
        const std::string text = "hello " + std::to_string(i);
        world.loop.run_until_complete(
            sock_sendall(clients[i], Bytes::copy_of(std::as_bytes(std::span(text)))));
        const Bytes back = world.loop.run_until_complete(sock_recv(clients[i], 100));
        CHECK(back.text() == text);
    }
    CHECK(server.connections() == 3);
    CHECK(server.is_serving());
    server.close();
    Future<void> closed = server.wait_closed();
    settle(world.loop);
    CHECK_FALSE(server.is_serving());
    CHECK_FALSE(closed.done()); // connections go on
    clients[0].close();
    settle(world.loop);
    CHECK(server.connections() == 2);
    server.close_clients();
    world.loop.run_until_complete(closed);
    CHECK(server.connections() == 0);
    CHECK(world.loop.run_until_complete(sock_recv(clients[1], 100)).empty());
    CHECK(world.told.empty());
}

TEST_CASE("the calls come in asyncio's order, each of the loop") {
    Connection c;
    CHECK(c.order.empty()); // connection_made is called soon
    c.send("hello");
    c.settle();
    CHECK(c.order == "made data:hello ");
    c.peer = Descriptor{};
    c.settle();
    CHECK(c.order == "made data:hello eof lost");
}

TEST_CASE("with eof_received true writing goes on") {
    Connection c;
    c.protocol->keep_open = true;
    ::shutdown(c.peer.get(), SHUT_WR);
    c.settle();
    CHECK(c.order == "made eof ");
    CHECK_FALSE(c.transport->is_closing());
    c.write("after");
    c.settle();
    CHECK(c.sent() == "after");
    c.transport->close();
    c.settle();
    CHECK(c.order == "made eof lost");
}

TEST_CASE("what one turn writes goes out in its order, together") {
    Connection c;
    c.settle();
    const std::uint64_t before = c.world.loop.engine().counters().operations;
    for (const char* text : {"a", "b", "c"})
        c.write(text);
    c.transport->write(Bytes::of_static("d"));
    CHECK(c.transport->get_write_buffer_size() == 4);
    CHECK(c.sent().empty());
    c.settle();
    CHECK(c.sent() == "abcd");
    CHECK(c.transport->get_write_buffer_size() == 0);
    CHECK(c.world.loop.engine().counters().operations == before + 1);
}

TEST_CASE("more things are written than Linux takes at once, while others are on their way") {
    Connection c;
    c.settle();
    std::string all;
    std::string got;
    for (int i = 0; i < 5000; ++i) {
        const std::string text = std::to_string(i) + " ";
        c.write(text);
        all += text;
        if (i == 10)
            c.world.loop.run_until_complete(c.world.loop.create_task(sleep(0s)));
    }
    CHECK(c.order == "made ");
    while (c.transport->get_write_buffer_size() > 0) {
        c.settle();
        got += c.sent();
    }
    CHECK(got + c.sent() == all);
}

TEST_CASE("close sends what was written, and then loses the connection") {
    Connection c;
    c.settle();
    trapline::test::shrink_send_buffer(c.peer.get());
    const std::string much(1 << 20, 'x');
    c.write(much);
    c.transport->close();
    c.transport->close();
    CHECK(c.transport->is_closing());
    c.settle();
    CHECK(c.order == "made pause "); // nobody has read it yet
    std::string got;
    while (c.order == "made pause ") {
        got += c.sent();
        c.settle();
    }
    got += trapline::test::read_all(c.peer.get());
    CHECK(got == much);
    CHECK(c.order == "made pause resume lost");
}

TEST_CASE("close without anything to write loses the connection soon, and what came is ignored") {
    Connection c;
    c.settle();
    c.send("ignored");
    c.transport->close();
    CHECK(c.order == "made ");
    c.settle();
    CHECK(c.order == "made lost");
    CHECK(trapline::test::read_all(c.peer.get()).empty());
}

TEST_CASE("abort drops what was written") {
    Connection c;
    c.settle();
    const std::string much(1 << 20, 'x');
    c.write(much);
    c.write("more");
    c.settle();
    c.transport->abort();
    CHECK(c.transport->get_write_buffer_size() == 0);
    c.settle();
    CHECK(c.order == "made pause lost");
    CHECK(trapline::test::read_all(c.peer.get()).size() < much.size());
}

TEST_CASE("close and abort in a callback, write after it") {
    Connection c;
    c.protocol->on_data = [](Transport& transport, const Bytes& data) {
        transport.write(data);
        transport.abort();
        for (int i = 0; i < 4; ++i)
            transport.write(data); // to a connection that is lost
        transport.close();
    };
    c.send("x");
    c.settle();
    CHECK(c.order == "made data:x lost");
    CHECK(trapline::test::read_all(c.peer.get()).empty());
    CHECK(c.world.told.empty());
}

TEST_CASE("who writes on and on to a connection that is lost is told") {
    Connection c;
    c.protocol->on_made = [](Transport& transport) {
        transport.abort();
        for (int i = 0; i < 6; ++i)
            transport.write(Bytes::of_static("x"));
    };
    c.settle();
    CHECK(c.world.told == std::vector<std::string>(2, "write() to a connection that was lost"));
}

TEST_CASE("write_eof shows the end when all is written, and reading goes on") {
    Connection c;
    c.settle();
    c.write("last");
    c.transport->write_eof();
    c.transport->write_eof();
    CHECK_THROWS_WITH(c.write("x"), "write() after write_eof()");
    c.settle();
    CHECK(trapline::test::read_all(c.peer.get()) == "last");
    c.send("still");
    c.settle();
    CHECK(c.order == "made data:still ");
    c.peer = Descriptor{};
    c.settle();
    CHECK(c.order == "made data:still eof lost");
}

TEST_CASE("while reading is paused nothing is received, and after that all in order") {
    Connection c;
    c.settle();
    c.transport->pause_reading();
    c.transport->pause_reading();
    CHECK_FALSE(c.transport->is_reading());
    c.send("a");
    c.settle();
    c.send("b");
    c.settle();
    CHECK(c.order == "made ");
    c.transport->resume_reading();
    CHECK(c.order == "made "); // soon
    c.settle();
    CHECK(c.order == "made data:a data:b ");
}

TEST_CASE("reading may be paused again before what waits was handed over, and from the beginning") {
    Connection c;
    c.protocol->on_made = [](Transport& transport) { transport.pause_reading(); };
    c.send("a");
    c.settle();
    CHECK(c.order == "made ");
    CHECK(trapline::test::bytes_waiting(c.peer.get()) == 0);
    c.transport->resume_reading();
    c.transport->pause_reading();
    c.settle();
    CHECK(c.order == "made ");
    c.peer = Descriptor{};
    c.transport->resume_reading();
    c.settle();
    CHECK(c.order == "made data:a eof lost");
}

TEST_CASE("the end of the stream waits while reading is paused") {
    Connection c;
    c.settle();
    c.transport->pause_reading();
    c.peer = Descriptor{};
    c.settle();
    CHECK(c.order == "made ");
    c.transport->resume_reading();
    c.settle();
    CHECK(c.order == "made eof lost");
}

TEST_CASE("a protocol is told once when too much waits to be written, and when that has gone") {
    Connection c;
    c.settle();
    trapline::test::shrink_send_buffer(c.peer.get());
    c.transport->set_write_buffer_limits(1000, 10);
    const std::string some(1000, 'x');
    c.write(some);
    CHECK(c.order == "made "); // not above the mark
    c.write("x");
    c.write("x");
    CHECK(c.order == "made pause ");
    c.settle();
    CHECK(c.order == "made pause resume ");
    CHECK(c.sent().size() == 1002);
}

TEST_CASE("the limits of the write buffer are asyncio's") {
    Connection c;
    c.settle();
    CHECK_THROWS_WITH(c.transport->set_write_buffer_limits(1, 2),
                      "the low-water mark is above the high one");
    const std::string some(64 << 10, 'x');
    c.write(some);
    CHECK(c.order == "made ");
    c.transport->set_write_buffer_limits({}, 10'000); // so the high one is 40,000
    CHECK(c.order == "made pause ");
    c.transport->abort();
    c.settle();
}

TEST_CASE("a reset is no error to be told, but the protocol sees it") {
    const LeakGuard guard;
    std::string order;
    World world{uring()};
    auto ends = trapline::test::tcp_pair();
    connect_accepted_socket(std::make_unique<Notes>(order), Socket{world.loop, ends.a.release()});
    settle(world.loop);
    trapline::test::reset(std::move(ends.b));
    settle(world.loop);
    CHECK(order == "made lost:recv: Connection reset by peer");
    CHECK(world.told.empty());
}

TEST_CASE("an exception of data_received is told, and ends the connection") {
    Connection c;
    c.protocol->on_data = [](Transport&, const Bytes&) { throw std::runtime_error("wrong"); };
    c.send("x");
    c.settle();
    CHECK(c.order == "made data:x lost:wrong");
    CHECK(c.world.told == std::vector<std::string>{"protocol.data_received() failed: wrong"});
}

TEST_CASE("an exception of connection_made is told, and the connection goes on") {
    Connection c;
    c.protocol->on_made = [](Transport&) { throw std::runtime_error("wrong"); };
    c.send("x");
    c.settle();
    CHECK(c.order == "made data:x ");
    CHECK(c.world.told == std::vector<std::string>{"an exception left a callback: wrong"});
}

TEST_CASE("received bytes can be kept, more of them than the engine has buffers") {
    Connection c;
    std::vector<Bytes> kept;
    c.protocol->on_data = [&](Transport&, const Bytes& data) { kept.push_back(data); };
    std::string all;
    for (int i = 0; i < 400; ++i) {
        const std::string text = std::to_string(i) + " ";
        all += text;
        c.send(text);
        const std::size_t before = kept.size();
        while (kept.size() == before)
            c.world.loop.run_until_complete(nop(c.world.loop));
    }
    CHECK(kept.size() == 400);
    CHECK(c.world.loop.buffers_lent == Bytes::lent_max);
    std::string together;
    for (const Bytes& bytes : kept)
        together += bytes.text();
    CHECK(together == all);
    kept.clear();
    CHECK(c.world.loop.buffers_lent == 0);
}

TEST_CASE("a peer that does not read stops an echo, and loses nothing when it does") {
    const LeakGuard guard;
    World world{uring()};
    auto ends = trapline::test::socket_pair(SOCK_NONBLOCK);
    connect_accepted_socket(std::make_unique<Echo>(), Socket{world.loop, ends.a.release()});
    std::string sent;
    const std::string chunk(10'000, 'x');
    for (int quiet = 0; quiet < 5;) {
        const ssize_t n = ::send(ends.b.get(), chunk.data(), chunk.size(), MSG_NOSIGNAL);
        quiet = n > 0 ? 0 : quiet + 1;
        sent.append(chunk, 0, n > 0 ? static_cast<std::size_t>(n) : 0);
        settle(world.loop);
    }
    std::string got;
    while (got.size() < sent.size()) {
        got += trapline::test::read_waiting(ends.b.get());
        settle(world.loop);
    }
    CHECK(got == sent);
}

TEST_CASE("a loop that goes takes its connections with it, in whatever state") {
    const LeakGuard guard;
    std::string order;
    std::vector<Descriptor> peers;
    {
        World world{uring()};
        Server server = echo_server(world.loop);
        peers.push_back(trapline::test::tcp_connect(server.local_address().port()));
        settle(world.loop);
        for (int state = 0; state < 4; ++state) {
            auto ends = trapline::test::socket_pair();
            peers.push_back(std::move(ends.b));
            auto protocol = std::make_unique<Notes>(order);
            protocol->keep_open = true;
            Transport& transport =
                connect_accepted_socket(std::move(protocol), Socket{world.loop, ends.a.release()});
            if (state > 0)
                settle(world.loop);
            if (state == 1)
                transport.pause_reading();
            if (state == 2)
                transport.write(Bytes::copy_of(std::vector<std::byte>(1 << 20)));
            if (state == 3)
                ::shutdown(peers.back().get(), SHUT_WR);
        }
        settle(world.loop);
    }
    CHECK(order.find("lost") == std::string::npos);
    for (const Descriptor& peer : peers)
        (void)trapline::test::read_all(peer.get()); // all are closed
}
