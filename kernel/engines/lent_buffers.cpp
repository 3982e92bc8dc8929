#include "lent_buffers.hpp"

#include <algorithm>
#include <limits>
#include <new>

#include <sys/mman.h>

namespace trapline {

namespace {

/// A buffer that goes with its lease.
class OwnBuffer final : public BufferPool {
public:
    static BufferLease lend(std::size_t bytes) noexcept {
        std::byte* memory = new (std::nothrow) std::byte[bytes];
        OwnBuffer* pool = memory ? new (std::nothrow) OwnBuffer{memory} : nullptr;
        if (!pool) {
            delete[] memory;
            return {};
        }
        BufferLease lease{*pool, 0, memory, bytes};
        pool->leave();
        return lease;
    }

private:
    explicit OwnBuffer(std::byte* memory) noexcept : memory_(memory) {}
    ~OwnBuffer() override { delete[] memory_; }
    void take_back(std::uint32_t) noexcept override {}

    std::byte* memory_;
};

} // namespace

BufferLease lend_own_buffer(std::size_t bytes) noexcept { return OwnBuffer::lend(bytes); }

void* map_pages(std::size_t bytes) noexcept {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? nullptr : memory;
}

LentBuffers::Owner LentBuffers::make(unsigned count, unsigned bytes) noexcept {
    bytes = std::max(bytes, 1U);
    Owner pool{new (std::nothrow) LentBuffers{count, bytes}};
    if (!pool || count == 0)
        return pool;
    // No part of the buffers is touched, and takes memory, before it is first used.
    pool->mapped_bytes_ = std::size_t{count} * bytes;
    pool->memory_ = static_cast<std::byte*>(map_pages(pool->mapped_bytes_));
    try {
        pool->free_.reserve(count);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
    if (!pool->memory_)
        return nullptr;
    for (std::uint32_t buffer = count; buffer-- > 0;)
        pool->free_.push_back(buffer);
    return pool;
}

LentBuffers::~LentBuffers() {
    if (memory_)
        munmap(static_cast<void*>(memory_), mapped_bytes_);
}

BufferLease LentBuffers::lend() noexcept {
    if (count_ == 0)
        return lend_own_buffer(bytes_);
    if (free_.empty())
        return {};
    const std::uint32_t buffer = free_.back(); // the last one used is warm
    free_.pop_back();
    return {*this, buffer, memory_ + std::size_t{buffer} * bytes_, bytes_};
}

void LentBuffers::take_back(std::uint32_t buffer) noexcept { free_.push_back(buffer); }

} // namespace trapline
