// Internal. Which descriptors the epoll engine has put under watch, and who waits for them.
//
// A descriptor is registered once, edge-triggered, and stays: so waiting again costs no system
// call. But Linux registers a file, and all that is known here is a number: whoever closes without
// telling the engine, as destructors do, makes the number another file's, and a duplicate keeps the
// closed one's registration alive. So
//
//   - what epoll reports carries the generation of the registration, and is dropped if that is old;
//   - who waits has the registration looked at again (EPOLL_CTL_MOD; ENOENT tells that it is gone,
//     and reports at once what is ready), but for one case: a task that has just emptied a TCP
//     stream, and receives from it again. It trusts the registration, if no Descriptor has closed
//     the number meanwhile;
//   - what was trusted is looked at all the same when nothing has come for a while: see audit().
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <sys/epoll.h>

#include "../../traps/closings.hpp"
#include "../engine.hpp"

namespace trapline {

/// What is known of a descriptor number.
struct Watch {
    Operation* waiting = nullptr;       ///< those who wait, linked by their `next`
    const TaskRecord* reader = nullptr; ///< whose receive found it drained
    std::uint32_t generation = 0;       ///< of the registration
    std::uint32_t done_in_turn = 0;     ///< the last turn that did an operation on the spot
    std::uint32_t closings = 0;         ///< of the number, when it was found drained
    std::uint16_t interest = 0;         ///< what is registered
    bool registered : 1 = false;
    bool drained : 1 = false;   ///< the next byte to receive will be reported, see emptied_by()
    bool ended : 1 = false;     ///< a hang-up, an error or urgent data: short counts prove nothing
    bool cancelled : 1 = false; ///< an operation on it
    bool trusted : 1 = false;   ///< somebody waits without having looked at the registration
    enum class Kind : std::uint8_t { unknown, tcp, other } kind : 2 = Kind::unknown;
};

class Watches {
public:
    static constexpr Duration audit_pause = std::chrono::milliseconds{50};
    static constexpr std::size_t audited_max = 256; // in a turn: half a millisecond

    /// Counts its system calls in `calls`, and takes at most `reports_max` reports at once. Throws
    /// std::system_error when there are no descriptors for it.
    Watches(std::uint64_t& calls, unsigned reports_max);
    Watches(const Watches&) = delete;
    Watches& operator=(const Watches&) = delete;

    /// Waits until something is reported, the time is up or wake() is called. Duration::max(): for
    /// ever; 0: just looks. What it answers is valid until the next call.
    std::span<const epoll_event> look(Duration time_left) noexcept;

    /// Any thread, any time.
    void wake() noexcept;

    /// Readable when look() has something to report.
    int fd() const noexcept { return epoll_.fd; }

    std::size_t reports_max() const noexcept { return reports_.size(); }
    bool fine_timer() const noexcept { return fine_timer_; }

    /// The engine cannot go on.
    [[noreturn]] static void broken(const char* complaint, int error = 0) noexcept;

    /// What is known of `fd`; null when nothing is.
    Watch* find(int fd) noexcept {
        const auto index = static_cast<std::size_t>(fd);
        return index < watches_.size() ? &watches_[index] : nullptr; // a negative one is large
    }

    /// The same, with room made for it. Null when `fd` is not open, or memory is short: errno.
    Watch* get(int fd) noexcept;

    /// Sees to it that `events` of what `fd` is now are reported, and at once if they are there.
    /// 0 or -errno; -EPERM of a file that is always ready.
    int arm(int fd, std::uint32_t events) noexcept;

    /// Somebody waits who has not armed it.
    void trust(Watch& watch) noexcept {
        trusted_ += !watch.trusted;
        watch.trusted = true;
    }

    /// Answers whether somebody did.
    bool untrust(Watch& watch) noexcept {
        const bool was_trusted = watch.trusted;
        trusted_ -= was_trusted;
        watch.trusted = false;
        return was_trusted;
    }

    /// `reader` has received all there was of the TCP stream `fd`.
    void note_drained(Watch& watch, int fd, const TaskRecord* reader) noexcept {
        watch.drained = true;
        watch.reader = reader;
        watch.closings = detail::closings_of(fd);
    }

    /// Whether `reader` did, and will be told of more.
    bool emptied_by(const TaskRecord* reader, int fd) noexcept {
        const Watch* const watch = find(fd);
        return watch && watch->drained && watch->reader == reader &&
               watch->closings == detail::closings_of(fd);
    }

    /// Whose event this is: null for one of a registration that is no longer the number's.
    Watch* reported(const epoll_event& event) noexcept {
        Watch* const watch = find(fd_of(event)); // wake() has none
        if (!watch || watch->generation != event.data.u64 >> 32) [[unlikely]]
            return nullptr;
        watch->drained = false;
        constexpr std::uint32_t odd = EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI;
        if (event.events & odd) [[unlikely]]
            watch->ended = true;
        return watch;
    }

    static int fd_of(const epoll_event& event) noexcept {
        return static_cast<int>(static_cast<std::uint32_t>(event.data.u64));
    }

    /// The number is a new file's.
    void forget(int fd) noexcept;

    /// The number is about to be closed, or used elsewhere.
    void drop(int fd) noexcept;

    /// Puts `operation` among those who wait for `fd`, which is known.
    void wait(int fd, Operation& operation) noexcept {
        operation.slot = static_cast<std::uint32_t>(fd);
        operation.next = nullptr;
        Operation** at = &find(fd)->waiting;
        while (*at) // one other, as a rule
            at = &(*at)->next;
        *at = &operation;
    }
    void stop_waiting(Operation& operation) noexcept;

    bool any_trusted() const noexcept { return trusted_ > 0; }

    /// Looks at trusted registrations, so many in a turn; answers whether that were all. Calls
    /// gone(fd) where that is no longer possible: trying shows what the number is now.
    template <class F>
    bool audit(F&& gone) {
        for (std::size_t count = 0; audited_ < watches_.size() && any_trusted(); ++audited_) {
            Watch& watch = watches_[audited_];
            const auto fd = static_cast<int>(audited_);
            if (!watch.trusted)
                continue;
            if (!watch.waiting) {
                untrust(watch);
                continue;
            }
            if (count++ == audited_max)
                return false;
            if (arm(fd, 0) != 0)
                gone(fd);
        }
        audited_ = 0;
        return true;
    }

private:
    static void become_new(Watch& watch) noexcept;
    int control(int what, int fd, const Watch& watch) noexcept;

    int wait(Duration time_left) noexcept;

    struct Owned {
        explicit Owned(int number) noexcept : fd(number) {}
        Owned(const Owned&) = delete;
        Owned& operator=(const Owned&) = delete;
        ~Owned();
        const int fd;
    };

    const Owned epoll_;
    const Owned wake_;
    std::uint64_t& calls_;
    std::vector<epoll_event> reports_;
    bool fine_timer_ = true;     // epoll_pwait2, Linux 5.11
    std::vector<Watch> watches_; // by descriptor number, which Linux keeps small
    std::size_t trusted_ = 0;
    std::size_t audited_ = 0; // where the next audit goes on
};

/// Whether `fd` is a TCP socket: there a receive that fills less than it could has taken all.
bool is_tcp(Watch& watch, int fd) noexcept;

} // namespace trapline
