#include <trapline/traps/select.hpp>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/kernel/kernel.hpp>
#include <trapline/traps/cancel.hpp>
#include <trapline/traps/routine.hpp>

#include "../support/virtual_time.hpp"
#include "counted_new.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

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

/// Which case happened, and what was received in it.
struct Received {
    std::size_t place;
    std::optional<int> item;
};

Coro<Received> receive_from_either(Channel<int>& a, Channel<int>& b) {
    std::optional<int> item;
    const std::size_t place = co_await select(a.receiving(item), b.receiving(item));
    co_return Received{place, item};
}

Coro<void> let_them_wait() {
    co_await yield_now();
    co_await yield_now();
}

} // namespace

TEST_CASE("select.hpp: the example in the header") {
    int happened = -1;
    play([&]() -> Coro<void> {
        Channel<int> numbers;
        Channel<std::string> words{1};
        std::optional<int> number;
        const std::string word = "hello";
        switch (co_await select(numbers.receiving(number), words.sending(word), after(100ms))) {
        case 0: break; // `number` was received; it is empty if the channel is closed
        case 1: break; // `word` was sent
        case 2: break; // neither could be for 100 ms
        }
        happened = words.try_receive() == "hello" && !number ? 1 : 0;
    });
    CHECK(happened == 1);
}

TEST_CASE("of several cases that can happen the first does, and the others are left alone") {
    play([]() -> Coro<void> {
        Channel<int> a{1};
        Channel<int> b{1};
        Channel<int> full{1};
        co_await b.send(2);
        co_await full.send(3);
        std::optional<int> from_a = 7;
        std::optional<int> from_b;
        std::size_t place = co_await select(a.receiving(from_a), full.sending(9),
                                            b.receiving(from_b), a.sending(8));
        CHECK(place == 2);
        CHECK(from_a == 7);
        CHECK(from_b == 2);
        CHECK(a.size() == 0);
        CHECK(full.size() == 1);
        place = co_await select(a.sending(8), a.receiving(from_a));
        CHECK(place == 0);
        place = co_await select(a.sending(8), a.receiving(from_a));
        CHECK(place == 1);
        CHECK(from_a == 8);
    });
}

TEST_CASE("a waiting select goes on with the case that happens, and stands in no other line") {
    play([]() -> Coro<void> {
        Channel<int> a;
        Channel<int> b;
        auto selecting = co_await spawn(receive_from_either(a, b));
        co_await let_them_wait();
        CHECK(b.try_send(5));
        CHECK_FALSE(b.try_send(6)); // one case only
        CHECK_FALSE(a.try_send(6));
        const Received received = co_await selecting.join();
        CHECK(received.place == 1);
        CHECK(received.item == 5);
        CHECK_FALSE(a.try_send(6));
        CHECK_FALSE(b.try_send(6));
    });
}

TEST_CASE("selects meet each other, in both directions") {
    const auto either = [](Channel<int>& to, Channel<int>& from) -> Coro<Received> {
        std::optional<int> item;
        const std::size_t place = co_await select(to.sending(1), from.receiving(item));
        co_return Received{place, item};
    };
    play([&]() -> Coro<void> {
        Channel<int> a;
        Channel<int> b;
        auto one = co_await spawn(either(a, b));
        auto other = co_await spawn(either(b, a));
        const Received first = co_await one.join();
        const Received second = co_await other.join();
        // The second comes to a waiting first, and its own first case can happen.
        CHECK(first.place == 1);
        CHECK(first.item == 1);
        CHECK(second.place == 0);
        CHECK_FALSE(second.item);
    });
}

TEST_CASE("a select that sends to and receives from one channel does not meet itself") {
    const auto both = [](Channel<int>& channel) -> Coro<std::size_t> {
        std::optional<int> item;
        co_return co_await select(channel.sending(1), channel.receiving(item));
    };
    play([&]() -> Coro<void> {
        Channel<int> channel;
        auto first = co_await spawn(both(channel));
        co_await let_them_wait();
        CHECK_FALSE(first.terminated());
        auto second = co_await spawn(both(channel));
        const std::size_t received = co_await first.join();
        const std::size_t sent = co_await second.join();
        CHECK(received == 1);
        CHECK(sent == 0);
    });
}

