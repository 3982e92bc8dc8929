// resolve() by c-ares, which is told when its sockets are ready, and makes and closes them here.
#include <cerrno>
#include <chrono>
#include <climits>
#include <deque>
#include <memory>
#include <new>
#include <utility>

// The newest c-ares has other names for some of what follows; the oldest has only these.
#define CARES_NO_DEPRECATED
#include <ares.h>
#include <netinet/tcp.h>
#include <sys/time.h>
#include <sys/uio.h>

#include "../traps/calls.hpp"
#include "../traps/cancel.hpp"
#include "../traps/event.hpp"
#include "../traps/group.hpp"
#include "descriptor.hpp"
#include "errors.hpp"
#include "resolve.hpp"

namespace trapline {

namespace {

struct ChannelEnd {
    void operator()(ares_channel channel) const noexcept { ::ares_destroy(channel); }
};
struct AnswerEnd {
    void operator()(ares_addrinfo* answer) const noexcept { ::ares_freeaddrinfo(answer); }
};
using Channel = std::unique_ptr<std::remove_pointer_t<ares_channel>, ChannelEnd>;
using Answer = std::unique_ptr<ares_addrinfo, AnswerEnd>;

/// What c-ares wants of one direction of a socket, and what is done for it.
struct Direction {
    bool wanted = false;
    bool waiting = false; ///< a task waits for it, or is about to
    bool ready = false;
};

struct Socket {
    Descriptor descriptor; ///< none: closed
    Direction read{};
    Direction write{};
    bool released = false; ///< c-ares has closed it, but somebody still waits on it
};

/// One name being looked up. It runs in its own task; others wait for its sockets. c-ares calls
/// back only from within what is called here, so nothing is ever called from two places at once.
class LookUp {
public:
    LookUp(std::string host, std::uint16_t port, const ResolveOptions& options)
        : host_(std::move(host)), port_(port), options_(options) {}
    LookUp(const LookUp&) = delete;
    LookUp& operator=(const LookUp&) = delete;

    /// To be called once. When it is left, however, nobody waits on a socket any more.
    Coro<std::vector<SocketAddress>> run() {
        open();
        co_await task_group([this](TaskGroup& group) { return drive(group); });
        co_return addresses();
    }

private:
    void open();
    void set_servers();
    Coro<void> drive(TaskGroup& group);
    Coro<void> close_released();
    Coro<void> watch(TaskGroup& group);
    Coro<void> wait(Socket& socket, bool writing);
    Duration patience();
    void process();
    std::vector<SocketAddress> addresses() const;
    [[noreturn]] void raise_status() const;
    Socket* find(int fd) noexcept;

    // Called by c-ares. They must not throw through it.
    static void ended(void* self, int status, int timeouts, ares_addrinfo* answer) noexcept;
    static void wants(void* self, ares_socket_t fd, int readable, int writable) noexcept;
    static ares_socket_t open_socket(int family, int type, int protocol, void* self) noexcept;
    static int close_socket(ares_socket_t fd, void* self) noexcept;
    static int connect(ares_socket_t fd, const sockaddr* address, ares_socklen_t length,
                       void* self) noexcept;
    static ares_ssize_t receive(ares_socket_t fd, void* data, std::size_t size, int flags,
                                sockaddr* from, ares_socklen_t* length, void* self) noexcept;
    static ares_ssize_t send(ares_socket_t fd, const iovec* parts, int count, void* self) noexcept;

    static constexpr ares_socket_functions functions{&open_socket, &close_socket, &connect,
                                                     &receive, &send};

    // Response codes of DNS.
    static constexpr int server_failed = 2;
    static constexpr int server_refused = 5;

