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
    if (index >= size_) {
        try {
            if (index >= entries_.capacity()) // what is only reserved takes no memory yet
                entries_.reserve(std::max(index + 1, entries_.capacity() * 2));
            entries_.resize(index + 1);
            first_ = entries_.data();
            size_ = entries_.size();
        } catch (const std::bad_alloc&) {
            return nullptr;
        }
    }
    return &first_[index];
}

bool Descriptors::occupies_no_side(const traps::IoRequest& request, int fd) noexcept {
    if (std::holds_alternative<traps::Close>(request))
        return false;
    const auto has_none = [fd](traps::DescriptorUse use) {
        return use.fd == fd && use.side == traps::Side::none;
    };
    const traps::DescriptorUses uses = traps::descriptors_of(request);
    return has_none(uses.first) || has_none(uses.second);
}

void Descriptors::put_in(Operation& operation, traps::DescriptorUse use) noexcept {
    Entry& at = first_[static_cast<std::size_t>(use.fd)];
    if (use.side != traps::Side::none)
        at.on(use.side) = Entry::side_of(operation);
    else
        at.rest += 2;
}

/// Answers the Close that may go now, if one does.
Operation* Descriptors::take_out(Operation& operation, traps::DescriptorUse use) noexcept {
    const auto index = static_cast<std::size_t>(use.fd);
    if (index >= size_)
        return nullptr; // no descriptor
    Entry& at = first_[index];
    if (use.side != traps::Side::none) {
        Entry::Side& side = at.on(use.side);
        if (Entry::operation(side) != &operation)
            return nullptr; // it was never entered
        side &= Entry::closing_bit;
    } else if (at.closing()) {
        --at.closer().transferred;
    } else {
        at.rest -= 2;
    }
    return at.closing() && !at.in_use() ? &at.closer() : nullptr;
}

Descriptors::Admission Descriptors::enter_other(Operation& operation) noexcept {
    const traps::DescriptorUses uses = traps::descriptors_of(*operation.request);
    const auto known = [](int fd) { return fd >= 0 && fd < descriptor_max; };
    for (const traps::DescriptorUse& use : {uses.first, uses.second}) {
        if (!known(use.fd))
            continue; // none, or the engine says EBADF
        Entry* at = entry(use.fd);
        if (!at)
            return Admission::no_memory;
        if (at->closing())
            return Admission::closing;
        if (use.side != traps::Side::none && at->on(use.side) != 0)
            return Admission::busy;
    }
    if (known(uses.first.fd))
        put_in(operation, uses.first);
    if (known(uses.second.fd))
        put_in(operation, uses.second);
    return Admission::granted;
}

Descriptors::Admission Descriptors::enter_closing(Operation& operation, int fd) noexcept {
    if (fd < 0 || fd >= descriptor_max)
        return Admission::granted;
    Entry* at = entry(fd);
    if (!at)
        return Admission::no_memory;
    if (at->closing())
        return Admission::closing;
    operation.transferred = at->others();
    at->rest = Entry::side_of(operation) | Entry::closing_bit;
    at->reader |= Entry::closing_bit;
    at->writer |= Entry::closing_bit;
    return at->in_use() ? Admission::waits : Admission::granted;
}

} // namespace trapline