TEST_CASE("when nothing happens in time, after() does") {
    play([]() -> Coro<void> {
        Channel<int> channel;
        std::optional<int> item = 7;
        const TimePoint start = co_await now();
        std::size_t place =
            co_await select(channel.receiving(item), after(100ms), channel.sending(1));
        const TimePoint end = co_await now();
        CHECK(place == 1);
        CHECK(end - start == 100ms);
        CHECK(item == 7);
        CHECK_FALSE(channel.try_send(1)); // it waits no more
        CHECK_FALSE(channel.try_receive());

        place = co_await select(after(1s));
        CHECK(place == 0);

        auto sender = co_await spawn(send_to(channel, 3));
        place = co_await select(channel.receiving(item), after(100ms));
        CHECK(place == 0);
        CHECK(item == 3);
        co_await sender.join();
    });
}

TEST_CASE("after() is held back with the interrupts, like every time limit") {
    play([]() -> Coro<void> {
        Channel<int> channel;
        std::size_t place = 9;
        auto chooser = co_await spawn(disable_cancellation([&]() -> Coro<void> {
            std::optional<int> item;
            place = co_await select(channel.receiving(item), after(1ms));
            CHECK(item == 4);
        }));
        co_await sleep(1s);
        CHECK_FALSE(chooser.terminated());
        const bool sent = co_await channel.send(4);
        CHECK(sent);
        co_await chooser.join();
        CHECK(place == 0);
    });
}

TEST_CASE("after no time at all: a question, or, in front of the others, nothing else") {
    Channel<int> channel{1};
    const auto body = [](Channel<int>& c) -> Coro<std::string> {
        std::string places;
        std::optional<int> item;
        places += std::to_string(co_await select(c.receiving(item), after(0s)));
        places += std::to_string(co_await select(after(-1s), c.sending(1)));
        places += std::to_string(co_await select(c.sending(1), after(0s)));
        places += std::to_string(co_await select(c.receiving(item), after(0s)));
        co_return places;
    };
    Routine<std::string> routine{body(channel)};
    CHECK(routine.start() == nullptr); // nothing of it traps
    CHECK(routine.result() == "1000");
}

TEST_CASE("an outer time limit passes a select as what it is") {
    play([]() -> Coro<void> {
        Channel<int> channel;
        std::optional<int> item;
        std::optional<std::size_t> place =
            co_await ignore_after(1s, select(channel.receiving(item), after(2s)));
        CHECK_FALSE(place);
        place = co_await ignore_after(2s, select(channel.receiving(item), after(1s)));
        CHECK(place == 1u);
        place = co_await ignore_after(1s, select(channel.receiving(item)));
        CHECK_FALSE(place);
        CHECK_FALSE(channel.try_send(1));
    });
}

TEST_CASE("a cancelled select: no case has happened, unless one had before") {
    play([]() -> Coro<void> {
        Channel<int> a;
        Channel<int> b;
        auto early = co_await spawn(receive_from_either(a, b));
        auto late = co_await spawn(receive_from_either(a, b));
        co_await let_them_wait();
        (void)co_await traps::Cancel{early.record()};
        CHECK(a.try_send(1));
        (void)co_await traps::Cancel{late.record()};
        CHECK_FALSE(b.try_send(2));
        co_await early.wait();
        CHECK(early.cancelled());
        const Received received = co_await late.join();
        CHECK(received.place == 0);
        CHECK(received.item == 1);
    });
}

TEST_CASE("a closed channel is received from empty-handed, and sent to in vain") {
    play([]() -> Coro<void> {
        Channel<int> open;
        Channel<int> closed;
        closed.close();
        std::optional<int> item = 7;
        std::size_t place = co_await select(open.receiving(item), closed.receiving(item));
        CHECK(place == 1);
        CHECK_FALSE(item);
        bool sent = true;
        place = co_await select(open.sending(1), closed.sending(1, &sent));
        CHECK(place == 1);
        CHECK_FALSE(sent);

        auto waiting = co_await spawn(receive_from_either(open, open));
        co_await let_them_wait();
        open.close();
        const Received received = co_await waiting.join();
        CHECK(received.place == 0);
        CHECK_FALSE(received.item);
    });
}

