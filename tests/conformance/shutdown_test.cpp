// P11: shutdown cancels what is left, newest first, and waits for it.
#include "conformance.hpp"

#include <thread>

using namespace trapline;
using namespace trapline::test;

TEST_CASE("P11: shutdown cancels what is left, newest first") {
    each_engine([](const KernelOptions& options) {
        std::vector<int> order;
        run_and_shut_down(options, [&]() -> Coro<void> {
            for (int i = 0; i < 10; ++i) {
                co_await spawn([&order, i]() -> Coro<void> {
                    const std::string seen = co_await interrupt_of([] { return sleep(1h); });
                    CHECK(seen == "TaskCancelled");
                    order.push_back(i);
                    throw TaskCancelled{};
                });
            }
            co_await yield_now();
        });
        CHECK(order == std::vector{9, 8, 7, 6, 5, 4, 3, 2, 1, 0});
    });
}

TEST_CASE("P11: run makes a kernel and shuts it down") {
    each_engine([](const KernelOptions& options) {
        bool cleaned = false;
        const int result = run(
            [&]() -> Coro<int> {
                co_await spawn([&]() -> Coro<void> {
                    const Counted frame;
                    (void)co_await interrupt_of([] { return sleep(1h); });
                    cleaned = true;
                });
                co_await yield_now();
                co_return 3;
            },
            options);
        CHECK(result == 3);
        CHECK(cleaned);
    });
}

TEST_CASE("P11: shutdown waits for cleanup that awaits: time, turns, I/O and threads") {
    each_io_engine([](const KernelOptions& options) {
        const Ends ends = socket_pair();
        std::string steps;
        std::jthread thread;
        ThreadCompletion completion;
        run_and_shut_down(options, [&]() -> Coro<void> {
            co_await spawn([&]() -> Coro<void> {
                (void)co_await interrupt_of([] { return sleep(1h); });
                co_await sleep(500us);
                steps += "slept,";
                co_await let_others_run();
                (void)co_await traps::send(ends.a.get(), std::as_bytes(std::span("bye", 3)));
                steps += "sent,";
                thread = std::jthread{[&] { completion.complete(1); }};
                (void)co_await traps::AwaitThread{&completion};
                steps += "joined";
            });
            co_await yield_now();
        });
        CHECK(steps == "slept,sent,joined");
        CHECK(read_waiting(ends.b.get()) == "bye");
    });
}

TEST_CASE("P11: threads may complete while the kernel shuts down, and after it is gone") {
    each_engine([](const KernelOptions& options) {
        constexpr int threads = 3;
        for (int round = 0; round < 50; ++round) {
            ThreadCompletion completions[threads];
            int woken = 0;
            int cancelled = 0;
            std::atomic<bool> go = false;
            std::vector<std::jthread> workers; // joined when the kernel is gone
            for (ThreadCompletion& completion : completions) {
                workers.emplace_back([&] {
                    while (!go)
                        std::this_thread::yield();
                    completion.complete(1);
                });
            }
            run_and_shut_down(options, [&]() -> Coro<void> {
                for (ThreadCompletion& completion : completions) {
                    co_await spawn([&]() -> Coro<void> {
                        const Counted frame;
                        const std::string seen = co_await interrupt_of(
                            [&] { return TrapCall{traps::AwaitThread{&completion}}; });
                        ++(seen == "none" ? woken : cancelled);
                    });
                }
                go = true;
                while (woken < round % (threads + 1)) // the other threads are about to complete
                    co_await yield_now();
            });
            CHECK(woken >= round % (threads + 1));
            CHECK(woken + cancelled == threads);
        }
    });
}

TEST_CASE("P11: tasks in every kind of wait end, and their operations with them") {
    each_io_engine([](const KernelOptions& options) {
        const Descriptor listener = tcp_listener();
        std::vector<Ends> pairs;
        WaitQueue queue;
        for (int i = 0; i < 20; ++i)
            pairs.push_back(socket_pair());
        run_and_shut_down(options, [&]() -> Coro<void> {
            for (const Ends& ends : pairs) {
                co_await spawn([fd = ends.a.get()]() -> Coro<void> {
                    const Counted frame;
                    std::string buffer(16, '\0');
                    (void)co_await traps::recv(fd, bytes_of(buffer));
                });
                co_await spawn([fd = ends.b.get()]() -> Coro<void> {
                    const Counted frame;
                    (void)co_await traps::read_wait(fd);
                });
            }
            const Task<void> parked = co_await spawn(park_on(queue));
            co_await spawn([parked]() -> Coro<void> { co_await parked.join(); });
            co_await spawn([&]() -> Coro<void> { (void)co_await traps::accept(listener.get()); });
            co_await spawn(sleep_forever());
            co_await let_others_run();
        });
        for (const Ends& ends : pairs) {
            CHECK(write_all(ends.a.get(), "x"));
            CHECK(read_waiting(ends.b.get()) == "x");
        }
    });
}

