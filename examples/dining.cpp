// Five philosophers at a round table, five forks, each fork a lock. Who eats needs the fork on the
// left and the one on the right. If all took the left one first they would wait for ever; so each
// takes the lower number first. They also lose patience: a philosopher who does not get his forks
// in time puts down what he has, thinks a while, and tries again, with more patience each time:
// with the same they may keep each other hungry for ever. Nothing is left on the floor.
#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include <trapline/trapline.hpp>

using namespace trapline;
using namespace std::chrono_literals;

struct Philosopher {
    const char* name;
    int left;
    int right;
    int meals = 0;
    int lost_patience = 0;
};

constexpr std::array philosophers{
    Philosopher{"Hypatia", 0, 1},  Philosopher{"Aspasia", 1, 2}, Philosopher{"Diotima", 2, 3},
    Philosopher{"Leontion", 3, 4}, Philosopher{"Arete", 4, 0},
};

using Forks = std::array<Lock, philosophers.size()>;

Coro<void> eat(Forks& forks, const Philosopher& who) {
    const auto first = co_await forks[std::min(who.left, who.right)].hold();
    co_await sleep(2ms); // reaching over
    const auto second = co_await forks[std::max(who.left, who.right)].hold();
    co_await sleep(10ms);
}

Coro<Philosopher> dine(Forks& forks, Barrier& table, Philosopher who) {
    co_await table.wait(); // nobody begins before all are seated
    while (who.meals < 3) {
        const Duration patience = 25ms * (1 + who.lost_patience);
        const bool ate = co_await ignore_after(patience, eat(forks, who));
        if (ate)
            ++who.meals;
        else
            ++who.lost_patience;
        co_await sleep(1ms);
    }
    co_return who;
}

Coro<void> dinner() {
    Forks forks;
    Barrier table{philosophers.size()};
    std::vector<Task<Philosopher>> guests;
    for (const Philosopher& who : philosophers)
        guests.push_back(co_await spawn(dine(forks, table, who), {.name = who.name}));
    for (const Task<Philosopher>& guest : guests) {
        const Philosopher who = co_await guest.join();
        std::printf("%-9s ate %d times, lost patience %d times\n", who.name, who.meals,
                    who.lost_patience);
    }
    for (const Lock& fork : forks) {
        if (fork.locked())
            std::puts("a fork is missing");
    }
}

int main() { run(dinner()); }
