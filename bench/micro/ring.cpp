// A no-op through the ring, one by one and 32 at a time, beside a raw liburing loop.
#include <benchmark/benchmark.h>

#include <stdexcept>

#include <liburing.h>

#include <trapline/trapline.hpp>

using namespace trapline;

namespace {

constexpr int operations_a_run = 32'000;

Coro<void> nops(int count) {
    for (int i = 0; i < count; ++i)
        (void)co_await traps::nop();
}

Coro<void> nops_in_tasks(int tasks) {
    std::vector<Task<void>> running;
    for (int i = 0; i < tasks; ++i)
        running.push_back(co_await spawn(nops(operations_a_run / tasks)));
    for (const Task<void>& task : running)
        co_await task.join();
}

void nop(benchmark::State& state) {
    Kernel kernel;
    for (auto _ : state)
        kernel.run(nops_in_tasks(static_cast<int>(state.range(0))));
    state.SetItemsProcessed(state.iterations() * operations_a_run);
}

void nop_floor(benchmark::State& state) {
    io_uring ring{};
    io_uring_params parameters{};
    parameters.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    if (io_uring_queue_init_params(256, &ring, &parameters) != 0)
        throw std::runtime_error("no ring");
    io_uring_register_ring_fd(&ring);
    const auto batch = static_cast<int>(state.range(0));
    for (auto _ : state) {
        for (int done = 0; done < operations_a_run; done += batch) {
            for (int i = 0; i < batch; ++i) {
                io_uring_sqe* sqe = io_uring_get_sqe(&ring);
                io_uring_prep_nop(sqe);
                sqe->user_data = static_cast<std::uint64_t>(i);
            }
            io_uring_submit_and_wait(&ring, static_cast<unsigned>(batch));
            unsigned head = 0;
            unsigned count = 0;
            io_uring_cqe* cqe = nullptr;
            io_uring_for_each_cqe(&ring, head, cqe) {
                benchmark::DoNotOptimize(cqe->user_data);
                ++count;
            }
            io_uring_cq_advance(&ring, count);
        }
    }
    state.SetItemsProcessed(state.iterations() * operations_a_run);
    io_uring_queue_exit(&ring);
}

BENCHMARK(nop)->ArgName("at_once")->Arg(1)->Arg(32);
BENCHMARK(nop_floor)->ArgName("at_once")->Arg(1)->Arg(32);

} // namespace

BENCHMARK_MAIN();
