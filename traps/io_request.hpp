// What an `Io` trap can ask: one plain struct for each I/O operation, named and filled like the
// system call behind it. The scheduler passes a request on unread; an engine interprets it.
//
//     traps::IoRequest request = traps::Recv{fd, MSG_PEEK, buffer.data(), buffer.size()};
//     std::int64_t received = (co_await traps::Io{request}).value();
//
// Whoever asks owns the memory a request points to, and keeps it alive until the reply: a task
// is resumed only when its operation is really over, also when it was cancelled.
//
// Every operation answers a count, a descriptor or 0, or -errno. Engines retry EINTR and EAGAIN,
// set CLOEXEC on new descriptors and never raise SIGPIPE. Each struct says with `interruptible`
// whether a cancellation tries to stop it half way; one that is not finishes first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <variant>

#include <sys/socket.h>
#include <sys/types.h>

struct open_how;
struct statx;

namespace trapline {
class BufferLease;
}

namespace trapline::traps {

/// The side of a descriptor that an operation occupies. A second operation on an occupied side
/// is answered with -EBUSY. `none`: any number at a time.
enum class Side : std::uint8_t { none, read, write };

/// Does nothing, by way of the engine. Answers 0.
struct Nop {
    static constexpr bool interruptible = true;
};

/// Waits until fd shows one of `events` (POLLIN, POLLOUT, ...). Answers the mask that was seen.
struct Poll {
    int fd;
    short events;
    Side side;
    static constexpr bool interruptible = true;
};

/// socket(2). Answers the descriptor. Never blocks.
struct Socket {
    int domain;
    int type;
    int protocol;
    static constexpr bool interruptible = false;
};

/// bind(2). Never blocks.
struct Bind {
    int fd;
    const sockaddr* address;
    socklen_t length;
    static constexpr bool interruptible = false;
};

/// listen(2). Never blocks.
struct Listen {
    int fd;
    int backlog;
    static constexpr bool interruptible = false;
};

/// getsockname(2), or getpeername(2) if `peer`. Never blocks.
struct SocketName {
    int fd;
    bool peer;
    sockaddr* address;
    socklen_t* length;
    static constexpr bool interruptible = false;
};

/// setsockopt(2). Never blocks.
struct SetOption {
    int fd;
    int level;
    int name;
    const void* value;
    socklen_t length;
    static constexpr bool interruptible = false;
};

/// accept4(2). Answers the new descriptor. Out of descriptors: waits until there are some again.
struct Accept {
    int fd;
    int flags;
    sockaddr* address;
    socklen_t* length;
    static constexpr bool interruptible = true;
};

/// connect(2), until it is established or has failed.
struct Connect {
    int fd;
    const sockaddr* address;
    socklen_t length;
    static constexpr bool interruptible = true;
};

/// recv(2). With MSG_WAITALL: until `size` bytes are there, the stream has ended (a short count)
/// or something stopped it (a short count, and Reply::stopped_by says what).
struct Recv {
    int fd;
    int flags;
    void* data;
    std::size_t size;
    static constexpr bool interruptible = true;
};

/// recv(2) into a buffer that is lent, see lease.hpp: `lease`, which is empty and lives until the
/// reply, holds it then. Answers the bytes received; at the end of the stream 0 and no buffer.
/// While all buffers are lent it waits until one comes back.
struct Receive {
    int fd;
    int flags;
    BufferLease* lease;
    static constexpr bool interruptible = true;
};

/// send(2). With MSG_WAITALL: until all is sent, or a short count and Reply::stopped_by.
struct Send {
    int fd;
    int flags;
    const void* data;
    std::size_t size;
    static constexpr bool interruptible = true;
};

/// recvmsg(2). With MSG_WAITALL, on a stream and without room for ancillary data: until all parts
/// are full, or a short count. Ancillary data belongs to the bytes that it came with, and a
/// datagram is whole: those are answered as they come.
struct RecvMsg {
    int fd;
    int flags;
    msghdr* message;
    static constexpr bool interruptible = true;
};

/// sendmsg(2). With MSG_WAITALL: until all is sent, or a short count.
struct SendMsg {
    int fd;
    int flags;
    const msghdr* message;
    static constexpr bool interruptible = true;
};

/// read(2), or pread(2) if offset is not -1. An offset is for files: whether what has no positions
/// (a pipe, a socket) refuses it with -ESPIPE or takes it for nothing is up to the engine.
struct Read {
    int fd;
    void* data;
    std::size_t size;
    std::int64_t offset = -1;
    static constexpr bool interruptible = true;
};

/// write(2), or pwrite(2) if offset is not -1, as with Read. What is ready and waits all the same
/// cannot be interrupted: a terminal in blocking mode that nobody reads, for more than it takes
/// (with io_uring nobody else goes on meanwhile), and on epoll an eventfd for more than fits.
/// O_NONBLOCK helps.
struct Write {
    int fd;
    const void* data;
    std::size_t size;
    std::int64_t offset = -1;
    static constexpr bool interruptible = true;
};

/// openat(2). Answers the descriptor. On epoll nothing interrupts it once a thread has begun: an
/// open that waits for the other end of a FIFO does so until that comes, and shutdown waits with it
/// (O_NONBLOCK waits for nobody). With io_uring O_RDONLY of a FIFO does not wait.
struct OpenAt {
    int directory;
    const char* path;
    int flags;
    mode_t mode;
    static constexpr bool interruptible = true;
};

/// openat2(2): flags, mode and how the path may be resolved are in `how`, to which O_CLOEXEC is
/// added. Answers the descriptor.
struct OpenAt2 {
    int directory;
    const char* path;
    open_how* how;
    static constexpr bool interruptible = true;
};

/// close(2). Ends the operations in flight on fd first; their tasks get -ECANCELED.
struct Close {
    int fd;
    static constexpr bool interruptible = false;
};

/// fsync(2), or fdatasync(2) if `data_only`.
struct Fsync {
    int fd;
    bool data_only;
    static constexpr bool interruptible = false;
};

/// statx(2).
struct Statx {
    int directory;
    const char* path;
    int flags;
    unsigned mask;
    struct ::statx* status;
    static constexpr bool interruptible = true;
};

/// shutdown(2).
struct Shutdown {
    int fd;
    int how;
    static constexpr bool interruptible = false;
};

/// splice(2). An offset of -1 means the descriptor's own position (and none for a pipe). With
/// SPLICE_F_NONBLOCK it never blocks, and answers -EAGAIN; sockets must be non-blocking for that.
struct Splice {
    int from;
    int to;
    std::int64_t from_offset = -1;
    std::int64_t to_offset = -1;
    std::size_t size;
    unsigned flags;
    static constexpr bool interruptible = true;
};

using IoRequest = std::variant<Nop, Poll, Socket, Bind, Listen, SocketName, SetOption, Accept,
                               Connect, Recv, Receive, Send, RecvMsg, SendMsg, Read, Write, OpenAt,
                               OpenAt2, Close, Fsync, Statx, Shutdown, Splice>;

/// Position of R among the requests, for switches over `request.index()`.
template <class R>
inline constexpr std::size_t request_index = []<class... Rs>(const std::variant<Rs...>*) {
    std::size_t index = 0;
    (void)((std::is_same_v<R, Rs> || (++index, false)) || ...);
    return index;
}(static_cast<const IoRequest*>(nullptr));

static_assert(std::is_trivially_copyable_v<IoRequest> && sizeof(IoRequest) <= 56);

/// What a request occupies: no descriptor, one, or (splice) two.
struct DescriptorUse {
    int fd = -1;
    Side side = Side::none;
};

struct DescriptorUses {
    DescriptorUse first;
    DescriptorUse second;
};

/// Which descriptors `request` works on, and on which side of them.
DescriptorUses descriptors_of(const IoRequest& request) noexcept;

/// Whether a cancellation tries to stop `request` half way.
bool interruptible(const IoRequest& request) noexcept;

/// The operation's name as in "recv", for messages.
const char* name_of(const IoRequest& request) noexcept;

/// The name of the operation with that index.
const char* name_of_request(std::size_t index) noexcept;

} // namespace trapline::traps
