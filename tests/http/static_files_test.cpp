#include "../../examples/http/static_files.hpp"

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <trapline/kernel/kernel.hpp>

#include "../../examples/http/date.hpp"
#include "../../examples/http/router.hpp"
#include "../support/leaks.hpp"
#include "../support/sockets.hpp"

using namespace trapline;
using namespace trapline::http;

namespace {

namespace fs = std::filesystem;

/// A directory of its own, with a directory `www` to be served and a secret beside it.
class Site {
public:
    Site() {
        char name[] = "/tmp/trapline-site-XXXXXX";
        root_ = ::mkdtemp(name);
        fs::permissions(root_, fs::perms::all);
        fs::create_directories(root_ / "www/sub/deep");
        put("secret", "secret");
        put("www/index.html", "<p>index</p>");
        put("www/a b.txt", "a blank");
        put("www/plain", "0123456789");
        put("www/sub/index.html", "<p>sub</p>");
        put("www/sub/deep/x.css", "p{}");
    }
    Site(const Site&) = delete;
    Site& operator=(const Site&) = delete;
    ~Site() { fs::remove_all(root_); }

    void put(const std::string& path, const std::string& text) const {
        std::ofstream(root_ / path) << text;
    }
    fs::path at(const std::string& path) const { return root_ / path; }

private:
    fs::path root_;
};

using Headers = std::vector<std::pair<std::string_view, std::string_view>>;

/// What is answered to a request for `path`, by a kernel of its own.
Response ask(const Site& site, std::string_view path, Headers headers = {},
             std::string_view method = "GET", StaticFileOptions options = {}) {
    return run([&]() -> Coro<Response> {
        const StaticFiles files = co_await StaticFiles::open(site.at("www"), options);
        Request request;
        request.method = method;
        request.path = path;
        for (const auto& [name, value] : headers)
            request.headers.push_back({name, value});
        co_return co_await files.serve(request, path);
    });
}

/// "200 text", or "404".
std::string told(const Site& site, std::string_view path) {
    const Response answer = ask(site, path);
    const std::string status = std::to_string(answer.status());
    return answer.status() == 200 ? status + " " + answer.body() : status;
}

} // namespace

TEST_CASE("the files beneath a directory are served") {
    const Site site;
    const std::string directory = site.at("www");
    const test::LeakGuard guard;
    run([&]() -> Coro<void> {
        Router router;
        StaticFiles files = co_await StaticFiles::open(directory);
        router.add("GET", "/{path...}", [&files](Request& request) {
            return files.serve(request, request.parameter("path"));
        });
        Request request;
        request.method = "GET";
        request.path = "/sub/deep/x.css";
        const Response answer = co_await router.answer(request);
        CHECK(answer.status() == 200);
        CHECK(answer.body() == "p{}");
        CHECK(answer.type() == "text/css; charset=utf-8");
        CHECK(answer.header("Accept-Ranges") == "bytes");
    });
}

TEST_CASE("what cannot be served at all is an error when it is opened") {
    const auto open = [](std::string directory) {
        run([&]() -> Coro<void> { (void)co_await StaticFiles::open(std::move(directory)); });
    };
    CHECK_THROWS_WITH_AS(open("/nowhere"), "open of directory /nowhere: No such file or directory",
                         std::system_error);
    CHECK_THROWS_AS(open("/etc/passwd"), std::system_error);
}

TEST_CASE("paths are decoded once; directories have an index, and a slash at their end") {
    const Site site;
    const test::LeakGuard guard;
    CHECK(told(site, "/") == "200 <p>index</p>");
    CHECK(told(site, "/index.html") == "200 <p>index</p>");
    CHECK(told(site, "/a%20b.txt") == "200 a blank");
    CHECK(told(site, "/a%2520b.txt") == "404");
    CHECK(told(site, "/sub/") == "200 <p>sub</p>");
    CHECK(told(site, "//sub//deep///x.css") == "200 p{}");
    CHECK(told(site, "/sub%2Fdeep%2Fx.css") == "200 p{}");
    CHECK(told(site, "/sub/deep/") == "404");
    CHECK(told(site, "/plain/") == "404");
    CHECK(told(site, "/plain/x") == "404");
    CHECK(told(site, "/nothing") == "404");
    CHECK(told(site, "/%4") == "400");
    CHECK(told(site, "/plain%00.html") == "400");
    CHECK(told(site, "/" + std::string(5000, 'x')) == "404");

    const Response answer = ask(site, "/sub");
    CHECK(answer.status() == 301);
    CHECK(answer.header("Location") == "/sub/");
    // Two slashes in front would name another host, and so would a backslash.
    CHECK(ask(site, "//sub/deep").header("Location") == "/sub/deep/");
    fs::create_directory(site.at("www/\\evil"));
    CHECK(ask(site, "/%5Cevil").header("Location") == "/%5Cevil/");
    CHECK(ask(site, "/", {}, "GET", {.index = ""}).status() == 404);
}

