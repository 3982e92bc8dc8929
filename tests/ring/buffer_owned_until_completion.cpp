// Failure: Linux writes into a buffer whose operation was cancelled, and which its owner has given
// up (RELIABILITY 0.5; 2, row 12). No sanitizer sees what Linux writes.
// Proves: once an operation was handed back, nobody touches its buffer. Guard mode: each buffer is
// a page of its own that holds a pattern; when its operation is over, the page may not be touched
// any more. A late write would find EFAULT, and its bytes would be missing in the count.
// Seen on Linux 6.18: a recv cancelled before its bytes leaves the page as it was, in every mode.
#include "../support/ring.hpp"

#include <algorithm>
#include <thread>
#include <vector>

#include <sys/mman.h>

using namespace ring_test;

namespace {

constexpr std::size_t page_bytes = 4096;
constexpr auto pattern = std::byte{0xA5};

/// A page that is taken away when its operation is over.
class GuardedPage {
public:
    GuardedPage() {
        void* page =
            mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(page != MAP_FAILED, "mmap of a page");
        page_ = {static_cast<std::byte*>(page), page_bytes};
        std::ranges::fill(page_, pattern);
    }
    GuardedPage(GuardedPage&& other) noexcept : page_(std::exchange(other.page_, {})) {}
    GuardedPage& operator=(GuardedPage&& other) noexcept {
        std::swap(page_, other.page_);
        return *this;
    }
    ~GuardedPage() {
        if (page_.data())
            munmap(page_.data(), page_bytes);
    }
    void take_away(std::size_t written) {
        for (const std::byte value : page_.subspan(written))
            CHECK(value == pattern, "more was written than the operation tells");
        mprotect(page_.data(), page_bytes, PROT_NONE);
    }
    std::byte* data() const { return page_.data(); }

private:
    std::span<std::byte> page_;
};

void storm(const UringOptions& options) {
    Driver driver(options);
    Pair pair = Pair::sockets();
    constexpr std::size_t sent = 200 * 64;
    std::thread writer([&] {
        for (std::size_t i = 0; i < sent / 64; ++i) {
            const char bytes[64] = {};
            CHECK_EQUAL(write(pair.fd[1], bytes, sizeof bytes), sizeof bytes, "write");
        }
        shutdown(pair.fd[1], SHUT_WR);
    });
    std::vector<GuardedPage> pages; // all are kept: a late write must not hit a page made anew
    std::size_t received = 0;
    for (int i = 0;; ++i) {
        Operation operation;
        GuardedPage& page = pages.emplace_back();
        driver.start(operation, traps::Recv{pair.fd[0], 0, page.data(), 100});
        if (i % 2)
            driver.turn();
        if (i % 4)
            driver.cancel(operation);
        const auto result = driver.finish(operation);
        page.take_away(static_cast<std::size_t>(std::max<std::int64_t>(result, 0)));
        if (result == 0)
            break;
        CHECK(result > 0 || result == -ECANCELED, "bytes or the cancellation");
        if (result > 0)
            received += static_cast<std::size_t>(result);
        if (pages.size() == 10'000)
            pages.erase(pages.begin(), pages.begin() + 9'000);
    }
    writer.join();
    CHECK_EQUAL(received, sent, "bytes are missing: they were written where nobody looks");
}

} // namespace

int main() { for_each_ring(storm, {2, 64}); }
