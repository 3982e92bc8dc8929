#include "signals.hpp"

#include <cerrno>
#include <csignal>
#include <memory>
#include <system_error>

#include <sys/signalfd.h>

#include "socket.hpp"

namespace future_design {

namespace traps = trapline::traps;

namespace detail {

/// The engine has a reference while it reads, the handler another.
class SignalWatch final : public Counted, public IoWaiter {
public:
    SignalWatch(Socket signals, std::function<void()> callback)
        : signals_(std::move(signals)),
          callback_(std::move(callback)),
          request_(traps::Read{signals_.fileno(), &information_, sizeof information_}) {}

    void begin() noexcept {
        add_reference(); // the engine's
        read();
    }
    void remove() noexcept {
        callback_ = nullptr;
        if (reading_)
            signals_.loop().cancel_io(operation_);
        drop_reference();
    }

    void over(Operation& operation) noexcept override {
        if (operation.result != sizeof information_ || !callback_) {
            reading_ = false;
            return drop_reference();
        }
        signals_.loop().call_soon([self = Ref{this}] {
            if (self->callback_)
                std::function<void()>{self->callback_}(); // which may remove it
        });
        read();
    }

private:
    void read() noexcept {
        std::construct_at(&operation_)->request = &request_;
        signals_.loop().start_io(operation_, *this);
    }

    Socket signals_;
    std::function<void()> callback_;
    signalfd_siginfo information_{};
    const traps::IoRequest request_;
    Operation operation_;
    bool reading_ = true;
};

} // namespace detail

void SignalHandler::remove() noexcept {
    if (watch_)
        std::exchange(watch_, nullptr)->remove();
}

SignalHandler add_signal_handler(Loop& loop, int signal, std::function<void()> callback) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, signal);
    if (const int error = pthread_sigmask(SIG_BLOCK, &signals, nullptr))
        throw std::system_error(error, std::system_category(), "signal handler");
    const int fd = ::signalfd(-1, &signals, SFD_CLOEXEC);
    if (fd < 0)
        throw std::system_error(errno, std::system_category(), "signal handler");
    auto watch = detail::make<detail::SignalWatch>(Socket{loop, fd}, std::move(callback));
    watch->begin();
    return SignalHandler{*watch.release()};
}

} // namespace future_design
