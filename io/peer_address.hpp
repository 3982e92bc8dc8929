// Internal. A peer's address as a connection keeps it: 28 bytes instead of the 116 of a
// SocketAddress, which has room for the longest path.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "address.hpp"

namespace trapline::detail {

class PeerAddress {
public:
    PeerAddress() noexcept = default;

    /// IPv4, IPv6 and what is as short (an unnamed socket) lie within. Others are allocated:
    /// throws std::bad_alloc.
    explicit PeerAddress(const SocketAddress& address);

    /// An address that was allocated leaves that of an unnamed socket behind, others a copy.
    PeerAddress(PeerAddress&& other) noexcept : bytes_(other.bytes_) {
        if (other.far()) [[unlikely]]
            other.bytes_ = unnamed;
    }
    PeerAddress& operator=(PeerAddress&& other) noexcept {
        PeerAddress old{std::move(*this)};
        bytes_ = other.bytes_;
        if (other.far()) [[unlikely]]
            other.bytes_ = unnamed;
        return *this;
    }
    ~PeerAddress() {
        if (far()) [[unlikely]]
            delete allocated();
    }

    SocketAddress get() const noexcept;
    std::string to_string() const { return get().to_string(); }

private:
    /// The size, the family, and what a sockaddr holds behind its family. Or the mark of one that
    /// lies elsewhere, and a pointer to it.
    using Bytes = std::array<std::uint8_t, sizeof(sockaddr_in6)>;
    static constexpr std::uint8_t far_mark = 0xff;
    static constexpr Bytes unnamed{sizeof(sa_family_t), AF_UNIX};

    bool far() const noexcept { return bytes_[0] == far_mark; }
    const SocketAddress* allocated() const noexcept;

    alignas(std::uint32_t) Bytes bytes_{};
};

} // namespace trapline::detail
