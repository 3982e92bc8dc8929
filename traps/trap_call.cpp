#include "trap_call.hpp"

#include <cerrno>
#include <string>

namespace trapline::detail {

void raise_unanswered(std::size_t trap, int error) {
    std::string text = traps::name_of(trap);
    if (error == ENOSYS)
        text += ": this kernel does not answer the trap";
    throw std::system_error(error_of(error), text);
}

} // namespace trapline::detail
