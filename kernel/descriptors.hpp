// Who uses which descriptor: the kernel's side of "one reader and one writer at a time", and of
// closing. Closing a descriptor ends nothing by itself on Linux: operations in flight keep the
// file open and go on (tests/ring/close_ends_nothing.cpp). So a Close waits here until they have
// been ended, and only then goes to the engine.
#pragma once

#include <cstdint>
#include <vector>

#include "engine.hpp"

namespace trapline {

class Descriptors {
public:
    enum class Admission : std::uint8_t {
        granted,
        busy,    ///< another operation is on the same side
        closing, ///< a Close of the descriptor is under way
        waits,   ///< a Close that must wait for what for_each_in_flight() shows
        no_memory,
    };

    /// Enters an operation; unless granted, it is not entered.
    Admission enter(Operation& operation) noexcept;

    /// Enters one that ends all others on fd: a Close, or a release of fd.
    Admission enter_closing(Operation& operation, int fd) noexcept;

    /// Takes an operation out. Calls may_go(closer) for each closing one that waited for it alone.
    template <class F>
    void leave(Operation& operation, F&& may_go) {
        for (DescriptorLink& at : operation.links) {
            if (!at.operation) continue;
            Entry& entry = unlink(at);
            if (!entry.first && entry.closer) may_go(*entry.closer);
        }
    }

    /// Ends the closing of fd.
    void closed(int fd) noexcept {
        if (fd >= 0 && static_cast<std::size_t>(fd) < entries_.size())
            entries_[static_cast<std::size_t>(fd)].closer = nullptr;
    }

    template <class F>
    void for_each_in_flight(int fd, F&& f) {
        DescriptorLink* link = entries_[static_cast<std::size_t>(fd)].first;
        while (link) {
            DescriptorLink* next = link->next;
            f(*link->operation);
            link = next;
        }
    }

private:
    struct Entry {
        DescriptorLink* first = nullptr; ///< operations in flight
        Operation* closer = nullptr;     ///< the Close that waits for them
        bool reading = false;
        bool writing = false;
    };

    Entry* entry(int fd) noexcept;
    void link(Operation& operation, DescriptorLink& at, traps::DescriptorUse use) noexcept;
    Entry& unlink(DescriptorLink& at) noexcept;
    bool* side(Entry& entry, traps::Side side) noexcept;

    std::vector<Entry> entries_; // by descriptor number, which Linux keeps small
};

} // namespace trapline
