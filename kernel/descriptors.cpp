#include "descriptors.hpp"

#include <algorithm>
#include <new>

namespace trapline {

namespace {
constexpr int descriptor_max =
    1 << 24; // far above any RLIMIT_NOFILE in use; what lies above is a typo
}

Descriptors::Entry* Descriptors::entry(int fd) noexcept {
    const auto index = static_cast<std::size_t>(fd);
    if (index >= entries_.size()) {
        try {
            entries_.resize(std::max(index + 1, entries_.size() * 2));
        } catch (const std::bad_alloc&) {
            return nullptr;
        }
    }
    return &entries_[index];
}

bool* Descriptors::side(Entry& entry, traps::Side side) noexcept {
    switch (side) {
    case traps::Side::read: return &entry.reading;
    case traps::Side::write: return &entry.writing;
    case traps::Side::none: break;
    }
    return nullptr;
}

void Descriptors::link(Operation& operation, DescriptorLink& at,
                       traps::DescriptorUse use) noexcept {
    Entry& entry = entries_[static_cast<std::size_t>(use.fd)];
    at = {&operation, nullptr, entry.first, use};
    if (entry.first) entry.first->previous = &at;
    entry.first = &at;
    if (bool* taken = side(entry, use.side)) *taken = true;
}

Descriptors::Admission Descriptors::enter(Operation& operation) noexcept {
    const traps::DescriptorUses uses = traps::descriptors_of(operation.request);
    operation.links[0].operation = operation.links[1].operation = nullptr;
    const auto known = [](int fd) { return fd >= 0 && fd < descriptor_max; };
    for (const traps::DescriptorUse& use : {uses.first, uses.second}) {
        if (!known(use.fd)) continue; // none, or the engine says EBADF
        Entry* at = entry(use.fd);
        if (!at) return Admission::no_memory;
        if (at->closer) return Admission::closing;
        if (const bool* taken = side(*at, use.side); taken && *taken) return Admission::busy;
    }
    if (known(uses.first.fd)) link(operation, operation.links[0], uses.first);
    if (known(uses.second.fd)) link(operation, operation.links[1], uses.second);
    return Admission::granted;
}

Descriptors::Admission Descriptors::enter_closing(Operation& operation, int fd) noexcept {
    operation.links[0].operation = operation.links[1].operation = nullptr;
    if (fd < 0 || fd >= descriptor_max) return Admission::granted;
    Entry* at = entry(fd);
    if (!at) return Admission::no_memory;
    if (at->closer) return Admission::closing;
    at->closer = &operation;
    return at->first ? Admission::waits : Admission::granted;
}

Descriptors::Entry& Descriptors::unlink(DescriptorLink& at) noexcept {
    Entry& entry = entries_[static_cast<std::size_t>(at.use.fd)];
    (at.previous ? at.previous->next : entry.first) = at.next;
    if (at.next) at.next->previous = at.previous;
    if (bool* taken = side(entry, at.use.side)) *taken = false;
    at.operation = nullptr;
    return entry;
}

} // namespace trapline
