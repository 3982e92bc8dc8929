// Descriptor: owns a file descriptor. Moves, does not copy; closes it when it goes.
//
//     Descriptor file{(co_await traps::open_at(AT_FDCWD, path, O_RDONLY)).value()};
//     std::size_t n = (co_await traps::read(file.get(), buffer)).value();
//
// The destructor closes at once and reports nothing. It must not run while an operation on the
// descriptor is in flight: `co_await close()` of the object that holds it ends those first.
#pragma once

#include <utility>

#include <unistd.h>

#include "../traps/closings.hpp"

namespace trapline {

class Descriptor {
public:
    Descriptor() noexcept = default;
    explicit Descriptor(int fd) noexcept : fd_(fd) {}
    Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        Descriptor old{std::exchange(fd_, other.release())};
        return *this;
    }
    ~Descriptor() {
        if (fd_ < 0)
            return;
        detail::note_closing(fd_); // or engines would take the next file for this one
        ::close(fd_);
    }

    /// -1 when it holds none.
    int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }

    /// Gives the descriptor up without closing it.
    int release() noexcept { return std::exchange(fd_, -1); }

private:
    int fd_ = -1;
};

} // namespace trapline
