#include "socket.hpp"

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <variant>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

namespace future_design {

namespace traps = trapline::traps;
using trapline::SocketAddress;

namespace {

std::exception_ptr failure_of(int error, const char* name) {
    return std::make_exception_ptr(std::system_error(error, std::system_category(), name));
}

/// The future of an operation. `Asked` has what it works on, and keeps that alive:
///     static constexpr const char* name;
///     traps::IoRequest request();
///     T result(std::int64_t);     of what has succeeded
///     void lost(std::int64_t);    of what has, and nobody wants it any more
///     bool again(std::int64_t);   whether there is more to do
template <class T, class Asked>
class IoState final : public detail::ResultState<T>, public detail::IoWaiter {
public:
    IoState(Loop& loop, Asked asked) : detail::ResultState<T>(loop), asked_(std::move(asked)) {}

    /// The engine's reference to this.
    void start() {
        this->add_reference();
        start_operation();
    }

    bool cancel() override {
        if (this->done())
            return false;
        if (!operation_.cancel_requested)
            this->loop().cancel_io(operation_);
        return detail::FutureState::cancel();
    }

    void over(Operation& operation) noexcept override {
        const std::int64_t result = operation.result;
        if (result >= 0 && !this->done() && operation.stopped_by == 0 && asked_.again(result))
            return start_operation();
        const auto self = detail::Ref<IoState>::adopt(this);
        Asked asked{std::move(asked_)}; // whoever keeps the future does not keep the socket
        if (this->done())
            return result >= 0 ? asked.lost(result) : void();
        if (result < 0 || operation.stopped_by != 0)
            return this->set_exception(failure_of(
                result < 0 ? static_cast<int>(-result) : operation.stopped_by, Asked::name));
        if constexpr (std::is_void_v<T>)
            this->set_result({});
        else
            this->set_result(asked.result(result));
    }

private:
    void start_operation() noexcept {
        request_ = asked_.request();
        std::construct_at(&operation_)->request = &request_;
        this->loop().start_io(operation_, *this);
    }

