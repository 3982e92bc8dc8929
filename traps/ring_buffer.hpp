// Internal. A first-in, first-out store that keeps its memory: unlike std::deque it allocates only
// while it grows beyond the largest size that it ever had.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <utility>

namespace trapline::detail {

template <class T>
class RingBuffer {
public:
    RingBuffer() noexcept = default;
    RingBuffer(RingBuffer&& other) noexcept
        : items_(std::exchange(other.items_, nullptr)),
          capacity_(std::exchange(other.capacity_, 0)),
          first_(std::exchange(other.first_, 0)),
          size_(std::exchange(other.size_, 0)) {}
    RingBuffer& operator=(RingBuffer&&) = delete;
    ~RingBuffer() {
        for (std::size_t i = 0; i < size_; ++i)
            std::destroy_at(at(i));
        release();
    }

    std::size_t size() const noexcept { return size_; }

    /// As the last one. std::bad_alloc: the item was not touched.
    void push(T&& item) {
        if (size_ == capacity_) [[unlikely]]
            grow();
        std::construct_at(at(size_), std::move(item));
        ++size_;
    }

    /// The first one. Only if there is one.
    void pop(std::optional<T>& item) noexcept {
        T* first = at(0);
        item.emplace(std::move(*first));
        std::destroy_at(first);
        first_ = (first_ + 1) & (capacity_ - 1);
        --size_;
    }

private:
    T* at(std::size_t i) const noexcept { return items_ + ((first_ + i) & (capacity_ - 1)); }

    void grow() {
        const std::size_t capacity = capacity_ == 0 ? 8 : 2 * capacity_; // a power of two
        T* items = std::allocator<T>{}.allocate(capacity);
        for (std::size_t i = 0; i < size_; ++i) {
            std::construct_at(items + i, std::move(*at(i)));
            std::destroy_at(at(i));
        }
        release();
        items_ = items;
        capacity_ = capacity;
        first_ = 0;
    }

    void release() noexcept {
        if (items_)
            std::allocator<T>{}.deallocate(items_, capacity_);
    }

    T* items_ = nullptr;
    std::size_t capacity_ = 0;
    std::size_t first_ = 0;
    std::size_t size_ = 0;
};

} // namespace trapline::detail
