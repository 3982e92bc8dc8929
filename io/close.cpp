#include "close.hpp"

#include <cerrno>
#include <utility>

#include "errors.hpp"

namespace trapline::detail {

namespace {

/// After these of close(2) the descriptor is gone, or was not this one's. Others are of those who
/// refused to call it.
bool is_of_close(int error) noexcept {
    switch (error) {
    case EBADF:
    case ECANCELED:
    case EDQUOT:
    case EINTR:
    case EIO:
    case ENOSPC: return true;
    default: return false;
    }
}

} // namespace

void CloseAwaiter::fail() {
    if (!is_of_close(reply().error())) {
        Descriptor kept{fd_};
        if (!owner_)
            owner_ = std::move(kept);
    }
    raise_error(reply().error(), what_ + (whose_ ? name_(whose_) : ""));
}

} // namespace trapline::detail
