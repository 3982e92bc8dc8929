#include "close.hpp"

#include "errors.hpp"

namespace trapline::detail {

void CloseAwaiter::raise() const {
    std::string whose;
    if (address_)
        whose = address_->to_string();
    else if (path_)
        whose = *path_;
    raise_error(reply().error(), what_ + whose);
}

} // namespace trapline::detail
