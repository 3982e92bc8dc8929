#include <trapline/traps/channel.hpp>

#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/kernel/kernel.hpp>
#include <trapline/traps/cancel.hpp>
#include <trapline/traps/routine.hpp>

#include "../support/process.hpp"
#include "../support/virtual_time.hpp"
#include "counted_new.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

using Numbers = std::vector<int>;

/// Runs `main`, a callable that returns a coroutine, in virtual time; nothing may be left.
template <class Main>
void play(Main main) {
    Kernel kernel{test::virtual_time()};
    kernel.run(std::move(main));
    CHECK(kernel.task_count() == 0);
}

Coro<bool> send_to(Channel<int>& channel, int item) { co_return co_await channel.send(item); }

Coro<std::optional<int>> receive_from(Channel<int>& channel) {
    co_return co_await channel.receive();
}

Coro<void> let_them_wait() {
    co_await yield_now();
    co_await yield_now();
}

} // namespace

TEST_CASE("channel.hpp: the example in the header") {
    std::string result;
    play([&]() -> Coro<void> {
        Channel<std::string> words; // a rendezvous: send waits until somebody receives
        auto say = [](Channel<std::string>& to) -> Coro<void> {
            for (const char* word : {"to", "be"})
                co_await to.send(word);
            to.close();
        };
        auto speaker = co_await spawn(say(words));
        std::string heard;
        while (std::optional<std::string> word = co_await words.receive())
            heard += *word;
        co_await speaker.join();
        result = heard;
    });
    CHECK(result == "tobe");
}

TEST_CASE("a rendezvous holds nothing: a send waits for its receiver, whoever comes first") {
    play([]() -> Coro<void> {
        Channel<int> channel;
        CHECK(channel.capacity() == 0);
        CHECK_FALSE(channel.try_send(1));
        CHECK_FALSE(channel.try_receive());

        auto first = co_await spawn(send_to(channel, 1));
        auto second = co_await spawn(send_to(channel, 2));
        co_await let_them_wait();
        CHECK(channel.size() == 0);
        CHECK_FALSE(channel.try_send(3)); // another sender is no receiver
        CHECK(channel.try_receive() == 1);
        const std::optional<int> received = co_await channel.receive();
        CHECK(received == 2);
        const bool first_sent = co_await first.join();
        const bool second_sent = co_await second.join();
        CHECK(first_sent);
        CHECK(second_sent);

        auto receiver = co_await spawn(receive_from(channel));
        co_await let_them_wait();
        CHECK(channel.try_send(3));
        CHECK_FALSE(channel.try_send(4)); // its hands are full
        const std::optional<int> third = co_await receiver.join();
        CHECK(third == 3);
    });
}

TEST_CASE(
    "a channel with a capacity holds so many, in order, and hands room to the first in line") {
    play([]() -> Coro<void> {
        Channel<int> channel{2};
        co_await channel.send(1);
        co_await channel.send(2);
        CHECK(channel.size() == 2);
        auto sender = co_await spawn(send_to(channel, 3));
        co_await let_them_wait();
        CHECK(channel.try_receive() == 1);
        CHECK(channel.size() == 2);
        CHECK_FALSE(channel.try_send(9));
        CHECK(channel.try_receive() == 2);
        CHECK(channel.try_receive() == 3);
        CHECK_FALSE(channel.try_receive());
        co_await sender.join();
    });
}

TEST_CASE("closing wakes both sides; what was sent before can be received") {
    play([]() -> Coro<void> {
        Channel<int> channel{1};
        co_await channel.send(1);
        auto sender = co_await spawn(send_to(channel, 2));
        co_await let_them_wait();
        channel.close();
        channel.close();
        CHECK(channel.closed());
        const bool sent = co_await sender.join();
        CHECK_FALSE(sent);
        const bool sent_later = co_await channel.send(3);
        CHECK_FALSE(sent_later);
        CHECK_FALSE(channel.try_send(4));
        const std::optional<int> left = co_await channel.receive();
        CHECK(left == 1);
        const std::optional<int> none = co_await channel.receive();
        CHECK_FALSE(none);

        Channel<int> rendezvous;
        auto receiver = co_await spawn(receive_from(rendezvous));
        auto other = co_await spawn(receive_from(rendezvous));
        co_await let_them_wait();
        rendezvous.close();
        const std::optional<int> nothing = co_await receiver.join();
        CHECK_FALSE(nothing);
        co_await other.join();
    });
}

