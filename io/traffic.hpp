// Internal. How servers see whether a client still does something, see server.cpp.
#pragma once

#include <cstdint>
#include <utility>

namespace trapline::detail {

/// What goes through a stream, for who watches over it: operations that have ended, and the socket,
/// which knows more of those that have not.
struct Traffic {
    std::uint64_t received = 0; ///< bytes
    std::uint64_t sent = 0;
    int fd = -1;          ///< while the stream has it
    unsigned holders = 0; ///< the stream, and who watches
};

/// A share in it. One word, and not two as a shared_ptr: each stream has room for one.
class TrafficPointer {
public:
    TrafficPointer() noexcept = default;
    explicit TrafficPointer(Traffic* traffic) noexcept : traffic_(traffic) {
        if (traffic_)
            ++traffic_->holders;
    }
    TrafficPointer(const TrafficPointer& other) noexcept : TrafficPointer(other.traffic_) {}
    TrafficPointer(TrafficPointer&& other) noexcept
        : traffic_(std::exchange(other.traffic_, nullptr)) {}
    TrafficPointer& operator=(TrafficPointer other) noexcept {
        std::swap(traffic_, other.traffic_);
        return *this;
    }
    ~TrafficPointer() {
        if (traffic_ && --traffic_->holders == 0)
            delete traffic_;
    }

    Traffic& operator*() const noexcept { return *traffic_; }
    Traffic* operator->() const noexcept { return traffic_; }
    explicit operator bool() const noexcept { return traffic_ != nullptr; }

private:
    Traffic* traffic_ = nullptr;
};

/// A stream's share in it. It says when the socket goes.
class TrafficShare {
public:
    TrafficShare() noexcept = default;
    TrafficShare(TrafficShare&&) noexcept = default;
    TrafficShare& operator=(TrafficShare&& other) noexcept {
        end();
        traffic_ = std::move(other.traffic_);
        return *this;
    }
    ~TrafficShare() { end(); }

    const TrafficPointer& begin(int fd) {
        traffic_ = TrafficPointer{new Traffic{.fd = fd}};
        return traffic_;
    }
    void end() noexcept {
        if (traffic_)
            traffic_->fd = -1;
    }
    Traffic* operator->() const noexcept { return traffic_.operator->(); }
    explicit operator bool() const noexcept { return static_cast<bool>(traffic_); }

private:
    TrafficPointer traffic_;
};

} // namespace trapline::detail
