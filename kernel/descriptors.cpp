#include "descriptors.hpp"

#include <algorithm>
#include <new>

namespace trapline {

namespace {
/// Linux's own limit, fs.nr_open, unless somebody raised it. Beyond it nothing is kept.
constexpr int descriptor_max = 1 << 20;
} // namespace

Descriptors::Entry* Descriptors::entry(int fd) noexcept {
    const auto index = static_cast<std::size_t>(fd);
    if (index >= entries_.size()) {
        try {
            if (index >= entries_.capacity()) // what is only reserved takes no memory yet
                entries_.reserve(std::max(index + 1, entries_.capacity() * 2));
            entries_.resize(index + 1);
        } catch (const std::bad_alloc&) {
            return nullptr;
        }
    }
    return &entries_[index];
}

void Descriptors::link(Operation& operation, DescriptorLink& at,
                       traps::DescriptorUse use) noexcept {
    Entry& entry = entries_[static_cast<std::size_t>(use.fd)];
    at = {.previous = nullptr,
          .next = nullptr,
          .fd = use.fd,
          .side = use.side,
          .second = &at != operation.links,
          .entered = true};
    if (use.side != traps::Side::none) {
        entry.on(use.side) = &operation;
        return;
    }
    at.next = entry.others;
    if (entry.others)
        entry.others->previous = &at;
    entry.others = &at;
}

/// Answers the Close that may go now, if one does.
Operation* Descriptors::unlink(DescriptorLink& at) noexcept {
    if (!at.entered)
        return nullptr;
    at.entered = false;
    Entry& entry = entries_[static_cast<std::size_t>(at.fd)];
    if (at.side != traps::Side::none) {
        entry.on(at.side) = nullptr;
    } else {
        (at.previous ? at.previous->next : entry.others) = at.next;
        if (at.next)
            at.next->previous = at.previous;
    }
    return entry.in_use() ? nullptr : entry.closer;
}

Descriptors::Admission Descriptors::enter_other(Operation& operation) noexcept {
    const traps::DescriptorUses uses = traps::descriptors_of(*operation.request);
    operation.links[0].entered = operation.links[1].entered = false;
    const auto known = [](int fd) { return fd >= 0 && fd < descriptor_max; };
    for (const traps::DescriptorUse& use : {uses.first, uses.second}) {
        if (!known(use.fd))
            continue; // none, or the engine says EBADF
        Entry* at = entry(use.fd);
        if (!at)
            return Admission::no_memory;
        if (at->closer)
            return Admission::closing;
        if (use.side != traps::Side::none && at->on(use.side))
            return Admission::busy;
    }
    if (known(uses.first.fd))
        link(operation, operation.links[0], uses.first);
    if (known(uses.second.fd))
        link(operation, operation.links[1], uses.second);
    return Admission::granted;
}

Descriptors::Admission Descriptors::enter_closing(Operation& operation, int fd) noexcept {
    operation.links[0].entered = operation.links[1].entered = false;
    if (fd < 0 || fd >= descriptor_max)
        return Admission::granted;
    Entry* at = entry(fd);
    if (!at)
        return Admission::no_memory;
    if (at->closer)
        return Admission::closing;
    at->closer = &operation;
    return at->in_use() ? Admission::waits : Admission::granted;
}

} // namespace trapline
