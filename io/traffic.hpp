// Internal. How servers see whether a client still does something, see server.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

namespace trapline::detail {

/// What goes through a stream, for who watches over it: operations that have ended, and the socket,
/// which knows more of those that have not.
struct Traffic {
    std::uint64_t received = 0; ///< bytes
    std::uint64_t sent = 0;
    int fd = -1; ///< while the stream has it
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

    const std::shared_ptr<Traffic>& begin(int fd) {
        traffic_ = std::make_shared<Traffic>();
        traffic_->fd = fd;
        return traffic_;
    }
    void end() noexcept {
        if (traffic_)
            traffic_->fd = -1;
    }
    Traffic* operator->() const noexcept { return traffic_.get(); }
    explicit operator bool() const noexcept { return traffic_ != nullptr; }

private:
    std::shared_ptr<Traffic> traffic_;
};

} // namespace trapline::detail
