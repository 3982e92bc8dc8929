// The engine parameter: on what the conformance cases run. Whoever has an engine of his own defines
// engines() himself, and compiles the cases with that instead of engines.cpp.
#pragma once

#include <string>
#include <vector>

#include <trapline/kernel/options.hpp>

namespace trapline::test {

struct EngineChoice {
    std::string name;
    KernelOptions options;
};

/// At least one. The last one is compared with the first by random programs, the others sometimes:
/// differential_test.cpp needs two.
const std::vector<EngineChoice>& engines();

/// For cases that need no descriptors, and no time that passes while somebody is ready.
inline const EngineChoice& simulation() {
    static const EngineChoice choice{"simulation", {.engine = "simulation"}};
    return choice;
}

} // namespace trapline::test
