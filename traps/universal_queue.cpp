#include "universal_queue.hpp"

#include <cstdio>
#include <cstdlib>

namespace trapline::detail {

void abort_destroyed_universal(const TrapFrame* waiting) noexcept {
    if (waiting)
        abort_destroyed("UniversalQueue", *waiting);
    std::fputs("trapline: a UniversalQueue is destroyed while a thread waits on it\n", stderr);
    std::abort();
}

} // namespace trapline::detail
