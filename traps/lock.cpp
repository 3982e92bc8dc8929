#include "lock.hpp"

#include <stdexcept>

namespace trapline {

void Lock::raise_not_locked() { throw std::logic_error("a Lock was released that nobody has"); }

void RLock::raise_not_locked() { throw std::logic_error("an RLock was released that nobody has"); }

} // namespace trapline
