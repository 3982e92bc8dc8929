#include "exchange.hpp"

#include <cstdio>
#include <cstdlib>

#include "exceptions.hpp"

namespace trapline::detail {

void abort_destroyed(const char* primitive, const TrapFrame& waiting) noexcept {
    std::fprintf(stderr, "trapline: a %s is destroyed while a task waits on it\n", primitive);
    for (const std::source_location& at : waiting.where())
        std::fprintf(stderr, "    at %s\n", describe(at).c_str());
    std::abort();
}

} // namespace trapline::detail
