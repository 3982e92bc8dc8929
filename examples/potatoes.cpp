// A market with a shelf of potatoes and a shelf of tomatoes. Two customers buy at the same time,
// each through an asynchronous generator that takes from a shelf one by one and waits when it is
// empty, while the farmer brings new crates to where they are missing. When both have what they
// came for, the generators put the baskets back.
#include <cstdio>

#include <trapline/trapline.hpp>

using namespace trapline;
using namespace std::chrono_literals;

struct Shelf {
    const char* vegetable;
    int left;
    Event filled{};
};

struct Market {
    Shelf potatoes{"potato", 3};
    Shelf tomatoes{"tomato", 5};
    Event missing; // something is
};

/// Takes one after the other. Yields how many it has taken.
AsyncGenerator<int> take(Market& market, Shelf& shelf) {
    try {
        for (int taken = 1;; ++taken) {
            while (shelf.left == 0) {
                std::printf("no %s is left\n", shelf.vegetable);
                shelf.filled.clear();
                market.missing.set();
                co_await shelf.filled.wait();
            }
            --shelf.left;
            co_yield taken;
        }
    } catch (const GeneratorClosed&) {} // enough was taken
    co_await sleep(5ms);
    std::printf("the %s basket is back\n", shelf.vegetable);
}

Coro<void> buy(Market& market, Shelf& shelf, int count) {
    co_await for_each(take(market, shelf), [&](int taken) -> Coro<bool> {
        std::printf("%s %d\n", shelf.vegetable, taken);
        co_await sleep(10ms); // into the basket
        co_return taken < count;
    });
}

Coro<void> farm(Market& market) {
    for (;;) {
        co_await market.missing.wait();
        market.missing.clear();
        co_await sleep(50ms); // to the field and back
        for (Shelf* shelf : {&market.potatoes, &market.tomatoes}) {
            if (shelf->left > 0)
                continue;
            shelf->left = 4;
            shelf->filled.set();
            std::printf("a crate of %ses\n", shelf->vegetable);
        }
    }
}

Coro<void> day() {
    Market market;
    co_await task_group(WaitFor::none, [&](TaskGroup& group) -> Coro<void> {
        co_await group.spawn(farm(market), {.name = "farmer"}); // he goes home with the customers
        co_await gather(buy(market, market.potatoes, 8), buy(market, market.tomatoes, 7));
    });
    std::printf("left: %d potatoes, %d tomatoes\n", market.potatoes.left, market.tomatoes.left);
}

int main() { run(day()); }
