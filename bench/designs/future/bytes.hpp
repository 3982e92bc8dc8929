// Bytes and Buffer: memory that is shared, as Python's objects are. An operation that works on
// some keeps it until it has ended, whatever became of its future and of whoever asked.
//
//     Buffer buffer{4096};
//     std::size_t n = co_await sock_recv_into(socket, buffer);
//     co_await sock_sendall(socket, buffer.bytes().first(n)); // the same memory
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string_view>
#include <utility>

#include <trapline/traps/lease.hpp>

#include "loop.hpp"

namespace future_design {

namespace detail {

class Block : public Counted {};

/// Its memory stands behind it.
class HeapBlock final : public Block {
public:
    static Ref<HeapBlock> make(std::size_t size) {
        void* memory = trapline::detail::FramePool::allocate(sizeof(HeapBlock) + size);
        return Ref<HeapBlock>{::new (memory) HeapBlock{size}};
    }
    static void operator delete(HeapBlock* block, std::destroying_delete_t) noexcept {
        const std::size_t bytes = sizeof(HeapBlock) + block->size_;
        std::destroy_at(block);
        trapline::detail::FramePool::deallocate(block, bytes);
    }
    std::byte* data() noexcept { return reinterpret_cast<std::byte*>(this + 1); }
    std::size_t size() const noexcept { return size_; }
    ~HeapBlock() override = default;

private:
    explicit HeapBlock(std::size_t size) noexcept : size_(size) {}
    std::size_t size_;
};

class LentBlock final : public Block {
public:
    LentBlock(Loop& loop, trapline::BufferLease lease) noexcept
        : loop_(loop), lease_(std::move(lease)) {
        ++loop_.buffers_lent;
    }
    ~LentBlock() override { --loop_.buffers_lent; }
    const trapline::BufferLease& lease() const noexcept { return lease_; }

private:
    Loop& loop_;
    trapline::BufferLease lease_;
};

} // namespace detail

/// Bytes that nobody changes any more. A copy, and a part, is the same memory.
class Bytes {
public:
    Bytes() noexcept = default;
    static Bytes copy_of(std::span<const std::byte> data) {
        auto block = detail::HeapBlock::make(data.size());
        if (!data.empty())
            std::memcpy(block->data(), data.data(), data.size());
        const std::byte* const copy = block->data();
        return Bytes{std::move(block), copy, data.size()};
    }
    /// Of what stays for as long as the program runs.
    static Bytes of_static(std::string_view text) noexcept {
        return Bytes{nullptr, reinterpret_cast<const std::byte*>(text.data()), text.size()};
    }
    /// What was received stays in the buffer that it came in; but the engine has few, so where too
    /// many are kept it is copied.
    static Bytes received(Loop& loop, trapline::BufferLease lease) {
        if (loop.buffers_lent >= lent_max)
            return copy_of(lease);
        auto block = detail::make<detail::LentBlock>(loop, std::move(lease));
        const std::span<const std::byte> data = block->lease();
        return Bytes{std::move(block), data.data(), data.size()};
    }
    static constexpr unsigned lent_max = 128;

    const std::byte* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }
    operator std::span<const std::byte>() const noexcept { return {data_, size_}; }
    std::string_view text() const noexcept { return {reinterpret_cast<const char*>(data_), size_}; }

    // Held at the end.
    Bytes first(std::size_t size) const noexcept {
        return Bytes{block_, data_, std::min(size, size_)};
    }
    Bytes from(std::size_t at) const noexcept {
        at = std::min(at, size_);
        return Bytes{block_, data_ + at, size_ - at};
    }

private:
    friend class Buffer;
    Bytes(detail::Ref<detail::Block> block, const std::byte* data, std::size_t size) noexcept
        : block_(std::move(block)), data_(data), size_(size) {}

    detail::Ref<detail::Block> block_;
    const std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

/// Bytes to be written into. A copy, and a part, is the same memory.
class Buffer {
public:
    explicit Buffer(std::size_t size) : block_(detail::HeapBlock::make(size)), size_(size) {}
    std::byte* data() const noexcept { return block_->data() + at_; }
    std::size_t size() const noexcept { return size_; }
    std::span<std::byte> span() const noexcept { return {data(), size_}; }
    /// Held at the end.
    Buffer from(std::size_t at) const noexcept {
        Buffer rest = *this;
        rest.at_ += std::min(at, size_);
        rest.size_ -= std::min(at, size_);
        return rest;
    }
    /// They change if this is written into.
    Bytes bytes() const noexcept { return Bytes{block_, data(), size_}; }

private:
    detail::Ref<detail::HeapBlock> block_;
    std::size_t at_ = 0;
    std::size_t size_;
};

} // namespace future_design
