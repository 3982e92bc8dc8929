#include "../../examples/http/router.hpp"

#include <stdexcept>

#include <doctest/doctest.h>

#include <trapline/kernel/kernel.hpp>

using namespace trapline;
using namespace trapline::http;

namespace {

/// Answers its own name, and the parameters.
Handler named(std::string name) {
    return [name](Request& request) {
        std::string text = name;
        for (const Parameter& parameter : request.parameters)
            text += " " + std::string(parameter.name) + "=" + parameter.value;
        return [](std::string body) -> Coro<Response> {
            co_return text_response(std::move(body));
        }(std::move(text));
    };
}

std::string ask(const Router& router, std::string_view method, std::string_view path) {
    Request request;
    request.method = method;
    request.path = path;
    const Response answer = run(router.answer(request));
    const std::string allow(answer.header("Allow"));
    return answer.status() == 200
               ? answer.body()
               : std::to_string(answer.status()) + (allow.empty() ? "" : " ") + allow;
}

} // namespace

TEST_CASE("a route answers, with what its path has in it") {
    struct {
        Coro<Response> serve(const Request& request, std::string_view path) const {
            co_return text_response(std::string(request.method) + " " + std::string(path));
        }
        Coro<Response> serve(Request& request, std::string_view path) const {
            return serve(std::as_const(request), path);
        }
    } files;
    Router router;
    router.add("GET", "/hello/{name}", [](Request& request) -> Coro<Response> {
        co_return text_response("Hello " + std::string(request.parameter("name")) + "!\n");
    });
    router.add("GET", "/{path...}", [&files](Request& request) {
        return files.serve(request, request.parameter("path"));
    });
    CHECK(ask(router, "GET", "/hello/a%20b") == "Hello a b!\n");
    CHECK(ask(router, "GET", "/x/y") == "GET x/y");
    CHECK(ask(router, "HEAD", "/") == "HEAD ");
}

TEST_CASE("the more special pattern wins, whichever was added first") {
    Router router;
    router.add("GET", "/{rest...}", named("rest"));
    router.add("GET", "/{a}/x", named("a-x"));
    router.add("GET", "/b/{c}", named("b-c"));
    router.add("GET", "/b/x", named("b-x"));
    router.add("GET", "/", named("root"));
    CHECK(ask(router, "GET", "/") == "root");
    CHECK(ask(router, "GET", "/b/x") == "b-x");
    CHECK(ask(router, "GET", "/b/y") == "b-c c=y");
    CHECK(ask(router, "GET", "/c/x") == "a-x a=c");
    CHECK(ask(router, "GET", "/b/") == "rest rest=b/");
    CHECK(ask(router, "GET", "/b/%2F") == "b-c c=/");
    CHECK(ask(router, "GET", "/q/%2F") == "rest rest=q/%2F");
    CHECK(ask(router, "GET", "//") == "rest rest=/");
}

TEST_CASE("what has no route is 404, what has none for its method 405") {
    Router router;
    router.add("GET", "/a", named("get"));
    router.add("POST", "/a", named("post"));
    router.add("*", "/any", named("any"));
    router.add("HEAD", "/own", named("head"));
    router.add("GET", "/own", named("get"));
    router.add("GET", "/{name}", named("name"));
    CHECK(ask(router, "POST", "/a") == "post");
    CHECK(ask(router, "DELETE", "/a") == "405 GET, HEAD, POST");
    CHECK(ask(router, "HEAD", "/a") == "get");
    CHECK(ask(router, "HEAD", "/own") == "head");
    CHECK(ask(router, "DELETE", "/any") == "any");
    CHECK(ask(router, "GET", "/x/y") == "404");
    CHECK(ask(router, "GET", "/%4") == "400");
    CHECK(ask(router, "OPTIONS", "*") == "204");
    CHECK(ask(Router{}, "GET", "/") == "404");
}

TEST_CASE("patterns that make no sense are refused") {
    Router router;
    for (const char* pattern : {"", "a", "/{", "/{}", "/{...}", "/{a...}/b", "/a{b}", "/{a}b"}) {
        CAPTURE(pattern);
        CHECK_THROWS_AS(router.add("GET", pattern, named("x")), std::invalid_argument);
    }
    router.add("GET", "/a", named("x"));
    CHECK_THROWS_AS(router.add("GET", "/a", named("y")), std::invalid_argument);
}
