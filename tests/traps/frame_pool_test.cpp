#include <trapline/traps/frame_pool.hpp>

#include <cstring>
#include <new>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/traps/calls.hpp>
#include <trapline/traps/task.hpp>

#include "counted_new.hpp"
#include "hand_loop.hpp"

using namespace trapline;
using detail::FramePool;

namespace {

constexpr bool recycles = detail::frames_recycled;

/// Blocks that are neither freed nor kept for the next frame of their size.
std::size_t made_since(const AllocationCounts& start) {
    return allocation_counts().made - start.made;
}
std::size_t freed_since(const AllocationCounts& start) {
    return allocation_counts().freed - start.freed;
}

Coro<int> child(int value) {
    co_await yield_now();
    co_return value;
}

Coro<int> worker(int value) { co_return co_await child(value); }

/// Spawns, awaits and joins.
Coro<int> round() {
    Task<int> task = co_await spawn(worker(1));
    const int awaited = co_await child(2);
    const int joined = co_await task.join();
    co_return awaited + joined;
}

} // namespace

TEST_CASE("a block that was freed is the next one of its size" * doctest::skip(!recycles)) {
    void* first = FramePool::allocate(200);
    FramePool::deallocate(first, 200);
    void* second = FramePool::allocate(FramePool::rounded(200));
    CHECK(second == first);
    void* other = FramePool::allocate(64);
    CHECK(other != first);
    FramePool::deallocate(second, FramePool::rounded(200));
    FramePool::deallocate(other, 64);
}

TEST_CASE("a block holds what was asked for, at every size up to beyond the largest kept") {
    for (std::size_t bytes = 1; bytes < FramePool::block_bytes_max + 200; bytes += 61) {
        void* block = FramePool::allocate(bytes);
        std::memset(block, 0x5a, bytes);
        FramePool::deallocate(block, bytes);
        block = FramePool::allocate(bytes);
        CHECK(reinterpret_cast<std::uintptr_t>(block) % alignof(std::max_align_t) == 0);
        std::memset(block, 0xa5, bytes);
        FramePool::deallocate(block, bytes);
    }
}

TEST_CASE("a steady state of spawn, await and join allocates nothing" * doctest::skip(!recycles)) {
    HandLoop loop;
    const auto body = []() -> Coro<std::size_t> {
        for (int i = 0; i < 10; ++i)
            co_await round();
        const AllocationCounts start = allocation_counts();
        int sum = 0;
        for (int i = 0; i < 1000; ++i)
            sum += co_await round();
        const std::size_t made = made_since(start);
        co_return sum == 3000 ? made : 1'000'000;
    };
    const std::size_t made = loop.run(body());
    CHECK(made == 0);
}

TEST_CASE("a frame too large to be kept is freed" * doctest::skip(!recycles)) {
    const AllocationCounts start = allocation_counts();
    void* block = FramePool::allocate(FramePool::block_bytes_max + 1);
    FramePool::deallocate(block, FramePool::block_bytes_max + 1);
    const std::size_t made = made_since(start);
    const std::size_t freed = freed_since(start);
    CHECK(made == 1);
    CHECK(freed == 1);
}

TEST_CASE("what a thread keeps is bounded, and is freed when it ends" * doctest::skip(!recycles)) {
    constexpr std::size_t bytes = FramePool::rounded(8000);
    constexpr std::size_t kept_max = FramePool::kept_bytes_max / bytes;
    constexpr std::size_t of_a_chunk =
        (FramePool::chunk_bytes - FramePool::granule_bytes) / (bytes + sizeof(void*));
    constexpr std::size_t excess = 10 * of_a_chunk;
    std::size_t freed_meanwhile = 0;
    AllocationCounts start;
    std::thread([&] {
        std::vector<void*> blocks(kept_max + excess);
        start = allocation_counts();
        for (void*& block : blocks)
            block = FramePool::allocate(bytes);
        for (void* block : blocks)
            FramePool::deallocate(block, bytes);
        freed_meanwhile = freed_since(start);
    }).join();
    CHECK(freed_meanwhile >= 9);
    CHECK(freed_meanwhile <= 10);
    CHECK(freed_since(start) >= (kept_max + excess) / of_a_chunk);
}

