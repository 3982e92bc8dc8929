// The same random programs on every engine: what their tasks saw must agree, word for word.
//
// A program is a few conversations at the same time, each among tasks of its own, over a pipe, a
// socket, a file, a queue, a thread or the clock; with short and whole transfers, vectored ones and
// lent buffers, datagrams, errors, time limits and cancellations. Whatever depends on how the data
// happens to be cut, or on who is faster, is not written down, but what it adds up to is: so
// nothing that is written down may differ, and no difference between engines is excused.
//
// There are 1,000 of them, fewer with a sanitizer, each on three engines: the first, the last and
// one of those between. TRAPLINE_PROGRAMS=<n>, which is for all random tests, runs a hundredth of
// n, ten at least: a program takes as long here as a hundred elsewhere. A failure names its seed;
// TRAPLINE_SEED=<seed> runs that one.
#include "conformance.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <string>

#include <poll.h>
#include <sys/stat.h>

#include <trapline/traps/sanitizers.hpp>

using namespace trapline;
using namespace trapline::test;

namespace {

using Seed = std::uint64_t;
using Log = std::string;

/// Draws alike on every engine: each task has its own.
class Dice {
public:
    explicit Dice(Seed seed) : engine_(seed) {}
    std::size_t below(std::size_t n) { return engine_() % n; }
    bool one_in(std::size_t n) { return below(n) == 0; }
    Seed seed() { return engine_(); }

private:
    std::mt19937_64 engine_;
};

std::string bytes_for(Seed seed, std::size_t size) {
    std::string bytes(size, '\0');
    for (std::size_t i = 0; i < size; ++i)
        bytes[i] = static_cast<char>((seed + i * 131) >> (i % 7));
    return bytes;
}

std::string sum_of(std::string_view bytes) {
    std::uint64_t sum = 14695981039346656037U; // FNV-1a
    for (const char byte : bytes)
        sum = (sum ^ static_cast<unsigned char>(byte)) * 1099511628211U;
    return std::to_string(bytes.size()) + " bytes " + std::to_string(sum);
}

template <class T>
std::string told(const std::expected<T, std::error_code>& answer) {
    if (!answer)
        return std::generic_category().message(answer.error().value());
    if constexpr (std::is_void_v<T>)
        return "done";
    else
        return std::to_string(*answer);
}

void note(Log& log, const std::string& what, const std::string& result) {
    log += "    " + what + ": " + result + "\n";
}

std::string in_pipe(int fd, std::size_t size) {
    std::string text(size, '\0');
    text.resize(static_cast<std::size_t>(must(::read(fd, text.data(), size), "read")));
    return text;
}

iovec piece(std::string_view text) { return {const_cast<char*>(text.data()), text.size()}; }

// --- streams -------------------------------------------------------------------------------

/// Sends all of `text` in pieces, by whatever way comes. `socket`: or else a pipe.
Coro<void> send_in_pieces(int fd, bool socket, std::string text, Dice dice, Log& log) {
    std::size_t sent = 0;
    while (sent < text.size()) {
        const std::string_view rest = std::string_view(text).substr(sent);
        const std::string_view next = rest.substr(0, 1 + dice.below(20'000));
        const auto data = std::as_bytes(std::span(next));
        std::expected<std::size_t, std::error_code> answer;
        switch (socket ? dice.below(4) : 3) {
        case 0: answer = co_await traps::send(fd, data); break;
        case 1:
            answer = co_await traps::send(fd, data, MSG_WAITALL);
            if (answer && *answer != next.size())
                note(log, "whole send", std::to_string(*answer));
            break;
        case 2: {
            std::array<iovec, 2> parts{piece(next.substr(0, next.size() / 2)),
                                       piece(next.substr(next.size() / 2))};
            msghdr message{};
            message.msg_iov = parts.data();
            message.msg_iovlen = parts.size();
            answer = co_await traps::send_message(fd, message, dice.one_in(2) ? MSG_WAITALL : 0);
            break;
        }
        default: answer = co_await traps::write(fd, data); break;
        }
        if (!answer) {
            note(log, "send", told(answer));
            co_return;
        }
        sent += *answer;
        if (dice.one_in(4))
            co_await yield_now();
        if (dice.one_in(3))
            (void)co_await traps::write_wait(fd);
    }
    note(log, "sent", std::to_string(sent));
}

/// Receives up to the end, by whatever way comes.
Coro<void> receive_all(int fd, bool socket, std::size_t expected, Dice dice, Log& log) {
    std::string got;
    for (bool end = false; !end;) {
        std::string buffer(1 + dice.below(20'000), '\0');
        std::expected<std::size_t, std::error_code> answer;
        switch (socket ? dice.below(5) : 4) {
        case 0: answer = co_await traps::recv(fd, bytes_of(buffer)); break;
        case 1: {
            answer = co_await traps::recv(fd, bytes_of(buffer), MSG_WAITALL);
            const std::size_t whole = std::min(buffer.size(), expected - got.size());
            if (answer && *answer != whole)
                note(log, "whole recv of " + std::to_string(whole), std::to_string(*answer));
            break;
        }
        case 2: {
            auto lent = co_await traps::receive(fd);
            if (!lent) {
                answer = std::unexpected(lent.error());
                break;
            }
            buffer.assign(reinterpret_cast<const char*>(lent->data()), lent->size());
            answer = lent->size();
            break;
        }
        case 3: {
            std::array<iovec, 2> parts{
                iovec{buffer.data(), buffer.size() / 2},
                iovec{buffer.data() + buffer.size() / 2, buffer.size() - buffer.size() / 2}};
            msghdr message{};
            message.msg_iov = parts.data();
            message.msg_iovlen = parts.size();
            answer = co_await traps::recv_message(fd, message);
            break;
        }
        default: answer = co_await traps::read(fd, bytes_of(buffer)); break;
        }
        if (!answer) {
            note(log, "recv", told(answer));
            co_return;
        }
        end = *answer == 0;
        got.append(buffer, 0, *answer);
        if (!end && dice.one_in(3)) {
            const auto seen = co_await traps::read_wait(fd);
            if (!seen || !(*seen & (POLLIN | POLLHUP)))
                note(log, "readable", seen ? std::to_string(*seen) : told(seen));
        }
    }
    note(log, "received", sum_of(got));
}

Coro<void> stream(Seed seed, Log& log) {
    Dice dice{seed};
    const bool socket = !dice.one_in(3);
    const int flags = dice.one_in(2) ? SOCK_NONBLOCK : 0;
    Ends ends;
    if (!socket)
        ends = pipe_ends(flags ? O_NONBLOCK : 0);
    else if (dice.one_in(2))
        ends = tcp_pair();
    else
        ends = socket_pair(flags);
    if (socket && dice.one_in(2))
        shrink_send_buffer(ends.b.get());
    const std::string text = bytes_for(dice.seed(), dice.below(200'000));
    std::array<Log, 2> logs;
    Task<> sends =
        co_await spawn(send_in_pieces(ends.b.get(), socket, text, Dice{dice.seed()}, logs[0]));
    Task<> receives =
        co_await spawn(receive_all(ends.a.get(), socket, text.size(), Dice{dice.seed()}, logs[1]));
    co_await sends.join();
    if (socket && dice.one_in(2))
        note(logs[0], "shutdown", told(co_await traps::shutdown(ends.b.get(), SHUT_WR)));
    else
        note(logs[0], "close", told(co_await traps::close(ends.b.release())));
    co_await receives.join();
    log += logs[0] + logs[1];
    note(log, "expected", sum_of(text));
}

// --- datagrams -----------------------------------------------------------------------------

Coro<void> datagrams(Seed seed, Log& log) {
    Dice dice{seed};
    int fds[2];
    const int type = dice.one_in(2) ? SOCK_SEQPACKET : SOCK_DGRAM;
    must(::socketpair(AF_UNIX, type | SOCK_CLOEXEC | (dice.one_in(2) ? SOCK_NONBLOCK : 0), 0, fds),
         "socketpair");
    const Descriptor a{fds[0]};
    const Descriptor b{fds[1]};
    const std::size_t count = 1 + dice.below(30);
    const std::size_t least = type == SOCK_SEQPACKET ? 1 : 0; // or it would look like the end
    Task<> sends = co_await spawn(
        [](int fd, std::size_t messages, std::size_t bytes_min, Dice own) -> Coro<void> {
            for (std::size_t i = 0; i < messages; ++i) {
                const std::string text = bytes_for(own.seed(), bytes_min + own.below(3000));
                iovec part = piece(text);
                msghdr message{};
                message.msg_iov = &part;
                message.msg_iovlen = 1;
                (void)co_await traps::send_message(fd, message);
            }
        },
        a.get(), count, least, Dice{dice.seed()});
    for (std::size_t i = 0; i < count; ++i) {
        std::string buffer(1 + dice.below(4000), '\0');
        iovec part{buffer.data(), buffer.size()};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        const auto got = co_await traps::recv_message(b.get(), message);
        note(log, "datagram", got ? sum_of(std::string_view(buffer).substr(0, *got)) : told(got));
        if (message.msg_flags & MSG_TRUNC)
            note(log, "datagram", "cut");
    }
    co_await sends.join();
}

/// A datagram with MSG_WAITALL, and bytes that come in parts, some with a descriptor.
Coro<void> whole_messages(Seed seed, Log& log) {
    Dice dice{seed};
    int fds[2];
    const int types[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};
    const int type = types[dice.below(3)];
    must(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), "socketpair");
    const Descriptor a{fds[0]};
    const Descriptor b{fds[1]};
    const bool room = dice.one_in(2);
    const int given = STDIN_FILENO;
    const std::size_t count = 1 + dice.below(4);
    for (std::size_t i = 0; i < count; ++i) {
        std::string text = bytes_for(dice.seed(), 1 + dice.below(50));
        iovec part = piece(text);
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))]{};
        if (room && dice.one_in(2)) {
            message.msg_control = control;
            message.msg_controllen = sizeof control;
            *CMSG_FIRSTHDR(&message) = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
            std::ranges::copy(std::as_bytes(std::span(&given, 1)),
                              reinterpret_cast<std::byte*>(CMSG_DATA(CMSG_FIRSTHDR(&message))));
        }
        must(::sendmsg(a.get(), &message, 0), "sendmsg");
    }
    for (std::size_t i = 0; i < count; ++i) {
        std::string buffer(1 + dice.below(100), '\0');
        iovec part{buffer.data(), buffer.size()};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        alignas(cmsghdr) char control[256]{};
        if (room) {
            message.msg_control = control;
            message.msg_controllen = sizeof control;
        }
        const auto got =
            co_await ignore_after(500us, traps::recv_message(b.get(), message, MSG_WAITALL));
        note(log, "message",
             !got   ? "late"
             : *got ? sum_of(std::string_view(buffer).substr(0, **got))
                    : told(*got));
        for (cmsghdr* at = CMSG_FIRSTHDR(&message); got && at; at = CMSG_NXTHDR(&message, at)) {
            note(log, "came with it", std::to_string(at->cmsg_len - CMSG_LEN(0)));
            for (std::size_t byte = CMSG_LEN(0); byte < at->cmsg_len; byte += sizeof(int))
                ::close(*reinterpret_cast<int*>(reinterpret_cast<char*>(at) + byte));
        }
        if (!got)
            break; // how far it came is written elsewhere
    }
}

// --- files ---------------------------------------------------------------------------------

Coro<void> files(Seed seed, Log& log) {
    Dice dice{seed};
    const std::string path =
        std::filesystem::temp_directory_path() /
        ("differential." + std::to_string(::getpid()) + "." + std::to_string(seed));
    const auto opened =
        co_await traps::open_at(AT_FDCWD, path.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
    if (!opened) {
        note(log, "open", told(opened));
        co_return;
    }
    const Descriptor file{*opened};
    for (std::size_t steps = 3 + dice.below(12); steps > 0; --steps) {
        const std::size_t size = dice.below(30'000);
        const auto offset = static_cast<std::int64_t>(dice.below(50'000));
        std::string buffer = bytes_for(dice.seed(), size);
        switch (dice.below(8)) {
        case 0:
        case 1:
            note(log, "write at " + std::to_string(offset),
                 told(co_await traps::write(file.get(), bytes_of(buffer), offset)));
            break;
        case 2:
            note(log, "write", told(co_await traps::write(file.get(), bytes_of(buffer))));
            break;
        case 3: {
            const auto got = co_await traps::read(file.get(), bytes_of(buffer), offset);
            note(log, "read at " + std::to_string(offset),
                 got ? sum_of(std::string_view(buffer).substr(0, *got)) : told(got));
            break;
        }
        case 4: {
            const auto got = co_await traps::read(file.get(), bytes_of(buffer));
            note(log, "read", got ? sum_of(std::string_view(buffer).substr(0, *got)) : told(got));
            break;
        }
        case 5: {
            struct ::statx status{};
            const auto asked =
                co_await traps::stat_at(AT_FDCWD, path.c_str(), 0, STATX_SIZE, status);
            note(log, "size", asked ? std::to_string(status.stx_size) : told(asked));
            break;
        }
        case 6: {
            const Ends pipe = pipe_ends();
            const auto moved = co_await traps::splice(file.get(), pipe.b.get(),
                                                      std::min<std::size_t>(size, 4096), offset);
            note(log, "splice", moved ? sum_of(in_pipe(pipe.a.get(), *moved)) : told(moved));
            break;
        }
        default: note(log, "fsync", told(co_await traps::fsync(file.get(), dice.one_in(2)))); break;
        }
    }
    ::unlink(path.c_str());
    note(log, "gone", told(co_await traps::open_at(AT_FDCWD, path.c_str(), O_RDONLY)));
    note(log, "a directory", told(co_await traps::open_at(AT_FDCWD, "/", O_WRONLY)));
}

// --- what goes wrong -----------------------------------------------------------------------

Coro<void> errors(Seed seed, Log& log) {
    Dice dice{seed};
    std::string buffer(100, 'x');
    switch (dice.below(10)) {
    case 0:
        note(log, "recv of none", told(co_await traps::recv(-1, bytes_of(buffer))));
        note(log, "close of none", told(co_await traps::close(1 << 29)));
        note(log, "poll of none", told(co_await traps::read_wait(1 << 29)));
        break;
    case 1: {
        Ends ends = dice.one_in(2) ? socket_pair() : tcp_pair();
        ends.b = Descriptor{};
        (void)co_await traps::read_wait(ends.a.get());
        note(log, "recv after the end", told(co_await traps::recv(ends.a.get(), bytes_of(buffer))));
        break;
    }
    case 2: {
        Ends ends = socket_pair();
        ends.b = Descriptor{};
        note(log, "send to nobody", told(co_await traps::send(ends.a.get(), bytes_of(buffer))));
        note(log, "write to nobody", told(co_await traps::write(ends.a.get(), bytes_of(buffer))));
        break;
    }
    case 3: {
        Ends ends = tcp_pair();
        reset(std::move(ends.b));
        (void)co_await traps::read_wait(ends.a.get());
        note(log, "recv after a reset", told(co_await traps::recv(ends.a.get(), bytes_of(buffer))));
        note(log, "recv after that", told(co_await traps::recv(ends.a.get(), bytes_of(buffer))));
        break;
    }
    case 4: {
        Descriptor gone = tcp_listener();
        const sockaddr_in address = loopback(port_of(gone.get()));
        gone = Descriptor{};
        const Descriptor socket{must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")};
        note(log, "connect",
             told(co_await traps::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address),
                                          sizeof address)));
        break;
    }
    case 5: { // two on one side
        const Ends ends = socket_pair();
        Log first;
        Task<> waits = co_await spawn(
            [](int fd, Log& own) -> Coro<void> {
                note(own, "first", told(co_await traps::read_wait(fd)));
            },
            ends.a.get(), std::ref(first));
        co_await yield_now();
        note(log, "second", told(co_await traps::recv(ends.a.get(), bytes_of(buffer))));
        must(::write(ends.b.get(), "x", 1), "write");
        co_await waits.join();
        log += first;
        break;
    }
    case 8: { // nobody is accepted here
        const Descriptor socket{
            must(::socket(AF_INET, (dice.one_in(2) ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0),
                 "socket")};
        const Ends pipe = pipe_ends();
        note(log, "accept", told(co_await traps::accept(socket.get())));
        note(log, "accept from a pipe", told(co_await traps::accept(pipe.a.get())));
        break;
    }
    case 9: { // what polls see
        Ends ends = dice.one_in(2) ? socket_pair() : tcp_pair();
        if (dice.one_in(2))
            must(::shutdown(ends.b.get(), SHUT_WR), "shutdown");
        else
            ends.b = Descriptor{};
        note(log, "readable", told(co_await traps::read_wait(ends.a.get())));
        note(log, "writable", told(co_await traps::write_wait(ends.a.get())));
        break;
    }
    case 6: { // closed under somebody's feet
        Ends ends = dice.one_in(2) ? socket_pair() : pipe_ends();
        Log first;
        Task<> waits = co_await spawn(
            [](int fd, Log& own) -> Coro<void> {
                std::string room(10, '\0');
                note(own, "read", told(co_await traps::read(fd, bytes_of(room))));
            },
            ends.a.get(), std::ref(first));
        co_await let_others_run();
        note(log, "close", told(co_await traps::close(ends.a.release())));
        co_await waits.join();
        log += first;
        break;
    }
    default: {
        const Descriptor file{must(::open("/dev/null", O_WRONLY | O_CLOEXEC), "open")};
        note(log, "read of what is written",
             told(co_await traps::read(file.get(), bytes_of(buffer))));
        note(log, "recv of a file", told(co_await traps::recv(file.get(), bytes_of(buffer))));
        note(log, "write", told(co_await traps::write(file.get(), bytes_of(buffer))));
        break;
    }
    }
}

// --- interrupts ----------------------------------------------------------------------------

/// Waits for what never comes; notes how far it got.
Coro<void> wait_in_vain(int way, int fd, int listener, Log& log) {
    std::string buffer(1000, '\0');
    Event never;
    std::size_t progress = 0;
    std::string how = "no interrupt";
    try {
        switch (way) {
        case 0: (void)co_await traps::recv(fd, bytes_of(buffer), MSG_WAITALL); break;
        case 1: (void)co_await traps::accept(listener); break;
        case 2: (void)co_await traps::read_wait(listener); break;
        case 3: co_await sleep(1h); break;
        case 4: co_await never.wait(); break;
        default: (void)co_await traps::receive(listener); break;
        }
    } catch (const TaskCancelled& c) {
        how = "cancelled";
        progress = c.progress();
    } catch (const TimeoutCancellation& c) {
        how = "out of time, inside";
        progress = c.progress();
    } catch (const Cancelled& c) {
        how = "out of time";
        progress = c.progress();
    }
    note(log, "waited in vain", how + " after " + std::to_string(progress) + " bytes");
    if (way == 0)
        note(log, "got", sum_of(std::string_view(buffer).substr(0, progress)));
}

Coro<void> interrupts(Seed seed, Log& log) {
    Dice dice{seed};
    const Ends ends = dice.one_in(2) ? socket_pair() : tcp_pair();
    const auto way = static_cast<int>(dice.below(6));
    const Descriptor listener = way == 5 ? Descriptor{} : tcp_listener();
    const Ends silent = socket_pair();
    const int waited = way == 5 ? silent.a.get() : listener.get();
    const std::string text = bytes_for(dice.seed(), dice.below(500));
    must(::write(ends.b.get(), text.data(), text.size()), "write");
    // Or the bytes might still be on their way.
    if (!text.empty())
        (void)co_await traps::read_wait(ends.a.get());
    Log own;
    if (dice.one_in(2)) {
        Task<> waits = co_await spawn(wait_in_vain(way, ends.a.get(), waited, own));
        co_await sleep(500us);
        note(log, "cancelled", (co_await waits.cancel()) ? "it" : "too late");
    } else {
        const Duration limit = dice.one_in(4) ? 0ns : Duration{500us};
        const bool done =
            co_await ignore_after(limit, wait_in_vain(way, ends.a.get(), waited, own));
        note(log, "in time", done ? "yes" : "no");
    }
    log += own;
}

// --- without I/O ---------------------------------------------------------------------------

/// Answers who woke, in order; nothing if somebody came too late to sleep.
Coro<std::string> wake_in_order(std::vector<Duration> times) {
    struct Seen {
        std::string order;
        bool late = false;
    } seen;
    std::vector<Task<>> tasks;
    const TimePoint start = co_await now();
    for (std::size_t i = 0; i < times.size(); ++i) {
        tasks.push_back(co_await spawn(
            [](TimePoint at, std::size_t who, Seen& all) -> Coro<void> {
                const TimePoint before = co_await now();
                all.late = all.late || before >= at;
                co_await sleep_until(at);
                all.order += std::to_string(who) + " ";
            },
            start + times[i], i, std::ref(seen)));
    }
    for (Task<>& task : tasks)
        co_await task.join();
    co_return seen.late ? "" : seen.order;
}

Coro<void> timers(Seed seed, Log& log) {
    Dice dice{seed};
    std::vector<Duration> times(20);
    for (Duration& time : times) // some at the same time
        time = Duration{static_cast<Duration::rep>(dice.below(8)) * 50'000};
    std::string order;
    for (const Duration lead : leads) {
        std::vector<Duration> from_now = times;
        for (Duration& time : from_now)
            time += lead;
        order = co_await wake_in_order(std::move(from_now));
        if (!order.empty())
            break;
    }
    note(log, "woke", order);
}

Coro<void> queues(Seed seed, Log& log) {
    Dice dice{seed};
    Queue<std::size_t> queue{1 + dice.below(5)};
    const std::size_t count = dice.below(200);
    Task<> puts = co_await spawn(
        [](Queue<std::size_t>& to, std::size_t items, Dice own) -> Coro<void> {
            for (std::size_t i = 0; i < items; ++i)
                co_await to.put(own.below(1000));
            to.close();
        },
        std::ref(queue), count, Dice{dice.seed()});
    std::string got;
    while (auto item = co_await queue.next())
        got += std::to_string(*item) + " ";
    co_await puts.join();
    note(log, "queue", sum_of(got));
}

Coro<void> threads(Seed seed, Log& log) {
    const auto sum = co_await run_in_thread([seed] { return sum_of(bytes_for(seed, 1000)); });
    note(log, "thread", sum);
    try {
        co_await run_in_thread([] { throw std::runtime_error("thrown there"); });
    } catch (const std::runtime_error& failure) {
        note(log, "thread", failure.what());
    }
}

Coro<void> clients(Seed seed, Log& log) {
    Dice dice{seed};
    const Descriptor listener = tcp_listener();
    const sockaddr_in address = loopback(port_of(listener.get()));
    const std::size_t count = 1 + dice.below(10);
    std::vector<Log> logs(count);
    std::vector<Task<>> tasks;
    for (std::size_t i = 0; i < count; ++i) {
        tasks.push_back(co_await spawn(
            [](sockaddr_in to, std::size_t who, Log& own) -> Coro<void> {
                const auto made = co_await traps::socket(AF_INET, SOCK_STREAM);
                const Descriptor socket{made.value()};
                note(own, "connect",
                     told(co_await traps::connect(
                         socket.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to)));
                std::string text = bytes_for(who, 1000);
                note(own, "send",
                     told(co_await traps::send(socket.get(), bytes_of(text), MSG_WAITALL)));
                std::string back(1000, '\0');
                note(own, "recv",
                     told(co_await traps::recv(socket.get(), bytes_of(back), MSG_WAITALL)));
                note(own, "echo", back == text ? "the same" : "another");
            },
            address, i, std::ref(logs[i])));
    }
    for (std::size_t i = 0; i < count; ++i) {
        const auto accepted = co_await traps::accept(listener.get());
        if (!accepted) {
            note(log, "accept", told(accepted));
            continue;
        }
        tasks.push_back(co_await spawn(
            [](int fd) -> Coro<void> {
                const Descriptor socket{fd};
                std::string text(1000, '\0');
                (void)co_await traps::recv(fd, bytes_of(text), MSG_WAITALL);
                (void)co_await traps::send(fd, bytes_of(text), MSG_WAITALL);
            },
            *accepted));
    }
    for (Task<>& task : tasks)
        co_await task.join();
    for (const Log& own : logs)
        log += own;
}

// --- programs ------------------------------------------------------------------------------

struct Kind {
    const char* name;
    Coro<void> (*run)(Seed, Log&);
};

constexpr Kind kinds[] = {
    {"stream", &stream},   {"datagrams", &datagrams},
    {"files", &files},     {"whole messages", &whole_messages},
    {"errors", &errors},   {"interrupts", &interrupts},
    {"timers", &timers},   {"queues", &queues},
    {"threads", &threads}, {"clients", &clients},
};

Coro<Log> program(Seed seed) {
    Dice dice{seed};
    std::vector<Log> logs(1 + dice.below(6));
    std::vector<Task<>> tasks;
    for (Log& log : logs) {
        const Kind& kind = kinds[dice.below(std::size(kinds))];
        log = std::string(kind.name) + "\n";
        tasks.push_back(co_await spawn(kind.run(dice.seed(), log)));
    }
    for (Task<>& task : tasks)
        co_await task.join();
    co_return std::accumulate(logs.begin(), logs.end(), Log{});
}

Log seen_on(const EngineChoice& engine, Seed seed) {
    Kernel kernel{engine.options};
    Log log = kernel.run(program(seed));
    kernel.shutdown();
    return log;
}

std::string first_difference(const Log& a, const Log& b) {
    std::istringstream as{a};
    std::istringstream bs{b};
    std::string conversation;
    for (std::string one, other; one == other;) {
        conversation = one.starts_with(' ') || one.empty() ? conversation : one;
        const bool more = static_cast<bool>(std::getline(as, one));
        if (more != static_cast<bool>(std::getline(bs, other)))
            return conversation + ": one is longer";
        if (!more)
            return "";
        if (one != other)
            return conversation + ":" + one + " and " + other;
    }
    return "";
}

std::size_t program_count() {
    const char* count = std::getenv("TRAPLINE_PROGRAMS");
    if (count)
        return std::max<std::size_t>(std::strtoull(count, nullptr, 10) / 100, 10);
    return TRAPLINE_ADDRESS_SANITIZER || TRAPLINE_THREAD_SANITIZER ? 100 : 1000;
}

} // namespace

TEST_CASE("random programs see the same on every engine") {
    REQUIRE_MESSAGE(engines().size() > 1, "engines() begins with one that the others are like");
    const LeakGuard guard;
    const char* chosen = std::getenv("TRAPLINE_SEED");
    const Seed first =
        chosen ? std::strtoull(chosen, nullptr, 10) : std::random_device{}() * 1'000'000ULL;
    const std::size_t count = chosen ? 1 : program_count();
    MESSAGE(count << " programs from seed " << first << " on");
    for (Seed seed = first; seed < first + count; ++seed) {
        const EngineChoice& reference = engines().front();
        const Log expected = seen_on(reference, seed);
        // Each with the last one, which is another kernel altogether, and one of the others.
        for (const std::size_t other :
             {engines().size() - 1, 1 + static_cast<std::size_t>(seed % (engines().size() - 1))}) {
            INFO("TRAPLINE_SEED=" << seed << ": " << reference.name << " and "
                                  << engines()[other].name);
            REQUIRE(first_difference(expected, seen_on(engines()[other], seed)) == "");
        }
    }
}
