// Echo over AF_UNIX socket pairs within one process, with Trapline: for each pair a task that
// echoes and a task that sends a message and takes it back, again and again. No network and no
// second process disturb it. raw_unix_pairs.c does the same by hand, operation for operation.
//
//     server_unix_pairs [PAIRS] [ROUND_TRIPS] [--receive]
//
// With --receive the echo takes what comes in lent buffers.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string_view>
#include <vector>

#include <ctime>
#include <sys/socket.h>
#include <trapline/trapline.hpp>

using namespace trapline;

namespace {

constexpr std::size_t message_bytes = 64;
constexpr int warm_up_trips = 200;

std::array<std::byte, message_bytes> message_of(int pair) {
    std::array<std::byte, message_bytes> message;
    for (std::size_t i = 0; i < message.size(); ++i)
        message[i] = static_cast<std::byte>(static_cast<std::size_t>(pair) * 7 + i);
    return message;
}

Coro<void> echo(TcpStream client) {
    std::array<std::byte, 4096> buffer;
    while (std::size_t n = co_await client.recv(buffer))
        co_await client.send_all(std::span(buffer).first(n));
}

Coro<void> echo_lent(TcpStream client) {
    while (const BufferLease data = co_await client.receive())
        co_await client.send_all(data);
}

Coro<void> drive(TcpStream& server, int pair, int trips) {
    const auto message = message_of(pair);
    std::array<std::byte, message_bytes> answer;
    for (int trip = 0; trip < trips; ++trip) {
        co_await server.send_all(message);
        const std::size_t n = co_await server.recv_exactly(answer);
        if (n != message_bytes || std::memcmp(answer.data(), message.data(), n) != 0) {
            std::fprintf(stderr, "pair %d: a wrong answer\n", pair);
            std::exit(1);
        }
    }
}

Coro<void> drive_all(std::vector<TcpStream>& servers, int trips) {
    std::vector<Task<void>> drivers;
    for (std::size_t i = 0; i < servers.size(); ++i)
        drivers.push_back(co_await spawn(drive(servers[i], static_cast<int>(i), trips)));
    for (const auto& driver : drivers)
        co_await driver.join();
}

double cpu_ns() {
    timespec time{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

Coro<void> measure(const Kernel& kernel, int pairs, int trips, bool lent) {
    std::vector<TcpStream> servers;
    std::vector<Task<void>> echoes;
    for (int i = 0; i < pairs; ++i) {
        int ends[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
            throw std::system_error(errno, std::system_category(), "socketpair");
        servers.emplace_back(Descriptor{ends[0]}, SocketAddress{});
        TcpStream client{Descriptor{ends[1]}, SocketAddress{}};
        if (lent)
            echoes.push_back(co_await spawn(echo_lent(std::move(client))));
        else
            echoes.push_back(co_await spawn(echo(std::move(client))));
    }
    co_await drive_all(servers, warm_up_trips);
    const auto before = kernel.counters().engine;
    const double start = cpu_ns();
    co_await drive_all(servers, trips);
    const double requests = static_cast<double>(pairs) * trips;
    const double spent = (cpu_ns() - start) / requests;
    const auto after = kernel.counters().engine;
    std::printf("RESULT {\"cpu_ns\": %.1f, \"operations\": %.4f, \"system_calls\": %.5f}\n", spent,
                static_cast<double>(after.operations - before.operations) / requests,
                static_cast<double>(after.system_calls - before.system_calls) / requests);
    for (TcpStream& server : servers)
        co_await server.close();
    for (const auto& task : echoes)
        co_await task.join();
}

} // namespace

int main(int argc, char** argv) {
    const int pairs = argc > 1 ? std::atoi(argv[1]) : 64;
    const int trips = argc > 2 ? std::atoi(argv[2]) : 3000;
    try {
        Kernel kernel;
        const bool lent = argc > 3 && std::string_view(argv[3]) == "--receive";
        kernel.run(measure(kernel, pairs, trips, lent));
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "server_unix_pairs: %s\n", failure.what());
        return 1;
    }
}
