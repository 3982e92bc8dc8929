// Internal. Recycled memory for coroutine frames and task records.
//
// A coroutine frame is allocated before anybody can say which kernel will run it, so this cache
// hangs on the thread (kernel/README.md lists the library's thread-locals). Blocks are cut from
// chunks, one behind the other, whatever their size: a malloc block that begins with a cache line
// leaves unused ones beside it (of an idle connection's 1,113 bytes it was 230). A block that is
// freed is kept for the next frame of its size; any thread may free a block of another. A chunk
// goes with the last of its blocks.
// Under AddressSanitizer and ThreadSanitizer nothing is kept, so that they see a use after free,
// and a free that races with a use; every block is then one of `operator new`.
#pragma once

#include <cstddef>
#include <new>

#include "sanitizers.hpp"

namespace trapline::detail {

inline constexpr bool frames_recycled = !TRAPLINE_ADDRESS_SANITIZER && !TRAPLINE_THREAD_SANITIZER;

class FramePool {
public:
    static constexpr std::size_t granule_bytes = 64; // a cache line, and every block's alignment
    static constexpr std::size_t block_bytes_max = 8192;
    static constexpr std::size_t kept_bytes_max = std::size_t{32} << 20; // of one size, a thread
    static constexpr std::size_t chunk_bytes = 64 << 10;

    /// The largest that a block of the same class as this can hold.
    static constexpr std::size_t rounded(std::size_t bytes) noexcept {
        return class_of(bytes) * granule_bytes - sizeof(Tail);
    }

    static void* allocate(std::size_t bytes) {
        if (bytes > block_bytes_max) [[unlikely]]
            return ::operator new(bytes, alignment);
        if constexpr (frames_recycled) {
            Class& blocks = classes_[class_of(bytes)];
            if (Block* block = blocks.free) [[likely]] {
                blocks.free = block->next;
                return block;
            }
            return cut(rounded(bytes));
        }
        // For objects compiled otherwise, too, that file the block under its class.
        void* memory = ::operator new(rounded(bytes) + sizeof(Tail), alignment);
        tail(memory, rounded(bytes)).chunk = nullptr;
        return memory;
    }

    static void deallocate(void* memory, std::size_t bytes) noexcept {
        if (bytes > block_bytes_max) [[unlikely]]
            return ::operator delete(memory, alignment);
        if constexpr (frames_recycled) {
            Class& blocks = classes_[class_of(bytes)];
            const std::size_t kept = rounded(bytes) + (blocks.free ? blocks.free->kept_bytes : 0);
            if (kept <= kept_bytes_limit_) [[likely]] {
                blocks.free = ::new (memory) Block{blocks.free, kept};
                return;
            }
        }
        give_back(memory, rounded(bytes));
    }

private:
    struct Block {
        Block* next;
        std::size_t kept_bytes; ///< in this one and those behind it
    };
    struct Class {
        Block* free;
    };
    struct Chunk;
    /// Behind each block.
    struct Tail {
        Chunk* chunk; ///< null: a block of `operator new`
    };

    static constexpr std::align_val_t alignment{granule_bytes};

    static constexpr std::size_t class_of(std::size_t bytes) noexcept {
        return (bytes + sizeof(Tail) + granule_bytes - 1) / granule_bytes;
    }
    static Tail& tail(void* memory, std::size_t rounded_bytes) noexcept {
        return *reinterpret_cast<Tail*>(static_cast<std::byte*>(memory) + rounded_bytes);
    }

    /// The slow path: a new block, and on a thread's first one the promise to free all at its end.
    static void* cut(std::size_t bytes);
    static void give_back(void* memory, std::size_t bytes) noexcept;

    struct Cutter;

    // Zero-initialised and without destructors, so that the fast path needs no guard. Before the
    // first allocation and after the thread's end the limit is 0: nothing is kept.
    static constinit thread_local Class classes_[block_bytes_max / granule_bytes + 2];
    static constinit thread_local std::size_t kept_bytes_limit_;
};

inline constinit thread_local FramePool::Class
    FramePool::classes_[block_bytes_max / granule_bytes + 2] = {};
inline constinit thread_local std::size_t FramePool::kept_bytes_limit_ = 0;

} // namespace trapline::detail
