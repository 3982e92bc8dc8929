#include "stand_ins.hpp"

#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace trapline {

namespace {

bool is_open(int fd) noexcept { return ::fcntl(fd, F_GETFD) >= 0; }

std::pair<dev_t, ino_t> identity_of(int fd) noexcept {
    struct ::stat status{};
    if (::fstat(fd, &status) != 0)
        return {};
    return {status.st_dev, status.st_ino};
}

int socket_of(int domain, int type) noexcept {
    const int fd = ::socket(domain, type | SOCK_CLOEXEC, 0);
    return fd >= 0 ? fd : ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/// As the listener is, which may be a stand-in itself.
int socket_like(int listener) noexcept {
    int domain = AF_INET;
    int type = SOCK_STREAM;
    socklen_t size = sizeof(int);
    (void)::getsockopt(listener, SOL_SOCKET, SO_DOMAIN, &domain, &size);
    (void)::getsockopt(listener, SOL_SOCKET, SO_TYPE, &type, &size);
    return socket_of(domain, type);
}

/// Of the same type, size, permissions and age; what is in it reads as zeros.
int file_like(const recording::FileKind& file) noexcept {
    if (S_ISDIR(file.mode)) // one in which nothing can be made or removed
        return ::open("/proc/self/fdinfo", O_PATH | O_DIRECTORY | O_CLOEXEC);
    const int fd = ::memfd_create("replay", MFD_CLOEXEC);
    if (fd < 0 || !S_ISREG(file.mode))
        return fd;
    constexpr std::int64_t second = 1'000'000'000;
    const timespec modified{static_cast<time_t>(file.modified_ns / second),
                            static_cast<long>(file.modified_ns % second)};
    const timespec times[2]{modified, modified};
    // What of this is refused is not like it, no more.
    [[maybe_unused]] const bool alike = ::ftruncate(fd, static_cast<off_t>(file.size)) == 0 &&
                                        ::fchmod(fd, file.mode & 07777) == 0 &&
                                        ::futimens(fd, times) == 0;
    return fd;
}

/// Something of its own identity, never connected, empty.
int stand_in_for(const traps::IoRequest* request, const recording::FileKind& file) noexcept {
    if (request) {
        if (const auto* socket = std::get_if<traps::Socket>(request))
            return socket_of(socket->domain, socket->type);
        if (const auto* accept = std::get_if<traps::Accept>(request))
            return socket_like(accept->fd);
    }
    return file_like(file);
}

} // namespace

StandIns::StandIns(const std::vector<int>& open) {
    // One that the program cannot have opened itself.
    const int nothing = ::memfd_create("replay", MFD_CLOEXEC);
    if (nothing < 0)
        return; // the numbers will differ, no more
    nothing_ = identity_of(nothing);
    for (const int fd : open) {
        if (is_open(fd) && fd != nothing)
            continue;
        const int got = fd == nothing ? fd : ::fcntl(nothing, F_DUPFD_CLOEXEC, fd);
        if (got == fd)
            reserved_.insert(fd);
        else if (got >= 0)
            ::close(got);
    }
    if (!reserved_.contains(nothing))
        ::close(nothing);
}

StandIns::~StandIns() {
    for (const int fd : reserved_) {
        if (is_reserved(fd))
            ::close(fd);
    }
    for (const auto& [fd, by] : closing_)
        ::close(fd); // who asked for it has given it up
}

/// The program may have closed it, and opened its own there.
bool StandIns::is_reserved(int fd) const noexcept { return identity_of(fd) == nothing_; }

int StandIns::make(int recorded, const traps::IoRequest* request, const recording::FileKind& file) {
    const int made = stand_in_for(request, file);
    if (made < 0)
        throw std::system_error(errno, std::system_category(), "a stand-in for a descriptor");
    int here = made;
    if (made != recorded) {
        const bool reserved = reserved_.erase(recorded) > 0 && is_reserved(recorded);
        const bool gives_way = closing_.erase(recorded) > 0 || reserved;
        here = gives_way ? ::dup3(made, recorded, O_CLOEXEC)
                         : ::fcntl(made, F_DUPFD_CLOEXEC, recorded);
        if (here < 0)
            here = made; // beyond this process's limit
        else
            ::close(made);
    }
    known_.insert_or_assign(recorded, Known{here, identity_of(here)});
    return here;
}

bool StandIns::same(std::int64_t recorded, std::int64_t here) {
    if (recorded < 0 || here < 0)
        return recorded == here; // AT_FDCWD, or none
    const auto fd = static_cast<int>(here);
    const auto [at, is_new] = known_.try_emplace(static_cast<int>(recorded), Known{fd, {}});
    Known& known = at->second;
    // One whose Close is not answered yet lies there only for that.
    const bool there = known.file == identity_of(known.here) && !closing_.contains(known.here);
    if (!is_new && known.here != fd && there)
        return false; // it means another file
    if (is_new || known.here != fd)
        known = {fd, identity_of(fd)};
    return true;
}

void StandIns::end_close(int here, std::uint64_t by, bool was_open) noexcept {
    const auto at = closing_.find(here);
    if (at == closing_.end() || at->second != by)
        return; // its number was given anew
    closing_.erase(at);
    if (was_open)
        ::close(here);
}

} // namespace trapline
