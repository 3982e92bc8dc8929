// Internal. The epoll engine.
#pragma once

#include <memory>

#include "../engine.hpp"
#include "../options.hpp"

namespace trapline {

/// Throws std::system_error, with cause and remedy, when there are no descriptors for it.
std::unique_ptr<Engine> make_epoll_engine(const EpollOptions& options);

} // namespace trapline
