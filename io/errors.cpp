#include "errors.hpp"

namespace trapline::detail {

void raise_error(int error, const std::string& what) {
    throw std::system_error(error, std::system_category(), what);
}

} // namespace trapline::detail
