// Internal. Buffers that receive() lends: what all engines have in common, and the pool of one that
// fills them itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "../../traps/lease.hpp"

namespace trapline {

/// A buffer that goes with its lease. An empty lease when there is no memory.
BufferLease lend_own_buffer(std::size_t bytes) noexcept;

/// Pages of zeros, or null. They take memory when they are first touched.
void* map_pages(std::size_t bytes) noexcept;

class LentBuffers final : public BufferPool {
public:
    struct Leave {
        void operator()(LentBuffers* pool) const noexcept { pool->leave(); }
    };
    using Owner = std::unique_ptr<LentBuffers, Leave>;

    /// Null when there is no memory. With a count of 0 each lease has a buffer of its own.
    static Owner make(unsigned count, unsigned bytes) noexcept;

    /// Whether lend() has one to give, but for want of memory.
    bool any_left() const noexcept { return count_ == 0 || !free_.empty(); }

    /// Lends a whole buffer. An empty lease when all are lent, or when there is no memory.
    BufferLease lend() noexcept;

private:
    void take_back(std::uint32_t buffer) noexcept override;

    LentBuffers(unsigned count, unsigned bytes) noexcept : count_(count), bytes_(bytes) {}
    ~LentBuffers() override;

    unsigned count_;
    unsigned bytes_;
    std::byte* memory_ = nullptr;
    std::size_t mapped_bytes_ = 0;
    std::vector<std::uint32_t> free_; // room for all is reserved
};

} // namespace trapline
