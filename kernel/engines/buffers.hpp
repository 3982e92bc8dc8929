// Internal. The buffers that receive() lends, in a ring from which Linux takes one when there is
// something to receive ("provided buffers", Linux 5.19). It takes them in turn, so all that lie
// there are soon touched, however few are needed at a time: the ring begins with a part of them,
// and gets more when that does not suffice. What never came into it takes no memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "../../traps/io_request.hpp"
#include "../../traps/lease.hpp"
#include "../engine.hpp"
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
    std::size_t left() const noexcept { return lent() < shown_ ? shown_ - lent() : 0; }

    /// Gives Linux more, unless enough has come back meanwhile. Answers false if it has all.
    bool show_more() noexcept;

    /// Fills in a submission, its flags too.
    void prepare(io_uring_sqe& sqe, const traps::Receive& request) noexcept;

    /// From what its completion says, makes the lease, or takes back a buffer with nothing in it.
    /// Answers the result: -EINTR if Linux found no buffer, and will find one next time.
    int settle(const traps::Receive& request, const Operation& operation, int result,
               std::uint32_t flags) noexcept;

private:
    void take_back(std::uint32_t buffer) noexcept override;
    void show(unsigned more) noexcept;

    ProvidedBuffers(unsigned count, unsigned bytes) noexcept
        : count_(count), bytes_(bytes), shown_(count) {}
    ~ProvidedBuffers() override;

    static constexpr unsigned shown_at_first = 64;
    static constexpr std::uint8_t tries_max = 10; // should Linux keep some that are not known of

    unsigned count_;
    unsigned bytes_;
    unsigned shown_;                    ///< so many, from the first on, are lent or lie in the ring
    io_uring_buf_ring* ring_ = nullptr; ///< null where Linux has none
    std::size_t mapped_bytes_ = 0;
    std::byte* memory_ = nullptr;
};

} // namespace trapline