TEST_CASE(
    "an interrupted send was not sent, an interrupted receive took nothing, in either order") {
    play([]() -> Coro<void> {
        Channel<int> channel;
        auto early = co_await spawn(send_to(channel, 1));
        auto late = co_await spawn(send_to(channel, 2));
        co_await let_them_wait();
        (void)co_await traps::Cancel{early.record()};
        CHECK(channel.try_receive() == 2);
        (void)co_await traps::Cancel{late.record()};
        co_await early.wait();
        co_await late.wait();
        CHECK(early.cancelled());
        CHECK_FALSE(late.cancelled());

        auto first = co_await spawn(receive_from(channel));
        auto second = co_await spawn(receive_from(channel));
        co_await let_them_wait();
        (void)co_await traps::Cancel{first.record()};
        CHECK(channel.try_send(3));
        (void)co_await traps::Cancel{second.record()};
        CHECK_FALSE(channel.try_send(4));
        co_await first.wait();
        CHECK(first.cancelled());
        const std::optional<int> received = co_await second.join();
        CHECK(received == 3);

        const auto in_time = co_await ignore_after(1s, channel.receive());
        CHECK_FALSE(in_time);
        const auto sent = co_await ignore_after(1s, channel.send(5));
        CHECK_FALSE(sent);
        CHECK_FALSE(channel.try_receive());
    });
}

TEST_CASE("time limits end waiting on either side, and the channel is as before") {
    play([]() -> Coro<void> {
        Channel<int> channel;
        const std::optional<bool> sent = co_await ignore_after(1s, channel.send(1));
        CHECK_FALSE(sent);
        CHECK_FALSE(channel.try_receive());
        const auto received = co_await ignore_after(1s, channel.receive());
        CHECK_FALSE(received);
        CHECK_FALSE(channel.try_send(2));
    });
}

TEST_CASE("items need not be copyable, and one that cannot be sent is left alone") {
    Channel<std::unique_ptr<int>> channel{1};
    auto item = std::make_unique<int>(1);
    CHECK(channel.try_send(std::make_unique<int>(0)));
    CHECK_FALSE(channel.try_send(std::move(item)));
    CHECK(item != nullptr);
    channel.close();
    CHECK_FALSE(channel.try_send(std::move(item)));
    CHECK(item != nullptr);
    CHECK(**channel.try_receive() == 0);
}

TEST_CASE("what need not wait does not trap") {
    Channel<int> channel{1};
    const auto body = [](Channel<int>& c) -> Coro<int> {
        const bool sent = co_await c.send(1);
        const std::optional<int> received = co_await c.receive();
        c.close();
        const bool sent_again = co_await c.send(2);
        co_return sent && !sent_again ? received.value() : 0;
    };
    Routine<int> routine{body(channel)};
    CHECK(routine.start() == nullptr);
    CHECK(routine.result() == 1);
}

TEST_CASE("a channel that cannot grow says so, and the item stays with its owner" *
          doctest::skip(!detail::frames_recycled)) {
    Channel<std::unique_ptr<int>> channel{1};
    auto item = std::make_unique<int>(1);
    bool refused = false;
    {
        const NoMemory no_memory;
        try {
            channel.try_send(std::move(item));
        } catch (const std::bad_alloc&) {
            refused = true;
        }
    }
    CHECK(refused);
    CHECK(item != nullptr);
    CHECK(channel.size() == 0);
    CHECK(channel.try_send(std::move(item)));
}

TEST_CASE("a rendezvous allocates nothing" * doctest::skip(!detail::frames_recycled)) {
    const auto count = [](Channel<int>& to) -> Coro<void> {
        for (int i = 0; i < 200; ++i)
            co_await to.send(i);
        to.close();
    };
    std::size_t allocated = 1;
    play([&]() -> Coro<void> {
        Channel<int> numbers;
        auto counter = co_await spawn(count(numbers));
        co_await numbers.receive();
        const std::size_t before = allocation_counts().made;
        while (co_await numbers.receive()) {}
        allocated = allocation_counts().made - before;
        co_await counter.join();
    });
    CHECK(allocated == 0);
}

#ifndef NDEBUG
TEST_CASE("destroying a channel that a task waits on stops the program, which names both") {
    const test::CapturedStderr errors;
    const std::string death = test::in_child([]() -> std::string {
        std::signal(SIGABRT, SIG_DFL); // not doctest's
        play([]() -> Coro<void> {
            auto channel = std::make_unique<Channel<int>>();
            auto sender = co_await spawn(send_to(*channel, 1), {.name = "sender"});
            co_await let_them_wait();
            channel.reset();
            co_await sender.join();
        });
        return "";
    });
    CHECK(death.contains("signal 6"));
    CHECK(errors.text().contains("a Channel is destroyed while task 'sender', at "));
    CHECK(errors.text().contains("send_to"));
}
#endif
