// An echo server on Asio's coroutines, written as Asio's own example is. What its users tune: one
// thread, so no locks; and the loop's own type of executor, so no virtual calls.
//
//     peer_asio_echo 127.0.0.1:25000
#include <cstddef>
#include <cstdio>
#include <exception>
#include <string>
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

Awaitable<void> echo(Socket client) {
    try {
        char data[1024];
        for (;;) {
            const std::size_t n =
                co_await client.async_read_some(asio::buffer(data), use_awaitable);
            co_await asio::async_write(client, asio::buffer(data, n), use_awaitable);
        }
    } catch (const std::system_error&) {
        // The client is gone.
    }
}

Awaitable<void> serve(Acceptor& acceptor) {
    for (;;) {
        Socket client = co_await acceptor.async_accept(use_awaitable);
        client.set_option(tcp::no_delay(true));
        asio::co_spawn(acceptor.get_executor(), echo(std::move(client)), asio::detached);
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
        Acceptor acceptor{loop.get_executor(), parse(argc > 1 ? argv[1] : "127.0.0.1:25000")};
        asio::co_spawn(loop.get_executor(), serve(acceptor), [](std::exception_ptr failure) {
            if (failure)
                std::rethrow_exception(failure);
        });
        loop.run();
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "peer_asio_echo: %s\n", failure.what());
        return 1;
    }
}
