#include "close.hpp"

#include "errors.hpp"

namespace trapline::detail {

void CloseAwaiter::raise() const {
    raise_error(reply().error(), what_ + (address_ ? address_->to_string() : ""));
}

} // namespace trapline::detail
