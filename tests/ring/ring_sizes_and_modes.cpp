// Failure: a ring of an odd size, or in a mode that the running Linux lacks (RELIABILITY 2, rows
// 1, 26 and 27).
// Proves: each mode works with every size from 1 to 32768 and beyond (where Linux cuts it down),
// says in describe() what it is, and gives all its descriptors back; automatic takes the best one.
// Seen on Linux 6.18: all three modes; sizes are rounded up to powers of two, and cut to 32768.
#include "../support/ring.hpp"

using namespace ring_test;

int main() {
    const int before = open_descriptors();
    for_each_ring(
        [](UringOptions options) {
            for (const unsigned completions : {1U, 100'000U}) {
                options.completions = completions;
                Driver driver(options);
                const std::string text = driver.engine->describe();
                CHECK(text.find("io_uring on Linux") == 0, "describe() says what it is");
                const char* mode = options.mode == Mode::deferred      ? "deferred"
                                   : options.mode == Mode::cooperative ? "cooperative"
                                                                       : "plain";
                CHECK(text.find(mode) != std::string::npos, "and its mode");
                CHECK_EQUAL(driver.run(traps::Nop{}), 0, "a nop");
                const Pair pipe = Pair::pipe();
                char c = 'x';
                CHECK_EQUAL(driver.run(traps::Write{pipe.fd[1], &c, 1}), 1, "a write");
                CHECK_EQUAL(driver.run(traps::Read{pipe.fd[0], &c, 1}), 1, "a read");
            }
        },
        {1, 2, 3, 5, 64, 4095, 4096, 32'768, 1'000'000});
    CHECK_EQUAL(open_descriptors(), before, "a ring gives all its descriptors back");

    const std::string best = make_uring_engine({})->describe();
    std::printf("%s\n", best.c_str());
    bool refused = false;
    try {
        (void)make_uring_engine({.entries = 0, .entries_min = 0});
    } catch (const std::invalid_argument&) {
        refused = true;
    }
    CHECK(refused, "a ring without entries is refused");
}
