// Internal. Sockets that the last receive has left with nothing in them. The next one there would
// try in vain before it waits, so it is told to wait first (IORING_RECVSEND_POLL_FIRST, see
// io_uring_prep_recv(3)): the echo over socket pairs takes 7 % less time for it, with lent buffers
// 8 % (bench/servers.sh unix). It is a guess: what has come meanwhile costs a fifth of a
// microsecond more to receive. And it is about a number. Whoever closes that, or is given it, has
// it forgotten: what cannot be received from, as a listener, would be waited for instead of
// refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "../engine.hpp"
#include "uring_compat.hpp"
#include "uring_probe.hpp"

namespace trapline {

class DrainedSockets {
public:
    explicit DrainedSockets(DrainedKnown known = DrainedKnown::never) noexcept : known_(known) {}

    /// Of a submission that is a receive, before it is handed over.
    template <class R>
    void guess(io_uring_sqe& sqe, const R& request, const Operation& operation) const noexcept {
        // Of a descriptor in non-blocking mode Linux waits for nothing: it is to try the next time.
        const bool plain = (request.flags & ~MSG_WAITALL) == 0;
        if (plain && operation.retries == 0 && contains(request.fd))
            sqe.ioprio |= IORING_RECVSEND_POLL_FIRST;
    }

    /// Of its completion: `received` bytes or -errno, into `room`.
    template <class R>
    void note(const R& request, int received, std::size_t room, std::uint32_t flags) noexcept {
        if (received <= 0 || known_ == DrainedKnown::never) [[unlikely]]
            return;
        const bool left = flags & IORING_CQE_F_SOCK_NONEMPTY;
        const bool filled = static_cast<std::size_t>(received) == room;
        if (has_room_for(request.fd) || grow(request.fd)) [[likely]]
            first_[request.fd] = !left && (known_ == DrainedKnown::always || !filled);
    }

    /// The number will be, or is, that of something else.
    void forget(int fd) noexcept {
        if (has_room_for(fd))
            first_[fd] = false;
    }

private:
    bool has_room_for(int fd) const noexcept { return static_cast<std::size_t>(fd) < size_; }
    bool contains(int fd) const noexcept { return has_room_for(fd) && first_[fd]; }

    /// No memory: then there is no guess.
    [[gnu::noinline]] bool grow(int fd) noexcept {
        constexpr std::size_t step = 64;
        try {
            drained_.resize((static_cast<std::size_t>(fd) / step + 1) * step);
        } catch (const std::bad_alloc&) {
            return false;
        }
        first_ = drained_.data();
        size_ = drained_.size();
        return true;
    }

    std::vector<std::uint8_t> drained_; // by descriptor number
    std::uint8_t* first_ = nullptr;
    std::size_t size_ = 0;
    DrainedKnown known_;
};

} // namespace trapline