    const std::string host_;
    const std::uint16_t port_;
    const ResolveOptions options_;
    Event news_;                 ///< a socket is ready
    std::deque<Socket> sockets_; ///< does not move what it holds
    std::size_t probes_ = 0;     ///< sockets that were made and closed without a wait
    int socket_error_ = 0;       ///< why one could not be made
    std::error_code wait_error_; ///< why one could not be waited for
    int server_code_ = 0;        ///< what a server that could not answer gave as its reason
    bool ended_ = false;
    int status_ = ARES_SUCCESS;
    Answer answer_;
    Channel channel_; ///< goes first: it closes its sockets, and says so
};

// --- what c-ares calls ---------------------------------------------------------------------

void LookUp::ended(void* self, int status, int, ares_addrinfo* answer) noexcept {
    auto& look_up = *static_cast<LookUp*>(self);
    look_up.answer_.reset(answer);
    look_up.status_ = status;
    look_up.ended_ = true;
}

Socket* LookUp::find(int fd) noexcept {
    for (auto at = sockets_.rbegin(); at != sockets_.rend(); ++at)
        if (at->descriptor.get() == fd)
            return &*at;
    return nullptr;
}

void LookUp::wants(void* self, ares_socket_t fd, int readable, int writable) noexcept {
    if (Socket* socket = static_cast<LookUp*>(self)->find(fd)) {
        socket->read.wanted = readable != 0;
        socket->write.wanted = writable != 0;
    }
}

/// c-ares also makes a socket for each address that it found, to see from where Linux would reach
/// it, which is how they are sorted. Beyond what is going to be answered it may not: an answer can
/// hold thousands. Addresses of which it learns nothing go to the end.
ares_socket_t LookUp::open_socket(int family, int type, int protocol, void* self) noexcept {
    auto& look_up = *static_cast<LookUp*>(self);
    constexpr std::size_t failing_servers = 64;
    if (look_up.probes_ > failing_servers &&
        look_up.probes_ - failing_servers > look_up.options_.answers_max) {
        errno = EAFNOSUPPORT;
        return ARES_SOCKET_BAD;
    }
    Descriptor socket{::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol)};
    if (!socket) {
        if (errno != EAFNOSUPPORT)
            look_up.socket_error_ = errno;
        return ARES_SOCKET_BAD;
    }
    if (type == SOCK_STREAM) { // a query is one small piece
        const int on = 1;
        ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    try {
        look_up.sockets_.push_back({.descriptor = std::move(socket)});
    } catch (const std::bad_alloc&) {
        look_up.socket_error_ = ENOMEM;
        errno = ENOMEM;
        return ARES_SOCKET_BAD;
    }
    return look_up.sockets_.back().descriptor.get();
}

/// What somebody waits for is closed later: closing ends no wait, and the number must not go to
/// another socket before.
int LookUp::close_socket(ares_socket_t fd, void* self) noexcept {
    auto& look_up = *static_cast<LookUp*>(self);
    Socket* socket = look_up.find(fd);
    if (!socket)
        return -1;
    socket->read.wanted = socket->write.wanted = false;
    if (socket->read.waiting || socket->write.waiting) {
        socket->released = true;
        return 0;
    }
    ++look_up.probes_;
    socket->descriptor = Descriptor{};
    if (socket == &look_up.sockets_.back())
        look_up.sockets_.pop_back();
    return 0;
}

int LookUp::connect(ares_socket_t fd, const sockaddr* address, ares_socklen_t length,
                    void*) noexcept {
    return ::connect(fd, address, length);
}

/// What a server that fails gives as its reason c-ares 1.18 forgets: in the end it says that none
/// could be reached. So a look at the datagrams' headers.
ares_ssize_t LookUp::receive(ares_socket_t fd, void* data, std::size_t size, int flags,
                             sockaddr* from, ares_socklen_t* length, void* self) noexcept {
    const ares_ssize_t received = ::recvfrom(fd, data, size, flags, from, length);
    constexpr ares_ssize_t header_size = 12;
    if (from && received >= header_size) {
        const int code = static_cast<const unsigned char*>(data)[3] & 0x0f;
        switch (code) {
        case server_failed:
        case server_refused: static_cast<LookUp*>(self)->server_code_ = code; break;
        default: break; // c-ares does not forget those
        }
    }
    return received;
}

/// A datagram is refused because an earlier one was, of another query, which c-ares 1.18 would then
/// leave to its timeout. Sent again it is refused for itself, and the next receive tells of both.
ares_ssize_t LookUp::send(ares_socket_t fd, const iovec* parts, int count, void*) noexcept {
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(parts);
    message.msg_iovlen = static_cast<std::size_t>(count);
    const ares_ssize_t sent = ::sendmsg(fd, &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == ECONNREFUSED)
        return ::sendmsg(fd, &message, MSG_NOSIGNAL);
    return sent;
}

// --- what calls c-ares ---------------------------------------------------------------------

/// Makes the channel and asks. ares_library_init() is only for Windows and Android.
void LookUp::open() {
    using std::chrono::milliseconds;
    ares_options settings{};
    settings.timeout = static_cast<int>(std::chrono::ceil<milliseconds>(options_.timeout).count());
    settings.tries = options_.tries;
    settings.sock_state_cb = &wants;
    settings.sock_state_cb_data = this;
    ares_channel channel = nullptr;
    status_ = ::ares_init_options(&channel, &settings,
                                  ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB);
    if (status_ != ARES_SUCCESS)
        raise_status();
    channel_.reset(channel);
    ::ares_set_socket_functions(channel, &functions, this);
    if (!options_.servers.empty())
        set_servers();
    ares_addrinfo_hints hints{};
    hints.ai_family = options_.family;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = ARES_AI_NUMERICSERV;
    ::ares_getaddrinfo(channel, host_.c_str(), std::to_string(port_).c_str(), &hints, &ended, this);
}

void LookUp::set_servers() {
    std::string list;
    for (const SocketAddress& server : options_.servers)
        list += (list.empty() ? "" : ",") + server.to_string();
    status_ = ::ares_set_servers_ports_csv(channel_.get(), list.c_str());
    if (status_ != ARES_SUCCESS)
        raise_status();
}

Coro<void> LookUp::drive(TaskGroup& group) {
    while (!ended_) {
        co_await close_released();
        co_await watch(group);
        co_await ignore_after(patience(), news_.wait());
        news_.clear();
        if (wait_error_)
            throw std::system_error(wait_error_, detail::about_resolve(host_));
        process();
    }
}

/// Ends the waits on what c-ares has closed, then closes it.
Coro<void> LookUp::close_released() {
    for (Socket& socket : sockets_)
        if (std::exchange(socket.released, false))
            (void)co_await traps::close(socket.descriptor.release());
}

/// Sends a task to each socket that is wanted, where none is.
Coro<void> LookUp::watch(TaskGroup& group) {
    for (Socket& socket : sockets_) {
        for (Direction* direction : {&socket.read, &socket.write}) {
            if (!direction->wanted || direction->waiting)
                continue;
            co_await group.spawn(wait(socket, direction == &socket.write), {.daemon = true});
            direction->waiting = true;
        }
    }
}

Coro<void> LookUp::wait(Socket& socket, bool writing) {
    // By the time it begins, the socket may have been closed, and its number be another's.
    if (!socket.descriptor)
        co_return;
    std::expected<short, std::error_code> answer;
    if (writing)
        answer = co_await traps::write_wait(socket.descriptor.get());
    else
        answer = co_await traps::read_wait(socket.descriptor.get());
    if (!socket.descriptor)
        co_return; // that is what ended it
    Direction& direction = writing ? socket.write : socket.read;
    direction.waiting = false;
    direction.ready = true;
    if (!answer)
        wait_error_ = answer.error();
    news_.set();
}

/// How long until c-ares wants to try again.
Duration LookUp::patience() {
    timeval left{};
    if (!::ares_timeout(channel_.get(), nullptr, &left))
        throw std::system_error(ResolveErrc::server_failure,
                                detail::about_resolve(host_) + ": c-ares waits for nothing");
    return std::chrono::seconds{left.tv_sec} + std::chrono::microseconds{left.tv_usec};
}

void LookUp::process() {
    // It may open and close sockets meanwhile.
    for (std::size_t i = 0; i < sockets_.size() && !ended_; ++i) {
        Socket& socket = sockets_[i];
        const bool reads = std::exchange(socket.read.ready, false) && socket.read.wanted;
        const bool writes = std::exchange(socket.write.ready, false) && socket.write.wanted;
        const int fd = socket.descriptor.get();
        if (reads || writes)
            ::ares_process_fd(channel_.get(), reads ? fd : ARES_SOCKET_BAD,
                              writes ? fd : ARES_SOCKET_BAD);
    }
    if (!ended_)
        ::ares_process_fd(channel_.get(), ARES_SOCKET_BAD, ARES_SOCKET_BAD); // the time
}

std::vector<SocketAddress> LookUp::addresses() const {
    if (status_ != ARES_SUCCESS)
        raise_status();
    std::vector<SocketAddress> found;
    const ares_addrinfo_node* at = answer_ ? answer_->nodes : nullptr;
    for (; at && found.size() < options_.answers_max; at = at->ai_next)
        if (at->ai_family == AF_INET || at->ai_family == AF_INET6)
            found.push_back(SocketAddress::from(at->ai_addr, at->ai_addrlen));
    if (found.empty())
        throw std::system_error(ResolveErrc::no_data, detail::about_resolve(host_));
    return found;
}

void LookUp::raise_status() const {
    const std::string what = detail::about_resolve(host_);
    switch (status_) {
    case ARES_ENOTFOUND:
    case ARES_ENONAME: throw std::system_error(ResolveErrc::host_not_found, what);
    case ARES_ENODATA: throw std::system_error(ResolveErrc::no_data, what);
    case ARES_ENOMEM: throw std::bad_alloc();
    case ARES_EBADNAME: throw std::system_error(ResolveErrc::invalid_name, what);
    default: break;
    }
    // Without a socket nobody was asked, whatever c-ares makes of that.
    if (socket_error_ != 0)
        detail::raise_error(socket_error_, what);
    if (status_ == ARES_ECONNREFUSED && server_code_ == server_failed)
        throw std::system_error(ResolveErrc::server_failure, what);
    if (status_ == ARES_ECONNREFUSED && server_code_ == server_refused)
        throw std::system_error(ResolveErrc::server_refused, what);
    switch (status_) {
    case ARES_ETIMEOUT: throw std::system_error(ResolveErrc::timed_out, what);
    case ARES_EREFUSED: throw std::system_error(ResolveErrc::server_refused, what);
    case ARES_ECONNREFUSED: throw std::system_error(ResolveErrc::server_unreachable, what);
    case ARES_ESERVFAIL:
    case ARES_ENOTIMP: throw std::system_error(ResolveErrc::server_failure, what);
    case ARES_EFORMERR:
    case ARES_EBADRESP: throw std::system_error(ResolveErrc::bad_response, what);
    case ARES_EFILE: detail::raise_error(EIO, what + ": the system's configuration");
    default:
        throw std::system_error(ResolveErrc::server_failure,
                                what + ": c-ares says " + ::ares_strerror(status_));
    }
}

} // namespace

Coro<std::vector<SocketAddress>> detail::look_up(std::string host, std::uint16_t port,
                                                 ResolveOptions options) {
    LookUp look_up{std::move(host), port, options};
    co_return co_await look_up.run();
}

std::string resolve_backend() { return std::string("c-ares ") + ::ares_version(nullptr); }

} // namespace trapline
