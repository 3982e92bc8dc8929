// Failure: a task's frame, with the buffer in it, is destroyed while its operation is in flight,
// and Linux writes into what is somebody else's memory by then (RELIABILITY 2, row 36).
// Proves: whatever ends a task (a cancellation, a time limit, the kernel's shutdown or
// destruction), it ends only after each of its traps was answered, and bytes that come later stay
// in the socket.
// Seen on Linux 6.18: no write after the operation's own completion, in every mode.
#include "../support/ring.hpp"

#include <array>
#include <map>
#include <vector>

using namespace ring_test;

namespace {

class NobodyLeavesEarly final : public Observer {
public:
    void trapped(const TaskRecord& task, const Trap&) noexcept override { ++open_[&task]; }
    void replied(const TaskRecord& task, const Reply&) noexcept override { --open_[&task]; }
    void terminated(const TaskRecord& task) noexcept override {
        CHECK_EQUAL(open_[&task], 0, "a task ended with a trap that was not answered");
        open_.erase(&task);
        ++ended;
    }
    int ended = 0;

private:
    std::map<const TaskRecord*, int> open_;
};

} // namespace

int main() {
    for_each_ring([](const UringOptions& options) {
        constexpr std::size_t count = 20;
        std::vector<Pair> pairs;
        for (std::size_t i = 0; i < count; ++i)
            pairs.push_back(Pair::sockets());
        const Pair from = Pair::pipe();
        const Pair to = Pair::pipe();
        Listener listener;
        NobodyLeavesEarly observer;
        int cleaned_up = 0;
        {
            Kernel kernel({.engine = "uring", .uring = options, .observer = &observer});
            struct Cleanup {
                int& count;
                ~Cleanup() { ++count; }
            };
            kernel.run([&]() -> Coro<void> {
                for (const Pair& pair : pairs) {
                    co_await spawn([&]() -> Coro<void> {
                        const Cleanup cleanup{cleaned_up};
                        std::array<std::byte, 256> buffer{}; // in the frame
                        (void)co_await traps::recv(pair.fd[0], buffer);
                    });
                }
                co_await spawn([&]() -> Coro<void> {
                    const Cleanup cleanup{cleaned_up};
                    (void)co_await traps::accept(listener.fd);
                });
                co_await spawn([&]() -> Coro<void> {
                    const Cleanup cleanup{cleaned_up};
                    (void)co_await traps::splice(from.fd[0], to.fd[1], 4096);
                });
                co_await spawn([&]() -> Coro<void> {
                    const Cleanup cleanup{cleaned_up};
                    (void)co_await traps::read_wait(to.fd[0]);
                });
                const bool in_time = co_await ignore_after(200us, [&]() -> Coro<void> {
                    const Cleanup cleanup{cleaned_up};
                    std::array<std::byte, 256> buffer{};
                    (void)co_await traps::recv(pairs[0].fd[1], buffer);
                });
                CHECK(!in_time, "a time limit");
            });
            // main has ended; the others are in flight when the kernel goes.
        }
        CHECK_EQUAL(cleaned_up, static_cast<int>(count) + 4, "all frames were destroyed");
        CHECK_EQUAL(observer.ended, static_cast<int>(count) + 4, "all tasks have ended");
        for (const Pair& pair : pairs) {
            char c = 0;
            pair.put("x");
            CHECK_EQUAL(recv(pair.fd[0], &c, 1, MSG_DONTWAIT), 1, "a byte that comes later stays");
        }
    });
}
