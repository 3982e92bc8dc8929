// An echo server whose day is recorded, and played again trap by trap: on another machine, without
// the network, under a debugger.
//
//     sh examples/run.sh replay 127.0.0.1:25000 --record today
//     sh examples/run.sh replay 127.0.0.1:25000 --play today
//     sh examples/run.sh replay 127.0.0.1:25000 --play today --until 120
//
// The last one ends before trap 120; under gdb it stops there. The address is needed again, for a
// program that is replayed must ask the same as then. Every program can do that by itself:
// TRAPLINE_RECORD=today, TRAPLINE_REPLAY=today and TRAPLINE_REPLAY_UNTIL=120.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include <trapline/trapline.hpp>

#include "echo.hpp"

using namespace trapline;

namespace {

/// Prints each trap with its number, and what came of it.
class Printer final : public Observer {
public:
    void trapped(const TaskRecord& task, const Trap& trap) noexcept override {
        const auto* io = std::get_if<traps::Io>(&trap);
        std::printf("%6llu  task %llu: %s\n", static_cast<unsigned long long>(++traps_),
                    static_cast<unsigned long long>(task.id),
                    io ? traps::name_of(io->request) : traps::name_of(trap));
    }
    void replied(const TaskRecord& task, const Reply& reply) noexcept override {
        if (reply.interrupt != Interrupt::none)
            std::printf("        task %llu is interrupted\n",
                        static_cast<unsigned long long>(task.id));
    }
    void terminated(const TaskRecord& task) noexcept override {
        std::printf("        task %llu has ended\n", static_cast<unsigned long long>(task.id));
    }

private:
    std::uint64_t traps_ = 0;
};

Coro<void> serve(SocketAddress at) {
    TcpListener listener = co_await TcpListener::bind(at);
    std::printf("echo at %s, Ctrl-C ends it\n", listener.local_address().to_string().c_str());
    std::fflush(stdout);
    for (;;)
        co_await spawn(echo(co_await listener.accept()));
}

} // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    KernelOptions options{.cancel_on = stop_signals};
    Printer printer;
    try {
        if (words.size() == 3 && words[1] == "--record") {
            options.record = words[2];
        } else if (words.size() >= 3 && words[1] == "--play") {
            options.replay = words[2];
            options.observer = &printer;
            if (words.size() == 5 && words[3] == "--until")
                options.replay_until = std::stoull(words[4]);
        } else {
            std::fputs("replay ADDRESS:PORT --record FILE\n"
                       "replay ADDRESS:PORT --play FILE [--until N]\n",
                       stderr);
            return 2;
        }
        run(serve(SocketAddress::parse(words[0])), options);
    } catch (const Cancelled&) {
        std::puts("bye");
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "replay: %s\n", failure.what());
        return 1;
    }
}
