#include "semaphore.hpp"

#include <stdexcept>

namespace trapline {

void BoundedSemaphore::raise_released_too_often() {
    throw std::logic_error("a BoundedSemaphore was released more often than it was acquired");
}

} // namespace trapline
