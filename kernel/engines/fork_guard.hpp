// Internal. How an engine notices that it is in a forked child.
#pragma once

#include <cerrno>
#include <cstddef>
#include <system_error>

#include <sys/mman.h>

namespace trapline {

/// A page that reads 1 here and 0 in a forked child, who must not touch its parent's ring.
class ForkGuard {
public:
    ForkGuard() {
        void* page =
            mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED)
            throw std::system_error(errno, std::system_category(), "mmap of the fork guard");
        here_ = static_cast<volatile int*>(page);
        madvise(page, page_bytes, MADV_WIPEONFORK);
        *here_ = 1;
    }
    ~ForkGuard() { munmap(const_cast<int*>(here_), page_bytes); }
    ForkGuard(const ForkGuard&) = delete;
    ForkGuard& operator=(const ForkGuard&) = delete;

    bool in_child() const noexcept { return *here_ == 0; }

private:
    static constexpr std::size_t page_bytes = 4096;
    volatile int* here_;
};

} // namespace trapline
