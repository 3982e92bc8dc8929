// A name server for tests: it answers on a loopback port, over UDP and TCP, what the test says.
//
//     DnsServer server{[](const DnsQuery& query) -> DnsReplies { return
//     {reply(query).a("192.0.2.1")}; }}; Task<> serving = co_await spawn(server.serve());
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <arpa/inet.h>

#include <trapline/io/address.hpp>
#include <trapline/io/descriptor.hpp>
#include <trapline/io/tcp.hpp>
#include <trapline/traps/calls.hpp>
#include <trapline/traps/group.hpp>

#include "sockets.hpp"

namespace trapline::test {

enum DnsType : std::uint16_t { dns_a = 1, dns_cname = 5, dns_aaaa = 28 };

struct DnsQuery {
    std::uint16_t id;
    std::string name; ///< without a dot at the end, in lower case
    std::uint16_t type;
    bool tcp;
    std::string question; ///< as it came
};

/// The messages that answer a query, one after the other; none is silence.
using DnsReplies = std::vector<std::string>;
using DnsAnswers = std::function<DnsReplies(const DnsQuery&)>;

inline std::string dns_number(std::uint16_t n) {
    return {static_cast<char>(n >> 8), static_cast<char>(n & 255)};
}

/// "a.b" as DNS writes it.
inline std::string dns_name(const std::string& name) {
    std::string wire;
    for (std::size_t at = 0; at < name.size();) {
        const std::size_t dot = std::min(name.find('.', at), name.size());
        wire += static_cast<char>(dot - at);
        wire += name.substr(at, dot - at);
        at = dot + 1;
    }
    return wire + '\0';
}

/// Puts a reply together.
class DnsReply {
public:
    explicit DnsReply(const DnsQuery& query) : query_(query), owner_(query.name) {}

    DnsReply& id(std::uint16_t id) { return query_.id = id, *this; }
    DnsReply& rcode(int code) { return code_ = code, *this; }
    DnsReply& truncated() { return truncated_ = true, *this; }

    /// An address of the name last spoken of, if that is what was asked for.
    DnsReply& a(const std::string& address) { return add_address(AF_INET, dns_a, address); }
    DnsReply& aaaa(const std::string& address) { return add_address(AF_INET6, dns_aaaa, address); }

    /// The name last spoken of is another name for `target`, of which is spoken from now on.
    DnsReply& cname(const std::string& target) {
        add(dns_cname, dns_name(target));
        owner_ = target;
        return *this;
    }
    DnsReply& add(std::uint16_t type, const std::string& data) {
        ++count_;
        records_ += dns_name(owner_) + dns_number(type) + dns_number(1) +
                    std::string("\0\0\0\x3c", 4) +
                    dns_number(static_cast<std::uint16_t>(data.size())) + data;
        return *this;
    }

    operator std::string() const {
        const int flags = 0x8580 | (truncated_ ? 0x0200 : 0) | code_; // an answer, authoritative
        return dns_number(query_.id) + dns_number(static_cast<std::uint16_t>(flags)) +
               dns_number(1) + dns_number(truncated_ ? 0 : count_) + std::string(4, '\0') +
               query_.question + (truncated_ ? "" : records_);
    }

private:
    DnsReply& add_address(int family, std::uint16_t type, const std::string& address) {
        std::array<char, 16> bytes{};
        if (::inet_pton(family, address.c_str(), bytes.data()) != 1)
            throw std::invalid_argument(address);
        if (query_.type == type)
            add(type, std::string(bytes.data(), family == AF_INET ? 4 : 16));
        return *this;
    }