TEST_CASE("P11: tasks that have not begun are cancelled at their first blocking trap") {
    each_engine([](const KernelOptions& options) {
        int begun = 0;
        int passed = 0;
        run_and_shut_down(options, [&]() -> Coro<void> {
            for (int i = 0; i < 5; ++i) {
                co_await spawn(
                    [&](Counted) -> Coro<void> {
                        ++begun;
                        co_await yield_now();
                        ++passed;
                    },
                    Counted{});
            }
        });
        CHECK(begun == 5);
        CHECK(passed == 0);
    });
}

TEST_CASE("P11: what cleanup spawns is cancelled and waited for, too") {
    each_engine([](const KernelOptions& options) {
        int cleaned = 0;
        run_and_shut_down(options, [&]() -> Coro<void> {
            co_await spawn([&]() -> Coro<void> {
                (void)co_await interrupt_of([] { return sleep(1h); });
                co_await spawn([&]() -> Coro<void> {
                    const std::string seen = co_await interrupt_of([] { return sleep(1h); });
                    cleaned += seen == "TaskCancelled";
                });
                ++cleaned;
            });
            co_await yield_now();
        });
        CHECK(cleaned == 2);
    });
}

TEST_CASE("P11: cleanup may join tasks that are cancelled with it") {
    each_engine([](const KernelOptions& options) {
        std::string steps;
        run_and_shut_down(options, [&]() -> Coro<void> {
            const Task<void> child = co_await spawn([&]() -> Coro<void> {
                (void)co_await interrupt_of([] { return sleep(1h); });
                co_await sleep(200us);
                steps += "child,";
            });
            co_await spawn([&steps, child]() -> Coro<void> {
                (void)co_await interrupt_of([] { return sleep(1h); });
                (void)co_await child.cancel();
                steps += "parent";
            });
            co_await yield_now();
        });
        CHECK(steps == "child,parent");
    });
}

TEST_CASE("P11: a task that survived a cancellation is cancelled once more") {
    each_engine([](KernelOptions options) {
        options.shutdown_patience = 1ms;
        options.log = [](std::string_view) {};
        int interrupts = 0;
        run_and_shut_down(options, [&]() -> Coro<void> {
            const Task<void> task = co_await spawn([&]() -> Coro<void> {
                for (int i = 0; i < 2; ++i) {
                    const std::string seen = co_await interrupt_of([] { return sleep(1h); });
                    interrupts += seen == "TaskCancelled";
                }
            });
            co_await yield_now();
            (void)co_await traps::Cancel{task.record()};
            co_await let_others_run();
            CHECK(interrupts == 1);
        });
        CHECK(interrupts == 2);
    });
}

TEST_CASE("P11: shutdown names nobody who has not had his turn since he was interrupted") {
    each_engine([](KernelOptions options) {
        std::string said;
        options.shutdown_patience = Duration::zero();
        options.log = [&said](std::string_view line) { said += line; };
        run_and_shut_down(options, []() -> Coro<void> {
            co_await spawn(sleep_forever());
            co_await yield_now();
        });
        CHECK(said == "");
    });
}

TEST_CASE("P11: shutdown does not interrupt a cleanup that a cancel has started") {
    each_engine([](const KernelOptions& options) {
        bool cleaned_up = false;
        run_and_shut_down(options, [&]() -> Coro<void> {
            const Task<void> task = co_await spawn([&]() -> Coro<void> {
                (void)co_await interrupt_of([] { return sleep(1h); });
                co_await sleep(2ms);
                cleaned_up = true;
            });
            co_await yield_now();
            (void)co_await traps::Cancel{task.record()};
        });
        CHECK(cleaned_up);
    });
}

TEST_CASE("P11: a task that swallows its cancellation ends by itself, and shutdown waits") {
    each_engine([](const KernelOptions& options) {
        int turns = 0;
        run_and_shut_down(options, [&]() -> Coro<void> {
            co_await spawn([&]() -> Coro<void> {
                while (turns < 100) {
                    (void)co_await interrupt_of(yield_now());
                    ++turns;
                }
            });
        });
        CHECK(turns == 100);
    });
}

