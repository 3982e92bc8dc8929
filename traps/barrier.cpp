#include "barrier.hpp"

#include <stdexcept>

namespace trapline {

Barrier::Barrier(std::size_t parties) : parties_(parties) {
    if (parties == 0)
        throw std::logic_error("a Barrier for nobody");
}

bool Barrier::complete() noexcept {
    // Counted each time: those who were interrupted in this turn are linked, but do not wait.
    if (waiters_.size() + 1 < parties_)
        return false;
    std::size_t place = 0;
    while (auto* waiter = static_cast<Waiter*>(waiters_.first())) {
        waiter->place_of_arrival = place++;
        waiter->unlink();
        waiter->place.wake();
    }
    return true;
}

} // namespace trapline