    DnsQuery query_;
    std::string owner_;
    std::string records_;
    std::uint16_t count_ = 0;
    int code_ = 0;
    bool truncated_ = false;
};

inline DnsReply reply(const DnsQuery& query) { return DnsReply{query}; }

/// Reads a query. Throws std::out_of_range if it is none.
inline DnsQuery parse_query(const std::string& message, bool tcp) {
    const auto number = [&](std::size_t at) {
        return static_cast<std::uint16_t>(static_cast<unsigned char>(message.at(at)) << 8 |
                                          static_cast<unsigned char>(message.at(at + 1)));
    };
    DnsQuery query{.id = number(0), .name = {}, .type = 0, .tcp = tcp, .question = {}};
    std::size_t at = 12;
    for (std::size_t length; (length = static_cast<unsigned char>(message.at(at))) != 0;) {
        query.name += (query.name.empty() ? "" : ".") + message.substr(at + 1, length);
        at += length + 1;
    }
    for (char& c : query.name)
        c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    query.type = number(at + 1);
    query.question = message.substr(12, at + 5 - 12);
    return query;
}

class DnsServer {
public:
    explicit DnsServer(DnsAnswers answers) : answers_(std::move(answers)) {
        // The same number for both: one that is free for TCP may be taken for UDP.
        for (int tries = 0; tries < 20 && !udp_; ++tries) {
            tcp_ = tcp_listener();
            Descriptor udp{must(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket")};
            const sockaddr_in at = loopback(port_of(tcp_.get()));
            if (::bind(udp.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0)
                udp_ = std::move(udp);
        }
        if (!udp_)
            throw std::runtime_error("no port is free for TCP and UDP");
    }

    SocketAddress address() const { return SocketAddress::ipv4("127.0.0.1", port_of(tcp_.get())); }

    /// Queries so far.
    std::size_t count() const noexcept { return queries_.size(); }
    const std::vector<DnsQuery>& queries() const noexcept { return queries_; }

    /// Connections over TCP are closed after so many bytes of the answer.
    std::size_t tcp_bytes_max = SIZE_MAX;

    /// Until it is cancelled.
    Coro<void> serve() {
        co_await task_group([this](TaskGroup& group) -> Coro<void> {
            co_await group.spawn(serve_tcp());
            co_await serve_udp();
        });
    }

private:
    Coro<void> serve_udp() {
        for (;;) {
            std::array<std::byte, 4096> buffer;
            SocketAddress peer;
            iovec part{buffer.data(), buffer.size()};
            msghdr message{};
            message.msg_name = peer.fill();
            message.msg_namelen = *peer.fill_size();
            message.msg_iov = &part;
            message.msg_iovlen = 1;
            const auto received = co_await traps::recv_message(udp_.get(), message);
            if (!received)
                continue; // somebody has closed his socket before our answer came
            const DnsReplies replies = answer(buffer, *received, false);
            for (std::string text : replies) {
                iovec out{text.data(), text.size()};
                message.msg_iov = &out;
                (void)co_await traps::send_message(udp_.get(), message);
            }
        }
    }

    Coro<void> serve_tcp() {
        co_await task_group([this](TaskGroup& group) -> Coro<void> {
            for (;;) {
                const auto fd = co_await traps::accept(tcp_.get());
                co_await group.spawn(serve_client(Descriptor{fd.value()}), {.daemon = true});
            }
        });
    }

    /// As many queries as the client has.
    Coro<void> serve_client(Descriptor client) {
        for (;;) {
            std::array<std::byte, 4096> buffer;
            const auto head = std::span(buffer).first(2);
            const auto prefix = co_await traps::recv(client.get(), head, MSG_WAITALL);
            if (!prefix || *prefix != 2)
                co_return;
            const auto size = std::to_integer<std::size_t>(buffer[0]) * 256 +
                              std::to_integer<std::size_t>(buffer[1]);
            const auto body = std::span(buffer).first(size);
            const auto received = co_await traps::recv(client.get(), body, MSG_WAITALL);
            if (!received || *received != size)
                co_return;
            for (const std::string& text : answer(buffer, size, true)) {
                const std::string all = dns_number(static_cast<std::uint16_t>(text.size())) + text;
                const auto sent =
                    std::as_bytes(std::span(all)).first(std::min(all.size(), tcp_bytes_max));
                (void)co_await traps::send(client.get(), sent, MSG_WAITALL);
                if (sent.size() < all.size())
                    co_return;
            }
        }
    }

    DnsReplies answer(std::span<const std::byte> buffer, std::size_t size, bool tcp) {
        const std::string message(reinterpret_cast<const char*>(buffer.data()), size);
        queries_.push_back(parse_query(message, tcp));
        return answers_(queries_.back());
    }

    DnsAnswers answers_;
    Descriptor udp_;
    Descriptor tcp_;
    std::vector<DnsQuery> queries_;
};

/// Where no name server listens. The port is taken, or the one who asks might get it himself, and
/// hear his own question; but by a socket that hears nobody, so that Linux refuses what comes.
class NoDnsServer {
public:
    NoDnsServer() : udp_(must(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket")) {
        sockaddr_in at = loopback(0);
        must(::bind(udp_.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at), "bind");
        at.sin_port = htons(port_of(udp_.get()));
        must(::connect(udp_.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at), "connect");
    }

    SocketAddress address() const { return SocketAddress::ipv4("127.0.0.1", port_of(udp_.get())); }

private:
    Descriptor udp_;
};

} // namespace trapline::test
