#include "engine.hpp"

#include <cerrno>

namespace trapline {

bool Operation::ended_by_cancel() const noexcept {
    return result == -ECANCELED || stopped_by == ECANCELED;
}

bool OperationList::remove(Operation& operation) noexcept {
    Operation* before = nullptr;
    for (Operation* at = first_; at; before = at, at = at->next) {
        if (at != &operation)
            continue;
        (before ? before->next : first_) = at->next;
        if (last_ == at)
            last_ = before;
        return true;
    }
    return false;
}

} // namespace trapline
