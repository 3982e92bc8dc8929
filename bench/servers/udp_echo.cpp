// A UDP echo server with Trapline, for the comparison with raw_udp.c: until SIGTERM or SIGINT, in
// batches of what has come.
//
//     server_udp_echo 127.0.0.1:25000 [--counters]
#include <array>
#include <cstdio>
#include <exception>
#include <memory>
#include <string_view>

#include <trapline/trapline.hpp>

using namespace trapline;

namespace {

constexpr std::size_t batch_max = 64;
constexpr std::size_t message_bytes_max = 2048;

struct Batch {
    std::array<std::array<std::byte, message_bytes_max>, batch_max> buffers;
    std::array<Datagram, batch_max> messages;
};

Coro<void> serve(UdpSocket& socket) {
    const auto batch = std::make_unique<Batch>();
    for (std::size_t i = 0; i < batch_max; ++i)
        batch->messages[i].data = batch->buffers[i];
    for (;;) {
        const std::size_t count = co_await socket.recv_many(batch->messages);
        co_await socket.send_many(std::span(batch->messages).first(count));
        for (std::size_t i = 0; i < count; ++i)
            batch->messages[i].data = batch->buffers[i];
    }
}

Coro<void> server(SocketAddress at) {
    SignalSet stop{SIGINT, SIGTERM};
    UdpSocket socket = co_await UdpSocket::bind(at);
    auto serving = co_await spawn(serve, std::ref(socket));
    co_await stop.next();
    co_await serving.cancel();
}

void print(const Kernel::Counters& counters) {
    std::printf("traps %llu, turns %llu, operations %llu, system calls %llu\n",
                static_cast<unsigned long long>(counters.traps),
                static_cast<unsigned long long>(counters.turns),
                static_cast<unsigned long long>(counters.engine.operations),
                static_cast<unsigned long long>(counters.engine.system_calls));
}

} // namespace

int main(int argc, char** argv) {
    try {
        Kernel kernel;
        kernel.run(server(SocketAddress::parse(argc > 1 ? argv[1] : "127.0.0.1:25000")));
        if (argc > 2 && std::string_view(argv[2]) == "--counters")
            print(kernel.counters());
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "server_udp_echo: %s\n", failure.what());
        return 1;
    }
}
