#include <trapline/traps/event.hpp>

#include <vector>

#include "on_kernel.hpp"

using namespace trapline;
using namespace trapline::test;

namespace {

Coro<void> serve(Event& ready) {
    co_await sleep(1ms);
    ready.set();
}

} // namespace

TEST_CASE("event.hpp: wait until something is ready") {
    on_kernel([]() -> Coro<void> {
        Event ready;
        Task<> server = co_await spawn(serve(ready));
        co_await ready.wait();
        CHECK(ready.is_set());
        co_await server.join();
    });
}

TEST_CASE("one that is set is not waited for, and costs no trap") {
    Kernel kernel{test::virtual_time()};
    const auto main = []() -> Coro<void> {
        Event event;
        event.set();
        event.set();
        for (int i = 0; i < 10; ++i)
            co_await event.wait();
    };
    kernel.run(main());
    CHECK(kernel.counters().traps == 0);
}

TEST_CASE("all who wait go on in the order in which they came, even if it is cleared at once") {
    on_kernel([]() -> Coro<void> {
        Event event;
        std::vector<int> order;
        const auto waiter = [&](int number) -> Coro<void> {
            co_await event.wait();
            order.push_back(number);
        };
        std::vector<Task<>> tasks;
        for (int i = 0; i < 3; ++i)
            tasks.push_back(co_await spawn(waiter, i));
        co_await settle();
        CHECK(order.empty());
        event.set();
        event.clear();
        CHECK(!event.is_set());
        co_await settle();
        CHECK(order == std::vector{0, 1, 2});
        const bool waited_anew = !co_await ignore_after(1s, event.wait());
        CHECK(waited_anew);
    });
}

TEST_CASE("one who is set free is not interrupted any more in the same turn; before, he is") {
    on_kernel([]() -> Coro<void> {
        for (const bool set_first : {true, false}) {
            Event event;
            bool went_on = false;
            Task<> waiter = co_await spawn([&]() -> Coro<void> {
                co_await event.wait();
                went_on = true;
                co_await sleep(1s);
            });
            co_await settle();
            if (set_first)
                event.set();
            (void)co_await traps::Cancel{waiter.record()};
            event.set();
            co_await waiter.wait();
            CHECK(went_on == set_first);
            CHECK(waiter.cancelled());
        }
    });
}

TEST_CASE("a time limit ends the wait, and the event takes no notice") {
    on_kernel([]() -> Coro<void> {
        Event event;
        const bool first = co_await ignore_after(5ms, event.wait());
        CHECK(!first);
        event.set();
        const bool second = co_await ignore_after(0s, event.wait());
        CHECK(second);
    });
}
