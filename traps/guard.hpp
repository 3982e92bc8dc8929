// Guard<S>: what `co_await semaphore.hold()` answers: it releases when it goes out of scope.
//
//     const auto permit = co_await semaphore.hold();
//
// It can be moved, not copied, and released early. The semaphore (or lock) must outlive it.
#pragma once

#include <utility>

namespace trapline {

template <class S>
class [[nodiscard("it releases at once when it is dropped")]] Guard {
public:
    /// Holds nothing.
    Guard() noexcept = default;
    /// For primitives: `held` has been acquired, the guard releases it.
    explicit Guard(S& held) noexcept : held_(&held) {}
    Guard(Guard&& other) noexcept : held_(std::exchange(other.held_, nullptr)) {}
    /// Releases what it held before.
    Guard& operator=(Guard&& other) noexcept {
        Guard taken{std::move(other)};
        std::swap(held_, taken.held_);
        return *this;
    }
    ~Guard() { release(); }

    /// Whether it holds something.
    explicit operator bool() const noexcept { return held_ != nullptr; }

    /// Releases now. Harmless when it holds nothing. Never blocks.
    void release() noexcept {
        if (held_)
            std::exchange(held_, nullptr)->release();
    }

private:
    S* held_ = nullptr;
};

} // namespace trapline
