// Unix-domain sockets: UnixListener, UnixStream, UnixDatagram: within one machine, with passing of
// descriptors and the peer's credentials.
//
//     UnixListener listener = co_await UnixListener::bind(SocketAddress::unix_path(path));
//     UnixStream client = co_await UnixStream::connect(listener.local_address());
//     UnixStream server = co_await listener.accept();
//     uid_t who = server.peer_credentials().uid;
//     co_await client.send_descriptors("a pipe", std::array{pipe.reader.fd()});
//
// Addresses are paths, or abstract names (SocketAddress::unix_abstract), which are no files. What
// they share with other sockets is in stream_socket.hpp, listener.hpp and datagram_socket.hpp.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <sys/socket.h>

#include "datagram_socket.hpp"
#include "listener.hpp"
#include "stream_socket.hpp"

namespace trapline {

struct UnixStreamPair;
struct UnixDatagramPair;

/// Bytes, and the descriptors that came with them.
struct DescriptorMessage {
    std::size_t size = 0;                  ///< bytes in the buffer; 0 at the end of the stream
    std::vector<Descriptor> descriptors{}; ///< close-on-exec

    DescriptorMessage() = default;
    DescriptorMessage(DescriptorMessage&&) = default;
    DescriptorMessage& operator=(DescriptorMessage&&) = default;
};

/// Of one message; Linux allows no more.
inline constexpr std::size_t descriptors_max = 253;

class UnixStream : public StreamSocket {
public:
    using StreamSocket::StreamSocket;

    /// Connects to `peer`. Blocks while the listener's backlog is full. Throws std::system_error.
    static Coro<UnixStream> connect(SocketAddress peer);

    /// Two connected ends without names. Throws std::system_error. Never blocks.
    static Coro<UnixStreamPair> pair();

    /// Who made the other end: process, user and group, at the time it was connected. Throws
    /// std::system_error; not_connected in a replay, which does not know it.
    ucred peer_credentials() const;

    /// Sends data, at least one byte, and with its first byte the descriptors, which stay the
    /// caller's; answers how many bytes went. Throws std::system_error, std::invalid_argument for
    /// no data. Blocks.
    Coro<std::size_t> send_descriptors(std::span<const std::byte> data, std::span<const int> fds);
    Coro<std::size_t> send_descriptors(std::string_view text, std::span<const int> fds) {
        return send_descriptors(std::as_bytes(std::span(text)), fds);
    }

    /// Receives bytes as recv() does, into a buffer that is not empty (else std::invalid_argument),
    /// and descriptors that come with them. Throws std::system_error; EMSGSIZE if more than
    /// `fds_max` came, or no more could be opened: those that came are closed, and the bytes are
    /// lost. Blocks. A cancelled one has taken nothing.
    Coro<DescriptorMessage> recv_descriptors(std::span<std::byte> buffer,
                                             std::size_t fds_max = descriptors_max);
};

struct UnixStreamPair {
    UnixStream a;
    UnixStream b;
};

struct UnixListenOptions {
    int backlog = SOMAXCONN; ///< connections that Linux holds ready for accept
    bool replace = false;    ///< removes a socket at the path, unless a connect finds a listener
    mode_t mode = 0;         ///< permissions of the socket file; 0: as the process's umask says
};

class UnixListener : public Listener<UnixStream> {
public:
    using Listener::Listener;

    /// Listens at `address`. Throws std::system_error. Does not block. The socket file stays when
    /// the listener is gone: see `replace`.
    static Coro<UnixListener> bind(SocketAddress address, UnixListenOptions options = {});
};

class UnixDatagram : public DatagramSocket {
public:
    using DatagramSocket::DatagramSocket;

    /// Receives at `address`. Throws std::system_error. Never blocks.
    static Coro<UnixDatagram> bind(SocketAddress address);

    /// Sends to `peer`, and receives from it alone; `local` is where it can answer to. Throws
    /// std::system_error. Never blocks.
    static Coro<UnixDatagram> connect(SocketAddress peer, SocketAddress local = {});

    /// Two connected ends without names. Throws std::system_error. Never blocks.
    static Coro<UnixDatagramPair> pair();
};

struct UnixDatagramPair {
    UnixDatagram a;
    UnixDatagram b;
};

} // namespace trapline
