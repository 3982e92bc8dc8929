// Coroutines in two object files, one of them compiled with TRAPLINE_TRAMPOLINE, that await each
// other.
#pragma once

#include <trapline/traps/async_generator.hpp>
#include <trapline/traps/coro.hpp>

namespace trapline {

/// `depth` awaits deep, in turns of both kinds; fails at the bottom if `fails`.
Coro<int> by_trampoline(int depth, bool fails = false);
Coro<int> by_transfer(int depth, bool fails = false);

/// Awaits one of the other kind `n` times.
Coro<long> sum_by_trampoline(int n);
Coro<long> sum_by_transfer(int n);

/// Yields 1 `n` times, after a trap each if `traps`.
AsyncGenerator<int> ones_by_trampoline(int n, bool traps);
AsyncGenerator<int> ones_by_transfer(int n, bool traps);

/// The sum of what a generator yields.
Coro<long> add_by_trampoline(AsyncGenerator<int> of);
Coro<long> add_by_transfer(AsyncGenerator<int> of);

} // namespace trapline