TEST_CASE("there is no way out of the directory") {
    const Site site;
    fs::create_symlink("plain", site.at("www/link"));
    fs::create_symlink("../index.html", site.at("www/sub/up"));
    fs::create_symlink("../secret", site.at("www/out"));
    fs::create_symlink("..", site.at("www/outside"));
    fs::create_symlink(site.at("secret"), site.at("www/absolute"));
    fs::create_symlink(site.at("www/plain"), site.at("www/absolute-inside"));
    fs::create_symlink("/proc/self/root", site.at("www/root"));
    fs::create_symlink("/proc/self/cwd", site.at("www/cwd"));
    fs::create_symlink("loop", site.at("www/loop"));
    fs::create_symlink("missing", site.at("www/dangling"));
    const test::LeakGuard guard;
    CHECK(told(site, "/link") == "200 0123456789");
    CHECK(told(site, "/sub/up") == "200 <p>index</p>");
    CHECK(told(site, "/sub/../plain") == "200 0123456789"); // which does not leave it
    for (const char* path : {"/../secret",
                             "/%2e%2e/secret",
                             "/%2E%2e/secret",
                             "/..%2fsecret",
                             "/%2e%2e%2fsecret",
                             "/sub/../../secret",
                             "/sub/deep/../../../secret",
                             "/./../secret",
                             "/..",
                             "/../",
                             "/../www",
                             "/../www/plain",
                             "/....//secret",
                             "/..\\secret",
                             "/..%5csecret",
                             "/%5c..%5csecret",
                             "//../secret",
                             "/%2f../secret",
                             "/%252e%252e/secret",
                             "/..;/secret",
                             "/%c0%ae%c0%ae/secret",
                             "/out",
                             "/outside/secret",
                             "/outside/www/plain",
                             "/absolute",
                             "/absolute-inside",
                             "/root",
                             "/root/etc/passwd",
                             "/cwd",
                             "/loop",
                             "/dangling",
                             "/etc/passwd",
                             "//etc/passwd",
                             "/%2fetc%2fpasswd",
                             "/proc/self/environ"}) {
        CAPTURE(path);
        CHECK(told(site, path) == "404");
    }
}

TEST_CASE("only regular files are served, and only those that may be read") {
    const Site site;
    test::must(::mkfifo(site.at("www/fifo").c_str(), 0666), "mkfifo");
    {
        const Descriptor socket{test::must(::socket(AF_UNIX, SOCK_STREAM, 0), "socket")};
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        const std::string path = site.at("www/socket");
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        test::must(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address),
                   "bind");
    }
    fs::create_directory(site.at("www/odd"));
    fs::create_directory(site.at("www/odd/index.html"));
    fs::permissions(site.at("www/plain"), fs::perms::none);
    const test::LeakGuard guard;
    CHECK(told(site, "/fifo") == "404"); // and nobody waits for who writes to it
    CHECK(told(site, "/socket") == "404");
    CHECK(told(site, "/odd/") == "301");
    const int before = ::setfsuid(65534); // root may read anything
    CHECK(told(site, "/plain") == "403");
    ::setfsuid(static_cast<uid_t>(before));
}

TEST_CASE("small files come in memory, larger ones as a part of the file, of any only the head") {
    const Site site;
    const std::string at_limit(64 * 1024, 'x');
    site.put("www/small.bin", at_limit);
    site.put("www/large.bin", at_limit + "x");
    site.put("www/empty.txt", "");
    CHECK(ask(site, "/small.bin").body() == at_limit);
    const Response large = ask(site, "/large.bin");
    REQUIRE(large.file());
    CHECK(large.file()->offset == 0);
    CHECK(large.size() == 64 * 1024 + 1);
    CHECK(large.type() == "application/octet-stream");
    const Response part = ask(site, "/large.bin", {{"Range", "bytes=10-19"}});
    CHECK(part.body() == "xxxxxxxxxx");
    const Response head = ask(site, "/small.bin", {}, "HEAD");
    CHECK(head.size() == 64 * 1024);
    CHECK(head.body() == "");
    CHECK(ask(site, "/empty.txt").size() == 0);
    CHECK(ask(site, "/empty.txt").status() == 200);
}

