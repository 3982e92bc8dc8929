#include "generator.hpp"

#include <stdexcept>
#include <string>

namespace trapline::detail {

void raise_generator_misuse(const char* what) {
    throw std::logic_error(std::string{"generator: "} + what);
}

} // namespace trapline::detail
