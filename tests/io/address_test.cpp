#include <trapline/io/address.hpp>

#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

using namespace trapline;
using namespace std::string_view_literals;

namespace {

/// What parse() has to say against `text`; "" if nothing.
std::string complaint(std::string_view text) {
    try {
        SocketAddress::parse(text);
        return "";
    } catch (const std::invalid_argument& e) {
        return e.what();
    }
}

} // namespace

TEST_CASE("addresses are parsed, made and printed") {
    SocketAddress loopback = SocketAddress::parse("[::1]:8080");
    SocketAddress local = SocketAddress::parse("unix:/run/app.sock");
    SocketAddress everywhere = SocketAddress::ipv4("0.0.0.0", 80);
    std::string text = everywhere.to_string(); // "0.0.0.0:80"
    CHECK(loopback == SocketAddress::ipv6("::1", 8080));
    CHECK(local == SocketAddress::unix_path("/run/app.sock"));
    CHECK(text == "0.0.0.0:80");
}

TEST_CASE("what is parsed prints as it was") {
    for (const char* text : {"127.0.0.1:8080", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:0",
                             "[::]:80", "[2001:db8::17:0:1]:443", "[::ffff:1.2.3.4]:1",
                             "unix:/run/app.sock", "unix:relative.sock"}) {
        CAPTURE(text);
        const SocketAddress address = SocketAddress::parse(text);
        CHECK(address.to_string() == text);
        CHECK(SocketAddress::parse(address.to_string()) == address);
    }
}

TEST_CASE("an address knows its family, its port and its size") {
    const SocketAddress v4 = SocketAddress::parse("1.2.3.4:99");
    CHECK(v4.family() == AF_INET);
    CHECK(v4.port() == 99);
    CHECK(v4.size() == sizeof(sockaddr_in));
    CHECK(v4.data()->sa_family == AF_INET);

    const SocketAddress v6 = SocketAddress::parse("[::1]:65535");
    CHECK(v6.family() == AF_INET6);
    CHECK(v6.port() == 65535);
    CHECK(v6.size() == sizeof(sockaddr_in6));

    const SocketAddress local = SocketAddress::parse("/tmp/x");
    CHECK(local.family() == AF_UNIX);
    CHECK(local.port() == 0);
    CHECK(local.to_string() == "unix:/tmp/x");
    CHECK(local.size() == offsetof(sockaddr_un, sun_path) + 7);
}

TEST_CASE("an address that was not given is unspecified") {
    const SocketAddress none;
    CHECK(none.family() == AF_UNSPEC);
    CHECK(none.port() == 0);
    CHECK(none.size() == 0);
    CHECK(none.to_string() == "no address");
    CHECK(none == SocketAddress{});
    CHECK(none != SocketAddress::parse("0.0.0.0:0"));
}

TEST_CASE("addresses are written in their shortest form") {
    CHECK(SocketAddress::parse("[0:0:0:0:0:0:0:1]:7").to_string() == "[::1]:7");
    CHECK(SocketAddress::parse("[2001:DB8::A]:7").to_string() == "[2001:db8::a]:7");
    CHECK(SocketAddress::parse("127.0.0.1:0080").to_string() == "127.0.0.1:80");
}

TEST_CASE("a link-local address names its interface") {
    const SocketAddress address = SocketAddress::parse("[fe80::1%lo]:80");
    CHECK(address.to_string() == "[fe80::1%lo]:80");
    CHECK(address != SocketAddress::parse("[fe80::1]:80"));
    CHECK(complaint("[fe80::1%nosuch0]:80").contains("no network interface of that name"));
    CHECK(complaint("[fe80::1%]:80").contains("no network interface of that name"));
}

TEST_CASE("text that is no address is refused, and the text says why") {
    const auto check = [](std::string_view text, const char* why) {
        CAPTURE(text);
        CAPTURE(why);
        const std::string said = complaint(text);
        CHECK(said.contains(why));
        CHECK(said.contains("is no socket address"));
    };
    check("", "expected 1.2.3.4:port");
    check("127.0.0.1", "expected 1.2.3.4:port");
    check("8080", "expected 1.2.3.4:port");
    check("[::1]", "expected 1.2.3.4:port");
    check("[::1", "expected 1.2.3.4:port");
    check("[::1]80", "expected 1.2.3.4:port");
    check("::1:80", "stands in brackets");
    check("2001:db8::1", "stands in brackets");
    for (const char* port : {"", "x", "-1", "65536", "99999999999999999999", "80x", " 80", "80 ",
                             "+80", "0x50", "8 0"}) {
        CAPTURE(port);
        CHECK(complaint("127.0.0.1:" + std::string(port)).contains("number from 0 to 65535"));
        CHECK(complaint("[::1]:" + std::string(port)).contains("number from 0 to 65535"));
    }
    for (const char* host : {"", "localhost", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.x",
                             "1.2.3.-4", " 127.0.0.1", "127.0.0.1 ", "0x7f.0.0.1"}) {
        CAPTURE(host);
        const std::string text = std::string(host) + ":80";
        CHECK(complaint(text).contains("four numbers"));
        CHECK(complaint(text).contains("names are not looked up"));
        CHECK(complaint(text).contains('"' + text + '"')); // all that was given
    }
    for (const char* host : {"", "1.2.3.4", ":::1", "12345::", "::g", "[::1", "::1 "}) {
        CAPTURE(host);
        const std::string text = "[" + std::string(host) + "]:80";
        CHECK(complaint(text).contains("must be an IPv6 address"));
        CHECK(complaint(text).contains('"' + text + '"'));
    }
    check("unix:", "the path is empty");
}

