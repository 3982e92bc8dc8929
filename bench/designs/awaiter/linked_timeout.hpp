// The program `limit_linked`: as `limit`, but the limit is an operation of the ring's, linked to
// the one that it limits.
#pragma once

#include "../program.hpp"

namespace awaiter_design {

/// Throws std::system_error where the system refuses the ring.
void limit_linked(designs::Run& run);

} // namespace awaiter_design