TEST_CASE("a range is cut out; what is none, or several, is answered by the whole") {
    const Site site;
    struct Case {
        const char* range;
        int status;
        const char* body;
        const char* content_range;
    };
    for (const auto& [range, status, body, content_range] : std::initializer_list<Case>{
             {"bytes=0-3", 206, "0123", "bytes 0-3/10"},
             {"bytes=3-3", 206, "3", "bytes 3-3/10"},
             {"bytes=7-", 206, "789", "bytes 7-9/10"},
             {"bytes=7-99", 206, "789", "bytes 7-9/10"},
             {"bytes=7-18446744073709551615", 206, "789", "bytes 7-9/10"},
             {"bytes=-4", 206, "6789", "bytes 6-9/10"},
             {"bytes=-99", 206, "0123456789", "bytes 0-9/10"},
             {"BYTES=0-0", 206, "0", "bytes 0-0/10"},
             {"bytes=10-", 416, nullptr, "bytes */10"},
             {"bytes=10-11", 416, nullptr, "bytes */10"},
             {"bytes=-0", 416, nullptr, "bytes */10"},
             {"bytes=0-1,3-4", 200, "0123456789", ""},
             {"bytes=3-1", 200, "0123456789", ""},
             {"bytes=a-", 200, "0123456789", ""},
             {"bytes=-", 200, "0123456789", ""},
             {"bytes=1", 200, "0123456789", ""},
             {"bytes=", 200, "0123456789", ""},
             {"bytes=--1", 200, "0123456789", ""},
             {"bytes=+1-2", 200, "0123456789", ""},
             {"bytes=0-99999999999999999999999", 200, "0123456789", ""},
             {"lines=0-1", 200, "0123456789", ""},
             {"", 200, "0123456789", ""},
         }) {
        CAPTURE(range);
        const Response answer = ask(site, "/plain", {{"Range", range}});
        CHECK(answer.status() == status);
        CHECK(answer.header("Content-Range") == content_range);
        if (body)
            CHECK(answer.body() == body);
    }
    site.put("www/empty", "");
    CHECK(ask(site, "/empty", {{"Range", "bytes=0-"}}).status() == 416);
    CHECK(ask(site, "/plain", {{"Range", "bytes=0-3"}}, "HEAD").status() == 200);
}

TEST_CASE("a range is cut out only of what the client has the rest of") {
    const Site site;
    const Response whole = ask(site, "/plain");
    const std::string etag(whole.header("ETag"));
    const std::string modified(whole.header("Last-Modified"));
    const auto status = [&](std::string_view condition) {
        return ask(site, "/plain", {{"Range", "bytes=0-3"}, {"If-Range", condition}}).status();
    };
    CHECK(status(etag) == 206);
    CHECK(status(modified) == 206);
    CHECK(status("\"other\"") == 200);
    CHECK(status("W/" + etag) == 200);
    CHECK(status("Sun, 06 Nov 1994 08:49:37 GMT") == 200);
}

TEST_CASE("what the client has already is not sent again") {
    const Site site;
    const Response whole = ask(site, "/plain");
    const std::string etag(whole.header("ETag"));
    const std::string modified(whole.header("Last-Modified"));
    REQUIRE(parse_http_date(modified));
    const std::string earlier = http_date(*parse_http_date(modified) - 1);
    const std::string later = http_date(*parse_http_date(modified) + 1);
    struct Case {
        Headers headers;
        int status;
    };
    const std::string listed = "\"a\" , " + etag + ",\"b\"";
    const std::string weak = "W/" + etag;
    for (const Case& one : std::initializer_list<Case>{
             {{{"If-None-Match", etag}}, 304},
             {{{"If-None-Match", weak}}, 304},
             {{{"If-None-Match", listed}}, 304},
             {{{"If-None-Match", "*"}}, 304},
             {{{"If-None-Match", "\"other\""}}, 200},
             {{{"If-None-Match", ""}}, 200},
             {{{"If-Modified-Since", modified}}, 304},
             {{{"If-Modified-Since", later}}, 304},
             {{{"If-Modified-Since", earlier}}, 200},
             {{{"If-Modified-Since", "yesterday"}}, 200},
             {{{"If-None-Match", "\"other\""}, {"If-Modified-Since", later}}, 200},
             {{{"If-None-Match", etag}, {"Range", "bytes=0-1"}}, 304},
         }) {
        CAPTURE(one.headers.front().second);
        const Response answer = ask(site, "/plain", one.headers);
        CHECK(answer.status() == one.status);
        CHECK(answer.header("ETag") == etag);
        CHECK(answer.header("Last-Modified") == modified);
        if (one.status == 304)
            CHECK(answer.body() == "");
    }
    site.put("www/plain", "0123456789X");
    CHECK(ask(site, "/plain").header("ETag") != etag);
}

TEST_CASE("a file's type is told by its name") {
    CHECK(content_type_of("a/b.HTML") == "text/html; charset=utf-8");
    CHECK(content_type_of("x.min.js") == "text/javascript; charset=utf-8");
    CHECK(content_type_of("x.svg") == "image/svg+xml");
    CHECK(content_type_of("a.html/b") == "application/octet-stream");
    CHECK(content_type_of("a.html.unknown") == "application/octet-stream");
    CHECK(content_type_of("") == "application/octet-stream");
}