TEST_CASE("a text with a NUL in it is refused wherever that stands") {
    for (const std::string_view text :
         {"127.0.0.1\0:80"sv, "127.0.0.1\0x:80"sv, "127.0.0.1:80\0"sv, "[::1\0]:80"sv,
          "[::1\0x]:80"sv, "[fe80::1%lo\0]:80"sv, "unix:/tmp/\0x"sv, "\0"sv}) {
        CAPTURE(text.size());
        CHECK_FALSE(complaint(text).empty());
    }
}

TEST_CASE("a path fits into 107 bytes") {
    const std::string longest(107, 'p');
    const SocketAddress address = SocketAddress::unix_path(longest);
    CHECK(address.to_string() == "unix:" + longest);
    CHECK(address.size() == sizeof(sockaddr_un));
    CHECK(complaint("unix:" + longest + "p").contains("107 bytes"));
}

TEST_CASE("the makers of each family refuse what is not theirs") {
    CHECK(SocketAddress::ipv4("10.0.0.1", 5).to_string() == "10.0.0.1:5");
    CHECK(SocketAddress::ipv6("::2", 5).to_string() == "[::2]:5");
    CHECK_THROWS_AS(SocketAddress::ipv4("::1", 5), std::invalid_argument);
    CHECK_THROWS_AS(SocketAddress::ipv6("10.0.0.1", 5), std::invalid_argument);
    CHECK_THROWS_AS(SocketAddress::unix_path(""), std::invalid_argument);
    CHECK_THROWS_AS(SocketAddress::unix_path("a\0b"sv), std::invalid_argument);
}

TEST_CASE("addresses compare by family, host and port") {
    const auto parse = [](const char* text) { return SocketAddress::parse(text); };
    CHECK(parse("1.2.3.4:5") == parse("1.2.3.4:5"));
    CHECK(parse("1.2.3.4:5") != parse("1.2.3.4:6"));
    CHECK(parse("1.2.3.4:5") != parse("1.2.3.5:5"));
    CHECK(parse("[::1]:5") == parse("[::1]:5"));
    CHECK(parse("[::1]:5") != parse("[::1]:6"));
    CHECK(parse("[::1]:5") != parse("[::2]:5"));
    CHECK(parse("[::]:5") != parse("0.0.0.0:5"));
    CHECK(parse("unix:a") == parse("unix:a"));
    CHECK(parse("unix:a") != parse("unix:b"));
    CHECK(parse("unix:a") != parse("unix:ab"));
    CHECK(parse("/a") == parse("unix:/a"));
}

TEST_CASE("padding that a system call left behind says nothing") {
    const SocketAddress clean = SocketAddress::parse("1.2.3.4:5");
    sockaddr_in dirty{};
    std::memcpy(&dirty, clean.data(), sizeof dirty);
    std::memset(dirty.sin_zero, 0x5a, sizeof dirty.sin_zero);
    CHECK(SocketAddress::from(reinterpret_cast<sockaddr*>(&dirty), sizeof dirty) == clean);
}

TEST_CASE("an address is taken as a system call left it") {
    const SocketAddress v6 = SocketAddress::parse("[::1]:99");
    CHECK(SocketAddress::from(v6.data(), v6.size()) == v6);

    SocketAddress filled;
    CHECK(filled.fill() == filled.data());
    CHECK(*filled.fill_size() >= sizeof(sockaddr_un));
    std::memcpy(filled.fill(), v6.data(), v6.size());
    *filled.fill_size() = v6.size();
    CHECK(filled == v6);

    sockaddr_un unnamed{};
    unnamed.sun_family = AF_UNIX;
    const auto address =
        SocketAddress::from(reinterpret_cast<sockaddr*>(&unnamed), sizeof(sa_family_t));
    CHECK(address.family() == AF_UNIX);
    CHECK(address.to_string() == "unix:");

    sockaddr_storage large{};
    large.ss_family = AF_INET;
    const auto cut = SocketAddress::from(reinterpret_cast<sockaddr*>(&large), sizeof large);
    CHECK(cut.size() < sizeof large);
    CHECK(cut.to_string() == "0.0.0.0:0");
    CHECK(SocketAddress::from(nullptr, 0) == SocketAddress{});
}

TEST_CASE("a family that is not known is printed by its number") {
    sockaddr other{};
    other.sa_family = AF_NETLINK;
    CHECK(SocketAddress::from(&other, sizeof other).to_string() ==
          "an address of family " + std::to_string(AF_NETLINK));
}
