#include "counted_new.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

#include <trapline/traps/frame_pool.hpp>
#include <trapline/traps/sanitizers.hpp>

namespace trapline {

namespace {
constinit std::atomic<std::size_t> made = 0;
constinit std::atomic<std::size_t> freed = 0;
constinit thread_local bool refuse = false;
} // namespace

AllocationCounts allocation_counts() noexcept { return {made, freed}; }

NoMemory::NoMemory() noexcept { refuse = true; }
NoMemory::~NoMemory() { refuse = false; }

namespace {

constexpr std::align_val_t usual{alignof(std::max_align_t)};

[[maybe_unused]] void* counted_allocate(std::size_t bytes, std::align_val_t alignment = usual) {
    const auto multiple = static_cast<std::size_t>(alignment);
    const std::size_t rounded = (bytes + multiple) / multiple * multiple;
    void* memory = refuse ? nullptr : std::aligned_alloc(multiple, rounded);
    if (!memory)
        throw std::bad_alloc();
    ++made;
    return memory;
}

[[maybe_unused]] void counted_free(void* memory) noexcept {
    if (!memory)
        return;
    ++freed;
    std::free(memory);
}

} // namespace

} // namespace trapline

#if !TRAPLINE_ADDRESS_SANITIZER && !TRAPLINE_THREAD_SANITIZER
void* operator new(std::size_t bytes) { return trapline::counted_allocate(bytes); }
void* operator new[](std::size_t bytes) { return trapline::counted_allocate(bytes); }
void operator delete(void* memory) noexcept { trapline::counted_free(memory); }
void operator delete[](void* memory) noexcept { trapline::counted_free(memory); }
void operator delete(void* memory, std::size_t) noexcept { trapline::counted_free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { trapline::counted_free(memory); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
    return trapline::counted_allocate(bytes, alignment);
}
void operator delete(void* memory, std::align_val_t) noexcept { trapline::counted_free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
    trapline::counted_free(memory);
}
#endif
