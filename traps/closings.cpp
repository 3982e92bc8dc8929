#include "closings.hpp"

namespace trapline::detail {

constinit std::array<std::atomic<std::uint32_t>, closing_counts> closings{};

} // namespace trapline::detail
