#include "buffers.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <new>

#include <sys/mman.h>

namespace trapline {

namespace {

constexpr unsigned count_max = 32768; // Linux's

} // namespace

ProvidedBuffers::Owner ProvidedBuffers::make(io_uring& ring, unsigned count,
                                             unsigned bytes) noexcept {
    count = count == 0 ? 0 : std::bit_ceil(std::min(count, count_max));
    bytes = std::max(bytes, 1U);
    Owner pool{new (std::nothrow) ProvidedBuffers{count, bytes}};
    if (!pool || count == 0)
        return pool;
    // The ring lies at the beginning, where it is aligned to a page. No part of the rest is
    // touched, and takes memory, before it is first used.
    const std::size_t ring_bytes = count * sizeof(io_uring_buf);
    const std::size_t all_bytes = ring_bytes + std::size_t{count} * bytes;
    void* memory = map_pages(all_bytes);
    if (!memory)
        return nullptr;
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uintptr_t>(memory);
    registration.ring_entries = count;
    registration.bgid = group;
    if (io_uring_register_buf_ring(&ring, &registration, 0) != 0) {
        munmap(memory, all_bytes); // an older Linux
        return pool;
    }
    pool->ring_ = static_cast<io_uring_buf_ring*>(memory);
    pool->memory_ = static_cast<std::byte*>(memory) + ring_bytes;
    pool->mapped_bytes_ = all_bytes;
    io_uring_buf_ring_init(pool->ring_);
    pool->shown_ = 0;
    pool->show(std::min(count, shown_at_first));
    return pool;
}

ProvidedBuffers::~ProvidedBuffers() {
    if (mapped_bytes_ > 0)
        munmap(static_cast<void*>(ring_), mapped_bytes_);
}

void ProvidedBuffers::show(unsigned more) noexcept {
    for (const unsigned end = shown_ + more; shown_ < end; ++shown_)
        take_back(shown_);
}

bool ProvidedBuffers::show_more() noexcept {
    if (shown_ == count_)
        return false;
    const unsigned step = std::max(shown_ / 2, 1U);
    if (left() < step) // else others have found none a moment ago
        show(std::min(step, count_ - shown_));
    return true;
}

void ProvidedBuffers::take_back(std::uint32_t buffer) noexcept {
    io_uring_buf_ring_add(ring_, memory_ + std::size_t{buffer} * bytes_, bytes_,
                          static_cast<unsigned short>(buffer), io_uring_buf_ring_mask(count_), 0);
    io_uring_buf_ring_advance(ring_, 1);
}

void ProvidedBuffers::prepare(io_uring_sqe& sqe, const traps::Receive& request) noexcept {
    void* data = nullptr;
    if (!ring_) {
        if (!request.lease->data())
            *request.lease = lend_own_buffer(bytes_);
        data = request.lease->data();
    }
    io_uring_prep_recv(&sqe, request.fd, data, bytes_, request.flags);
    sqe.flags = ring_ ? IOSQE_BUFFER_SELECT : 0;
    sqe.buf_group = group;
}

int ProvidedBuffers::settle(const traps::Receive& request, const Operation& operation, int result,
                            std::uint32_t flags) noexcept {
    BufferLease& lease = *request.lease;
    if (flags & IORING_CQE_F_BUFFER) {
        const std::uint32_t buffer = flags >> IORING_CQE_BUFFER_SHIFT;
        if (result > 0)
            lease = {*this, buffer, memory_ + std::size_t{buffer} * bytes_,
                     static_cast<std::size_t>(result)};
        else
            take_back(buffer);
    } else if (result == -ENOBUFS && operation.retries < tries_max && show_more()) {
        return -EINTR;
    } else if (!ring_) {
        if (result == -EFAULT && !lease.data())
            return -ENOMEM;
        lease.resize(result > 0 ? static_cast<std::size_t>(result) : 0);
        if (result <= 0)
            lease.reset();
    }
    return result;
}

} // namespace trapline
