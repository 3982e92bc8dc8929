// Counts what the whole program allocates: operator new and delete are replaced where this is
// linked in. Not under AddressSanitizer or ThreadSanitizer, which replace them themselves.
#pragma once

#include <cstddef>

namespace trapline {

struct AllocationCounts {
    std::size_t made = 0;
    std::size_t freed = 0;
};

/// Since the start, by all threads.
AllocationCounts allocation_counts() noexcept;

/// Allocations of the calling thread fail from now on while this lives.
class NoMemory {
public:
    NoMemory() noexcept;
    ~NoMemory();
    NoMemory(const NoMemory&) = delete;
    NoMemory& operator=(const NoMemory&) = delete;
};

} // namespace trapline
