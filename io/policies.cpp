#include "policies.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>

#include "descriptor.hpp"
#include "errors.hpp"

namespace trapline {

using namespace traps;

namespace {

// --- allow_only ----------------------------------------------------------------------------

class AllowOnly final : public Policy {
public:
    explicit AllowOnly(Permissions&& permissions) : may_(std::move(permissions)) {
        // So that what is accepted or opened is not refused for want of memory afterwards.
        may_.descriptors.reserve(may_.descriptors.size() + 1);
    }

    Verdict trapped(Asking& asking) noexcept override {
        return permitted(asking.trap) ? Verdict::allow() : Verdict::refuse(EPERM);
    }

    bool sees_replies() const noexcept override { return true; }

    std::optional<Duration> replied(const Asking& asking, Reply& reply) noexcept override {
        const auto* io = std::get_if<Io>(&asking.trap);
        if (io && makes_descriptor(io->request) && reply.interrupt == Interrupt::none &&
            !reply.failed())
            add(static_cast<int>(reply.value));
        return {};
    }

private:
    static bool makes_descriptor(const IoRequest& request) noexcept {
        return std::holds_alternative<Socket>(request) || std::holds_alternative<Accept>(request) ||
               std::holds_alternative<OpenAt>(request) || std::holds_alternative<OpenAt2>(request);
    }

    bool permitted(const Trap& trap) noexcept {
        switch (trap.index()) {
        case trap_index<Yield>:
        case trap_index<Sleep>:
        case trap_index<SleepUntil>:
        case trap_index<Clock>:
        case trap_index<Self>:
        case trap_index<Join>:
        case trap_index<SetTimeout>:
        case trap_index<UnsetTimeout>:
        case trap_index<Mask>:
        case trap_index<Park>: return true;
        case trap_index<Spawn>:
        case trap_index<Cancel>: return may_.tasks;
        case trap_index<AwaitThread>: return may_.threads;
        case trap_index<ReadWait>: return has(std::get_if<ReadWait>(&trap)->fd);
        case trap_index<WriteWait>: return has(std::get_if<WriteWait>(&trap)->fd);
        case trap_index<IoRelease>: return remove(std::get_if<IoRelease>(&trap)->fd);
        case trap_index<Io>: return permitted(std::get_if<Io>(&trap)->request);
        }
        return false;
    }

    bool permitted(const IoRequest& request) noexcept {
        switch (request.index()) {
        case request_index<Nop>: return true;
        case request_index<Socket>: return may_.sockets && room();
        case request_index<OpenAt>:
        case request_index<OpenAt2>: return may_.files && room();
        case request_index<Statx>: return may_.files || is_of_own(*std::get_if<Statx>(&request));
        case request_index<Close>: return remove(std::get_if<Close>(&request)->fd);
        case request_index<Accept>: return has(std::get_if<Accept>(&request)->fd) && room();
        default: {
            const DescriptorUses uses = descriptors_of(request);
            return has(uses.first.fd) && (uses.second.fd < 0 || has(uses.second.fd));
        }
        }
    }

    /// The status of a descriptor, not of a path.
    bool is_of_own(const Statx& statx) const noexcept {
        return (statx.flags & AT_EMPTY_PATH) && (!statx.path || !*statx.path) &&
               has(statx.directory);
    }

    bool has(int fd) const noexcept {
        return std::ranges::find(may_.descriptors, fd) != may_.descriptors.end();
    }

    /// For one descriptor more.
    bool room() noexcept {
        try {
            may_.descriptors.reserve(may_.descriptors.size() + 1);
            return true;
        } catch (const std::bad_alloc&) {
            return false;
        }
    }

    void add(int fd) noexcept {
        if (!has(fd) && room())
            may_.descriptors.push_back(fd);
    }

    bool remove(int fd) noexcept { return std::erase(may_.descriptors, fd) > 0; }

