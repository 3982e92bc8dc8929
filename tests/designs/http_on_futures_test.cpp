// The web server of examples/http, whose parts are compiled once, on a kernel of futures.
#include "../../bench/designs/future/traps_on_futures.hpp"

#include <cstdlib>
#include <filesystem>
#include <string>

#include <doctest/doctest.h>

#include <trapline/kernel/engines/uring.hpp>
#include <trapline/trapline.hpp>

#include "../../examples/http/connection.hpp"
#include "../../examples/http/router.hpp"
#include "../../examples/http/static_files.hpp"
#include "../support/leaks.hpp"

using namespace trapline;
using namespace std::chrono_literals;

namespace {

Coro<void> serve(SocketAddress at, std::string directory, Result<SocketAddress>& listening) {
    http::StaticFiles files = co_await http::StaticFiles::open(directory);
    http::Router router;
    router.add("GET", "/hello", [](http::Request&) -> Coro<http::Response> {
        co_return http::text_response("Hello, world!\n");
    });
    router.add("GET", "/files/{path...}", [&files](http::Request& request) {
        return files.serve(request, request.parameter("path"));
    });
    http::Service service{std::move(router)};
    ServerOptions options;
    options.idle_limit = 10s;
    options.stop_limit = 5s;
    options.on_listening = [&listening](const SocketAddress& where) { listening.set_value(where); };
    co_await tcp_server(
        at,
        [&service](TcpStream client, Connection& connection) -> Coro<void> {
            co_await http::serve_connection(client, service, &connection);
        },
        std::move(options));
}

/// What the server answers to `request`, to the end of the connection.
Coro<std::string> ask(SocketAddress at, std::string request) {
    TcpStream stream = co_await TcpStream::connect(at);
    co_await stream.send_all(request);
    std::string all;
    std::array<std::byte, 4096> buffer;
    while (std::size_t n = co_await stream.recv(buffer))
        all.append(reinterpret_cast<const char*>(buffer.data()), n);
    co_return all;
}

} // namespace

TEST_CASE("a web server runs on futures, and stops gracefully") {
    const test::LeakGuard guard;
    const std::filesystem::path directory =
        std::filesystem::temp_directory_path() / ("on_futures." + std::to_string(::getpid()));
    std::filesystem::create_directory(directory);
    const std::string content(100'000, 'c');
    run(write_file(directory / "page.txt", content));
    future_design::FutureKernel kernel{make_uring_engine({})};
    kernel.run([&]() -> Coro<void> {
        Result<SocketAddress> listening;
        Task<> serving =
            co_await spawn(serve(SocketAddress::ipv4("127.0.0.1", 0), directory, listening));
        const SocketAddress at = co_await listening.unwrap();
        const std::string two = co_await ask(at, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
                                                 "GET /hello HTTP/1.1\r\nHost: x\r\n"
                                                 "Connection: close\r\n\r\n");
        CHECK(two.starts_with("HTTP/1.1 200 OK\r\n"));
        CHECK(two.find("Hello, world!\n") != two.rfind("Hello, world!\n"));
        const std::string file = co_await ask(
            at, "GET /files/page.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        CHECK(file.ends_with("\r\n\r\n" + content));
        const std::string none =
            co_await ask(at, "GET /files/../none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        CHECK(none.starts_with("HTTP/1.1 40"));
        CHECK((co_await serving.cancel()));
    }());
    kernel.shutdown();
    std::filesystem::remove_all(directory);
}
