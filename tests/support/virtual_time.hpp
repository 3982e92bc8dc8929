// For cases that need time and no operating system: hours pass at once, and exactly.
#pragma once

#include <trapline/kernel/options.hpp>

namespace trapline::test {

inline KernelOptions virtual_time() { return {.engine = "simulation"}; }

} // namespace trapline::test
