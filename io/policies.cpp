#include "policies.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../traps/thread.hpp"
#include "descriptor.hpp"
#include "errors.hpp"

namespace trapline {

using namespace traps;

namespace {

bool is_pipe(int fd) noexcept {
    struct ::stat status{};
    return ::fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode);
}

/// Calls f(fd) for each descriptor that comes or goes by `message`, until one answers false, and
/// answers whether none did.
template <class F>
bool passed_descriptors(const msghdr& message, F&& f) noexcept {
    auto* head = CMSG_FIRSTHDR(&message);
    for (; head; head = CMSG_NXTHDR(const_cast<msghdr*>(&message), head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
            continue;
        const std::size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t at = 0; at < count; ++at) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(head) + at * sizeof fd, sizeof fd);
            if (!f(fd))
                return false;
        }
    }
    return true;
}

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
        if (!io || reply.interrupt != Interrupt::none || reply.failed())
            return {};
        if (makes_descriptor(io->request))
            add(static_cast<int>(reply.value));
        else if (const auto* message = std::get_if<RecvMsg>(&io->request))
            passed_descriptors(*message->message, [this](int fd) { return add(fd), true; });
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
        case trap_index<Park>:
        case trap_index<Cancel>: return true;
        case trap_index<Spawn>: return may_.tasks;
        case trap_index<AwaitThread>:
            return may_.threads ||
                   (may_.files && std::get_if<AwaitThread>(&trap)->completion->changes_files);
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
        case request_index<Splice>: return may_splice(*std::get_if<Splice>(&request));
        case request_index<SendMsg>: {
            const auto& send = *std::get_if<SendMsg>(&request);
            return has(send.fd) &&
                   passed_descriptors(*send.message, [this](int fd) { return has(fd); });
        }
        default: return has(descriptors_of(request).first.fd);
        }
    }

    /// To or from a descriptor of its own; at the other end may be the pipe that a splice needs.
    bool may_splice(const Splice& splice) const noexcept {
        const bool from = has(splice.from);
        const bool to = has(splice.to);
        return (from || to) && (from || is_pipe(splice.from)) && (to || is_pipe(splice.to));
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
        if (!counts(asking.trap))
            return Verdict::allow();
        const TimePoint now = asking.now();
        const TimePoint due = std::max(due_, now);
        due_ = later(due, interval_);
        const Duration early = due - now;
        return early > tolerance_ ? Verdict::delay(early - tolerance_) : Verdict::allow();
    }

    /// The last of those who wait comes the sooner for it.
    void withdrawn(const Asking&) noexcept override { due_ -= interval_; }

private:
    static bool counts(const Trap& trap) noexcept {
        switch (trap.index()) {
        case trap_index<Io>:
        case trap_index<ReadWait>:
        case trap_index<WriteWait>: return detail::can_be_delayed(trap);
        default: return false;
        }
    }

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
        if (reply.stopped_by == 0 && is_whole(io->request) && moved < *size_of(io->request) &&
            moved == size_carried_out(asking))
            reply.stopped_by = EDQUOT; // a whole transfer that was cut says why it is short
        return {};
    }

