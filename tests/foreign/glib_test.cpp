// A kernel inside GLib's main loop, which polls: what was said of Asio in asio_test.cpp.
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include <doctest/doctest.h>
#include <gio/gio.h>
#include <glib-unix.h>

#include <trapline/trapline.hpp>

#include "../support/engines.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

gboolean call(gpointer function) { return (*static_cast<std::function<bool()>*>(function))(); }

/// A main context, and a kernel that it runs a turn of when the descriptor is readable.
struct Host {
    explicit Host(const KernelOptions& options) : kernel(std::in_place, options) {
        watch = g_unix_fd_source_new(kernel->pollable_fd(), G_IO_IN);
        const auto turn = [](gint, GIOCondition, gpointer data) -> gboolean {
            auto& host = *static_cast<Host*>(data);
            ++host.turns;
            host.kernel->run_once();
            return G_SOURCE_CONTINUE;
        };
        g_source_set_callback(watch, G_SOURCE_FUNC(+turn), this, nullptr);
        g_source_attach(watch, context);
    }
    Host(const Host&) = delete;
    Host& operator=(const Host&) = delete;
    ~Host() {
        leave();
        g_source_unref(watch);
        g_main_context_unref(context);
    }

    void leave() {
        g_source_destroy(watch);
        kernel.reset();
    }

    /// Calls `function` every so many milliseconds, until it answers false.
    void every(guint ms, std::function<bool()>& function) {
        GSource* const source = g_timeout_source_new(ms);
        g_source_set_callback(source, call, &function, nullptr);
        g_source_attach(source, context);
        g_source_unref(source);
    }

    void run_until_ended(const Task<>& task) {
        std::function<bool()> give_up = [] {
            FAIL("the task has not ended");
            return false;
        };
        GSource* const alarm = g_timeout_source_new(20'000);
        g_source_set_callback(alarm, call, &give_up, nullptr);
        g_source_attach(alarm, context);
        while (!task.terminated())
            g_main_context_iteration(context, TRUE);
        g_source_destroy(alarm);
        g_source_unref(alarm);
    }

    GMainContext* context = g_main_context_new();
    std::optional<Kernel> kernel;
    GSource* watch = nullptr;
    int turns = 0;
};

template <class Body>
void each_host(Body body) {
    for (const test::EngineChoice& engine : test::engines()) {
        INFO("engine: " << engine.name);
        Host host{engine.options};
        body(host);
    }
}

} // namespace

TEST_CASE("timeouts of GLib's and tasks of ours make progress side by side") {
    each_host([](Host& host) {
        int ticks = 0;
        bool ticking = true;
        std::function<bool()> tick = [&] { return ++ticks, ticking; };
        host.every(1, tick);
        const Task<int> ours = host.kernel->spawn([]() -> Coro<int> {
            int naps = 0;
            for (; naps < 10; ++naps)
                co_await sleep(1ms);
            co_return naps;
        });
        host.run_until_ended(ours);
        CHECK(ours.result() == 10);
        CHECK(ticks > 2);
        ticking = false;
        const int seen = ticks;
        while (ticks <= seen) // the last one ends the source
            g_main_context_iteration(host.context, TRUE);
    });
}

TEST_CASE("a connection between GLib and a task of ours goes both ways in one loop") {
    each_host([](Host& host) {
        int fds[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
        const Descriptor mine{fds[0]};
        const Descriptor theirs{fds[1]};
        GSource* const echo = g_unix_fd_source_new(theirs.get(), G_IO_IN);
        const auto answer = [](gint fd, GIOCondition, gpointer) -> gboolean {
            char byte = 0;
            const bool echoed = ::read(fd, &byte, 1) == 1 && ::write(fd, &byte, 1) == 1;
            return echoed ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
        };
        g_source_set_callback(echo, G_SOURCE_FUNC(+answer), nullptr, nullptr);
        g_source_attach(echo, host.context);
        const Task<std::string> ours = host.kernel->spawn([&]() -> Coro<std::string> {
            std::string heard;
            for (char letter = 'a'; letter <= 'z'; ++letter) {
                (void)co_await traps::send(mine.get(), std::as_bytes(std::span(&letter, 1)));
                char back = 0;
                (void)co_await traps::recv(mine.get(), std::as_writable_bytes(std::span(&back, 1)));
                heard += back;
            }
            co_return heard;
        });
        host.run_until_ended(ours);
        CHECK(ours.result() == "abcdefghijklmnopqrstuvwxyz");
        g_source_destroy(echo);
        g_source_unref(echo);
    });
}

TEST_CASE("a callback of GLib's cancels a task of ours, shuts the kernel down, or destroys it") {
    for (const int way : {0, 1, 2}) {
        each_host([&](Host& host) {
            bool cleaned_up = false;
            const Task<> ours = host.kernel->spawn([&]() -> Coro<void> {
                try {
                    co_await sleep(1h);
                } catch (const TaskCancelled&) {
                    cleaned_up = true;
                    throw;
                }
            });
            std::function<bool()> end_it = [&] {
                if (way == 0)
                    host.kernel->cancel(ours);
                else if (way == 1)
                    host.kernel->shutdown();
                else
                    host.leave();
                return false;
            };
            host.every(2, end_it);
            host.run_until_ended(ours);
            CHECK(ours.cancelled());
            CHECK(cleaned_up);
        });
    }
}

TEST_CASE("a task of ours quits GLib's main loop") {
    each_host([](Host& host) {
        GMainLoop* const loop = g_main_loop_new(host.context, FALSE);
        const Task<> ours = host.kernel->spawn([&]() -> Coro<void> {
            co_await sleep(2ms);
            g_main_loop_quit(loop);
        });
        g_main_loop_run(loop);
        CHECK(ours.terminated());
        g_main_loop_unref(loop);
    });
}

TEST_CASE("threads wake tasks of ours while GLib polls") {
    each_host([](Host& host) {
        const Task<int> ours = host.kernel->spawn([]() -> Coro<int> {
            int sum = 0;
            for (int i = 0; i < 20; ++i)
                sum += co_await run_in_thread([] { return 1; });
            co_return sum;
        });
        host.run_until_ended(ours);
        CHECK(ours.result() == 20);
    });
}

TEST_CASE("with nothing to do GLib has nothing pending, and nobody turns") {
    each_host([](Host& host) {
        const Task<TimePoint> late = host.kernel->spawn([] { return sleep(1h); });
        for (int i = 0; i < 100 && g_main_context_pending(host.context); ++i)
            g_main_context_iteration(host.context, FALSE);
        CHECK_FALSE(g_main_context_pending(host.context));
        const int turns = host.turns;
        int rings = 0;
        std::function<bool()> ring = [&] { return ++rings, false; };
        host.every(20, ring);
        while (rings == 0)
            g_main_context_iteration(host.context, TRUE);
        CHECK(host.turns == turns);
        CHECK(host.kernel->cancel(late));
        host.run_until_ended(late);
    });
}
