// Transport and Protocol as asyncio has them: a protocol is called with what is received, and
// writes to its transport, which never waits.
//
//     class Echo final : public Protocol {
//         void connection_made(Transport& transport) override { transport_ = &transport; }
//         void data_received(Bytes data) override { transport_->write(std::move(data)); }
//         Transport* transport_ = nullptr;
//     };
//     Server server = create_server(loop, [] { return std::make_unique<Echo>(); }, address);
//
// The order of calls is asyncio's: connection_made, then data_received any number of times, then
// eof_received at most once, then connection_lost, each as a callback of the loop's. The transport
// owns the protocol, and both go after connection_lost; until then it may be pointed to.
#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "socket.hpp"

namespace future_design {

class Transport;

/// What leaves one of these is told to the loop's exception handler; an exception of data_received
/// or eof_received ends the connection, too.
class Protocol {
public:
    Protocol() = default;
    Protocol(const Protocol&) = delete;
    Protocol& operator=(const Protocol&) = delete;
    virtual ~Protocol() = default;

    virtual void connection_made([[maybe_unused]] Transport& transport) {}
    /// Some of the stream, as it came. A part of it that is kept keeps a whole buffer.
    virtual void data_received([[maybe_unused]] Bytes data) {}
    /// The peer sends no more. With false the transport closes; with true writing goes on.
    virtual bool eof_received() { return false; }
    /// Null: it was closed, or aborted, or the peer has ended it.
    virtual void connection_lost([[maybe_unused]] const std::exception_ptr& failure) {}
    /// What waits to be written is more than the high-water mark. Once, until the other is called.
    virtual void pause_writing() {}
    /// It is at the low-water mark, or below.
    virtual void resume_writing() {}
};

namespace detail {
class ServerState;
}

/// Belongs to the loop, which keeps it until connection_lost was called and its last operation is
/// over. The protocol may use it in every callback, and between.
class Transport final : public detail::Counted, public detail::KeptByLoop {
public:
    Loop& loop() const noexcept { return loop_; }

    /// Nothing waits: what a turn has written goes out when that has ended, by one operation; what
    /// is written while that is under way, by the next. The bytes are kept, not copied. Does
    /// nothing on a connection that was lost. Throws std::runtime_error after write_eof().
    void write(Bytes data);
    /// Copies.
    void write(std::span<const std::byte> data) { write(Bytes::copy_of(data)); }
    /// When all is written, the peer sees the end of the stream. Reading goes on.
    void write_eof();

    /// Reads no more, and closes when all is written; connection_lost(nullptr) tells.
    void close();
    /// Closes at once; what is not sent yet is lost. connection_lost(nullptr) tells.
    void abort();
    bool is_closing() const noexcept { return closing_; }

    /// No data_received until resume_reading(): something may be received meanwhile, and waits. To
    /// call either twice is harmless.
    void pause_reading() noexcept;
    void resume_reading();
    bool is_reading() const noexcept { return !closing_ && !paused_; }

    /// Bytes written and not sent yet.
    std::size_t get_write_buffer_size() const noexcept { return buffered_; }
    /// As long as nothing is said: 64 KiB, and a quarter of the high one. Throws
    /// std::invalid_argument for a low one above the high one.
    void set_write_buffer_limits(std::optional<std::size_t> high = {},
                                 std::optional<std::size_t> low = {});

private:
    friend class detail::ServerState;
    friend Transport& connect_accepted_socket(std::unique_ptr<Protocol>, Socket);

    /// One direction: its operation, and the callback in which the loop says that it is over. Both,
    /// one after the other, hold a reference to the transport.
    class Direction : public detail::IoWaiter, public detail::Callable {
    public:
        using Ready = void (Transport::*)();
        Direction(Transport& transport, Ready ready) noexcept
            : transport_(transport), ready_(ready) {}
        void start(const trapline::traps::IoRequest& request) noexcept;
        void cancel() noexcept;
        bool busy() const noexcept { return in_flight_ || over_; }
        const Operation& operation() const noexcept { return operation_; }

    private:
        void over(Operation& operation) noexcept override;
        void call(Loop& loop) noexcept override;
        void drop() noexcept override;

        Transport& transport_;
        Ready ready_;
        bool in_flight_ = false;
        bool over_ = false; ///< and the callback is asked for
        trapline::traps::IoRequest request_;
        Operation operation_;
    };

    /// Sends what a turn has written when that has ended.
    class Flush final : public detail::Callable {
    public:
        explicit Flush(Transport& transport) noexcept : transport_(transport) {}
        void ask() noexcept;

    private:
        void call(Loop& loop) noexcept override;
        void drop() noexcept override;
        Transport& transport_;
        bool asked_ = false;
    };

    struct Gathered;

    Transport(Socket socket, std::unique_ptr<Protocol> protocol,
              detail::Ref<detail::ServerState> server);
    ~Transport() override;

    void loop_goes() noexcept override;
    void start();
    void read_more() noexcept;
    void read_ready();
    void received(Bytes data);
    void end_of_stream();
    void stop_reading() noexcept;
    void send_more();
    void send_gathered();
    void write_ready();
    void maybe_pause_protocol() noexcept;
    void maybe_resume_protocol() noexcept;
    void fatal_error(int error, const char* operation);
    void fatal_error(const std::exception_ptr& failure, const char* message);
    void force_close(std::exception_ptr failure);
    void connection_lost_soon(std::exception_ptr failure);
    void call_connection_lost(const std::exception_ptr& failure) noexcept;
    void leave_socket_if_over() noexcept;

    Loop& loop_;
    detail::Ref<Transport> self_; ///< until connection_lost was called
    Socket socket_;
    std::unique_ptr<Protocol> protocol_;
    detail::Ref<detail::ServerState> server_;
    Transport* previous_ = nullptr; ///< in the server's list
    Transport* next_ = nullptr;

    bool closing_ = false;
    bool paused_ = false;
    bool started_ = false; ///< connection_made was called
    bool eof_received_ = false;
    bool eof_written_ = false;
    bool protocol_paused_ = false;
    bool lost_ = false;        ///< connection_lost was called
    unsigned writes_lost_ = 0; ///< 1 and more: the connection was, or will soon be

    Direction reading_{*this, &Transport::read_ready};
    trapline::BufferLease lease_;
    std::optional<Bytes> waiting_; ///< received while paused

    Direction writing_{*this, &Transport::write_ready};
    Flush flush_{*this};
    Bytes written_;           ///< the first that waits
    std::vector<Bytes> more_; ///< that wait behind it
    Bytes sending_;
    std::unique_ptr<Gathered> gathered_; ///< instead, where there was more than one
    std::size_t sending_bytes_ = 0;
    std::size_t buffered_ = 0;
    std::size_t high_ = 64 << 10;
    std::size_t low_ = 16 << 10;
};

/// A transport for a connected stream socket, and connection_made soon.
Transport& connect_accepted_socket(std::unique_ptr<Protocol> protocol, Socket socket);

} // namespace future_design
