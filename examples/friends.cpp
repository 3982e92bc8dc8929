// A mother loses patience. Her child builds a sand castle with three friends, each of whom digs at
// his own pace. She waits, warns, and at last fetches it: the friends are sent home, the castle is
// photographed before everyone leaves, and the one who would not hear is waited for all the same.
#include <cstdio>
#include <string>

#include <trapline/trapline.hpp>

using namespace trapline;
using namespace std::chrono_literals;

/// Digs until somebody sends him home. Packing up takes a moment.
Coro<void> dig(std::string friend_name, Duration pace, int& buckets) {
    try {
        for (;;) {
            co_await sleep(pace);
            ++buckets;
        }
    } catch (const Cancelled&) {
        std::printf("  %s: Oh. Already?\n", friend_name.c_str());
        throw; // an interrupt is to be passed on
    }
}

/// Answers how many buckets the castle has, if it is ever finished.
Coro<int> build_castle(int buckets_wanted) {
    int buckets = 0;
    const auto photograph = [&] {
        return [](int height) -> Coro<void> {
            std::printf("  child: Wait, a photo! (%d buckets high)\n", height);
            co_await sleep(300ms);
            std::puts("  child: Click.");
        }(buckets);
    };
    const auto play = [&]() -> Coro<void> {
        co_await task_group(WaitFor::none, [&](TaskGroup& friends) -> Coro<void> {
            co_await friends.spawn(dig("Ada", 200ms, buckets), {.name = "ada"});
            co_await friends.spawn(dig("Ben", 350ms, buckets), {.name = "ben"});
            co_await friends.spawn(dig("Cleo", 500ms, buckets), {.name = "cleo"});
            while (buckets < buckets_wanted)
                co_await sleep(50ms);
        });
    };
    // Whatever ends the game, the photo is taken, and nobody interrupts that.
    co_await with_resource(yield_now(), play, photograph);
    co_return buckets;
}

Coro<void> afternoon(int buckets_wanted) {
    std::printf("A castle of %d buckets\n", buckets_wanted);
    const Task<int> child = co_await spawn(build_castle(buckets_wanted), {.name = "child"});
    for (const char* call : {"Are you coming?", "I am waiting!"}) {
        const bool came = co_await ignore_after(800ms, child.wait());
        if (came)
            break;
        std::printf("mother: %s\n", call);
    }
    const TimePoint fetched = co_await now();
    if (co_await child.cancel()) {
        const std::chrono::duration<double> waited = co_await now() - fetched;
        std::printf("mother: At last. That took another %.1f s.\n\n", waited.count());
    } else {
        const int buckets = co_await child.join();
        std::printf("mother: %d buckets, how lovely!\n\n", buckets);
    }
}

int main() {
    run([]() -> Coro<void> {
        co_await afternoon(8);
        co_await afternoon(1000);
    });
}
