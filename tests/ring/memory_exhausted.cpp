// Failure: operator new throws (RELIABILITY 2b): while the engine's table of operations or the
// kernel's table of descriptors grows, in spawn, or anywhere else.
// Proves: the caller gets not_enough_memory or std::bad_alloc at the call, everything in flight
// goes on and ends, and with memory again everything works; failing the n-th allocation, for each
// n until there is none left to fail, neither crashes nor leaks a descriptor.
// Seen on Linux 6.18: no part of this is Linux's; rings are made by mmap and need no operator new.
#include "../support/ring.hpp"

#include <new>
#include <thread>
#include <vector>

#include <trapline/io/descriptor.hpp>
#include <trapline/traps/sanitizers.hpp>

using namespace ring_test;

namespace {

/// Allocations that are granted before one is refused; less than 0: all are.
long granted = -1;
bool refuse_all_after = false;
long refused = 0;

[[maybe_unused]] bool refuses() {
    if (granted < 0)
        return false;
    if (granted > 0) {
        --granted;
        return false;
    }
    if (!refuse_all_after)
        granted = -1;
    ++refused;
    return true;
}

struct NoMemory {
    NoMemory() { granted = 0, refuse_all_after = true; }
    ~NoMemory() { granted = -1, refuse_all_after = false; }
};

} // namespace

#if !TRAPLINE_THREAD_SANITIZER
// NOLINTBEGIN: a program's own operator new
void* operator new(std::size_t size) {
    if (refuses())
        throw std::bad_alloc();
    if (void* memory = std::malloc(size ? size : 1))
        return memory;
    throw std::bad_alloc();
}
void* operator new(std::size_t size, std::align_val_t alignment) {
    if (refuses())
        throw std::bad_alloc();
    const auto align = static_cast<std::size_t>(alignment);
    if (void* memory = std::aligned_alloc(align, (size + align - 1) / align * align))
        return memory;
    throw std::bad_alloc();
}
#if defined(__GNUC__) && !defined(__clang__)
// g++ 14 does not see that the operator new above is of the same kind.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
#endif
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
// NOLINTEND
#endif

namespace {

void operations(const UringOptions& options) {
    Driver driver(options);
    std::vector<Operation> nops(200);
    const traps::IoRequest nop_request = traps::Nop{};
    int answered = 0;
    {
        std::size_t started = 0;
        for (; started < 64; ++started)
            driver.start(nops[started], &nop_request);
        const NoMemory none;
        for (; started < nops.size(); ++started) {
            const bool in_flight = driver.start(nops[started], &nop_request);
            CHECK(!in_flight, "there was memory: this program proves nothing");
            CHECK_EQUAL(nops[started].result, -ENOMEM, "a clear error");
            ++answered;
        }
        while (driver.under_way() > 0)
            driver.turn(never); // without any memory
    }
    CHECK_EQUAL(answered, 136, "those beyond the table");
    for (Operation& nop : nops) {
        nop.task = nullptr;
        CHECK(driver.start(nop, traps::Nop{}), "with memory again it works");
    }
    while (driver.under_way() > 0)
        driver.turn(never);
}

void tasks(const UringOptions& options) {
    const Pair pair = Pair::sockets();
    const int high = fcntl(pair.fd[0], F_DUPFD_CLOEXEC, 900);
    Kernel kernel({.engine = "uring", .uring = options});
    kernel.run([&]() -> Coro<void> {
        char c = 0;
        char d = 0;
        const auto reader = co_await spawn([&]() -> Coro<void> {
            const auto got = co_await traps::recv(pair.fd[1], bytes_of(&c, 1));
            CHECK(got == 1, "what is in flight goes on");
        });
        co_await yield_now();
        bool no_task = false;
        {
            const NoMemory none;
            const auto answer = co_await traps::recv(high, bytes_of(&d, 1), MSG_DONTWAIT);
            CHECK(!answer && answer.error() == std::errc::not_enough_memory,
                  "the table of descriptors cannot grow");
            // Recycled frames may do for a while.
            for (int i = 0; i < 1'000 && !no_task; ++i) {
                try {
                    co_await spawn([]() -> Coro<void> { co_await yield_now(); });
                } catch (const std::bad_alloc&) {
                    no_task = true;
                }
            }
            const auto sent = co_await traps::send(pair.fd[0], std::as_bytes(std::span("x", 1)));
            CHECK(sent == 1, "everything else works without memory");
            co_await reader.join();
        }
        CHECK(no_task, "spawn throws bad_alloc");
        CHECK_EQUAL(c, 'x', "the byte");
        CHECK_EQUAL(write(pair.fd[1], "y", 1), 1, "write");
        const auto again = co_await traps::recv(high, bytes_of(&d, 1));
        CHECK(again == 1 && d == 'y', "with memory again it works");
    });
    ::close(high);
}

/// A little of everything. Throws what it pleases.
void scenario(const UringOptions& options) {
    Listener listener;
    Kernel kernel({.engine = "uring", .uring = options, .log = [](std::string_view) {}});
    kernel.run([&]() -> Coro<void> {
        const int client = listener.connect();
        const Descriptor owner{client};
        const auto server = co_await spawn([&]() -> Coro<void> {
            const auto fd = co_await traps::accept(listener.fd);
            if (!fd)
                throw std::system_error(fd.error());
            const Descriptor connection{*fd};
            char c = 0;
            const auto got = co_await traps::recv(connection.get(), bytes_of(&c, 1));
            if (got)
                (void)co_await traps::send(connection.get(), bytes_of(&c, 1));
        });
        char c = 'x';
        (void)co_await traps::send(client, bytes_of(&c, 1));
        (void)co_await ignore_after(5ms, [&] { return traps::recv(client, bytes_of(&c, 1)); });
        co_await server.cancel();
    });
}

} // namespace

int main() {
#if TRAPLINE_THREAD_SANITIZER
    skip("ThreadSanitizer's own operator new cannot be replaced, and never fails");
#endif
    for_each_ring(
        [](const UringOptions& options) {
            operations(options);
            tasks(options);
        },
        {2, 64});
    const int before = open_descriptors();
    int n = 0;
    for (bool clean = false; !clean; ++n) {
        CHECK(n < 2'000, "it never runs to its end");
        const long refused_before = refused;
        std::thread([&] { // a fresh one: it has no recycled frames
            granted = n;
            try {
                scenario(ring_of(64));
            } catch (const std::bad_alloc&) {
            } catch (const std::exception& failure) { // whose text had no memory, or says so
                CHECK(refused > refused_before, failure.what());
            }
            granted = -1;
        })
            .join();
        clean = refused == refused_before;
        CHECK_EQUAL(open_descriptors(), before, "a descriptor leaked");
    }
    std::printf("%d allocations failed, one by one\n", n - 1);
}