TEST_CASE("P11: a task parked for good with interrupts held back is destroyed, with a word") {
    each_engine([](KernelOptions options) {
        std::vector<std::string> log;
        options.log = [&](std::string_view line) { log.emplace_back(line); };
        const long before = Counted::alive();
        WaitQueue queue;
        Task<void> task;
        {
            Kernel kernel{options};
            kernel.run([&]() -> Coro<void> {
                task = co_await spawn(
                    [&]() -> Coro<void> {
                        const Counted frame;
                        co_await disable_cancellation(park_on(queue));
                    },
                    {.name = "stubborn"});
                co_await let_others_run();
            });
            CHECK(Counted::alive() == before + 1);
            kernel.shutdown();
            CHECK(kernel.task_count() == 0);
        }
        CHECK(Counted::alive() == before);
        CHECK(queue.empty());
        CHECK(task.terminated());
        CHECK(task.cancelled());
        REQUIRE(log.size() == 1);
        CHECK(log[0].contains("stubborn"));
    });
}

TEST_CASE("P11: who joins a task that had to be destroyed goes on, and sees it cancelled") {
    each_engine([](KernelOptions options) {
        std::vector<std::string> log;
        options.log = [&](std::string_view line) { log.emplace_back(line); };
        bool cancelled = false;
        WaitQueue queue;
        {
            Kernel kernel{options};
            kernel.run([&]() -> Coro<void> {
                // The joiner is the older one, so it is not the first to be destroyed.
                Task<void> task;
                co_await spawn([&]() -> Coro<void> {
                    co_await yield_now();
                    const Task<void> joined = task;
                    co_await disable_cancellation(joined.wait());
                    cancelled = joined.cancelled();
                });
                task = co_await spawn(
                    [&]() -> Coro<void> { co_await disable_cancellation(park_on(queue)); });
                co_await let_others_run();
                task = {};
            });
        }
        CHECK(cancelled);
        CHECK(log.size() == 1);
    });
}

TEST_CASE("P11: shutdown twice is harmless, and a kernel that was shut down runs no more") {
    each_engine([](const KernelOptions& options) {
        Kernel kernel{options};
        kernel.run(let_others_run());
        kernel.shutdown();
        kernel.shutdown();
        CHECK_THROWS_AS(kernel.run(let_others_run()), std::logic_error);
    });
}

TEST_CASE("P11: shutdown without a run, and of a kernel with nothing left, is harmless") {
    each_engine([](const KernelOptions& options) {
        Kernel idle{options};
        idle.shutdown();
        Kernel never_used{options};
    });
}

TEST_CASE("P11: when main throws, the others are cancelled and cleaned up all the same") {
    each_engine([](const KernelOptions& options) {
        bool cleaned = false;
        CHECK_THROWS_AS(run(
                            [&]() -> Coro<void> {
                                co_await spawn([&]() -> Coro<void> {
                                    (void)co_await interrupt_of([] { return sleep(1h); });
                                    co_await sleep(100us);
                                    cleaned = true;
                                });
                                co_await yield_now();
                                throw std::runtime_error("main");
                            },
                            options),
                        std::runtime_error);
        CHECK(cleaned);
    });
}

TEST_CASE("P11: a crash during shutdown is logged, and the rest is still cleaned up") {
    each_engine([](const KernelOptions& options) {
        const CapturedStderr captured;
        int cleaned = 0;
        run_and_shut_down(options, [&]() -> Coro<void> {
            for (int i = 0; i < 3; ++i) {
                co_await spawn([&, i]() -> Coro<void> {
                    (void)co_await interrupt_of([] { return sleep(1h); });
                    if (i == 1)
                        throw std::runtime_error("cleanup failed");
                    co_await sleep(100us);
                    ++cleaned;
                });
            }
            co_await yield_now();
        });
        CHECK(cleaned == 2);
        CHECK(captured.text().contains("cleanup failed"));
    });
}

TEST_CASE("P11: in any order of the ready tasks, everything is cleaned up") {
    each_engine([](KernelOptions options) {
        for (std::uint64_t seed = 1; seed <= 10; ++seed) {
            options.shuffle_seed = seed;
            int cleaned = 0;
            run_and_shut_down(options, [&]() -> Coro<void> {
                for (int i = 0; i < 20; ++i) {
                    co_await spawn([&]() -> Coro<void> {
                        const Counted frame;
                        (void)co_await interrupt_of([] { return sleep(1h); });
                        co_await let_others_run();
                        ++cleaned;
                    });
                }
                co_await let_others_run();
            });
            CHECK(cleaned == 20);
        }
    });
}

TEST_CASE("P11: two hundred operations in flight are ended, and every descriptor is closed") {
    each_io_engine([](const KernelOptions& options) {
        run_and_shut_down(options, []() -> Coro<void> {
            for (int i = 0; i < 200; ++i) {
                co_await spawn([]() -> Coro<void> {
                    Ends ends = socket_pair();
                    TcpStream stream{std::move(ends.a), {}};
                    std::string buffer(64, '\0');
                    (void)co_await stream.recv(bytes_of(buffer));
                });
            }
            co_await let_others_run();
        });
    });
}
