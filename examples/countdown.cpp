// Three rocket countdowns at once, on the io_uring kernel: five, three after two seconds, and
// four after one. Each prints what it really waited.
#include <trapline/trapline.hpp>

#include "rockets.hpp"

using namespace trapline;
using namespace std::chrono_literals;

Coro<void> launch_site() {
    auto ariane = co_await spawn(countdown("Ariane", 5, 0, 1s), {.name = "ariane"});
    auto soyuz = co_await spawn(countdown("Soyuz", 3, 2, 1s), {.name = "soyuz"});
    auto falcon = co_await spawn(countdown("Falcon", 4, 1, 1s), {.name = "falcon"});
    co_await ariane.join();
    co_await soyuz.join();
    co_await falcon.join();
}

int main() { run(launch_site()); }
