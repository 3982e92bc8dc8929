// The same for programs without a kernel.
#include <doctest/doctest.h>
#include <trapline/traps/calls.hpp>
#include <trapline/traps/cancel.hpp>
#include <trapline/traps/coro.hpp>
#include <trapline/traps/routine.hpp>
#include <trapline/traps/task.hpp>
