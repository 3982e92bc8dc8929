#include "trampoline.hpp"

#include <stdexcept>

#include <trapline/traps/calls.hpp>

namespace trapline {

Coro<int> by_transfer(int depth, bool fails) {
    if (depth > 0)
        co_return 1 + co_await by_trampoline(depth - 1, fails);
    co_await yield_now();
    if (fails)
        throw std::runtime_error("from the bottom");
    co_return 0;
}

Coro<long> sum_by_transfer(int n) {
    long sum = 0;
    if (n == 1)
        co_return 1;
    for (int i = 0; i < n; ++i)
        sum += co_await sum_by_trampoline(1);
    co_return sum;
}

AsyncGenerator<int> ones_by_transfer(int n, bool traps) {
    for (int i = 0; i < n; ++i) {
        if (traps)
            co_await yield_now();
        co_yield 1;
    }
}

Coro<long> add_by_transfer(AsyncGenerator<int> of) {
    long sum = 0;
    while (const auto item = co_await of.next())
        sum += *item;
    co_return sum;
}

} // namespace trapline