private:
    static bool moves_bytes(const IoRequest& request) noexcept {
        switch (request.index()) {
        case request_index<Recv>: return !(std::get_if<Recv>(&request)->flags & MSG_PEEK);
        case request_index<RecvMsg>: return !(std::get_if<RecvMsg>(&request)->flags & MSG_PEEK);
        case request_index<Splice>: return !is_pipe(std::get_if<Splice>(&request)->to);
        case request_index<Receive>:
        case request_index<Send>:
        case request_index<SendMsg>:
        case request_index<Read>:
        case request_index<Write>: return true;
        default: return false;
        }
    }

    /// Null: it cannot be cut. For requests that are constant, too.
    template <class Request>
    static auto size_of(Request& request) noexcept -> decltype(&std::get_if<Recv>(&request)->size) {
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

    /// What the kernel was asked for in the end.
    static std::uint64_t size_carried_out(const Asking& asking) noexcept {
        return *size_of(std::get_if<Io>(&asking.task.frame.trap)->request);
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
        const auto* io = std::get_if<Io>(&asking.trap);
        if (!io || reply.interrupt != Interrupt::none || !reply.failed() ||
            asking.attempt + 1 >= options_.attempts || !passes(io->request, reply.error()))
            return {};
        const double pause =
            static_cast<double>(options_.first.count()) * std::pow(options_.factor, asking.attempt);
        return Duration{static_cast<Duration::rep>(
            std::min(pause, static_cast<double>(options_.longest.count())))};
    }

private:
    bool passes(const IoRequest& request, int error) const noexcept {
        return options_.errors.empty()
                   ? opens(request) && is_passing(error)
                   : std::ranges::find(options_.errors, error) != options_.errors.end();
    }

    static bool opens(const IoRequest& request) noexcept {
        switch (request.index()) {
        case request_index<Accept>:
        case request_index<Connect>:
        case request_index<OpenAt>:
        case request_index<OpenAt2>:
        case request_index<Socket>: return true;
        default: return false;
        }
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
        if (const auto* thread = std::get_if<AwaitThread>(&asking.trap))
            return thread->completion->changes_files ? Verdict::answer({}) : Verdict::allow();
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
            const open_how how{
                .flags = static_cast<unsigned>(open->flags), .mode = 0, .resolve = 0};
            return opening(open->directory, open->path, how);
        } else if (auto* open2 = std::get_if<OpenAt2>(&io->request)) {
            return opening(open2->directory, open2->path, *open2->how);
        }
        return Verdict::allow();
    }

private:
    static bool is_regular(int fd) noexcept {
        struct ::stat status{};
        return ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    }

    /// What would make or cut a file is not left to the kernel.
    static Verdict opening(int directory, const char* path, const open_how& how) noexcept {
        constexpr std::uint64_t temporary = O_TMPFILE & ~O_DIRECTORY;
        constexpr std::uint64_t changing = O_CREAT | O_EXCL | O_TRUNC;
        if (how.flags & temporary)
            return in_memory();
        if (!(how.flags & changing))
            return Verdict::allow();
        struct ::stat status{};
        if (::fstatat(directory, path, &status, 0) == 0 && !S_ISREG(status.st_mode))
            return Verdict::allow(); // a device, a FIFO: nothing to cut
        const open_how unchanging{
            .flags = (how.flags & ~changing) | O_CLOEXEC, .mode = 0, .resolve = how.resolve};
        const int fd = open_now(directory, path, unchanging);
        if (fd == -ENOENT && (how.flags & O_CREAT))
            return making(directory, path, how);
        if (fd >= 0 && (how.flags & O_CREAT) && (how.flags & O_EXCL)) {
            ::close(fd);
            return Verdict::refuse(EEXIST);
        }
        return Verdict::answer({fd});
    }

    /// The file is not there: could it be?
    static Verdict making(int directory, std::string_view path, const open_how& how) noexcept {
        try {
            const std::size_t slash = path.rfind('/');
            const std::string parent{slash == path.npos ? "."
                                     : slash == 0       ? "/"
                                                        : path.substr(0, slash)};
            const open_how as_directory{
                .flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .mode = 0, .resolve = how.resolve};
            const int fd = open_now(directory, parent.c_str(), as_directory);
            if (fd < 0)
                return Verdict::answer({fd});
            const Descriptor opened{fd};
            if (::faccessat(fd, ".", W_OK, AT_EACCESS) != 0)
                return Verdict::refuse(errno);
            return in_memory();
        } catch (const std::bad_alloc&) {
            return Verdict::refuse(ENOMEM);
        }
    }

    static int open_now(int directory, const char* path, const open_how& how) noexcept {
        const long fd = ::syscall(SYS_openat2, directory, path, &how, sizeof how);
        return static_cast<int>(fd < 0 ? -errno : fd);
    }

    static Verdict in_memory() noexcept {
        const int fd = ::memfd_create("dry run", MFD_CLOEXEC);
        return fd < 0 ? Verdict::refuse(errno) : Verdict::answer({fd});
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
