// Internal. The buffers that receive() lends, in a ring from which Linux takes one when there is
// something to receive ("provided buffers", Linux 5.19).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "../../traps/io_request.hpp"
#include "../../traps/lease.hpp"
#include "lent_buffers.hpp"
#include "uring_compat.hpp"

namespace trapline {

class ProvidedBuffers final : public BufferPool {
public:
    static constexpr unsigned short group = 0; // there is one

    struct Leave {
        void operator()(ProvidedBuffers* pool) const noexcept { pool->leave(); }
    };
    using Owner = std::unique_ptr<ProvidedBuffers, Leave>;

    /// Null when there is no memory. Where Linux has no such rings, or with a count of 0, each
    /// receive takes a buffer of its own before it waits.
    static Owner make(io_uring& ring, unsigned count, unsigned bytes) noexcept;

    /// Buffers that Linux can still take, as far as is known here.
    std::size_t left() const noexcept { return lent() < count_ ? count_ - lent() : 0; }

    /// Fills in a submission, its flags too.
    void prepare(io_uring_sqe& sqe, const traps::Receive& request) noexcept;

    /// From what its completion says, makes the lease, or takes back a buffer with nothing in it.
    /// Answers the result.
    int settle(const traps::Receive& request, int result, std::uint32_t flags) noexcept;

private:
    void take_back(std::uint32_t buffer) noexcept override;

    ProvidedBuffers(unsigned count, unsigned bytes) noexcept : count_(count), bytes_(bytes) {}
    ~ProvidedBuffers() override;

    unsigned count_;
    unsigned bytes_;
    io_uring_buf_ring* ring_ = nullptr; ///< null where Linux has none
    std::size_t mapped_bytes_ = 0;
    std::byte* memory_ = nullptr;
};

} // namespace trapline
