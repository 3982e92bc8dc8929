#include "frame_pool.hpp"

namespace trapline::detail {

struct FramePool::ThreadEnd {
    ~ThreadEnd() {
        kept_bytes_limit_ = 0;
        for (Class& blocks : classes_) {
            while (Block* block = blocks.free) {
                blocks.free = block->next;
                ::operator delete(block, alignment);
            }
        }
    }
};

void* FramePool::allocate_new(std::size_t bytes) {
    static thread_local ThreadEnd at_thread_end;
    (void)at_thread_end;
    // Only grows from zero here: a frame that is made after the thread's end is not kept.
    static thread_local bool first = true;
    if (first) {
        first = false;
        kept_bytes_limit_ = kept_bytes_max;
    }
    return ::operator new(bytes, alignment);
}

} // namespace trapline::detail
