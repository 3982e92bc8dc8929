// A room to chat in: every line goes to everybody else. Whoever reads too slowly is shown out, and
// nobody waits for him.
//
//     sh examples/run.sh chat 127.0.0.1:25001     then, several times: nc 127.0.0.1 25001
#include <cstdio>
#include <set>
#include <string>

#include <trapline/trapline.hpp>

using namespace trapline;
using namespace std::chrono_literals;

constexpr std::size_t lines_waiting_max = 100; // for one member
constexpr std::size_t line_bytes_max = 1000;

struct Member {
    std::string name;
    Queue<std::string> lines{lines_waiting_max};
    Event too_slow;
};

class Room {
public:
    void enter(Member& member) {
        say(member.name + " has come", member);
        members_.insert(&member);
    }
    void leave(Member& member) {
        members_.erase(&member);
        say(member.name + " has gone", member);
    }
    void say(const std::string& line, const Member& by) {
        for (Member* member : members_) {
            if (member != &by && !member->lines.try_put(line + "\n"))
                member->too_slow.set();
        }
    }

private:
    std::set<Member*> members_;
};

Coro<void> listen_to(BufferedReader<TcpStream>& from, Member& member, Room& room) {
    while (auto line = co_await from.read_line({.bytes_max = line_bytes_max}))
        room.say(member.name + ": " + *line, member);
}

Coro<void> tell(TcpStream& to, Member& member) {
    while (auto line = co_await member.lines.next())
        co_await to.send_all(*line);
}

Coro<void> chat(TcpStream client, Room& room) {
    BufferedReader reader{client};
    co_await client.send_all("your name?\n");
    Member member;
    member.name =
        (co_await timeout_after(1min, reader.read_line({.bytes_max = 64}))).value_or("nobody");
    co_await with_resource(
        [&]() -> Coro<void> {
            room.enter(member);
            co_return;
        },
        [&] {
            // The first to end takes the others with him.
            return task_group(WaitFor::any, [&](TaskGroup& group) -> Coro<void> {
                co_await group.spawn(listen_to(reader, member, room));
                co_await group.spawn(tell(client, member));
                co_await group.spawn([&]() -> Coro<void> { co_await member.too_slow.wait(); });
            });
        },
        [&] { room.leave(member); });
}

Coro<void> server(SocketAddress at) {
    Room room;
    const auto announce = [](const SocketAddress& where) {
        std::printf("chat at %s, Ctrl-C ends it\n", where.to_string().c_str());
        std::fflush(stdout);
    };
    co_await tcp_server(at, [&](TcpStream client) { return chat(std::move(client), room); },
                        {.stop_limit = 1s, .on_listening = announce});
}

int main(int argc, char** argv) {
    try {
        const auto at = SocketAddress::parse(argc > 1 ? argv[1] : "127.0.0.1:25001");
        run(server(at), {.cancel_on = stop_signals});
    } catch (const TaskCancelled&) {
        std::puts("bye");
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "chat: %s\n", failure.what());
        return 1;
    }
}
