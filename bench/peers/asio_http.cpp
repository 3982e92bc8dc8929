// A web server on Asio's coroutines which greets everybody, tuned as asio_echo.cpp is. Asio has no
// parser of HTTP: a request ends at its empty line, and nothing else is looked at.
//
//     peer_asio_http 127.0.0.1:8080
#include <cstddef>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <asio.hpp>

namespace {

using asio::ip::tcp;
using Executor = asio::io_context::executor_type;
using Socket = asio::basic_stream_socket<tcp, Executor>;
using Acceptor = asio::basic_socket_acceptor<tcp, Executor>;
template <typename T>
using Awaitable = asio::awaitable<T, Executor>;

constexpr asio::use_awaitable_t<Executor> use_awaitable;
constexpr std::size_t request_max = 16384;
constexpr std::string_view greeting = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                                      "Content-Length: 14\r\n\r\nHello, world!\n";

Awaitable<void> talk(Socket client) {
    try {
        std::string read; // and not yet answered
        for (;;) {
            const std::size_t n = co_await asio::async_read_until(
                client, asio::dynamic_buffer(read, request_max), "\r\n\r\n", use_awaitable);
            read.erase(0, n);
            co_await asio::async_write(client, asio::buffer(greeting), use_awaitable);
        }
    } catch (const std::system_error&) {
        // The client is gone, or its request is too long.
    }
}

Awaitable<void> serve(Acceptor& acceptor) {
    for (;;) {
        Socket client = co_await acceptor.async_accept(use_awaitable);
        client.set_option(tcp::no_delay(true));
        asio::co_spawn(acceptor.get_executor(), talk(std::move(client)), asio::detached);
    }
}

tcp::endpoint parse(const std::string& text) {
    const std::size_t colon = text.rfind(':');
    return {asio::ip::make_address(text.substr(0, colon)),
            static_cast<unsigned short>(std::stoi(text.substr(colon + 1)))};
}

} // namespace

int main(int argc, char** argv) {
    try {
        asio::io_context loop{ASIO_CONCURRENCY_HINT_UNSAFE};
        Acceptor acceptor{loop.get_executor(), parse(argc > 1 ? argv[1] : "127.0.0.1:8080")};
        asio::co_spawn(loop.get_executor(), serve(acceptor), [](std::exception_ptr failure) {
            if (failure)
                std::rethrow_exception(failure);
        });
        loop.run();
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "peer_asio_http: %s\n", failure.what());
        return 1;
    }
}
