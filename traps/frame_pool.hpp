// Internal. Recycled memory for coroutine frames and task records.
//
// A coroutine frame is allocated before anybody can say which kernel will run it, so this cache
// hangs on the thread (kernel/README.md lists the library's thread-locals). Blocks are ordinary
// `operator new` blocks, sorted by size and kept for the next frame of that size; any thread may
// free a block of another. Sizes are such that together with the 16 bytes that malloc needs for
// itself they fill cache lines: otherwise each block would leave a piece of one unused behind.
// Under AddressSanitizer and ThreadSanitizer nothing is kept, so that they see a use after free,
// and a free that races with a use.
#pragma once

#include <cstddef>
#include <new>

#include "sanitizers.hpp"

namespace trapline::detail {

inline constexpr bool frames_recycled = !TRAPLINE_ADDRESS_SANITIZER && !TRAPLINE_THREAD_SANITIZER;

class FramePool {
public:
    static constexpr std::size_t granule_bytes = 64; // a cache line, and every block's alignment
    static constexpr std::size_t malloc_bytes = 16;  // malloc's own, of each block
    static constexpr std::size_t block_bytes_max = 8192;
    static constexpr std::size_t kept_bytes_max = std::size_t{32} << 20; // of one size, a thread

    static void* allocate(std::size_t bytes) {
        if (frames_recycled && bytes <= block_bytes_max) {
            Class& blocks = classes_[class_of(bytes)];
            if (Block* block = blocks.free) [[likely]] {
                blocks.free = block->next;
                return block;
            }
            return allocate_new(rounded(bytes));
        }
        // Rounded too, for objects compiled otherwise that file the block under its class.
        return ::operator new(rounded(bytes), alignment);
    }

    static void deallocate(void* memory, std::size_t bytes) noexcept {
        if (frames_recycled && bytes <= block_bytes_max) {
            Class& blocks = classes_[class_of(bytes)];
            const std::size_t kept = rounded(bytes) + (blocks.free ? blocks.free->kept_bytes : 0);
            if (kept <= kept_bytes_limit_) [[likely]] {
                blocks.free = ::new (memory) Block{blocks.free, kept};
                return;
            }
        }
        ::operator delete(memory, alignment);
    }

private:
    struct Block {
        Block* next;
        std::size_t kept_bytes; ///< in this one and those behind it
    };
    struct Class {
        Block* free;
    };

    static constexpr std::align_val_t alignment{granule_bytes};

    static constexpr std::size_t class_of(std::size_t bytes) noexcept {
        return (bytes + malloc_bytes + granule_bytes - 1) / granule_bytes;
    }
    static constexpr std::size_t rounded(std::size_t bytes) noexcept {
        return class_of(bytes) * granule_bytes - malloc_bytes;
    }

    /// The slow path: a new block, and on a thread's first one the promise to free all at its end.
    static void* allocate_new(std::size_t bytes);

    struct ThreadEnd;

    // Zero-initialised and without destructors, so that the fast path needs no guard. Before the
    // first allocation and after the thread's end the limit is 0: nothing is kept.
    static constinit thread_local Class classes_[block_bytes_max / granule_bytes + 2];
    static constinit thread_local std::size_t kept_bytes_limit_;
};

inline constinit thread_local FramePool::Class
    FramePool::classes_[block_bytes_max / granule_bytes + 2] = {};
inline constinit thread_local std::size_t FramePool::kept_bytes_limit_ = 0;

} // namespace trapline::detail
