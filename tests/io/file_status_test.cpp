#include <trapline/io/file_status.hpp>

#include <chrono>
#include <stdexcept>
#include <string>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <trapline/io/file.hpp>
#include <trapline/kernel/kernel.hpp>

#include "../support/sockets.hpp"

using namespace trapline;
using namespace std::chrono_literals;
using test::must;

namespace {

File memory_file() {
    return File{Descriptor{must(::memfd_create("status", MFD_CLOEXEC), "memfd_create")}, "status"};
}

FileStatus status_of_mode(mode_t mode) {
    struct ::statx answer{};
    answer.stx_mode = static_cast<std::uint16_t>(mode);
    return detail::status_of(answer);
}

} // namespace

TEST_CASE("a program asks how old and how secret a file is, and what it is at all") {
    const auto body = []() -> Coro<std::string> {
        File file = memory_file();
        must(::fchmod(file.fd(), 0600), "fchmod");
        const FileStatus status = co_await file.stat();
        const bool old = status.modified < std::chrono::system_clock::now() - 24h;
        const bool secret = (status.permissions & 077) == 0;
        if (status.kind != FileKind::regular)
            throw std::runtime_error(file.path() + " is " + name_of(status.kind));
        co_return std::string(old ? "old, " : "new, ") + (secret ? "secret" : "public");
    };
    CHECK(run(body()) == "new, secret");
}

TEST_CASE("every kind of file is told by its mode, and has a name for messages") {
    const auto name = [](mode_t mode) { return std::string(name_of(status_of_mode(mode).kind)); };
    CHECK(name(S_IFREG | 0644) == "a regular file");
    CHECK(name(S_IFDIR | 0755) == "a directory");
    CHECK(name(S_IFLNK | 0777) == "a symbolic link");
    CHECK(name(S_IFIFO | 0600) == "a FIFO");
    CHECK(name(S_IFSOCK | 0600) == "a socket");
    CHECK(name(S_IFCHR | 0666) == "a character device");
    CHECK(name(S_IFBLK | 0660) == "a block device");
    CHECK(name(0644) == "something unknown");
    CHECK(status_of_mode(S_IFREG | 04755).permissions == 04755);
}

TEST_CASE("all fields are those of statx") {
    struct ::statx answer{};
    answer.stx_mask = STATX_BASIC_STATS;
    answer.stx_size = 1'000;
    answer.stx_blocks = 8;
    answer.stx_nlink = 2;
    answer.stx_uid = 7;
    answer.stx_gid = 8;
    answer.stx_ino = 99;
    answer.stx_atime.tv_sec = 1;
    answer.stx_atime.tv_nsec = 500;
    answer.stx_mtime.tv_sec = 2;
    answer.stx_ctime.tv_sec = -3; // before 1970
    answer.stx_btime.tv_sec = 4;
    const FileStatus status = detail::status_of(answer);
    CHECK(status.size == 1'000);
    CHECK(status.bytes_allocated == 4'096);
    CHECK(status.links == 2);
    CHECK(status.user == 7);
    CHECK(status.group == 8);
    CHECK(status.inode == 99);
    CHECK(status.accessed == FileStatus::Time{1s + 500ns});
    CHECK(status.modified == FileStatus::Time{2s});
    CHECK(status.changed == FileStatus::Time{-3s});
    CHECK_FALSE(status.born);
    answer.stx_mask |= STATX_BTIME;
    CHECK(detail::status_of(answer).born == FileStatus::Time{4s});
}
