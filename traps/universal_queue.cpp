#include "universal_queue.hpp"

#include <cstdio>
#include <cstdlib>

#include "exceptions.hpp"

namespace trapline::detail {

void abort_destroyed_universal(const TrapFrame* waiting) noexcept {
    std::fprintf(stderr, "trapline: a UniversalQueue is destroyed while a %s waits on it\n",
                 waiting ? "task" : "thread");
    if (waiting) {
        for (const std::source_location& at : waiting->where())
            std::fprintf(stderr, "    at %s\n", describe(at).c_str());
    }
    std::abort();
}

} // namespace trapline::detail
