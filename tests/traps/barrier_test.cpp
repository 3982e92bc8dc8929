#include <trapline/traps/barrier.hpp>

#include <cstddef>
#include <optional>
#include <stdexcept>
#include <vector>

#include "on_kernel.hpp"

using namespace trapline;
using namespace trapline::test;

namespace {

using Places = std::vector<std::size_t>;

Coro<void> arrive(Barrier& barrier, Places& places) {
    const std::size_t place = co_await barrier.wait();
    places.push_back(place);
}

} // namespace

TEST_CASE("barrier.hpp: three start together") {
    on_kernel([]() -> Coro<void> {
        Barrier start{3};
        Places places;
        Task<> one = co_await spawn(arrive(start, places));
        Task<> two = co_await spawn(arrive(start, places));
        co_await settle();
        CHECK(start.waiting() == 2);
        CHECK(places.empty());
        const std::size_t place = co_await start.wait(); // 0 came first, 2 last
        CHECK(place == 2);
        CHECK(start.waiting() == 0);
        co_await one.join();
        co_await two.join();
        CHECK(places == Places{0, 1});
    });
}

TEST_CASE("it can be used again and again, also by those who leave it last") {
    on_kernel([]() -> Coro<void> {
        Barrier barrier{2};
        CHECK(barrier.parties() == 2);
        std::vector<int> rounds;
        const auto party = [&]() -> Coro<void> {
            for (int round = 0; round < 3; ++round) {
                (void)co_await barrier.wait();
                rounds.push_back(round);
            }
        };
        Task<> one = co_await spawn(party);
        Task<> two = co_await spawn(party);
        co_await one.join();
        co_await two.join();
        CHECK(rounds == std::vector{0, 0, 1, 1, 2, 2});
    });
}

TEST_CASE("a barrier for one is no barrier, and for nobody none at all") {
    Kernel kernel{test::virtual_time()};
    const auto main = []() -> Coro<void> {
        Barrier barrier{1};
        const std::size_t place = co_await barrier.wait();
        CHECK(place == 0);
    };
    kernel.run(main());
    CHECK(kernel.counters().traps == 0);
    CHECK_THROWS_AS(Barrier{0}, std::logic_error);
}

TEST_CASE("who is interrupted has not come, also in the turn in which the last one comes") {
    on_kernel([]() -> Coro<void> {
        Barrier barrier{3};
        Places places;
        Task<> gone = co_await spawn(arrive(barrier, places));
        Task<> one = co_await spawn(arrive(barrier, places));
        co_await settle();
        const std::optional<std::size_t> late =
            co_await ignore_after(1s, [&]() -> Coro<std::size_t> {
                (void)co_await traps::Cancel{gone.record()};
                CHECK(barrier.waiting() == 1);
                co_return co_await barrier.wait();
            });
        CHECK(!late);
        CHECK(barrier.waiting() == 1);
        Task<> two = co_await spawn(arrive(barrier, places));
        Task<> three = co_await spawn(arrive(barrier, places));
        co_await one.join();
        co_await two.join();
        co_await three.join();
        CHECK(places == Places{2, 0, 1});
        CHECK(gone.cancelled());
    });
}

TEST_CASE("who was let go has come, though he is cancelled in the same turn") {
    on_kernel([]() -> Coro<void> {
        Barrier barrier{2};
        Places places;
        Task<> one = co_await spawn(arrive(barrier, places));
        co_await settle();
        const std::size_t place = co_await barrier.wait();
        CHECK(place == 1);
        (void)co_await traps::Cancel{one.record()};
        co_await one.join();
        CHECK(places == Places{0});
    });
}