    Asked asked_;
    traps::IoRequest request_;
    Operation operation_;
};

template <class T, class Asked>
Future<T> start(Loop& loop, Asked asked) {
    auto state = detail::make<IoState<T, Asked>>(loop, std::move(asked));
    state->start();
    return Future<T>{std::move(state)};
}

struct AskedOnce {
    void lost(std::int64_t) const noexcept {}
    bool again(std::int64_t) const noexcept { return false; }
};

struct AskedRecv : AskedOnce {
    static constexpr const char* name = "recv";
    traps::IoRequest request() const noexcept {
        return traps::Recv{socket.fileno(), 0, buffer.data(), buffer.size()};
    }
    Bytes result(std::int64_t size) const noexcept {
        return buffer.bytes().first(static_cast<std::size_t>(size));
    }
    Socket socket;
    Buffer buffer;
};

struct AskedRecvInto : AskedOnce {
    static constexpr const char* name = "recv";
    traps::IoRequest request() const noexcept {
        return traps::Recv{socket.fileno(), 0, buffer.data(), buffer.size()};
    }
    std::size_t result(std::int64_t size) const noexcept { return static_cast<std::size_t>(size); }
    Socket socket;
    Buffer buffer;
};

struct AskedSend : AskedOnce {
    static constexpr const char* name = "send";
    traps::IoRequest request() const noexcept {
        return traps::Send{socket.fileno(), MSG_WAITALL, data.data(), data.size()};
    }
    Socket socket;
    Bytes data;
};

struct AskedAccept : AskedOnce {
    static constexpr const char* name = "accept";
    traps::IoRequest request() const noexcept {
        return traps::Accept{listening.fileno(), 0, nullptr, nullptr};
    }
    Socket result(std::int64_t fd) const { return Socket{listening.loop(), static_cast<int>(fd)}; }
    void lost(std::int64_t fd) const noexcept { ::close(static_cast<int>(fd)); }
    Socket listening;
};

struct AskedConnect : AskedOnce {
    static constexpr const char* name = "connect";
    traps::IoRequest request() const noexcept {
        return traps::Connect{socket.fileno(), address.data(), address.size()};
    }
    Socket socket;
    SocketAddress address;
};

struct AskedRead : AskedOnce {
    static constexpr const char* name = "read";
    traps::IoRequest request() const noexcept {
        return traps::Read{pipe.fileno(), buffer.data(), buffer.size()};
    }
    std::size_t result(std::int64_t size) const noexcept { return static_cast<std::size_t>(size); }
    Socket pipe;
    Buffer buffer;
};

struct AskedWrite {
    static constexpr const char* name = "write";
    traps::IoRequest request() const noexcept {
        return traps::Write{pipe.fileno(), left.data(), left.size()};
    }
    void lost(std::int64_t) const noexcept {}
    bool again(std::int64_t written) noexcept {
        left = left.from(static_cast<std::size_t>(written));
        return !left.empty();
    }
    Socket pipe;
    Bytes left;
};

struct AskedNop : AskedOnce {
    static constexpr const char* name = "nop";
    traps::IoRequest request() const noexcept { return traps::Nop{}; }
};

/// Nobody waits for it.
class Closing final : public detail::Recycled, public detail::IoWaiter {
public:
    explicit Closing(int fd) noexcept : request_(traps::Close{fd}) {
        operation_.request = &request_;
    }
    void start(Loop& loop) noexcept { loop.start_io(operation_, *this); }
    void over(Operation&) noexcept override { delete this; }

private:
    const traps::IoRequest request_;
    Operation operation_;
};

void set_option(int fd, int level, int option, const char* name) {
    const int on = 1;
    if (::setsockopt(fd, level, option, &on, sizeof on) != 0)
        throw std::system_error(errno, std::system_category(), name);
}

Future<void> done_at_once(Loop& loop) {
    Future<void> done{loop};
    done.set_result();
    return done;
}

} // namespace

detail::Descriptor::~Descriptor() { (new Closing{fd_})->start(loop_); }

Socket socket_for(Loop& loop, const SocketAddress& address) {
    const int fd = ::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        throw std::system_error(errno, std::system_category(), "socket");
    return Socket{loop, fd};
}

Socket listening_socket(Loop& loop, const SocketAddress& address, int backlog) {
    Socket socket = socket_for(loop, address);
    if (address.family() != AF_UNIX) {
        set_option(socket.fileno(), SOL_SOCKET, SO_REUSEADDR, "reuse address");
        set_option(socket.fileno(), IPPROTO_TCP, TCP_NODELAY, "no delay");
    }
    if (::bind(socket.fileno(), address.data(), address.size()) != 0 ||
        ::listen(socket.fileno(), backlog) != 0)
        throw std::system_error(errno, std::system_category(), "listen at " + address.to_string());
    return socket;
}

SocketAddress getsockname(const Socket& socket) {
    SocketAddress address;
    if (::getsockname(socket.fileno(), address.fill(), address.fill_size()) != 0)
        throw std::system_error(errno, std::system_category(), "getsockname");
    return address;
}

Future<Bytes> sock_recv(const Socket& socket, std::size_t bytes_max) {
    return start<Bytes>(socket.loop(), AskedRecv{{}, socket, Buffer{bytes_max}});
}

Future<std::size_t> sock_recv_into(const Socket& socket, const Buffer& buffer) {
    return start<std::size_t>(socket.loop(), AskedRecvInto{{}, socket, buffer});
}

Future<void> sock_sendall(const Socket& socket, const Bytes& data) {
    if (data.empty())
        return done_at_once(socket.loop());
    return start<void>(socket.loop(), AskedSend{{}, socket, data});
}

Future<Socket> sock_accept(const Socket& listening) {
    return start<Socket>(listening.loop(), AskedAccept{{}, listening});
}

Future<void> sock_connect(const Socket& socket, const SocketAddress& address) {
    return start<void>(socket.loop(), AskedConnect{{}, socket, address});
}

Future<std::size_t> pipe_read_into(const Socket& pipe, const Buffer& buffer) {
    return start<std::size_t>(pipe.loop(), AskedRead{{}, pipe, buffer});
}

Future<void> pipe_write_all(const Socket& pipe, const Bytes& data) {
    if (data.empty())
        return done_at_once(pipe.loop());
    return start<void>(pipe.loop(), AskedWrite{pipe, data});
}

Future<void> nop(Loop& loop) { return start<void>(loop, AskedNop{}); }

} // namespace future_design