    Permissions may_;
};

// --- rate_limit ----------------------------------------------------------------------------

/// The generic cell rate algorithm (ITU-T I.371): one time instead of a bucket of tokens.
class RateLimit final : public Policy {
public:
    RateLimit(double operations_per_second, unsigned burst)
        : interval_(static_cast<Duration::rep>(std::min(1e9 / operations_per_second, 9e17))),
          tolerance_(Duration{static_cast<Duration::rep>(
              std::min(static_cast<double>(interval_.count()) * (burst - 1), 9e17))}) {}

    Verdict trapped(Asking& asking) noexcept override {
        if (!std::holds_alternative<Io>(asking.trap) || !detail::can_be_delayed(asking.trap))
            return Verdict::allow();
        const TimePoint now = asking.now();
        const TimePoint due = std::max(due_, now);
        due_ = later(due, interval_);
        const Duration early = due - now;
        return early > tolerance_ ? Verdict::delay(early - tolerance_) : Verdict::allow();
    }

private:
    Duration interval_;
    Duration tolerance_;
    TimePoint due_{}; ///< of the next one, if they came evenly
};

// --- byte_quota ----------------------------------------------------------------------------

class ByteQuota final : public Policy {
public:
    explicit ByteQuota(std::uint64_t bytes) noexcept : left_(bytes) {}

    Verdict trapped(Asking& asking) noexcept override {
        auto* io = std::get_if<Io>(&asking.trap);
        if (!io || !moves_bytes(io->request))
            return Verdict::allow();
        if (left_ == 0)
            return Verdict::refuse(EDQUOT);
        if (std::size_t* size = size_of(io->request))
            *size = static_cast<std::size_t>(std::min<std::uint64_t>(*size, left_));
        return Verdict::allow();
    }

    bool sees_replies() const noexcept override { return true; }

    std::optional<Duration> replied(const Asking& asking, Reply& reply) noexcept override {
        auto* io = std::get_if<Io>(&asking.trap);
        if (!io || !moves_bytes(io->request))
            return {};
        std::uint64_t moved = 0;
        if (reply.interrupt != Interrupt::none)
            moved = reply.progress;
        else if (!reply.failed())
            moved = static_cast<std::uint64_t>(reply.value);
        left_ -= std::min(left_, moved);
        // A whole transfer that was cut says why it is short.
        if (left_ == 0 && reply.stopped_by == 0 && is_whole(io->request) &&
            moved < *size_of(io->request))
            reply.stopped_by = EDQUOT;
        return {};
    }

private:
    static bool moves_bytes(const IoRequest& request) noexcept {
        switch (request.index()) {
        case request_index<Recv>:
        case request_index<Receive>:
        case request_index<Send>:
        case request_index<RecvMsg>:
        case request_index<SendMsg>:
        case request_index<Read>:
        case request_index<Write>:
        case request_index<Splice>: return true;
        default: return false;
        }
    }

    /// Null: it cannot be cut.
    static std::size_t* size_of(IoRequest& request) noexcept {
        if (auto* recv = std::get_if<Recv>(&request))
            return &recv->size;
        if (auto* send = std::get_if<Send>(&request))
            return &send->size;
        if (auto* read = std::get_if<Read>(&request))
            return &read->size;
        if (auto* write = std::get_if<Write>(&request))
            return &write->size;
        if (auto* splice = std::get_if<Splice>(&request))
            return &splice->size;
        return nullptr;
    }

    static bool is_whole(const IoRequest& request) noexcept {
        const auto* recv = std::get_if<Recv>(&request);
        const auto* send = std::get_if<Send>(&request);
        return ((recv ? recv->flags : send ? send->flags : 0) & MSG_WAITALL) != 0;
    }

    std::uint64_t left_;
};

// --- retry ---------------------------------------------------------------------------------

class Retry final : public Policy {
public:
    explicit Retry(RetryOptions&& options) noexcept : options_(std::move(options)) {}

    Verdict trapped(Asking&) noexcept override { return Verdict::allow(); }
    bool sees_replies() const noexcept override { return true; }

