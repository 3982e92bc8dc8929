// add_signal_handler(): a callback for a signal, as asyncio has it.
//
//     SignalHandler stop = add_signal_handler(loop, SIGTERM, [&] { server.close(); });
#pragma once

#include <functional>

#include "loop.hpp"

namespace future_design {

namespace detail {
class SignalWatch;
}

/// The signal is handled for as long as this lives, which is not longer than the loop.
class [[nodiscard]] SignalHandler {
public:
    explicit SignalHandler(detail::SignalWatch& watch) noexcept : watch_(&watch) {}
    SignalHandler(SignalHandler&& other) noexcept : watch_(std::exchange(other.watch_, nullptr)) {}
    SignalHandler& operator=(SignalHandler&& other) noexcept {
        std::swap(watch_, other.watch_);
        return *this;
    }
    ~SignalHandler() { remove(); }

    /// What asyncio calls remove_signal_handler().
    void remove() noexcept;

private:
    detail::SignalWatch* watch_;
};

/// Blocks the signal in this thread, for good, so before others are started. The callback is called
/// soon after it came; several of a kind may be one. Throws std::system_error.
SignalHandler add_signal_handler(Loop& loop, int signal, std::function<void()> callback);

} // namespace future_design
