#include "universal_queue.hpp"

#include <cstdio>
#include <cstdlib>
#include <string>

#include "park.hpp"

namespace trapline::detail {

void abort_destroyed_universal(const TaskRecord* waiting) noexcept {
    const std::string waiter = waiting ? describe_waiter(*waiting) : "a thread";
    std::fprintf(stderr, "trapline: a UniversalQueue is destroyed while %s waits on it\n",
                 waiter.c_str());
    std::abort();
}

} // namespace trapline::detail
