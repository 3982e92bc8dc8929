// Producers and consumers around a small queue: two bakers bake faster than three customers eat,
// so the shelf runs full and the bakers wait. When the last bun is eaten, the bakery closes.
#include <trapline/trapline.hpp>

#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

using namespace trapline;
using namespace std::chrono_literals;

using Shelf = Queue<std::string>;

Coro<void> baker(std::string name, int buns, Shelf& shelf) {
    for (int i = 1; i <= buns; ++i) {
        co_await sleep(20ms);
        const bool full = shelf.full();
        co_await shelf.put(name + "'s bun " + std::to_string(i));
        if (full)
            std::printf("%s had to wait for room on the shelf\n", name.c_str());
    }
}

Coro<int> customer(std::string name, Duration appetite, Shelf& shelf) {
    int eaten = 0;
    while (std::optional<std::string> bun = co_await shelf.next()) {
        co_await sleep(appetite);
        std::printf("%s ate %s\n", name.c_str(), bun->c_str());
        ++eaten;
        shelf.task_done();
    }
    co_return eaten;
}

Coro<void> bakery() {
    Shelf shelf{2};
    std::vector<Task<int>> customers;
    customers.push_back(co_await spawn(customer("Ada", 50ms, shelf)));
    customers.push_back(co_await spawn(customer("Ben", 70ms, shelf)));
    customers.push_back(co_await spawn(customer("Cem", 90ms, shelf)));
    auto rye = co_await spawn(baker("Rye", 5, shelf));
    auto spelt = co_await spawn(baker("Spelt", 5, shelf));

    co_await rye.join();
    co_await spelt.join();
    co_await shelf.join(); // all that was baked is eaten
    shelf.close();         // and the customers go home

    int eaten = 0;
    for (const Task<int>& guest : customers)
        eaten += co_await guest.join();
    std::printf("%d buns were eaten\n", eaten);
}

int main() { run(bakery()); }
