#include <trapline/io/descriptor.hpp>

#include <array>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/eventfd.h>

#include <doctest/doctest.h>

#include <trapline/kernel/kernel.hpp>

using namespace trapline;

namespace {

int make() { return eventfd(0, EFD_CLOEXEC); }
bool is_open(int fd) { return fcntl(fd, F_GETFD) != -1; }

} // namespace

TEST_CASE("a file is opened, read, and closed when its owner goes") {
    const auto body = [](const char* path, int& fd) -> Coro<std::string> {
        std::array<std::byte, 11> buffer{};
        Descriptor file{(co_await traps::open_at(AT_FDCWD, path, O_RDONLY)).value()};
        std::size_t n = (co_await traps::read(file.get(), buffer)).value();
        fd = file.get();
        co_return std::string(reinterpret_cast<const char*>(buffer.data()), n);
    };
    Kernel kernel;
    int fd = -1;
    CHECK(kernel.run(body(TRAPLINE_SOURCE_DIR "/LICENSE", fd)) == "MIT License");
    CHECK_FALSE(is_open(fd));
}

TEST_CASE("a descriptor is closed when its owner goes") {
    const int fd = make();
    {
        const Descriptor owner{fd};
        CHECK(owner);
        CHECK(owner.get() == fd);
        CHECK(is_open(fd));
    }
    CHECK_FALSE(is_open(fd));
}

TEST_CASE("an owner of nothing is false and closes nothing") {
    const Descriptor none;
    CHECK_FALSE(none);
    CHECK(none.get() == -1);
    const Descriptor refused{-1};
    CHECK_FALSE(refused);
}

TEST_CASE("a released descriptor stays open") {
    Descriptor owner{make()};
    const int fd = owner.release();
    CHECK_FALSE(owner);
    CHECK(is_open(fd));
    CHECK(owner.release() == -1);
    ::close(fd);
}

TEST_CASE("moving hands the descriptor on, assigning closes the one held before") {
    const int first = make();
    const int second = make();
    Descriptor a{first};
    Descriptor b{std::move(a)};
    CHECK_FALSE(a); // NOLINT(bugprone-use-after-move)
    CHECK(b.get() == first);
    Descriptor c{second};
    c = std::move(b);
    CHECK_FALSE(b); // NOLINT(bugprone-use-after-move)
    CHECK(c.get() == first);
    CHECK(is_open(first));
    CHECK_FALSE(is_open(second));
}

TEST_CASE("assigning a descriptor to itself keeps it") {
    const int fd = make();
    Descriptor owner{fd};
    Descriptor& same = owner;
    owner = std::move(same);
    CHECK(owner.get() == fd);
    CHECK(is_open(fd));
}
