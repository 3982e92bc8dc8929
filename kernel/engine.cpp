#include "engine.hpp"

#include <cerrno>
#include <system_error>

namespace trapline {

bool Operation::ended_by_cancel() const noexcept {
    return result == -ECANCELED || stopped_by == ECANCELED;
}

int Engine::pollable_fd() {
    throw std::system_error(std::make_error_code(std::errc::operation_not_supported),
                            "a descriptor for another loop, of the engine '" + describe() + "'");
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
