// A kernel inside GLib's main loop, as a program with windows would have it: a timeout and a socket
// of GLib's and tasks of ours on one thread. Two of ours count down, a third asks GLib's service
// again and again how often its clock has ticked. When they are done the main loop ends.
#include <array>
#include <exception>
#include <iostream>
#include <string>

#include <gio/gio.h>
#include <glib-unix.h>
#include <trapline/trapline.hpp>

#include "rockets.hpp"

using namespace trapline;
using namespace std::chrono_literals;

/// All it takes: GLib polls the kernel's descriptor, and has it run a turn.
guint add_to_main_loop(Kernel& kernel) {
    const auto turn = [](gint, GIOCondition, gpointer data) -> gboolean {
        static_cast<Kernel*>(data)->run_once();
        return G_SOURCE_CONTINUE;
    };
    return g_unix_fd_add(kernel.pollable_fd(), G_IO_IN, turn, &kernel);
}

// --- GLib's: a clock, and a service that tells it ----------------------------------------------

int ticks = 0;

gboolean tick(gpointer) {
    ++ticks;
    return G_SOURCE_CONTINUE;
}

gboolean tell(GSocketService*, GSocketConnection* client, GObject*, gpointer) {
    const std::string text = std::to_string(ticks) + " ticks\n";
    GOutputStream* const out = g_io_stream_get_output_stream(G_IO_STREAM(client));
    g_output_stream_write(out, text.data(), text.size(), nullptr, nullptr);
    return TRUE;
}

// --- ours ----------------------------------------------------------------------------------------

Coro<void> ask(std::string service, int times) {
    for (; times > 0; --times) {
        TcpStream stream = co_await TcpStream::connect(SocketAddress::parse(service));
        std::array<std::byte, 64> buffer;
        const std::size_t n = co_await stream.recv(buffer);
        std::cout << "GLib says: ";
        std::cout.write(reinterpret_cast<const char*>(buffer.data()),
                        static_cast<std::streamsize>(n));
        co_await sleep(120ms);
    }
}

Coro<void> launch_site(std::string service) {
    co_await task_group([&](TaskGroup& group) -> Coro<void> {
        co_await group.spawn(countdown("Ariane", 3, 0, 100ms));
        co_await group.spawn(countdown("Soyuz", 2, 1, 100ms));
        co_await group.spawn(ask(service, 3));
    });
}

/// However it ends.
Coro<void> quit_after(Task<> task, GMainLoop* loop) {
    co_await task.wait();
    g_main_loop_quit(loop); // plain code of the host, on its own thread
}

int main() {
    GMainLoop* const loop = g_main_loop_new(nullptr, FALSE);
    g_timeout_add(10, tick, nullptr);
    GSocketService* const service = g_socket_service_new();
    const guint16 port =
        g_socket_listener_add_any_inet_port(G_SOCKET_LISTENER(service), nullptr, nullptr);
    g_signal_connect(service, "incoming", G_CALLBACK(tell), nullptr);

    int status = 0;
    {
        Kernel kernel;
        const guint source = add_to_main_loop(kernel);
        const auto at = "127.0.0.1:" + std::to_string(port);
        const Task<> ours = kernel.spawn(launch_site(at));
        kernel.spawn(quit_after(ours, loop));
        g_main_loop_run(loop);
        g_source_remove(source); // before the kernel goes, which shuts down
        kernel.shutdown();
        try {
            ours.result();
        } catch (const std::exception& failure) {
            std::cerr << "glib_loop: " << failure.what() << std::endl;
            status = 1;
        }
    }
    std::cout << "GLib ticked " << (ticks > 0 ? "meanwhile" : "not at all") << std::endl;
    g_object_unref(service);
    g_main_loop_unref(loop);
    return status;
}
