#include "listener.hpp"

#include <cerrno>

namespace trapline::detail {

SocketAddress listening_address(int fd) {
    int listens = 0;
    socklen_t size = sizeof listens;
    SocketAddress address;
    if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 ||
        ::getsockname(fd, address.fill(), address.fill_size()) != 0)
        raise_error(errno, "take-over of a listener");
    if (listens == 0)
        raise_error(EINVAL, "take-over of " + address.to_string() + ", where nothing listens");
    return address;
}

void raise_accept(int error, const SocketAddress& at, bool closed) {
    raise_error(error, "accept at " + at.to_string() +
                           (closed ? ", a listener that was closed here" : ""));
}

} // namespace trapline::detail