TEST_CASE("closing tells a waiting send that it did not happen, and sending that it did") {
    const auto send_either = [](Channel<int>& a, Channel<int>& b) -> Coro<std::string> {
        bool sent_a = false;
        bool sent_b = false;
        const std::size_t place = co_await select(a.sending(1, &sent_a), b.sending(2, &sent_b));
        co_return std::to_string(place) + (sent_a ? "a" : "") + (sent_b ? "b" : "");
    };
    play([&]() -> Coro<void> {
        Channel<int> a;
        Channel<int> b;
        auto first = co_await spawn(send_either(a, b));
        auto second = co_await spawn(send_either(a, b));
        co_await let_them_wait();
        CHECK(b.try_receive() == 2);
        a.close();
        const std::string sent = co_await first.join();
        CHECK(sent == "1b");
        const std::string not_sent = co_await second.join();
        CHECK(not_sent == "0");
        const std::optional<int> none = b.try_receive();
        CHECK_FALSE(none);
    });
}

TEST_CASE("an item to be sent is moved from only if it is sent") {
    play([]() -> Coro<void> {
        Channel<std::unique_ptr<int>> full{1};
        Channel<std::unique_ptr<int>> waiting;
        full.try_send(std::make_unique<int>(0));
        auto item = std::make_unique<int>(1);
        std::size_t place = co_await select(full.sending(std::move(item)),
                                            waiting.sending(std::move(item)), after(1s));
        CHECK(place == 2);
        CHECK(item != nullptr);
        full.try_receive();
        place = co_await select(waiting.sending(std::move(item)), full.sending(std::move(item)));
        CHECK(place == 1);
        CHECK(item == nullptr);
    });
}

TEST_CASE("a waiting item is handed over from a select to a receiver, and room to it") {
    const auto send_it = [](Channel<int>& channel) -> Coro<std::size_t> {
        const int item = 2;
        co_return co_await select(channel.sending(item), after(1h));
    };
    play([&]() -> Coro<void> {
        Channel<int> channel{1};
        co_await channel.send(1);
        auto selecting = co_await spawn(send_it(channel));
        co_await let_them_wait();
        CHECK(channel.try_receive() == 1);
        CHECK(channel.size() == 1); // at once
        const std::size_t place = co_await selecting.join();
        CHECK(place == 0);
        const std::optional<int> last = co_await receive_from(channel);
        CHECK(last == 2);
    });
}

TEST_CASE("a select allocates nothing" * doctest::skip(!detail::frames_recycled)) {
    const auto count = [](Channel<int>& a, Channel<int>& b) -> Coro<void> {
        for (int i = 0; i < 200; ++i)
            co_await (i % 3 ? a : b).send(i);
        a.close();
    };
    std::size_t allocated = 1;
    play([&]() -> Coro<void> {
        Channel<int> a;
        Channel<int> b;
        auto counter = co_await spawn(count(a, b));
        std::size_t before = 0;
        std::optional<int> item;
        for (int i = 0;; ++i) {
            if (i == 20)
                before = allocation_counts().made;
            const std::size_t place =
                co_await select(a.receiving(item), b.receiving(item), after(1s));
            if (place == 0 && !item)
                break;
        }
        allocated = allocation_counts().made - before;
        co_await counter.join();
    });
    CHECK(allocated == 0);
}

TEST_CASE("a task that is destroyed while it selects leaves all its places") {
    Channel<int> a;
    Channel<int> b;
    {
        Routine<Received> routine{receive_from_either(a, b)};
        CHECK(routine.start() != nullptr);
    }
    CHECK_FALSE(a.try_send(1));
    CHECK_FALSE(b.try_send(1));
}
