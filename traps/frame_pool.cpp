#include "frame_pool.hpp"

#include <atomic>
#include <iterator>
#include <utility>

namespace trapline::detail {

namespace {
constinit thread_local bool thread_over = false; // what is made now is never kept
} // namespace

struct alignas(FramePool::granule_bytes) FramePool::Chunk {
    std::atomic<std::size_t> holders = 1; ///< blocks cut from it, and the thread that cuts

    std::byte* begin() noexcept { return reinterpret_cast<std::byte*>(this + 1); }
    std::byte* end() noexcept { return reinterpret_cast<std::byte*>(this) + chunk_bytes; }

    void drop() noexcept {
        if (holders.fetch_sub(1, std::memory_order_acq_rel) == 1)
            ::operator delete(this, alignment);
    }
};

/// A thread's chunk. When the thread ends, what it keeps goes with it.
struct FramePool::Cutter {
    Cutter() noexcept { kept_bytes_limit_ = kept_bytes_max; }
    Cutter(const Cutter&) = delete;
    Cutter& operator=(const Cutter&) = delete;
    ~Cutter() {
        kept_bytes_limit_ = 0;
        for (std::size_t index = 0; index < std::size(classes_); ++index) {
            while (Block* block = classes_[index].free) {
                classes_[index].free = block->next;
                give_back(block, index * granule_bytes - sizeof(Tail));
            }
        }
        if (chunk)
            std::exchange(chunk, nullptr)->drop();
        thread_over = true;
    }

    void* cut(std::size_t bytes) {
        const std::size_t stride = bytes + sizeof(Tail);
        if (!chunk || static_cast<std::size_t>(chunk->end() - next) < stride) {
            auto* fresh = ::new (::operator new(chunk_bytes, alignment)) Chunk;
            if (chunk)
                chunk->drop();
            chunk = fresh;
            next = fresh->begin();
        }
        void* memory = std::exchange(next, next + stride);
        chunk->holders.fetch_add(1, std::memory_order_relaxed);
        tail(memory, bytes).chunk = chunk;
        return memory;
    }

    Chunk* chunk = nullptr;
    std::byte* next = nullptr; ///< in it
};

void* FramePool::cut(std::size_t bytes) {
    if (!thread_over) [[likely]] {
        static thread_local Cutter cutter;
        return cutter.cut(bytes);
    }
    void* memory = ::operator new(bytes + sizeof(Tail), alignment);
    tail(memory, bytes).chunk = nullptr;
    return memory;
}

void FramePool::give_back(void* memory, std::size_t bytes) noexcept {
    if (Chunk* chunk = tail(memory, bytes).chunk)
        chunk->drop();
    else
        ::operator delete(memory, alignment);
}

} // namespace trapline::detail
