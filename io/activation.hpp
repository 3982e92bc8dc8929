// Socket activation: sockets that were opened for this process before it was started, by systemd
// or whoever does as it does (sd_listen_fds(3)). So a server starts when its first client comes,
// listens at a privileged port without being root, and is restarted without refusing anybody.
//
//     Coro<TcpListener> listener(SocketAddress otherwise) {
//         for (InheritedSocket& passed : inherited_sockets())
//             if (passed.name == "web") // FileDescriptorName= of the .socket unit
//                 co_return TcpListener{std::move(passed.socket)};
//         co_return co_await TcpListener::bind(otherwise);
//     }
//
// A listener is made of such a socket by TcpListener{socket} or UnixListener{socket}, which throw
// if nothing listens there; a connection (Accept=yes, its name is "connection") by TcpStream or
// UnixStream. Sockets that are not asked for by name are closed with what was answered.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "descriptor.hpp"

namespace trapline {

/// A socket, or another kind of file, that was passed to this process. Close-on-exec.
struct InheritedSocket {
    Descriptor socket;
    std::string name; ///< "unknown" if whoever passed it gave no names

    InheritedSocket(Descriptor passed, std::string named) noexcept
        : socket(std::move(passed)), name(std::move(named)) {}
};

struct InheritedSocketsOptions {
    /// Removes LISTEN_FDS and its like from the environment, whatever comes of the call, so that
    /// neither a second call nor a child takes the descriptors for its own. Without it a second
    /// call answers them again, and each would be closed twice.
    bool unset_environment = true;
};

/// Takes over what the variables LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES say was passed: the
/// descriptors from 3 on, in this order. Answers nothing if they are not set or meant for another
/// process. Throws std::system_error, and takes nothing: EINVAL if one of them makes no sense,
/// "inherited sockets: LISTEN_FDS is "two": Invalid argument"; EBADF if a descriptor is not open.
/// Never blocks. Call it early: no other thread may look at the environment meanwhile.
std::vector<InheritedSocket> inherited_sockets(InheritedSocketsOptions options = {});

} // namespace trapline
