#include <trapline/io/peer_address.hpp>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

using namespace trapline;
using detail::PeerAddress;

namespace {

SocketAddress unnamed() {
    const sa_family_t family = AF_UNIX;
    return SocketAddress::from(reinterpret_cast<const sockaddr*>(&family), sizeof family);
}

/// Of every family and length.
std::vector<SocketAddress> all_kinds() {
    SocketAddress scoped = SocketAddress::parse("[fe80::1:2]:443");
    sockaddr_in6 raw{};
    std::memcpy(&raw, scoped.data(), sizeof raw);
    raw.sin6_scope_id = 0x0102'0304;
    raw.sin6_flowinfo = 0x0a0b'0c0d;
    std::vector<SocketAddress> all{
        {},
        SocketAddress::ipv4("1.2.3.4", 65535),
        SocketAddress::parse("[2001:db8::ff00:42:8329]:1"),
        SocketAddress::from(reinterpret_cast<const sockaddr*>(&raw), sizeof raw),
        unnamed(),
    };
    for (std::size_t length = 1; length <= sizeof(sockaddr_un::sun_path) - 1; ++length) {
        all.push_back(SocketAddress::unix_path(std::string(length, 'p')));
        all.push_back(SocketAddress::unix_abstract(std::string(length, '\0')));
    }
    return all;
}

bool same_bytes(const SocketAddress& a, const SocketAddress& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

} // namespace

TEST_CASE("a peer's address comes back as it was, whatever its family and length") {
    for (const SocketAddress& address : all_kinds()) {
        CAPTURE(address.to_string());
        const PeerAddress peer{address};
        CHECK(same_bytes(peer.get(), address));
        CHECK(peer.to_string() == address.to_string());
    }
}

TEST_CASE("a peer's address moves, also over another one, and frees what it had") {
    const std::vector<SocketAddress> all = all_kinds();
    for (std::size_t i = 0; i < all.size(); ++i) {
        const SocketAddress& address = all[i];
        CAPTURE(address.to_string());
        PeerAddress first{address};
        PeerAddress second{std::move(first)};
        CHECK(same_bytes(second.get(), address));
        PeerAddress third{all[(i + 7) % all.size()]};
        third = std::move(second);
        CHECK(same_bytes(third.get(), address));
        const int left = second.get().family(); // a copy, or that of an unnamed socket
        CHECK((left == address.family() || left == AF_UNIX));
        second = PeerAddress{address};
        CHECK(same_bytes(second.get(), address));
        CHECK(same_bytes(third.get(), address));
    }
}

TEST_CASE("an address of an odd family or length is kept, too") {
    sockaddr_un raw{};
    for (const int family : {AF_NETLINK, AF_MAX, 0xfe, 0xff, 0x1234}) {
        raw.sun_family = static_cast<sa_family_t>(family);
        for (socklen_t length = 2; length <= sizeof raw; ++length) {
            const SocketAddress address =
                SocketAddress::from(reinterpret_cast<const sockaddr*>(&raw), length);
            CHECK(same_bytes(PeerAddress{address}.get(), address));
        }
    }
    const SocketAddress too_short = SocketAddress::from(reinterpret_cast<sockaddr*>(&raw), 1);
    CHECK(PeerAddress{too_short}.get().size() == 0);
}

TEST_CASE("a peer's address is small") {
    CHECK(sizeof(PeerAddress) == sizeof(sockaddr_in6));
    CHECK(PeerAddress{}.get().family() == AF_UNSPEC);
}
