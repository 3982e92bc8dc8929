// A loop of its own: the countdown coroutines of the other examples, driven by the 50 lines of
// own_loop.hpp and nothing else. It links no kernel.
#include "own_loop.hpp"
#include "rockets.hpp"

using namespace trapline;
using namespace std::chrono_literals;

int main() {
    OwnLoop<Duration> loop;
    loop.launch(countdown("Ariane", 5, 0, 1s));
    loop.launch(countdown("Soyuz", 3, 2, 1s));
    loop.launch(countdown("Falcon", 4, 1, 1s));
    loop.run();
}
