// Internal. The io_uring engine.
#pragma once

#include <memory>

#include "../engine.hpp"
#include "../options.hpp"

namespace trapline {

/// Throws std::system_error, with cause and remedy, when the system refuses the ring.
std::unique_ptr<Engine> make_uring_engine(const UringOptions& options);

} // namespace trapline
