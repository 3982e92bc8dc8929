// Drivers without a loop: every trap is answered by hand, with Routine.
#pragma once

#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <tuple>
#include <vector>

#include <sys/socket.h>

#include <trapline/traps/routine.hpp>

#include "demo_tasks.hpp"

namespace demo {

using namespace trapline;

struct Outcome {
    std::uint64_t traps = 0;
    std::optional<std::uint64_t> system_calls;
};

/// One rocket at a time, in a time of our own that does not wait for anybody.
inline Outcome countdown_by_hand() {
    Outcome outcome;
    for (const auto& [name, count, delay] :
         {std::tuple("Ariane", 5, 0), std::tuple("Soyuz", 3, 2), std::tuple("Falcon", 4, 1)}) {
        TimePoint time{};
        Routine<Duration> routine{rocket(name, count, delay)};
        for (const Trap* trap = routine.start(); trap; trap = routine.send(Reply::time(time))) {
            if (const auto* sleep = std::get_if<traps::Sleep>(trap))
                time += sleep->duration;
            ++outcome.traps;
        }
        if (routine.result() != (count + delay) * tick)
            throw std::runtime_error("the countdown took another time than it should");
    }
    return outcome;
}

/// Answers a request by its plain system call; nothing if that would have to wait.
inline std::optional<Reply> try_now(const traps::IoRequest& request, std::size_t& done) {
    const auto reply = [](ssize_t result) { return Reply{result < 0 ? -errno : result}; };
    if (const auto* shutdown = std::get_if<traps::Shutdown>(&request))
        return reply(::shutdown(shutdown->fd, shutdown->how));
    ssize_t result = -1;
    std::size_t wanted = 1;
    if (const auto* recv = std::get_if<traps::Recv>(&request)) {
        result = ::recv(recv->fd, static_cast<char*>(recv->data) + done, recv->size - done,
                        MSG_DONTWAIT);
        wanted = recv->flags & MSG_WAITALL ? recv->size : 1;
    } else if (const auto* send = std::get_if<traps::Send>(&request)) {
        result = ::send(send->fd, static_cast<const char*>(send->data) + done, send->size - done,
                        MSG_DONTWAIT | MSG_NOSIGNAL);
        wanted = send->size;
    } else {
        return Reply{-ENOSYS};
    }
    if (result < 0)
        return errno == EAGAIN ? std::nullopt : std::optional(reply(-1));
    done += static_cast<std::size_t>(result);
    if (result > 0 && done < wanted)
        return std::nullopt;
    return Reply{static_cast<std::int64_t>(done)};
}

/// All ends in turn: whoever's request can be done goes on. They are pairs of Unix
/// sockets, which cost less than the TCP of the other drivers.
inline Outcome echo_by_hand() {
    struct End {
        explicit End(Coro<void> coro) : routine(std::move(coro)) {}
        Routine<void> routine;
        const Trap* trap = nullptr;
        std::size_t done = 0;
    };
    std::vector<std::unique_ptr<End>> ends;
    for (unsigned number = 0; number < clients; ++number) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
            throw std::system_error(errno, std::system_category(), "socketpair");
        ends.push_back(std::make_unique<End>(echo_end({Descriptor{pair[0]}, {}})));
        ends.push_back(std::make_unique<End>(client_end({Descriptor{pair[1]}, {}}, number)));
    }
    Outcome outcome{.system_calls = 0};
    for (const auto& end : ends)
        end->trap = end->routine.start();
    for (std::size_t running = ends.size(); running > 0;) {
        running = 0;
        for (const auto& end : ends) {
            if (!end->trap)
                continue;
            ++running;
            ++*outcome.system_calls;
            const auto* io = std::get_if<traps::Io>(end->trap);
            const auto reply = io ? try_now(io->request, end->done) : Reply{-ENOSYS};
            if (!reply)
                continue;
            ++outcome.traps;
            end->done = 0;
            end->trap = end->routine.send(*reply);
        }
    }
    for (const auto& end : ends)
        end->routine.result();
    return outcome;
}

} // namespace demo
