// BufferLease: received bytes in a buffer that is lent for as long as they are of use.
//
//     Coro<void> echo(TcpStream client) {
//         while (BufferLease data = co_await client.receive())
//             co_await client.send_all(data);
//     }
//
// Whoever answers traps owns the buffers, and takes one only when there is something to put into
// it: so ten thousand idle connections hold none. There are few (KernelOptions); while all are
// lent, receivers wait until one comes back. So keep a lease no longer than it takes to use it.
//
// Dropping the last lease of a kernel that is gone frees the memory. Belongs to its kernel's
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

namespace trapline {

/// Where lent buffers come from: an engine's. Lives until it has been left by its owner and all
/// leases have come back.
class BufferPool {
public:
    BufferPool(const BufferPool&) = delete;
    BufferPool& operator=(const BufferPool&) = delete;

    /// Buffers that are lent at present.
    std::size_t lent() const noexcept { return lent_; }

    /// By its owner, instead of a delete: it goes with the last lease.
    void leave() noexcept {
        left_ = true;
        end_if_done();
    }

protected:
    BufferPool() = default;
    virtual ~BufferPool() = default;

    virtual void take_back(std::uint32_t buffer) noexcept = 0;

private:
    friend class BufferLease;

    void give_back(std::uint32_t buffer) noexcept {
        --lent_;
        take_back(buffer);
        end_if_done();
    }
    void end_if_done() noexcept {
        if (left_ && lent_ == 0)
            delete this;
    }

    std::size_t lent_ = 0;
    bool left_ = false;
};

class [[nodiscard]] BufferLease {
public:
    /// Holds nothing.
    BufferLease() noexcept = default;
    BufferLease(BufferLease&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)),
          data_(std::exchange(other.data_, nullptr)),
          size_(std::exchange(other.size_, 0)),
          buffer_(other.buffer_) {}
    BufferLease& operator=(BufferLease&& other) noexcept {
        BufferLease old{std::move(*this)};
        pool_ = std::exchange(other.pool_, nullptr);
        data_ = std::exchange(other.data_, nullptr);
        size_ = std::exchange(other.size_, 0);
        buffer_ = other.buffer_;
        return *this;
    }
    ~BufferLease() {
        if (pool_)
            pool_->give_back(buffer_);
    }

    /// For engines: lends `buffer` of a pool, at `data`. Less than 4 GiB.
    BufferLease(BufferPool& pool, std::uint32_t buffer, std::byte* data, std::size_t size) noexcept
        : pool_(&pool), data_(data), size_(static_cast<std::uint32_t>(size)), buffer_(buffer) {
        ++pool.lent_;
    }

    std::byte* data() noexcept { return data_; }
    const std::byte* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }

    /// False at the end of the stream, and when it was given back or moved from.
    explicit operator bool() const noexcept { return size_ > 0; }

    std::span<std::byte> bytes() noexcept { return {data_, size_}; }
    operator std::span<const std::byte>() const noexcept { return {data_, size_}; }
    std::string_view text() const noexcept { return {reinterpret_cast<const char*>(data_), size_}; }

    /// Gives the buffer back before the lease ends.
    void reset() noexcept { BufferLease gone{std::move(*this)}; }

    /// For engines: what was received is this much.
    void resize(std::size_t size) noexcept { size_ = static_cast<std::uint32_t>(size); }

private:
    BufferPool* pool_ = nullptr;
    std::byte* data_ = nullptr;
    std::uint32_t size_ = 0; // 32 bits: a lease lies in each coroutine that waits to receive
    std::uint32_t buffer_ = 0;
};

} // namespace trapline
