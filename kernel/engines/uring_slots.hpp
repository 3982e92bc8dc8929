// Internal. Who is in flight with Linux: a table of places with generations, so that a completion
// that comes late or twice finds an empty place instead of freed memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

#include "../engine.hpp"

namespace trapline {

class UringSlots {
public:
    // The highest bit of a place is free for the engine's use, and so are a few last numbers.
    static constexpr std::uint32_t end = 0x7fff'fffd;

    bool full() const noexcept { return free_ == end; }

    /// Whether somebody is in flight. O(n).
    bool any() const noexcept {
        return std::ranges::any_of(slots_, [](const Slot& slot) { return slot.operation; });
    }

    /// With as much room reserved in `beside`. Throws std::bad_alloc; then all is as it was.
    void grow(std::vector<Operation*>& beside) {
        const std::size_t old_size = slots_.size();
        constexpr std::size_t step = 64;
        if (slots_.capacity() < old_size + step) // what is only reserved takes no memory yet
            slots_.reserve(std::max(step, old_size * 2));
        beside.reserve(slots_.capacity());
        slots_.resize(old_size + step);
        first_ = slots_.data();
        size_ = slots_.size();
        for (std::size_t slot = size_; slot-- > old_size;) {
            slots_[slot].next_free = free_;
            free_ = static_cast<std::uint32_t>(slot);
        }
    }

    /// Not when it is full.
    void take(Operation& operation) noexcept {
        operation.slot = free_;
        Slot& slot = first_[free_];
        free_ = slot.next_free;
        slot.operation = &operation;
    }

    void give_back(Operation& operation) noexcept {
        Slot& slot = first_[operation.slot];
        slot.operation = nullptr;
        ++slot.generation;
        slot.next_free = std::exchange(free_, operation.slot);
    }

    /// The generation in the upper half, the place in the lower.
    std::uint64_t user_data_of(const Operation& operation) const noexcept {
        return std::uint64_t{first_[operation.slot].generation} << 32 | operation.slot;
    }

    /// Null if that one has gone: a place that is free is of a generation that nobody has had yet.
    Operation* find(std::uint32_t slot, std::uint32_t generation) const noexcept {
        if (slot >= size_ || first_[slot].generation != generation) [[unlikely]]
            return nullptr;
        return first_[slot].operation;
    }

private:
    struct Slot {
        Operation* operation = nullptr;
        std::uint32_t generation = 0;
        std::uint32_t next_free = 0;
    };

    std::vector<Slot> slots_;
    Slot* first_ = nullptr; // where they lie, and how many they are
    std::size_t size_ = 0;
    std::uint32_t free_ = end;
};

} // namespace trapline
