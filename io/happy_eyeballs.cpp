#include "happy_eyeballs.hpp"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <optional>
#include <string>
#include <utility>

#include "../traps/cancel.hpp"
#include "../traps/group.hpp"

namespace trapline {

namespace {

using State = ConnectAttempt::State;

/// How an attempt ended: by a stream, unless `error`.
struct Ended {
    std::size_t index;
    std::error_code error;
    TcpStream stream;
};

/// What the attempts have in common. They end before it does.
struct Race {
    std::vector<SocketAddress> addresses;
    std::string host;
    Duration stagger;
    ConnectOptions connect;
    ConnectReport report;
    TimePoint start;
    std::vector<std::error_code> errors;
    bool won = false;

    void tell(std::size_t index, State state, TimePoint now, std::error_code error = {}) const {
        if (report)
            report({addresses[index], state, now - start, error});
    }

    [[noreturn]] void raise_all_failed() const;
};

void Race::raise_all_failed() const {
    std::string text = "connect to ";
    if (!host.empty())
        text += host + (addresses.empty() ? "" : ": ");
    for (std::size_t i = 0; i + 1 < addresses.size(); ++i)
        text += addresses[i].to_string() + ": " + errors[i].message() + "; ";
    if (addresses.empty())
        throw std::system_error(std::make_error_code(std::errc::destination_address_required),
                                host.empty() ? text + "no address" : text);
    throw std::system_error(errors.back(), text + addresses.back().to_string());
}

/// One connection, made or not. Whoever finds that nobody has won has.
Coro<Ended> attempt(Race& race, std::size_t index) {
    race.tell(index, State::begun, co_await now());
    Ended ended{index, {}, {}};
    std::exception_ptr interrupt;
    try {
        ended.stream = co_await TcpStream::connect(race.addresses[index], race.connect);
    } catch (const std::system_error& e) {
        ended.error = e.code();
    } catch (const std::bad_alloc&) {
        ended.error = std::make_error_code(std::errc::not_enough_memory);
    } catch (const Cancelled&) {
        interrupt = std::current_exception();
    }
    const TimePoint end = co_await now();
    if (ended.error) {
        race.tell(index, State::failed, end, ended.error);
    } else if (interrupt || std::exchange(race.won, true)) {
        race.tell(index, State::given_up, end);
        ended.stream = TcpStream{};
        ended.error = std::make_error_code(std::errc::operation_canceled);
    } else {
        race.tell(index, State::connected, end);
    }
    if (interrupt)
        std::rethrow_exception(interrupt);
    co_return ended;
}

/// Begins the attempts, and answers the first that ends with a stream; nothing if all failed.
Coro<std::optional<TcpStream>> run_race(TaskGroup& group, Race& race) {
    const std::size_t count = race.addresses.size();
    std::size_t begun = 0;
    std::size_t failed = 0;
    while (failed < count) {
        std::optional<Ended> ended;
        if (begun < count && !race.won)
            co_await group.spawn(attempt(race, begun++));
        if (begun < count && !race.won)
            ended = co_await ignore_after(race.stagger, group.next_result<Ended>());
        else
            ended = co_await group.next_result<Ended>();
        if (!ended)
            continue; // it takes long: the next one
        if (ended->error) {
            race.errors[ended->index] = ended->error;
            ++failed;
            continue;
        }
        // The connection is there: an interrupt comes too late, and waits.
        co_await disable_cancellation(group.cancel_remaining());
        co_return std::move(ended->stream);
    }
    co_return std::nullopt;
}

Coro<TcpStream> connect_to_any(Race race) {
    race.addresses = interleave_families(race.addresses);
    race.errors.resize(race.addresses.size());
    race.start = co_await now();
    std::optional<TcpStream> stream =
        co_await task_group([&race](TaskGroup& group) { return run_race(group, race); });
    if (!stream)
        race.raise_all_failed();
    co_return std::move(*stream);
}

} // namespace

std::vector<SocketAddress> interleave_families(const std::vector<SocketAddress>& addresses) {
    std::vector<SocketAddress> order;
    order.reserve(addresses.size());
    // Each family, and the place from which on it has addresses left.
    using Family = std::pair<int, std::size_t>;
    std::vector<Family> families;
    for (const SocketAddress& address : addresses)
        if (std::ranges::find(families, address.family(), &Family::first) == families.end())
            families.emplace_back(address.family(), 0);
    while (order.size() < addresses.size()) {
        for (auto& [family, from] : families) {
            while (from < addresses.size() && addresses[from].family() != family)
                ++from;
            if (from < addresses.size())
                order.push_back(addresses[from++]);
        }
    }
    return order;
}

Coro<TcpStream> happy_eyeballs(std::vector<SocketAddress> addresses, HappyEyeballsOptions options,
                               ConnectReport report) {
    return connect_to_any({.addresses = std::move(addresses),
                           .host = std::string(options.host),
                           .stagger = options.stagger,
                           .connect = options.connect,
                           .report = std::move(report),
                           .start = {},
                           .errors = {}});
}

} // namespace trapline
