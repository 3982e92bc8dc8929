// AnyStream: owns a stream of any kind, chosen at run time, and is one itself.
//
//     Coro<AnyStream> dial(SocketAddress to, bool rehearsal) {
//         if (rehearsal)
//             co_return memory_stream_pair().a;
//         co_return co_await TcpStream::connect(to);
//     }
//
// Each call costs a coroutine more than that of the stream itself. Errors, interrupts and who may
// call what when are the stream's own, see stream.hpp.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "../traps/coro.hpp"
#include "stream.hpp"

namespace trapline {

class AnyStream {
public:
    /// Holds none.
    AnyStream() noexcept = default;

    template <class S>
        requires Stream<S> && (!std::same_as<std::remove_cvref_t<S>, AnyStream>)
    AnyStream(S stream) : stream_(std::make_unique<Holder<S>>(std::move(stream))) {}

    // Only while it holds one.

    Coro<std::size_t> recv(std::span<std::byte> buffer) { return stream_->recv(buffer); }
    Coro<void> send_all(std::span<const std::byte> data) { return stream_->send_all(data); }
    Coro<void> send_all(std::string_view text) { return send_all(std::as_bytes(std::span(text))); }
    Coro<void> shutdown() { return stream_->shutdown(); }
    Coro<void> close() { return stream_->close(); }

    /// The stream inside, if it is an S; else null.
    template <class S>
    S* get_if() noexcept {
        auto* holder = dynamic_cast<Holder<S>*>(stream_.get());
        return holder ? &holder->stream : nullptr;
    }

    /// Whether it holds one, closed or not.
    explicit operator bool() const noexcept { return stream_ != nullptr; }

private:
    class Base {
    public:
        virtual ~Base() = default;
        virtual Coro<std::size_t> recv(std::span<std::byte> buffer) = 0;
        virtual Coro<void> send_all(std::span<const std::byte> data) = 0;
        virtual Coro<void> shutdown() = 0;
        virtual Coro<void> close() = 0;
    };

    template <class S>
    class Holder final : public Base {
    public:
        explicit Holder(S from) : stream(std::move(from)) {}

        Coro<std::size_t> recv(std::span<std::byte> buffer) override {
            co_return co_await stream.recv(buffer);
        }
        Coro<void> send_all(std::span<const std::byte> data) override {
            co_await stream.send_all(data);
        }
        Coro<void> shutdown() override { co_await stream.shutdown(); }
        Coro<void> close() override { co_await stream.close(); }

        S stream;
    };

    std::unique_ptr<Base> stream_;
};

} // namespace trapline
