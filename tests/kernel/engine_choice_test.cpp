// Which engine a kernel gets when nobody chose, and when the system refuses io_uring.
#include <trapline/kernel/kernel.hpp>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <trapline/trapline.hpp>

#include "../support/leaks.hpp"
#include "../support/process.hpp"
#include "../support/seccomp.hpp"
#include "../support/sockets.hpp"

using namespace trapline;
using namespace trapline::test;

namespace {

Coro<void> echo(TcpStream client) {
    std::array<std::byte, 64> buffer;
    while (std::size_t n = co_await client.recv(buffer))
        co_await client.send_all(std::span(buffer).first(n));
}

Coro<std::string> echoed() {
    TcpListener listener = co_await TcpListener::bind(SocketAddress::ipv4("127.0.0.1", 0));
    TcpStream client = co_await TcpStream::connect(listener.local_address());
    co_await spawn(echo(co_await listener.accept()));
    co_await client.send_all(std::as_bytes(std::span("hello", 5)));
    std::string answer(5, '\0');
    co_await client.recv_exactly(std::as_writable_bytes(std::span(answer)));
    co_return answer;
}

/// Echoes over what engine there is; answers what is wrong.
std::string echoes_on_epoll(std::string_view cause) {
    ::unsetenv("TRAPLINE_ENGINE");
    std::vector<std::string> lines;
    const LeakGuard guard;
    Kernel kernel{{.log = [&](std::string_view line) { lines.emplace_back(line); }}};
    if (!kernel.describe().starts_with("epoll"))
        return "on " + kernel.describe();
    const std::string answer = kernel.run(echoed);
    if (answer != "hello")
        return "echoed: " + answer;
    if (lines.size() != 1)
        return std::to_string(lines.size()) + " lines";
    const bool says = lines[0].contains(cause) && lines[0].contains("epoll is used instead") &&
                      !lines[0].contains('\n');
    return says ? "" : lines[0];
}

} // namespace

TEST_CASE("where io_uring is forbidden a server runs on epoll, and one line says why") {
    CHECK(in_child([] {
              must_forbid(SYS_io_uring_setup, EPERM);
              return echoes_on_epoll("seccomp");
          }) == "");
    CHECK(in_child([] {
              must_forbid(SYS_io_uring_setup, ENOSYS);
              return echoes_on_epoll("no io_uring");
          }) == "");
}

TEST_CASE("whatever else a sandbox or an old Linux says to a ring, it is epoll") {
    for (const int error : {EINVAL, EOPNOTSUPP, EBUSY, EACCES}) {
        CAPTURE(error);
        CHECK(in_child([&]() -> std::string {
                  must_forbid(SYS_io_uring_setup, error);
                  return echoes_on_epoll(error == EINVAL ? "too old for it)" : "");
              }) == "");
    }
    // One who chose how the ring is made is told.
    CHECK(in_child([]() -> std::string {
              must_forbid(SYS_io_uring_setup, EINVAL);
              ::unsetenv("TRAPLINE_ENGINE");
              try {
                  const Kernel kernel{{.uring = {.mode = UringOptions::Mode::cooperative}}};
                  return "got " + kernel.describe();
              } catch (const std::system_error& refusal) {
                  const std::string text = refusal.what();
                  return text.contains("Mode::automatic") ? "" : text;
              }
          }) == "");
}

TEST_CASE("where a ring is granted but cannot be used, it is epoll, and the line says why") {
    for (const long call : {SYS_io_uring_enter, SYS_io_uring_register}) {
        for (const int error : {EPERM, EACCES}) {
            CAPTURE(call);
            CHECK(in_child([&] {
                      must_forbid(call, error);
                      return echoes_on_epoll("seccomp");
                  }) == "");
        }
    }
    CHECK(in_child([] {
              must_forbid(SYS_io_uring_enter, ENOSYS);
              return echoes_on_epoll("no io_uring");
          }) == "");
}

TEST_CASE("when there are no descriptors left it is an error, for epoll needs them, too") {
    CHECK(in_child([]() -> std::string {
              must_forbid(SYS_io_uring_setup, EMFILE);
              ::unsetenv("TRAPLINE_ENGINE");
              try {
                  const Kernel kernel;
                  return "got " + kernel.describe();
              } catch (const std::system_error& error) {
                  return error.code() == std::errc::too_many_files_open ? "" : error.what();
              }
          }) == "");
}

TEST_CASE("the line goes to stderr where the program has no log") {
    const std::string answer = in_child([]() -> std::string {
        must_forbid(SYS_io_uring_setup, EPERM);
        ::unsetenv("TRAPLINE_ENGINE");
        const CapturedStderr captured;
        { const Kernel kernel; }
        return captured.text();
    });
    CHECK(answer.starts_with("trapline: io_uring cannot be set up"));
    CHECK(answer.ends_with("\n"));
}

TEST_CASE("where no ring fits into lockable memory a server runs on epoll") {
    if (::geteuid() != 0) {
        MESSAGE("skipped: only root can give up being root");
        return;
    }
    const std::string answer = in_child([]() -> std::string {
        const rlimit none{0, 0};
        must(::setrlimit(RLIMIT_MEMLOCK, &none), "setrlimit");
        must(::setuid(65534), "setuid");
        const std::string wrong = echoes_on_epoll("ulimit -l");
        // Some versions of Linux count no locked memory for rings.
        return wrong.starts_with("on io_uring") ? "" : wrong;
    });
    CHECK(answer == "");
}

TEST_CASE("who chose an engine gets that one, or an error") {
    CHECK(in_child([]() -> std::string {
              must_forbid(SYS_io_uring_setup, EPERM);
              ::setenv("TRAPLINE_ENGINE", "uring", 1);
              try {
                  const Kernel kernel;
                  return "got " + kernel.describe();
              } catch (const std::system_error& error) {
                  return error.code() == std::errc::operation_not_permitted ? "" : error.what();
              }
          }) == "");
    CHECK(in_child([]() -> std::string {
              ::setenv("TRAPLINE_ENGINE", "epoll", 1);
              const CapturedStderr captured;
              const Kernel kernel;
              return kernel.describe().starts_with("epoll") ? captured.text() : kernel.describe();
          }) == "");
}

TEST_CASE("an engine on epoll needs at least one event a turn and one thread") {
    CHECK_THROWS_AS((Kernel{{.engine = "epoll", .epoll = {.events = 0}}}), std::invalid_argument);
    CHECK_THROWS_AS((Kernel{{.engine = "epoll", .epoll = {.threads = 0}}}), std::invalid_argument);
}
