#include "router.hpp"

#include <algorithm>
#include <optional>
#include <stdexcept>

namespace trapline::http {

namespace {

enum class Part : unsigned char { literal, name, rest };

Part kind_of(std::string_view part) noexcept {
    if (!part.starts_with('{'))
        return Part::literal;
    return part.ends_with("...}") ? Part::rest : Part::name;
}

/// Takes the part behind the slash at the front, and the slash.
std::string_view take_part(std::string_view& path) noexcept {
    path.remove_prefix(1);
    const std::string_view part = path.substr(0, path.find('/'));
    path.remove_prefix(part.size());
    return part;
}

/// "{name}" or "{name...}" without what is around the name.
std::string_view name_of(std::string_view part) noexcept {
    const std::size_t around = kind_of(part) == Part::rest ? 5 : 2;
    return part.substr(1, part.size() - around);
}

void check(std::string_view pattern) {
    const auto refuse = [whole = std::string(pattern)](const char* why) {
        throw std::invalid_argument("route \"" + whole + "\" " + why);
    };
    if (!pattern.starts_with('/'))
        refuse("does not begin with a slash");
    for (std::string_view left = pattern; !left.empty();) {
        const std::string_view part = take_part(left);
        if (kind_of(part) == Part::literal && part.find_first_of("{}") != part.npos)
            refuse("has a brace where no part begins or ends");
        if (kind_of(part) == Part::literal)
            continue;
        if (part.size() < 3 || !part.ends_with('}') || name_of(part).empty())
            refuse("has a part without a name");
        if (kind_of(part) == Part::rest && !left.empty())
            refuse("goes on behind the rest of the path");
    }
}

/// Whether `a` goes before `b`.
bool is_more_special(std::string_view a, std::string_view b) noexcept {
    while (!a.empty() && !b.empty()) {
        const Part in_a = kind_of(take_part(a));
        const Part in_b = kind_of(take_part(b));
        if (in_a != in_b)
            return in_a < in_b;
    }
    return false;
}

bool matches(std::string_view pattern, std::string_view path) noexcept {
    while (!pattern.empty() && !path.empty()) {
        const std::string_view part = take_part(pattern);
        if (kind_of(part) == Part::rest)
            return true;
        const std::string_view given = take_part(path);
        if (kind_of(part) == Part::literal ? part != given : given.empty())
            return false;
    }
    return pattern.empty() && path.empty();
}

/// False if one of them cannot be decoded.
bool set_parameters(Request& request, std::string_view pattern) {
    request.parameters.clear();
    for (std::string_view path = request.path; !pattern.empty();) {
        const std::string_view part = take_part(pattern);
        if (kind_of(part) == Part::rest) {
            request.parameters.push_back({name_of(part), std::string(path.substr(1))});
            break;
        }
        const std::string_view given = take_part(path);
        if (kind_of(part) == Part::literal)
            continue;
        std::optional<std::string> decoded = percent_decoded(given);
        if (!decoded)
            return false;
        request.parameters.push_back({name_of(part), std::move(*decoded)});
    }
    return true;
}

Coro<Response> ready(Response answer) { co_return answer; }

} // namespace

void Router::add(std::string method, std::string pattern, Handler handler) {
    check(pattern);
    for (const Route& route : routes_)
        if (route.method == method && route.pattern == pattern)
            throw std::invalid_argument("route " + method + " \"" + pattern + "\" is there twice");
    const auto before = std::ranges::find_if(
        routes_, [&](const Route& route) { return is_more_special(pattern, route.pattern); });
    routes_.insert(before, {std::move(method), std::move(pattern), std::move(handler)});
}

Coro<Response> Router::answer(Request& request) const {
    if (!request.path.starts_with('/')) // OPTIONS *
        return ready(Response{204});
    const Route* found = nullptr;
    const Route* first = nullptr; // that fits the path: it decides which patterns count
    for (const Route& route : routes_) {
        if (!matches(route.pattern, request.path))
            continue;
        if (first && is_more_special(first->pattern, route.pattern))
            break;
        first = first ? first : &route;
        if (route.method == request.method || route.method == "*") {
            found = &route;
            break;
        }
        if (route.method == "GET" && request.method == "HEAD")
            found = &route; // unless HEAD has a handler
    }
    if (!found && !first)
        return ready(error_response(404));
    if (!found)
        return ready(refusal(*first, request.path));
    if (!set_parameters(request, found->pattern))
        return ready(error_response(400, "a path that cannot be decoded"));
    return found->handler(request);
}

/// 405, with the methods that there are.
Response Router::refusal(const Route& first, std::string_view path) const {
    std::string allowed;
    for (const Route& route : routes_) {
        if (!matches(route.pattern, path) || is_more_special(first.pattern, route.pattern))
            continue;
        allowed += (allowed.empty() ? "" : ", ") + route.method;
        if (route.method == "GET")
            allowed += ", HEAD";
    }
    Response answer = error_response(405);
    answer.set("Allow", allowed);
    return answer;
}

} // namespace trapline::http
