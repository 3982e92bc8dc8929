#define TRAPLINE_TRAMPOLINE
#include "trampoline.hpp"

#include <stdexcept>
#include <type_traits>

#include <trapline/traps/calls.hpp>

static_assert(std::is_void_v<trapline::detail::HandOver>);

namespace trapline {

Coro<int> by_trampoline(int depth, bool fails) {
    if (depth > 0)
        co_return 1 + co_await by_transfer(depth - 1, fails);
    co_await yield_now();
    if (fails)
        throw std::runtime_error("from the bottom");
    co_return 0;
}

Coro<long> sum_by_trampoline(int n) {
    long sum = 0;
    if (n == 1)
        co_return 1;
    for (int i = 0; i < n; ++i)
        sum += co_await sum_by_transfer(1);
    co_return sum;
}

AsyncGenerator<int> ones_by_trampoline(int n, bool traps) {
    for (int i = 0; i < n; ++i) {
        if (traps)
            co_await yield_now();
        co_yield 1;
    }
}

Coro<long> add_by_trampoline(AsyncGenerator<int> of) {
    long sum = 0;
    while (const auto item = co_await of.next())
        sum += *item;
    co_return sum;
}

} // namespace trapline
