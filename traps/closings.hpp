// Internal. How often descriptors were closed without asking a kernel, by number: Descriptor says
// so before it closes. An engine that keeps something of a number learns in that way that the
// number is, or will be, another file's. Numbers belong to the process, and so does the count: any
// thread may close.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace trapline::detail {

/// Numbers share a count with others far away, which costs those one look more.
inline constexpr std::size_t closing_counts = 1024;
extern std::array<std::atomic<std::uint32_t>, closing_counts> closings;

/// Not for -1.
inline void note_closing(int fd) noexcept {
    closings[static_cast<std::size_t>(fd) % closing_counts].fetch_add(1, std::memory_order_relaxed);
}

/// Another value than before: the number was closed meanwhile.
inline std::uint32_t closings_of(int fd) noexcept {
    return closings[static_cast<std::size_t>(fd) % closing_counts].load(std::memory_order_relaxed);
}

} // namespace trapline::detail
