// Router: which handler answers which path and method.
//
//     Router router;
//     router.add("GET", "/hello/{name}", [](Request& request) -> Coro<Response> {
//         co_return text_response("Hello " + std::string(request.parameter("name")) + "!\n");
//     });
//     router.add("GET", "/{path...}", [&files](Request& request) {
//         return files.serve(request, request.parameter("path"));
//     });
//
// A pattern's parts are literal, or a name for one part of the path ("{name}", not empty), or at
// its end for all the rest ("{path...}", which may be empty). Where several patterns fit, a literal
// part wins over a name, and that over the rest, from the left. Parameters are decoded once; a rest
// is not decoded, since in there it matters which slashes were encoded.
//
// HEAD is answered by the handler for GET unless it has its own. Without a handler for the method
// the answer is 405, without any 404, and 400 for a parameter that cannot be decoded.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <trapline/traps/coro.hpp>

#include "message.hpp"

namespace trapline::http {

/// Answers a request, which stays the caller's and lives until the coroutine has ended. What it
/// throws becomes 500.
using Handler = std::function<Coro<Response>(Request&)>;

class Router {
public:
    /// Adds a route. "*" as the method is any. Throws std::invalid_argument for a pattern that does
    /// not begin with "/" or is malformed, and if method and pattern have a handler already.
    void add(std::string method, std::string pattern, Handler handler);

    /// Answers a request by its route's handler, and sets its parameters. Blocks if that does.
    Coro<Response> answer(Request& request) const;

private:
    struct Route {
        std::string method;
        std::string pattern;
        Handler handler;
    };

    Response refusal(const Route& first, std::string_view path) const;

    std::vector<Route> routes_; ///< the most special ones first
};

} // namespace trapline::http
