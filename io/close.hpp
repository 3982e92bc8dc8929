// Internal. How an object that owns a descriptor closes it.
#pragma once

#include <string>

#include "../traps/trap_call.hpp"
#include "descriptor.hpp"

namespace trapline::detail {

/// Takes the descriptor when it is awaited. Errors are those of `what`, and of the address or path
/// if there is one.
class [[nodiscard]] CloseAwaiter : public ReplyAwaiter {
public:
    CloseAwaiter(Descriptor& owner, const char* what) : owner_(owner), what_(what) {}
    template <class Address>
    CloseAwaiter(Descriptor& owner, const char* what, const Address* address)
        : owner_(owner),
          what_(what),
          whose_(address),
          name_([](const void* of) { return static_cast<const Address*>(of)->to_string(); }) {}
    CloseAwaiter(Descriptor& owner, const char* what, const std::string& path)
        : owner_(owner),
          what_(what),
          whose_(&path),
          name_([](const void* of) { return *static_cast<const std::string*>(of); }) {}

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
    const void* whose_ = nullptr; ///< an address or a path
    std::string (*name_)(const void* of) = nullptr;
};

} // namespace trapline::detail
