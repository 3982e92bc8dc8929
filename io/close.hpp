// Internal. How an object that owns a descriptor closes it.
#pragma once

#include <string>

#include "../traps/trap_call.hpp"
#include "address.hpp"
#include "descriptor.hpp"

namespace trapline::detail {

/// Takes the descriptor when it is awaited. Errors are those of `what`, and of the address or path
/// if there is one.
class [[nodiscard]] CloseAwaiter : public ReplyAwaiter {
public:
    CloseAwaiter(Descriptor& owner, const char* what, const SocketAddress* address = nullptr)
        : owner_(owner), what_(what), address_(address) {}
    CloseAwaiter(Descriptor& owner, const char* what, const std::string& path)
        : owner_(owner), what_(what), path_(&path) {}

    bool await_ready() noexcept { return ready(!owner_); }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        fd_ = owner_.release();
        yield<traps::Io>(self, traps::Close{fd_});
    }
    void await_resume() {
        if (asked() && reply().failed()) [[unlikely]]
            fail();
    }

private:
    /// Gives the descriptor back if it is open still: nobody has tried to close it. Throws.
    [[noreturn]] void fail();

    Descriptor& owner_;
    int fd_ = -1;
    const char* what_;
    const SocketAddress* address_ = nullptr;
    const std::string* path_ = nullptr;
};

} // namespace trapline::detail
