// A web server: a greeting at / and /hello/NAME, or a directory's files at / and the greeting
// beside them; with a certificate by TLS. Ctrl-C ends it when the requests under way are answered.
//
//     sh examples/run.sh http 127.0.0.1:8080 [DIRECTORY] [--tls CERTIFICATE KEY]
#include <chrono>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

#include <trapline/trapline.hpp>

#include "http/connection.hpp"
#include "http/router.hpp"
#include "http/static_files.hpp"

using namespace trapline;

namespace {

struct Arguments {
    SocketAddress at = SocketAddress::parse("127.0.0.1:8080");
    std::string directory{};
    std::string certificate{}; ///< files of PEM
    std::string key{};
};

std::optional<Arguments> parse(int count, char** texts) {
    Arguments arguments;
    int given = 0;
    for (int i = 1; i < count; ++i) {
        const std::string_view text = texts[i];
        if (text == "--tls" && i + 2 < count) {
            arguments.certificate = texts[++i];
            arguments.key = texts[++i];
        } else if (text.starts_with("--") || given == 2) {
            return std::nullopt;
        } else if (given++ == 0) {
            arguments.at = SocketAddress::parse(text);
        } else {
            arguments.directory = text;
        }
    }
    return arguments;
}

Coro<http::Response> greet(http::Request& request) {
    const std::string name = http::html_escaped(request.parameter("name"));
    co_return http::html_response("<!doctype html><title>Hello</title><p>Hello " + name + "!\n");
}

Coro<http::Response> greet_all(http::Request&) { co_return http::text_response("Hello, world!\n"); }

Coro<void> talk(TcpStream client, Connection& connection, http::Service& service) {
    co_await http::serve_connection(client, service, &connection);
}

#ifdef TRAPLINE_TLS
Coro<void> talk_secretly(TcpStream client, Connection& connection, http::Service& service,
                         const TlsServerContext& context) {
    // A handshake is nothing to be finished when the server stops.
    auto secret = co_await connection.idle(TlsStream::accept(std::move(client), context));
    if (secret)
        co_await http::serve_connection(*secret, service, &connection);
}
#endif

Coro<void> serve(Arguments arguments) {
    std::optional<http::StaticFiles> files;
    http::Router router;
    router.add("GET", "/hello/{name}", greet);
    if (arguments.directory.empty()) {
        router.add("GET", "/", greet_all);
    } else {
        files.emplace(co_await http::StaticFiles::open(arguments.directory));
        router.add("GET", "/{path...}", [&files](http::Request& request) {
            return files->serve(request, request.parameter("path"));
        });
    }
    http::Service service{std::move(router)};

    ServerOptions options;
    options.listen.no_delay = true;
    options.stop_limit = std::chrono::seconds{10};
    options.on_listening = [&arguments](const SocketAddress& at) {
        std::printf("http%s://%s/, Ctrl-C ends it\n", arguments.key.empty() ? "" : "s",
                    at.to_string().c_str());
        std::fflush(stdout);
    };
    if (arguments.key.empty()) {
        co_await tcp_server(
            arguments.at,
            [&service](TcpStream client, Connection& connection) {
                return talk(std::move(client), connection, service);
            },
            std::move(options));
    } else {
#ifdef TRAPLINE_TLS
        const TlsServerContext context{
            {.identities = {TlsIdentity::files(arguments.certificate, arguments.key)},
             .alpn = {"http/1.1"}}};
        co_await tcp_server(
            arguments.at,
            [&service, &context](TcpStream client, Connection& connection) {
                return talk_secretly(std::move(client), connection, service, context);
            },
            std::move(options));
#else
        throw std::runtime_error("--tls: this was built without OpenSSL");
#endif
    }
}

} // namespace

int main(int count, char** texts) {
    try {
        const std::optional<Arguments> arguments = parse(count, texts);
        if (!arguments) {
            std::fputs("http ADDRESS:PORT [DIRECTORY] [--tls CERTIFICATE KEY]\n", stderr);
            return 2;
        }
        run(serve(*arguments), {.cancel_on = stop_signals});
    } catch (const Cancelled&) {
        std::puts("bye");
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "http: %s\n", failure.what());
        return 1;
    }
}