    std::optional<Duration> replied(const Asking& asking, Reply& reply) noexcept override {
        if (!std::holds_alternative<Io>(asking.trap) || reply.interrupt != Interrupt::none ||
            !reply.failed() || asking.attempt + 1 >= options_.attempts || !passes(reply.error()))
            return {};
        const double pause =
            static_cast<double>(options_.first.count()) * std::pow(options_.factor, asking.attempt);
        return Duration{static_cast<Duration::rep>(
            std::min(pause, static_cast<double>(options_.longest.count())))};
    }

private:
    bool passes(int error) const noexcept {
        return options_.errors.empty()
                   ? is_passing(error)
                   : std::ranges::find(options_.errors, error) != options_.errors.end();
    }

    RetryOptions options_;
};

// --- dry_run -------------------------------------------------------------------------------

class DryRun final : public Policy {
public:
    DryRun() : null_(::open("/dev/null", O_RDWR | O_CLOEXEC)) {
        if (!null_)
            detail::raise_error(errno, "open of /dev/null");
    }

    Verdict trapped(Asking& asking) noexcept override {
        auto* io = std::get_if<Io>(&asking.trap);
        if (!io)
            return Verdict::allow();
        if (auto* write = std::get_if<Write>(&io->request)) {
            if (is_regular(write->fd))
                *write = {null_.get(), write->data, write->size};
        } else if (auto* splice = std::get_if<Splice>(&io->request)) {
            if (is_regular(splice->to)) {
                splice->to = null_.get();
                splice->to_offset = -1;
            }
        } else if (auto* sync = std::get_if<Fsync>(&io->request)) {
            if (is_regular(sync->fd))
                return Verdict::answer({});
        } else if (auto* open = std::get_if<OpenAt>(&io->request)) {
            return opening(open->directory, open->path, open->flags);
        } else if (auto* open2 = std::get_if<OpenAt2>(&io->request)) {
            return opening(open2->directory, open2->path, open2->how->flags);
        }
        return Verdict::allow();
    }

private:
    static bool is_regular(int fd) noexcept {
        struct ::stat status{};
        return ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    }

    template <class Flags>
    static Verdict opening(int& directory, const char*& path, Flags& flags) noexcept {
        constexpr Flags temporary = O_TMPFILE & ~O_DIRECTORY;
        const bool makes = (flags & O_CREAT) != 0 || (flags & temporary) != 0;
        const bool there = !(flags & temporary) && ::faccessat(directory, path, F_OK, 0) == 0;
        if (there && (flags & O_CREAT) && (flags & O_EXCL))
            return Verdict::refuse(EEXIST);
        if (makes && !there) {
            directory = AT_FDCWD;
            path = "/dev/null";
        }
        if (flags & temporary)
            flags &= ~static_cast<Flags>(O_TMPFILE);
        flags &= ~static_cast<Flags>(O_CREAT | O_EXCL | O_TRUNC);
        return Verdict::allow();
    }

    Descriptor null_;
};

} // namespace

std::shared_ptr<Policy> allow_only(Permissions permissions) {
    return std::make_shared<AllowOnly>(std::move(permissions));
}

std::shared_ptr<Policy> rate_limit(double operations_per_second, unsigned burst) {
    if (!(operations_per_second > 0) || burst == 0)
        throw std::invalid_argument("rate_limit: rate and burst must be positive");
    return std::make_shared<RateLimit>(operations_per_second, burst);
}

std::shared_ptr<Policy> byte_quota(std::uint64_t bytes) {
    return std::make_shared<ByteQuota>(bytes);
}

std::shared_ptr<Policy> retry(RetryOptions options) {
    return std::make_shared<Retry>(std::move(options));
}

bool is_passing(int error) noexcept {
    switch (error) {
    case EAGAIN:
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case EMFILE:
    case ENETUNREACH:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case ETIMEDOUT: return true;
    default: return false;
    }
}

std::shared_ptr<Policy> dry_run() { return std::make_shared<DryRun>(); }

} // namespace trapline
