// What the future design is made of below its objects: counted ones, handles to them, and memory
// that is used again. As in Python a count belongs to the loop's thread, so it is a plain number.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <trapline/traps/frame_pool.hpp>

namespace future_design::detail {

/// From the same pool as the frames and tasks of the trap design: designs are compared, not
/// allocators.
struct Recycled {
    static void* operator new(std::size_t bytes) {
        return trapline::detail::FramePool::allocate(bytes);
    }
    static void operator delete(void* memory, std::size_t bytes) noexcept {
        trapline::detail::FramePool::deallocate(memory, bytes);
    }
};

/// Goes with the last Ref to it.
class Counted : public Recycled {
public:
    Counted() noexcept = default;
    Counted(const Counted&) = delete;
    Counted& operator=(const Counted&) = delete;

    void add_reference() noexcept { ++references_; }
    void drop_reference() noexcept {
        if (--references_ == 0)
            delete this;
    }
    bool only_reference() const noexcept { return references_ == 1; }

protected:
    virtual ~Counted() = default;

private:
    std::uint32_t references_ = 0;
};

template <class T>
class Ref {
public:
    Ref() noexcept = default;
    Ref(std::nullptr_t) noexcept {}
    explicit Ref(T* to) noexcept : to_(to) {
        if (to_)
            to_->add_reference();
    }
    Ref(const Ref& other) noexcept : Ref(other.to_) {}
    Ref(Ref&& other) noexcept : to_(std::exchange(other.to_, nullptr)) {}
    template <std::derived_from<T> U>
        requires(!std::same_as<T, U>)
    Ref(Ref<U> other) noexcept : to_(other.release()) {}
    Ref& operator=(Ref other) noexcept {
        std::swap(to_, other.to_);
        return *this;
    }
    ~Ref() {
        if (to_)
            to_->drop_reference();
    }

    /// Takes a reference over that was counted already.
    static Ref adopt(T* to) noexcept {
        Ref ref;
        ref.to_ = to;
        return ref;
    }
    /// Whoever gets it drops the reference.
    T* release() noexcept { return std::exchange(to_, nullptr); }

    T* get() const noexcept { return to_; }
    T* operator->() const noexcept { return to_; }
    T& operator*() const noexcept { return *to_; }
    explicit operator bool() const noexcept { return to_ != nullptr; }
    bool operator==(const Ref&) const = default;

private:
    T* to_ = nullptr;
};

template <class T, class... Arguments>
Ref<T> make(Arguments&&... arguments) {
    return Ref<T>{new T(std::forward<Arguments>(arguments)...)};
}

} // namespace future_design::detail