TEST_CASE("blocks of all sizes lie one behind the other" * doctest::skip(!recycles)) {
    std::thread([] { // with a chunk of its own
        constexpr std::size_t line = FramePool::granule_bytes;
        std::vector<std::pair<std::byte*, std::size_t>> blocks;
        for (const std::size_t bytes : {1, 300, 64, 2000, 56, 57}) {
            auto* block = static_cast<std::byte*>(FramePool::allocate(bytes));
            CHECK(reinterpret_cast<std::uintptr_t>(block) % line == 0);
            if (!blocks.empty()) {
                const auto [last, size] = blocks.back();
                CHECK(block - last >= static_cast<std::ptrdiff_t>(size));
                CHECK(block - last < static_cast<std::ptrdiff_t>(size + 2 * line));
            }
            blocks.emplace_back(block, bytes);
        }
        for (const auto& [block, bytes] : blocks)
            FramePool::deallocate(block, bytes);
    })
        .join();
}

TEST_CASE("a chunk lives as long as the last of its blocks, whoever has it" *
          doctest::skip(!recycles)) {
    std::vector<void*> blocks(3 * FramePool::chunk_bytes / 1000);
    const AllocationCounts start = allocation_counts();
    std::thread([&] {
        for (void*& block : blocks)
            block = FramePool::allocate(1000);
    }).join();
    for (void* block : blocks)
        std::memset(block, 0x5a, 1000);
    const std::size_t freed_by_thread = freed_since(start);
    std::thread([&] {
        for (void* block : blocks)
            FramePool::deallocate(block, 1000); // it has none of its own yet, and keeps none
    }).join();
    CHECK(freed_since(start) >= freed_by_thread + 3);
}

TEST_CASE("another thread may free a block") {
    void* block = FramePool::allocate(300);
    std::thread([&] { FramePool::deallocate(block, 300); }).join();

    std::thread([&] {
        // A thread that has blocks of its own keeps this one among them, until it ends.
        FramePool::deallocate(FramePool::allocate(300), 300);
        block = FramePool::allocate(300);
    }).join();
    FramePool::deallocate(block, 300);
}

TEST_CASE("a frame that outlives its thread's pool is freed, not kept") {
    struct AtThreadEnd {
        void* block = nullptr;
        ~AtThreadEnd() {
            FramePool::deallocate(block, 100);
            FramePool::deallocate(FramePool::allocate(100), 100);
        }
    };
    std::thread([] {
        static thread_local AtThreadEnd last; // made first, so destroyed after the pool's own
        last.block = FramePool::allocate(100);
    }).join();
    // Whatever is left over is a leak that the leak checker of the sanitizer build shows.
}

namespace {

struct Big {
    std::byte bytes[FramePool::chunk_bytes]; // or a chunk might have room for it
};

struct Argument {
    int* copies;
    explicit Argument(int& c) : copies(&c) { ++*copies; }
    Argument(const Argument& other) : copies(other.copies) { ++*copies; }
    Argument& operator=(const Argument&) = delete;
    ~Argument() { --*copies; }
};

/// Not inlined, or a compiler that sees that nobody awaits it spares the frame.
[[gnu::noinline]] Coro<void> takes(Argument, Big) { co_return; }

} // namespace

TEST_CASE("without memory the call of a coroutine throws, and its arguments are destroyed once" *
          doctest::skip(!recycles)) {
    int copies = 0;
    bool refused = false;
    std::thread([&] { // with nothing kept yet
        const NoMemory none;
        try {
            const Coro<void> coro = takes(Argument{copies}, Big{});
        } catch (const std::bad_alloc&) {
            refused = true;
        }
    })
        .join();
    CHECK(refused);
    CHECK(copies == 0);
}

TEST_CASE("without memory spawn throws where it was called, and all goes on" *
          doctest::skip(!recycles)) {
    const auto body = []() -> Coro<bool> {
        bool refused = false;
        {
            Coro<Big> big = []() -> Coro<Big> { co_return Big{}; }();
            const NoMemory none;
            try {
                co_await spawn(std::move(big)); // its record has room for the result
            } catch (const std::bad_alloc&) {
                refused = true;
            }
        }
        co_await round();
        co_return refused;
    };
    bool refused = false;
    std::thread([&] { refused = HandLoop{}.run(body()); }).join();
    CHECK(refused);
}
